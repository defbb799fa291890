"""Settings: the only module that reads the environment and ``recorder.toml``.

Each setting is declared once, at its field of `Settings` or `AccountSettings`, and has one name in
three spellings: flag ``--max-frame-bytes``, variable ``RECORDER_MAX_FRAME_BYTES``, key
``max_frame_bytes``. A flag wins over a variable, a variable over the file, the file over the
default. Key and secret have no flag, because a process list shows flags.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attrs import define, field, fields, frozen

from recorder.errors import ConfigurationError

VALR_WS_URL = "wss://api.valr.com"
ACCOUNT_PATH = "/ws/account"
DEFAULT_FILE = "recorder.toml"
MIB = 1024 * 1024
#: What no other program is to find in its environment: the last two may hold a password.
_SECRET_VARIABLES = ("VALR_API_KEY", "VALR_API_SECRET", "RECORDER_DATABASE_URL", "PGPASSWORD")
_ADDRESS_USER = re.compile(r"//[^/@]*@")


def environment_for_others(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a program that we start, without our secrets."""
    return {name: text for name, text in environment.items() if name not in _SECRET_VARIABLES}


@frozen(repr=False)
class Secret:
    """A text whose ``repr`` and ``str`` are ``***``; ``reveal()`` is the only way to it."""

    _text: str

    def reveal(self) -> str:
        """Return the secret itself. Call it where it is used and keep no copy."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self._text)


# Parsers of a setting's text. ValueError holds what to use instead.


def _flag(text: str) -> bool:
    if text.lower() in ("1", "true", "on", "yes", ""):
        return True
    if text.lower() in ("0", "false", "off", "no"):
        return False
    raise ValueError("use 1 or 0")


def _whole(minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < minimum:
            raise ValueError(f"use a whole number of at least {minimum}")
        return int(text)

    return parse


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 86_400:
        raise ValueError("use a number of seconds above 0 and under a day")
    return seconds


def _seconds_or_never(text: str) -> float:
    return 0.0 if text == "0" else _seconds(text)


def _auth(text: str) -> str:
    if text not in ("headers", "message"):
        raise ValueError("use headers or message")
    return text


def _program(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"use a program and its arguments: {error}") from None


def _account_name(text: str) -> str:
    if not text or len(text) > 100 or not text.isprintable():
        raise ValueError("use a name of 1 to 100 printable characters")
    return text


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        parts = urlsplit(text)
        try:
            _ = parts.port
        except ValueError:
            raise ValueError("use a port between 0 and 65535") from None
        if text and (parts.scheme not in schemes or not parts.hostname):
            raise ValueError(
                f"use an address that starts with {' or '.join(s + '://' for s in schemes)}"
            )
        if parts.username or parts.password:
            raise ValueError("leave user and password out of the address")
        return text.rstrip("/")

    return parse


# The settings


@frozen
class Setting:
    """One setting in its three spellings, with its default and the sentence that help prints."""

    name: str
    default: str
    help: str
    parse: Callable[[str], Any]
    #: Of a setting that names a file: the variable that may hold what the file holds.
    secret: str = ""

    @property
    def flag(self) -> str:
        """The spelling on a command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The spelling in the environment."""
        return f"{self.secret}_FILE" if self.secret else "RECORDER_" + self.name.upper()


def _setting(default: object, help: str, parse: Callable[[str], Any] | None = None) -> Any:
    """Return the field of a setting. Without ``parse`` its type decides how a text is read."""
    return field(default=default, metadata={"help": help, "parse": parse})


def _secret_file(name: str, variable: str, help: str) -> Any:
    """Return the field of a secret that a file or a variable holds."""
    return field(default=Secret(""), metadata={"help": help, "name": name, "secret": variable})


@frozen
class AccountSettings:
    """One account: its name in every table, and how it is authenticated."""

    name: str = "main"
    trading: bool = _setting(False, "1 lets the commander send what is queued in the outbox")
    auth: str = _setting("headers", "how to authenticate: headers or message", _auth)
    sub_account_id: str = _setting("", "sub-account to act for (primary keys only)")
    api_key: Secret = _secret_file("api_key_file", "VALR_API_KEY", "file that holds the API key")
    api_secret: Secret = _secret_file(
        "api_secret_file", "VALR_API_SECRET", "file that holds the API secret"
    )


@frozen
class Settings:
    """The settings of a process. Times are seconds, sizes bytes."""

    database_url: str = _setting("sqlite:///recorder.db", "where the log is (SQLAlchemy URL)")
    account: str = _setting("main", "name of the account in every table", _account_name)
    ws_url: str = _setting(VALR_WS_URL, "the exchange's WebSocket address", _url("wss", "ws"))
    rest_url: str = _setting(
        "",
        "the exchange's REST address [default: VALR's, or the host of ws_url]",
        _url("https", "http"),
    )
    dry_run: bool = _setting(False, "1 notes what would be sent of the outbox and sends nothing")
    commands_per_s: int = _setting(360, "commands of a kind sent a second in the long run")
    commands_burst: int = _setting(40, "commands of a kind sent at once after a rest")
    http: str = _setting("", "host:port of health, metrics and status page (not in this version)")
    subscribe: bool = _setting(True, "0 leaves out the SUBSCRIBE to ORDER_STATUS_UPDATE")
    max_frame_bytes: int = _setting(64 * MIB, "largest frame taken", _whole(1024))
    queue_frames: int = _setting(8000, "frames waiting for the log at the most")
    queue_bytes: int = _setting(64 * MIB, "bytes waiting for the log at the most", _whole(1024))
    stop_grace_s: float = _setting(5, "seconds a stop may take to write what is waiting")
    lease_ttl_s: float = _setting(15, "seconds after which a silent owner's lease lapses")
    standby: bool = _setting(False, "1 waits until the account's present owner is gone")
    settle_s: float = _setting(60, "seconds a command is in doubt before absence counts")
    lookup_every_s: float = _setting(30, "seconds between two look-ups of one in doubt")
    checkpoint_file: str = _setting("", "file outside the database that keeps heads of the log")
    checkpoint_log: bool = _setting(True, "0 keeps the heads out of the recorder's own log")
    checkpoint_hook: tuple[str, ...] = _setting(
        "", "program that gets each head on its standard input", _program
    )
    checkpoint_every_s: float = _setting(300, "seconds between two checkpoints")
    checkpoint_key_file: str = _setting("", "file of the Ed25519 key that signs checkpoints")
    checkpoint_public_file: str = _setting(
        "", "file of the public keys that verify trusts [default: checkpoint_key_file with .pub]"
    )
    backfill: bool = _setting(True, "0 fetches nothing by itself after a gap")
    backfill_after_s: float = _setting(3, "seconds after a gap until what it hid is fetched")
    reconcile_every_s: float = _setting(
        3600,
        "seconds between two comparisons with the exchange's answers; 0: only when asked",
        _seconds_or_never,
    )
    accounts: tuple[AccountSettings, ...] = ()
    #: Our name of a command → its name on the wire.
    wire_names: Mapping[str, str] = field(factory=dict)


_WIRE_NAMES = {
    "PLACE_LIMIT_ORDER": "PLACE_LIMIT_ORDER",
    "PLACE_MARKET_ORDER": "PLACE_MARKET_ORDER",
    "CANCEL_ORDER": "CANCEL_LIMIT_ORDER",
    "MODIFY_ORDER": "MODIFY_ORDER",
    "PLACE_BATCH_ORDERS": "BATCH_ORDERS",
}
_PARSERS = {"bool": _flag, "int": _whole(1), "float": _seconds}


def _as_text(value: object) -> str:
    """Return a value of the file as a variable spells it. Raises ValueError for no single value."""
    if isinstance(value, (bool, str, int, float)):
        return str(int(value)) if isinstance(value, bool) else str(value)
    raise ValueError("use one value, not a table or a list")


def _declared(kind: type[Settings] | type[AccountSettings]) -> dict[str, Setting]:
    """Return the settings that the fields of a class declare, by the name of the field."""
    found = {}
    for each in fields(kind):
        if each.metadata:
            parse = each.metadata.get("parse") or _PARSERS.get(str(each.type), str)
            secret = each.metadata.get("secret", "")
            default = "" if secret else _as_text(each.default)
            name = each.metadata.get("name", each.name)
            found[each.name] = Setting(name, default, each.metadata["help"], parse, secret)
    return found


_OF_PROCESS, _OF_ACCOUNT = _declared(Settings), _declared(AccountSettings)
_OF_WIRE = {
    command: Setting(f"wire_{command.lower()}", default, f"wire name of {command}", str)
    for command, default in _WIRE_NAMES.items()
}
SETTINGS = (*_OF_PROCESS.values(), *_OF_ACCOUNT.values(), *_OF_WIRE.values())


# Reading them


def read_settings(
    environment: Mapping[str, str],
    flags: Mapping[str, str | None] | None = None,
    *,
    file: Path | None = None,
    credentials: bool = True,
) -> Settings:
    """Return the settings that flags, environment and file make together.

    ``flags`` maps setting names to texts (None where not given). ``file`` names a recorder.toml;
    without it, the one in ``RECORDER_CONFIG`` or, if it exists, the one in the working directory
    is read. Without ``credentials`` no key or secret is read: commands that only read the database
    need none. Raises ConfigurationError naming everything that is wrong at once.
    """
    reading = _Reading(flags or {}, environment, _read_file(file, environment), credentials)
    settings = reading.settings()
    if reading.problems:
        raise ConfigurationError("settings can't be used:\n  " + "\n  ".join(reading.problems))
    return settings


def _read_file(file: Path | None, environment: Mapping[str, str]) -> dict[str, Any]:
    named = file or environment.get("RECORDER_CONFIG")
    path = Path(named or DEFAULT_FILE)
    if not named and not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"can't read the settings file {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is no valid TOML: {error}") from error


@define
class _Reading:
    """One reading of the three sources. What is wrong is added to ``problems``."""

    flags: Mapping[str, str | None]
    environment: Mapping[str, str]
    stored: dict[str, Any]
    credentials: bool
    problems: list[str] = field(factory=list, init=False)

    def settings(self) -> Settings:
        tables, known = self.stored.pop("accounts", {}), {setting.name for setting in SETTINGS}
        unknown = [key for key in self.stored if key not in known]
        self.problems += [f"{key!r} in the file is no setting" for key in unknown]
        values = {setting.name: self._value(setting) for setting in SETTINGS}
        if values["http"]:
            self.problems.append(
                "RECORDER_HTTP is set, but this version has no HTTP server yet: unset it"
            )
        # On the same host, so that no credential goes to another one.
        beside = urlsplit(values["ws_url"])
        scheme = "https" if beside.scheme == "wss" else "http"
        values["rest_url"] = values["rest_url"] or f"{scheme}://{beside.netloc}"
        return Settings(
            **{name: values[name] for name in _OF_PROCESS},
            accounts=() if self.problems else self._accounts(values, tables),
            wire_names={command: values[each.name] for command, each in _OF_WIRE.items()},
        )

    def _value(self, setting: Setting) -> Any:
        text, source = self._find(setting)
        try:
            return setting.parse(text)
        except ValueError as error:
            # Without what stands before an @: a password may be in it.
            self.problems.append(f"{source} is {_ADDRESS_USER.sub('//…@', text)!r}: {error}")
            return setting.parse(setting.default)

    def _find(self, setting: Setting) -> tuple[str, str]:
        """Return the setting's text, and where it was found."""
        name, given = setting.name, self.flags.get(setting.name)
        if given is not None:
            return given, setting.flag
        if setting.variable in self.environment:
            return self.environment[setting.variable], setting.variable
        value = self.stored.get(name, setting.default)
        if not isinstance(value, (bool, str, int, float)):
            what = "a list" if isinstance(value, list) else "a date or a time"
            what = f"[{name}.…]" if isinstance(value, dict) else what
            hint = "; accounts stand in tables [accounts.main]" if name == "account" else ""
            self.problems.append(f"{name} in the file is {what}: use one value{hint}")
            value = setting.default
        return _as_text(value), f"{name} in the file"

    def _accounts(self, values: Mapping[str, Any], tables: object) -> tuple[AccountSettings, ...]:
        """Return an account for each table of the file, or for the one of them that is named."""
        if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
            self.problems.append("accounts in the file must be tables: [accounts.main]")
            return ()
        name, by_variable = values["account"], _OF_PROCESS["account"].variable in self.environment
        if tables and self.flags.get("account") is None and not by_variable:
            return tuple(self._account(name, values, table) for name, table in tables.items())
        if tables and name not in tables:
            self.problems.append(f"no [accounts.{name}] in the file, only {', '.join(tables)}")
            return ()
        return (self._account(name, values, tables.get(name, {})),)

    def _account(
        self, name: str, values: Mapping[str, Any], table: Mapping[str, Any]
    ) -> AccountSettings:
        known = {setting.name for setting in _OF_ACCOUNT.values()}
        unknown = [key for key in table if key not in known]
        where = f"[accounts.{name}]"
        self.problems += [f"{key!r} in {where} is no setting of an account" for key in unknown]
        own: dict[str, Any] = {}
        try:
            own["name"] = _account_name(name)
        except ValueError as error:
            self.problems.append(f"{where}: {error}")
        for field_name, setting in _OF_ACCOUNT.items():
            value = values[setting.name]
            if setting.name in table:
                try:
                    value = setting.parse(_as_text(table[setting.name]))
                except ValueError as error:
                    given = f"{setting.name} is {table[setting.name]!r}"
                    self.problems.append(f"{where}: {given}: {error}")
            own[field_name] = self._secret(setting.secret, value) if setting.secret else value
        return AccountSettings(**own)

    def _secret(self, variable: str, file: str) -> Secret:
        """Return what the file holds, or the variable where no file is named."""
        text = ""
        if self.credentials:
            try:
                text = self.environment.get(variable, "")
                text = (Path(file).read_text(encoding="utf-8") if file else text).strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
                self.problems.append(f"can't read {variable} from {file}: {reason}")
                return Secret("")
            if file and not text:
                self.problems.append(f"can't read {variable} from {file}: it is empty")
        if not text.isascii() or not text.isprintable():
            self.problems.append(
                f"{variable} holds a character that no key has; is it one line of the key?"
            )
        return Secret(text)
