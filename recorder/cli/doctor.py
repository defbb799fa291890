"""``recorder doctor``: is what the recorder stands on as it should be?"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import trio
from sqlalchemy import Connection, select, text

from recorder.cli.call import Call
from recorder.cli.command import command
from recorder.cli.exits import OK as EXIT_OK
from recorder.cli.exits import STORAGE, WRONG
from recorder.cli.output import Column
from recorder.config import AccountSettings, Settings
from recorder.connection.observation import ask_exchange_time_us
from recorder.database.blockers import lasting_blockers
from recorder.database.engine import Database, in_unit, open_database
from recorder.database.migrate import EXPECTED
from recorder.database.migrate import look as read_revision
from recorder.database.schema import leases
from recorder.display import duration_text, plain
from recorder.errors import RecorderError
from recorder.exchange.pacing import TokenBucket
from recorder.exchange.rest_requests import Kind, list_request
from recorder.lease.holder import pid_here
from recorder.machine import (
    FAILED,
    OK,
    WARNING,
    Finding,
    look_at_disk,
    look_at_file,
    look_at_file_system,
    looks_while_running,
    time_fsync,
    time_sqlite_commit,
    timed,
)
from recorder.rest.client import RestAnswer, RestUnavailable, open_rest
from recorder.wiring import sign_request

_COLUMNS = (Column("check"), Column("level", "result"), Column("found"), Column("advice", "do"))
#: VALR refuses what is signed with a time that is further off.
SKEW_MAX_S, SKEW_WARNED_S = 30.0, 2.0
_COMMIT = "SELECT pg_logical_emit_message(true, 'recorder', 'doctor')"
_SERVER = """
    SELECT name, setting FROM pg_settings
    WHERE name IN ('fsync', 'full_page_writes', 'max_connections')
"""


@command(settings=None)
def doctor_command(call: Call) -> int:
    """Check everything, print a line for each, and return the code of the worst."""
    settings = call.settings(credentials=True)
    findings = [*_machine(settings), *_database(settings), *trio.run(_exchange, call, settings)]
    rows = [
        {
            "check": each.check,
            "level": each.level,
            "found": plain(each.found),
            "advice": each.advice,
        }
        for each in findings
    ]
    call.output.rows(_COLUMNS, rows, empty="nothing was checked")
    levels = {each.level for each in findings}
    if FAILED in levels:
        return STORAGE if any(_is_storage(each) for each in findings) else WRONG
    return EXIT_OK


def _is_storage(finding: Finding) -> bool:
    return finding.level == FAILED and finding.check in ("database", "disk", "file system")


def _machine(settings: Settings) -> Iterator[Finding]:
    for look in looks_while_running(settings.queue_bytes, None):
        yield look()
    if settings.checkpoint_key_file:
        yield look_at_file("checkpoint key", Path(settings.checkpoint_key_file))


def _database(settings: Settings) -> Iterator[Finding]:
    try:
        with open_database(settings.database_url, application="recorder-doctor") as database:
            is_file = database.dialect == "sqlite"
            yield from _sqlite(database) if is_file else _postgresql(database)
            schema = _schema(database)
            yield schema
            holders = in_unit(database.reader, _holders) if schema.found == EXPECTED else []
            in_the_way = lasting_blockers(database, [pid_here(each) for each in holders])
            for each in in_the_way:
                yield Finding("in the way", WARNING, each, "end that program's transaction")
            if not in_the_way:
                yield Finding("in the way", OK, "no lock or old snapshot of another program")
    except RecorderError as error:
        yield Finding("database", FAILED, str(error), "see what was found")


def _sqlite(database: Database) -> Iterator[Finding]:
    path = Path(database.url.database or "").absolute()
    yield look_at_disk(path.parent)
    yield look_at_file_system(path.parent)
    if path.exists():
        yield look_at_file("database file", path)
    try:
        yield time_fsync(path.parent)
        yield time_sqlite_commit(path.parent)
    except (OSError, sqlite3.Error) as error:
        advice = "check the folder, its space and its permissions"
        yield Finding("disk", FAILED, f"{path.parent} takes no file: {error}", advice)


def _postgresql(database: Database) -> Iterator[Finding]:
    server = dict(in_unit(database.reader, _server))
    used = server.pop("used")
    yield Finding("database", OK, f"{server.pop('version')} at {database.url_shown}")
    for name in ("fsync", "full_page_writes"):
        if server[name] != "on":
            advice = f"set {name} = on: what it acknowledged may be lost when the machine fails"
            yield Finding("server settings", WARNING, f"{name} is {server[name]}", advice)
    found = f"{used} of {server['max_connections']} connections in use"
    if int(server["max_connections"]) - int(used) < 20:
        yield Finding(
            "connections", WARNING, found, "raise max_connections: a daemon takes a dozen"
        )
    else:
        yield Finding("connections", OK, found)
    commit = partial(in_unit, database.writer, lambda connection: connection.execute(text(_COMMIT)))
    yield timed("commit", commit)


def _server(connection: Connection) -> list[tuple[str, str]]:
    rows = [(str(name), str(value)) for name, value in connection.execute(text(_SERVER))]
    used = connection.execute(text("SELECT count(*) FROM pg_stat_activity")).scalar_one()
    version = connection.execute(text("SHOW server_version")).scalar_one()
    return [*rows, ("used", str(used)), ("version", f"PostgreSQL {version}")]


def _holders(connection: Connection) -> list[str]:
    return list(connection.execute(select(leases.c.holder)).scalars())


def _schema(database: Database) -> Finding:
    path = Path(database.url.database or "")
    if database.dialect == "sqlite" and not path.exists():
        return Finding("schema", OK, "no database yet; `recorder run` makes it")
    found = in_unit(database.reader, read_revision)
    if found is None:
        return Finding("schema", OK, "empty; `recorder run` makes the tables")
    if found != EXPECTED:
        advice = "stop the recorder and run `recorder migrate`"
        return Finding("schema", FAILED, f"{found}; this program expects {EXPECTED}", advice)
    return Finding("schema", OK, found)


async def _exchange(call: Call, settings: Settings) -> list[Finding]:
    keys = [await _key(call, settings, account) for account in settings.accounts]
    return [await _clock(call, settings), *keys]


async def _clock(call: Call, settings: Settings) -> Finding:
    began_us = call.clock.wall_us()
    theirs_us = await ask_exchange_time_us(settings.rest_url)
    if theirs_us is None:
        advice = "check the network, rest_url and any proxy between"
        return Finding("exchange", WARNING, f"no time from {settings.rest_url}", advice)
    skew_s = ((began_us + call.clock.wall_us()) / 2 - theirs_us) / 1e6
    # The exchange gives whole seconds.
    found = f"{duration_text(abs(skew_s))} {'ahead of' if skew_s > 0 else 'behind'} the exchange"
    if abs(skew_s) >= SKEW_MAX_S:
        return Finding("clock", FAILED, found, "run NTP: the exchange refuses what is signed so")
    if abs(skew_s) >= SKEW_WARNED_S:
        return Finding("clock", WARNING, found, "run NTP")
    return Finding("clock", OK, "less than 2 s from the exchange's")


async def _key(call: Call, settings: Settings, account: AccountSettings) -> Finding:
    check = f"key of {account.name}"
    if not (account.api_key and account.api_secret):
        advice = "set VALR_API_KEY and VALR_API_SECRET, or their …_FILE"
        return Finding(check, FAILED, "no key, or no secret", advice)
    sign, bucket = partial(sign_request, account), TokenBucket(1, 1.0)
    try:
        async with open_rest(settings.rest_url, sign, call.clock, bucket) as client:
            answer = await client.get(list_request(Kind.API_KEY))
    except RestUnavailable as error:
        return Finding(check, WARNING, str(error), "check the network")
    return _permissions(check, answer, is_trading=account.trading)


def _permissions(check: str, answer: RestAnswer, *, is_trading: bool) -> Finding:
    if answer.status != 200:
        advice = "check key, secret, the addresses it may be used from, and the clock"
        level = FAILED if answer.status in (401, 403) else WARNING
        return Finding(check, level, f"the exchange answered {answer.status}", advice)
    may = _listed(answer.text)
    found = f"may: {', '.join(may)}" if may else "the exchange named no permission"
    may_trade = any("trade" in each.lower() for each in may)
    if any("withdraw" in each.lower() for each in may):
        return Finding(check, WARNING, found, "use a key without withdrawals: none are ever needed")
    if is_trading and may and not may_trade:
        return Finding(check, FAILED, found, "trading is on: use a key that may trade")
    return Finding(check, OK, found)


def _listed(answer: str) -> list[str]:
    try:
        permissions = json.loads(answer)["permissions"]
    except (ValueError, TypeError, KeyError):
        return []
    return [str(each) for each in permissions] if isinstance(permissions, list) else []
