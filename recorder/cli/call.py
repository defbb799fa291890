"""One call of a command: its arguments, its environment, and where the answer goes."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from attrs import field, frozen

from recorder.cli.output import Output, quoted
from recorder.clock import Clock, SystemClock
from recorder.config import SETTINGS, Settings, read_settings
from recorder.errors import ConfigurationError, SchemaMismatch

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from recorder.database.engine import Database, Unit

P = ParamSpec("P")
T = TypeVar("T")


@frozen
class Call:
    """What a command is given to run."""

    arguments: Namespace
    environment: Mapping[str, str] = field(repr=False)
    output: Output
    clock: Clock = field(factory=SystemClock)

    def settings(self, *, credentials: bool = False) -> Settings:
        """Return flags, environment and file as settings. Raises ConfigurationError.

        Key and secret are read only with ``credentials``: a question to the database needs none.
        """
        given = vars(self.arguments)
        flags = {setting.name: given.get(setting.name) for setting in SETTINGS}
        return read_settings(
            self.environment, flags, file=given.get("config"), credentials=credentials
        )

    def now(self) -> datetime:
        """Return the aware time in UTC."""
        from recorder.timestamps import from_us

        return from_us(self.clock.wall_us())

    @contextmanager
    def database(self, *, check_schema: bool = True) -> Iterator[Database]:
        """Open the database for a command that wants it to be there already.

        Raises ConfigurationError where there is none, SchemaMismatch where it is another's or
        another version's.
        """
        from recorder.database.engine import in_unit, open_database

        with open_database(self.settings().database_url, application="recorder-cli") as database:
            path = Path(database.url.database or "")
            if database.dialect == "sqlite" and not path.exists():
                raise ConfigurationError(
                    f"there is no database {database.url_shown} yet: `recorder run` makes it when"
                    " it starts; if it is elsewhere, name it with --database-url"
                )
            if check_schema:
                in_unit(database.reader, require_schema)
            yield database

    def read(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Open the database, and return what one unit of reading returns."""
        from recorder.database.engine import in_unit

        with self.database() as database:
            return in_unit(database.reader, unit, *args, **kwargs)

    def named_account(self) -> str | None:
        """Return the one account that flag or variable names, or None where neither does."""
        flag: str | None = vars(self.arguments).get("account")
        return flag if flag is not None else self.environment.get("RECORDER_ACCOUNT")

    def accounts(self, connection: Connection, *, queued: bool = False) -> list[str]:
        """Return the accounts to answer for: the one that was named, else all the database knows.

        Where it knows none, they are those of the settings, so that the answer names them. With
        ``queued``, accounts that are nothing but a name in the outbox count too.
        """
        from recorder.queries.account_status import known_accounts, queued_accounts

        configured = [account.name for account in self.settings().accounts]
        named = self.named_account()
        if named is not None:
            return [named]
        found = known_accounts(connection) or configured
        return sorted({*found, *queued_accounts(connection)}) if queued else found

    def recorded_accounts(self, connection: Connection) -> list[str]:
        """Return the accounts to answer for, all of which the database knows.

        Raises ConfigurationError for any other: to find nothing of a name that was mistyped proves
        nothing, and to write under it would make an account of it.
        """
        from recorder.queries.account_status import known_accounts

        known, wanted = known_accounts(connection), self.accounts(connection)
        unknown = [quoted(name) for name in wanted if name not in known]
        if unknown:
            named = f"name one with --account: {', '.join(map(quoted, known))}"
            raise ConfigurationError(
                f"the database knows no account {', '.join(unknown)}:"
                f" {named if known else 'start `recorder run`, which makes it'}"
            )
        return wanted

    def one_account(self) -> str:
        """Return the account of a command that is for exactly one. Raises ConfigurationError."""
        configured = [account.name for account in self.settings().accounts]
        named = self.named_account()
        if named is None and len(configured) > 1:
            names = ", ".join(configured)
            raise ConfigurationError(f"name the account with --account: one of {names}")
        return configured[0] if named is None else named


def require_schema(connection: Connection) -> None:
    """Raise SchemaMismatch unless the tables are those this program names."""
    from recorder.database.migrate import EXPECTED, look

    found = look(connection)
    if found != EXPECTED:
        state = "holds no tables yet" if found is None else f"has the schema {found}"
        raise SchemaMismatch(
            f"the database {state}, and this program wants {EXPECTED}: run `recorder migrate`"
            " (or, if that refuses, the version of the recorder that wrote it)"
        )
