"""``recorder status``: is it recording, and how far is everything?

It never reports "connected" from a row alone: a process that died left that row behind.
"""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from recorder.cli.call import Call
from recorder.cli.exits import OK
from recorder.cli.flags import DATABASE, add_output, add_settings
from recorder.cli.output import Column, Output
from recorder.database.engine import in_unit
from recorder.display import duration_text, plain, short_time
from recorder.queries.account_status import (
    AccountStatus,
    read_account_status,
    tables_behind,
    warnings,
)


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    add_settings(parser, DATABASE)
    add_output(parser)


def run(call: Call) -> int:
    """Print one JSON object, or one page, per account."""

    def look(connection: Connection) -> list[AccountStatus]:
        accounts = call.accounts(connection, queued=True)
        return [read_account_status(connection, account) for account in accounts]

    with call.database() as database:
        standings = in_unit(database.reader, look)
        now = call.now()
        for number, status in enumerate(standings):
            if call.output.as_json:
                call.output.json_line(facts(status, now))
                continue
            if number:
                call.output.line("")
            _print_page(call.output, status, now, database.url_shown)
    return OK


def facts(status: AccountStatus, now: datetime) -> dict[str, Any]:
    """Return everything that status reports about one account, for a program."""
    lease, connection = status.lease, status.connection
    return {
        "account": status.account,
        "recorder": _validity(status, now),
        "live": not _warnings(status, now),
        "warnings": _warnings(status, now),
        "head": {
            "position": status.position,
            "received_at": status.head_at,
            "digest": status.digest,
        },
        "connection": connection
        and {
            "connection_id": connection["connection_id"],
            "state": _connection_state(status, now),
            "opened_at": connection["opened_at"],
            "authenticated_at": connection["authenticated_at"],
            "closed_at": connection["closed_at"],
            "close_code": connection["close_code"],
            "close_reason": connection["close_reason"],
            "last_frame_at": status.last_frame_at,
            "last_frame_age_s": status.frame_age_s(now),
        },
        "lease": lease
        and {
            "holder": lease.holder,
            "epoch": lease.epoch,
            "taken_at": lease.taken_at,
            "renewed_at": lease.renewed_at,
            "expires_at": lease.expires_at,
        },
        "projections": [_checkpoint(status, name) for name in status.checkpoints],
        "outbox": dict(status.pending),
        "switch": status.switch
        and {name: status.switch[name] for name in _SWITCH if name in status.switch},
        "gaps_open": status.gaps_open,
        "gaps": dict(status.gaps_ended),
        "reconciled": status.reconciled and dict(status.reconciled),
    }


def _warnings(status: AccountStatus, now: datetime) -> tuple[str, ...]:
    return (*warnings(status, now), *tables_behind(status, now))


_SWITCH = ("trading", "reason", "changed_by", "changed_at")


def _validity(status: AccountStatus, now: datetime) -> str:
    if status.lease is None:
        return "never ran"
    return "running" if status.is_running(now) else "not running"


def _connection_state(status: AccountStatus, now: datetime) -> str:
    """Return the row's state, unless the process that kept it true is gone."""
    assert status.connection is not None
    if status.connection["is_open"] and not status.is_running(now):
        return "unknown"
    return str(status.connection["state"])


def _checkpoint(status: AccountStatus, name: str) -> dict[str, Any]:
    row = status.checkpoints[name]
    return {
        "projection": name,
        "position": row["position"],
        "lag": status.position - row["position"],
        "updated_at": row["updated_at"],
        "error": row["error"],
    }


_PROJECTIONS = (
    Column("projection"),
    Column("position", right=True),
    Column("lag", "behind", right=True),
    Column("updated_at", "updated (UTC)", spare=True),
    Column("error", "last failure"),
)


def _print_page(output: Output, status: AccountStatus, now: datetime, database: str) -> None:
    output.line(f"account     {plain(status.account)}  in {database}")
    output.line(f"recorder    {_validity_line(status, now)}")
    output.line(f"connection  {_connection_line(status, now)}")
    output.line(f"log         {_head_line(status, now)}")
    output.line(f"outbox      {_outbox_line(status)}")
    output.line(f"switch      {_switch_line(status)}")
    output.line(f"gaps        {_gap_line(status)}")
    output.line(f"reconciled  {_reconciled_line(status)}")
    for warning in _warnings(status, now):
        output.line(f"warning     {warning}")
    if status.checkpoints:
        output.line("")
    output.rows(
        _PROJECTIONS,
        [_checkpoint(status, name) for name in status.checkpoints],
        empty="tables      nothing folded yet: the first start of `recorder run` begins with it",
    )


def _validity_line(status: AccountStatus, now: datetime) -> str:
    lease = status.lease
    if lease is None:
        return "never ran for this account on this database"
    holder = f"{plain(lease.holder)}, epoch {lease.epoch}"
    if status.is_running(now):
        renewed = duration_text((now - lease.renewed_at).total_seconds())
        return f"running: {holder}; lease renewed {renewed} ago"
    if lease.expires_at > now:
        # Its process is gone; the lease stays until then, or until another process takes it over.
        return f"not running: {holder}; lease not released, ends {short_time(lease.expires_at)} UTC"
    return f"not running: lease of {holder} ended {short_time(lease.expires_at)} UTC"


def _connection_line(status: AccountStatus, now: datetime) -> str:
    connection = status.connection
    if connection is None:
        return "none yet"
    state = _connection_state(status, now)
    if state == "unknown":
        return "unknown: it was not closed, and no process holds it"
    since = connection["authenticated_at"] or connection["opened_at"]
    if not connection["is_open"]:
        since = connection["closed_at"]
        state += f" ({plain(connection['close_reason'])})" if connection["close_reason"] else ""
    when = f" since {short_time(since)} UTC" if since else ""
    age_s = status.frame_age_s(now)
    last_frame = f"; last frame {duration_text(age_s)} ago" if age_s is not None else ""
    return f"{state}{when}{last_frame}"


def _head_line(status: AccountStatus, now: datetime) -> str:
    if status.head_at is None:
        return "empty"
    age = duration_text((now - status.head_at).total_seconds())
    return f"position {status.position:,}, {short_time(status.head_at)} UTC ({age} ago)"


def _outbox_line(status: AccountStatus) -> str:
    counts = [f"{number:,} {state}" for state, number in status.pending.items() if number]
    return ", ".join(counts) or "nothing queued, nothing open"


def _switch_line(status: AccountStatus) -> str:
    switch = status.switch
    if switch is None:
        return "not set; the first start sets it to on, and nothing is sent before"
    reason = f": {plain(switch['reason'])}" if switch["reason"] else ""
    return (
        f"{switch['trading']} since {short_time(switch['changed_at'])} UTC,"
        f" by {plain(switch['changed_by'])}{reason}"
    )


def _gap_line(status: AccountStatus) -> str:
    ended = ", ".join(f"{count:,} {state}" for state, count in status.gaps_ended.items())
    others = f"; {ended}" if ended else ""
    if status.open_gap is None:
        return f"none open{others} (`recorder gaps` adds them up)"
    since = status.open_gap["from_at"]
    start = f"since {short_time(since)} UTC" if since else "since before the first start"
    return f"{status.gaps_open} open, {start}: {plain(status.open_gap['cause'])}{others}"


def _reconciled_line(status: AccountStatus) -> str:
    last = status.reconciled
    if last is None:
        return "never yet (`recorder reconcile` compares now)"
    ended = f"{last['state']}, {short_time(last['ended_at'])} UTC"
    if last["reason"]:
        return f"{ended}: {plain(last['reason'])}"
    return f"{ended}: {last['differences']} values differ" if last["differences"] else ended
