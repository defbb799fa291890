"""Settings: the only module that reads the environment and ``recorder.toml``.

Every setting has one name in three spellings: flag ``--max-frame-bytes``, variable
``RECORDER_MAX_FRAME_BYTES``, key ``max_frame_bytes``. A flag wins over a variable, a variable over
the file, the file over the default. Everything is validated at once, and one error names all
that is wrong. Credentials come from ``VALR_API_KEY`` and ``VALR_API_SECRET`` or from files
(``…_FILE``, ``api_key_file``); they have no flag, because a process list shows flags.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attrs import field, fields, frozen

from recorder.errors import ConfigurationError

VALR_WS_URL = "wss://api.valr.com"
ACCOUNT_PATH = "/ws/account"
DEFAULT_FILE = "recorder.toml"


class Secret:
    """A text whose ``repr`` and ``str`` are ``***``; ``reveal()`` is the only way to it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret itself. Call it where it is used and keep no copy."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


@frozen
class AccountSettings:
    """One account: its name in every table, and how it is authenticated."""

    name: str
    api_key: Secret = field(factory=lambda: Secret(""))
    api_secret: Secret = field(factory=lambda: Secret(""))
    sub_account_id: str = ""
    auth: str = "headers"
    trading: bool = False


@frozen
class Settings:
    """Everything a command can be reported. Times are seconds, sizes bytes."""

    database_url: str
    ws_url: str
    rest_url: str
    accounts: tuple[AccountSettings, ...]
    http: str
    subscribe: bool
    max_frame_bytes: int
    queue_frames: int
    queue_bytes: int
    stop_grace_s: float
    lease_ttl_s: float
    standby: bool
    settle_s: float
    lookup_every_s: float
    backfill: bool
    backfill_after_s: float
    reconcile_every_s: float
    commands_per_s: int
    commands_burst: int
    dry_run: bool
    checkpoint_file: str
    checkpoint_log: bool
    checkpoint_hook: tuple[str, ...]
    checkpoint_every_s: float
    checkpoint_key_file: str
    checkpoint_public_file: str
    wire_names: Mapping[str, str]


@frozen
class Setting:
    """One setting in its three spellings, with its default and the sentence that help prints."""

    name: str
    default: str
    parse: Callable[[str], Any]
    help: str

    @property
    def flag(self) -> str:
        """The spelling on a command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The spelling in the environment."""
        return _CREDENTIAL_VARIABLES.get(self.name) or "RECORDER_" + self.name.upper()


#: What no other program is to find in its environment: the last two may hold a password.
_SECRET_VARIABLES = ("VALR_API_KEY", "VALR_API_SECRET", "RECORDER_DATABASE_URL", "PGPASSWORD")


def environment_for_others(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a program that we start, without what is ours alone."""
    return {name: text for name, text in environment.items() if name not in _SECRET_VARIABLES}


_CREDENTIAL_VARIABLES = {
    "api_key_file": "VALR_API_KEY_FILE",
    "api_secret_file": "VALR_API_SECRET_FILE",
}


def _flag(text: str) -> bool:
    words = {"1": True, "true": True, "on": True, "yes": True, "": False}
    words |= {"0": False, "false": False, "off": False, "no": False}
    if text.lower() not in words:
        raise ValueError("report 1 or 0")
    return words[text.lower()]


def _whole(minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < minimum:
            raise ValueError(f"report a whole number of at least {minimum}")
        return int(text)

    return parse


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 86_400:
        raise ValueError("report a number of seconds above 0 and under a day")
    return seconds


def _seconds_or_never(text: str) -> float:
    return 0.0 if text == "0" else _seconds(text)


def _auth(text: str) -> str:
    if text not in ("headers", "message"):
        raise ValueError("report headers or message")
    return text


def _program(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"report a program and its arguments: {error}") from None


_ADDRESS_USER = re.compile(r"//[^/@]*@")


def _account_name(text: str) -> str:
    if not text or len(text) > 100 or not text.isprintable():
        raise ValueError("report a name of 1 to 100 printable characters")
    return text


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        parts = urlsplit(text)
        try:
            _ = parts.port
        except ValueError:
            raise ValueError("report a port between 0 and 65535") from None
        if text and (parts.scheme not in schemes or not parts.hostname):
            raise ValueError(
                f"report an address that starts with {' or '.join(s + '://' for s in schemes)}"
            )
        if parts.username or parts.password:
            raise ValueError("leave user and password out of the address")
        return text.rstrip("/")

    return parse


SETTINGS: tuple[Setting, ...] = (
    Setting("database_url", "sqlite:///recorder.db", str, "where the log is (SQLAlchemy URL)"),
    Setting("account", "main", _account_name, "name of the account in every table"),
    Setting("ws_url", VALR_WS_URL, _url("wss", "ws"), "the exchange's WebSocket address"),
    Setting(
        "rest_url",
        "",
        _url("https", "http"),
        "the exchange's REST address [default: VALR's, or the host of ws_url]",
    ),
    Setting("trading", "0", _flag, "1 lets the commander send what is queued in the outbox"),
    Setting("dry_run", "0", _flag, "1 notes what would be sent of the outbox and sends nothing"),
    Setting("commands_per_s", "360", _whole(1), "commands of a kind sent a second in the long run"),
    Setting("commands_burst", "40", _whole(1), "commands of a kind sent at once after a rest"),
    Setting("http", "", str, "host:port of health, metrics and status page (not in this version)"),
    Setting("auth", "headers", _auth, "how to authenticate: headers or message"),
    Setting("sub_account_id", "", str, "sub-account to act for (primary keys only)"),
    Setting("api_key_file", "", str, "file that holds the API key"),
    Setting("api_secret_file", "", str, "file that holds the API secret"),
    Setting("subscribe", "1", _flag, "0 leaves out the SUBSCRIBE to ORDER_STATUS_UPDATE"),
    Setting("max_frame_bytes", str(64 * 1024 * 1024), _whole(1024), "largest frame taken"),
    Setting("queue_frames", "8000", _whole(1), "frames waiting for the log at the most"),
    Setting(
        "queue_bytes", str(64 * 1024 * 1024), _whole(1024), "bytes waiting for the log at the most"
    ),
    Setting("stop_grace_s", "5", _seconds, "seconds a stop may take to write what is waiting"),
    Setting("lease_ttl_s", "15", _seconds, "seconds after which a silent owner's lease lapses"),
    Setting("standby", "0", _flag, "1 waits until the account's present owner is gone"),
    Setting("settle_s", "60", _seconds, "seconds a command is in doubt before absence counts"),
    Setting("lookup_every_s", "30", _seconds, "seconds between two look-ups of one in doubt"),
    Setting("checkpoint_file", "", str, "file outside the database that keeps heads of the log"),
    Setting("checkpoint_log", "1", _flag, "0 keeps the heads out of the recorder's own log"),
    Setting("checkpoint_hook", "", _program, "program that gets each head on its standard input"),
    Setting("checkpoint_every_s", "300", _seconds, "seconds between two checkpoints"),
    Setting("checkpoint_key_file", "", str, "file of the Ed25519 key that signs checkpoints"),
    Setting(
        "checkpoint_public_file",
        "",
        str,
        "file of the public keys that verify trusts [default: checkpoint_key_file with .pub]",
    ),
    Setting("backfill", "1", _flag, "0 fetches nothing by itself after a gap"),
    Setting("backfill_after_s", "3", _seconds, "seconds after a gap until what it hid is fetched"),
    Setting(
        "reconcile_every_s",
        "3600",
        _seconds_or_never,
        "seconds between two comparisons with the exchange's answers; 0: only when asked",
    ),
    Setting("wire_place_limit_order", "PLACE_LIMIT_ORDER", str, "wire name of PLACE_LIMIT_ORDER"),
    Setting(
        "wire_place_market_order", "PLACE_MARKET_ORDER", str, "wire name of PLACE_MARKET_ORDER"
    ),
    Setting("wire_cancel_order", "CANCEL_LIMIT_ORDER", str, "wire name of CANCEL_ORDER"),
    Setting("wire_modify_order", "MODIFY_ORDER", str, "wire name of MODIFY_ORDER"),
    Setting("wire_place_batch_orders", "BATCH_ORDERS", str, "wire name of PLACE_BATCH_ORDERS"),
)
_PER_ACCOUNT = ("trading", "auth", "sub_account_id", "api_key_file", "api_secret_file")


def read_settings(
    environment: Mapping[str, str],
    flags: Mapping[str, str | None] | None = None,
    *,
    file: Path | None = None,
    credentials: bool = True,
) -> Settings:
    """Return the settings that flags, environment and file make together.

    Without ``credentials`` no key or secret is read: commands that only read the database need
    none.

    ``flags`` maps setting names to texts (None where not given). ``file`` names a recorder.toml;
    without it, the one in ``RECORDER_CONFIG`` or, if it exists, the one in the working directory
    is read. Raises ConfigurationError naming everything that is wrong at once.
    """
    problems: list[str] = []
    stored = _read_file(file, environment)
    tables = stored.pop("accounts", {})
    problems += [f"{key!r} in the file is no setting" for key in stored if key not in _names()]
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        text, source = _find(setting, flags or {}, environment, stored, problems)
        try:
            values[setting.name] = setting.parse(text)
        except ValueError as error:
            # Without what stands before an @: a password may be in it.
            problems.append(f"{source} is {_ADDRESS_USER.sub('//…@', text)!r}: {error}")
    if values.get("http"):
        problems.append("RECORDER_HTTP is set, but this version has no HTTP server yet: unset it")
    named = _is_given("account", flags or {}, environment)
    secrets = environment if credentials else None
    accounts = _accounts(values, tables, named, secrets, problems) if not problems else ()
    if problems:
        raise ConfigurationError("settings can't be used:\n  " + "\n  ".join(problems))
    return _build(values, accounts)


def _build(values: dict[str, Any], accounts: tuple[AccountSettings, ...]) -> Settings:
    rest_url = values["rest_url"] or _rest_beside(values["ws_url"])
    wire = {
        name.removeprefix("wire_").upper(): text
        for name, text in values.items()
        if name.startswith("wire_")
    }
    alike = {attribute.name for attribute in fields(Settings)} & set(values) - {"rest_url"}
    return Settings(
        **{name: values[name] for name in alike},
        rest_url=rest_url,
        accounts=accounts,
        wire_names=wire,
    )


def _names() -> frozenset[str]:
    return frozenset(setting.name for setting in SETTINGS)


def _rest_beside(ws_url: str) -> str:
    """Return the REST address on the same host, so that no credential goes to another one."""
    parts = urlsplit(ws_url)
    return f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc}"


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


def _find(
    setting: Setting,
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    stored: Mapping[str, Any],
    problems: list[str],
) -> tuple[str, str]:
    given = flags.get(setting.name)
    if given is not None:
        return given, setting.flag
    if setting.variable in environment:
        return environment[setting.variable], setting.variable
    if setting.name in stored:
        value = stored[setting.name]
        if isinstance(value, (dict, list)):
            text = f"[{setting.name}.…]" if isinstance(value, dict) else "a list"
            hint = "; accounts stand in tables [accounts.main]" if setting.name == "account" else ""
            problems.append(f"{setting.name} in the file is {text}: report one value{hint}")
            return setting.default, ""
        return _as_text(value), f"{setting.name} in the file"
    return setting.default, f"the default of {setting.name}"


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError("report one value, not a table or a list")


def _is_given(name: str, flags: Mapping[str, str | None], environment: Mapping[str, str]) -> bool:
    setting = next(each for each in SETTINGS if each.name == name)
    return flags.get(name) is not None or setting.variable in environment


def _accounts(
    values: dict[str, Any],
    tables: object,
    named: bool,
    secrets: Mapping[str, str] | None,
    problems: list[str],
) -> tuple[AccountSettings, ...]:
    """Return the accounts: the tables of the file, of which ``named`` leaves the one that is."""
    if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
        problems.append("accounts in the file must be tables: [accounts.main]")
        return ()
    base = {name: values[name] for name in _PER_ACCOUNT}
    if not tables:
        return (_account(values["account"], base, secrets, problems),)
    if named and values["account"] not in tables:
        problems.append(f"no [accounts.{values['account']}] in the file, only {', '.join(tables)}")
    if named:
        tables = {name: table for name, table in tables.items() if name == values["account"]}
    made = []
    for name, table in tables.items():
        unknown = [key for key in table if key not in _PER_ACCOUNT]
        problems += [f"{key!r} in [accounts.{name}] is no setting of an account" for key in unknown]
        try:
            own = {
                setting.name: _own(setting, table[setting.name])
                for setting in SETTINGS
                if setting.name in _PER_ACCOUNT and setting.name in table
            }
            made.append(_account(_account_name(name), base | own, secrets, problems))
        except ValueError as error:
            problems.append(f"[accounts.{name}]: {error}")
    return tuple(made)


def _own(setting: Setting, value: object) -> object:
    try:
        return setting.parse(_as_text(value))
    except ValueError as error:
        raise ValueError(f"{setting.name} is {value!r}: {error}") from error


def _account(
    name: str, values: Mapping[str, Any], secrets: Mapping[str, str] | None, problems: list[str]
) -> AccountSettings:
    return AccountSettings(
        name=name,
        api_key=_credential("VALR_API_KEY", values["api_key_file"], secrets, problems),
        api_secret=_credential("VALR_API_SECRET", values["api_secret_file"], secrets, problems),
        sub_account_id=values["sub_account_id"],
        auth=values["auth"],
        trading=values["trading"],
    )


def _credential(
    variable: str, file: str, secrets: Mapping[str, str] | None, problems: list[str]
) -> Secret:
    if secrets is None:
        return Secret("")
    try:
        text = Path(file).read_text(encoding="utf-8") if file else secrets.get(variable, "")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        problems.append(f"can't read {variable} from {file}: {reason}")
        return Secret("")
    text = text.strip()
    if file and not text:
        problems.append(f"can't read {variable} from {file}: it is empty")
    if not text.isascii() or not text.isprintable():
        problems.append(f"{variable} holds a character that no key has; is it one line of the key?")
        return Secret("")
    return Secret(text)
