"""``recorder status``: is it recording, and how far is everything?

It never says "connected" from a row alone: a process that died left that row behind.
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
from recorder.display import ago, plain, short_time
from recorder.queries.account_status import Standing, doubts, read_standing, tables_behind


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    add_settings(parser, DATABASE)
    add_output(parser)


def run(call: Call) -> int:
    """Print one JSON object, or one page, per account."""

    def look(connection: Connection) -> list[Standing]:
        accounts = call.accounts(connection, queued=True)
        return [read_standing(connection, account) for account in accounts]

    with call.database() as database:
        standings = in_unit(database.reader, look)
        now = call.now()
        for number, standing in enumerate(standings):
            if call.output.as_json:
                call.output.json_line(facts(standing, now))
                continue
            if number:
                call.output.line("")
            _print_page(call.output, standing, now, database.url_shown)
    return OK


def facts(standing: Standing, now: datetime) -> dict[str, Any]:
    """Return everything that status says about one account, for a program."""
    lease, connection = standing.lease, standing.connection
    return {
        "account": standing.account,
        "recorder": _life(standing, now),
        "live": not _doubts(standing, now),
        "doubts": _doubts(standing, now),
        "head": {
            "position": standing.position,
            "received_at": standing.head_at,
            "digest": standing.digest,
        },
        "connection": connection
        and {
            "connection_id": connection["connection_id"],
            "state": _connection_state(standing, now),
            "opened_at": connection["opened_at"],
            "authenticated_at": connection["authenticated_at"],
            "closed_at": connection["closed_at"],
            "close_code": connection["close_code"],
            "close_reason": connection["close_reason"],
            "last_frame_at": standing.last_frame_at,
            "last_frame_age_s": standing.frame_age_s(now),
        },
        "lease": lease
        and {
            "holder": lease.holder,
            "epoch": lease.epoch,
            "taken_at": lease.taken_at,
            "renewed_at": lease.renewed_at,
            "expires_at": lease.expires_at,
        },
        "projections": [_checkpoint(standing, name) for name in standing.checkpoints],
        "outbox": dict(standing.pending),
        "switch": standing.switch
        and {name: standing.switch[name] for name in _SWITCH if name in standing.switch},
        "gaps_open": standing.gaps_open,
        "gaps": dict(standing.gaps_ended),
        "reconciled": standing.reconciled and dict(standing.reconciled),
    }


def _doubts(standing: Standing, now: datetime) -> tuple[str, ...]:
    return (*doubts(standing, now), *tables_behind(standing, now))


_SWITCH = ("trading", "reason", "changed_by", "changed_at")


def _life(standing: Standing, now: datetime) -> str:
    if standing.lease is None:
        return "never ran"
    return "running" if standing.is_running(now) else "not running"


def _connection_state(standing: Standing, now: datetime) -> str:
    """Return the row's state, unless nobody is there any more to keep it true."""
    assert standing.connection is not None
    if standing.connection["is_open"] and not standing.is_running(now):
        return "unknown"
    return str(standing.connection["state"])


def _checkpoint(standing: Standing, name: str) -> dict[str, Any]:
    row = standing.checkpoints[name]
    return {
        "projection": name,
        "position": row["position"],
        "lag": standing.position - row["position"],
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


def _print_page(output: Output, standing: Standing, now: datetime, database: str) -> None:
    output.line(f"account     {plain(standing.account)}  in {database}")
    output.line(f"recorder    {_life_line(standing, now)}")
    output.line(f"connection  {_connection_line(standing, now)}")
    output.line(f"log         {_head_line(standing, now)}")
    output.line(f"outbox      {_outbox_line(standing)}")
    output.line(f"switch      {_switch_line(standing)}")
    output.line(f"gaps        {_gap_line(standing)}")
    output.line(f"reconciled  {_reconciled_line(standing)}")
    for doubt in _doubts(standing, now):
        output.line(f"beware      {doubt}")
    if standing.checkpoints:
        output.line("")
    output.rows(
        _PROJECTIONS,
        [_checkpoint(standing, name) for name in standing.checkpoints],
        empty="tables      nothing folded yet: the first start of `recorder run` begins with it",
    )


def _life_line(standing: Standing, now: datetime) -> str:
    lease = standing.lease
    if lease is None:
        return "never ran for this account on this database"
    holder = f"{plain(lease.holder)}, epoch {lease.epoch}"
    if standing.is_running(now):
        renewed = ago((now - lease.renewed_at).total_seconds())
        return f"running: {holder}; lease renewed {renewed} ago"
    if lease.expires_at > now:
        # Its process is gone; the lease stands until then, or until somebody takes it over.
        return (
            f"not running: {holder}; lease not given back, ends {short_time(lease.expires_at)} UTC"
        )
    return f"not running: lease of {holder} ended {short_time(lease.expires_at)} UTC"


def _connection_line(standing: Standing, now: datetime) -> str:
    connection = standing.connection
    if connection is None:
        return "none yet"
    state = _connection_state(standing, now)
    if state == "unknown":
        return "unknown: nobody closed it, and nobody is there to hold it"
    since = connection["authenticated_at"] or connection["opened_at"]
    if not connection["is_open"]:
        since = connection["closed_at"]
        state += f" ({plain(connection['close_reason'])})" if connection["close_reason"] else ""
    when = f" since {short_time(since)} UTC" if since else ""
    age_s = standing.frame_age_s(now)
    heard = f"; last frame {ago(age_s)} ago" if age_s is not None else ""
    return f"{state}{when}{heard}"


def _head_line(standing: Standing, now: datetime) -> str:
    if standing.head_at is None:
        return "empty"
    age_s = (now - standing.head_at).total_seconds()
    return f"position {standing.position:,}, {short_time(standing.head_at)} UTC ({ago(age_s)} ago)"


def _outbox_line(standing: Standing) -> str:
    counts = [f"{number:,} {status}" for status, number in standing.pending.items() if number]
    return ", ".join(counts) or "nothing queued, nothing open"


def _switch_line(standing: Standing) -> str:
    switch = standing.switch
    if switch is None:
        return "not set; the first start sets it to on, and nothing is sent before"
    reason = f": {plain(switch['reason'])}" if switch["reason"] else ""
    return (
        f"{switch['trading']} since {short_time(switch['changed_at'])} UTC,"
        f" by {plain(switch['changed_by'])}{reason}"
    )


def _gap_line(standing: Standing) -> str:
    ended = ", ".join(f"{count:,} {state}" for state, count in standing.gaps_ended.items())
    others = f"; {ended}" if ended else ""
    if standing.open_gap is None:
        return f"none open{others} (`recorder gaps` adds them up)"
    since = standing.open_gap["from_at"]
    start = f"since {short_time(since)} UTC" if since else "since before the first start"
    return f"{standing.gaps_open} open, {start}: {plain(standing.open_gap['cause'])}{others}"


def _reconciled_line(standing: Standing) -> str:
    last = standing.reconciled
    if last is None:
        return "never yet (`recorder reconcile` compares now)"
    ended = f"{last['state']}, {short_time(last['ended_at'])} UTC"
    if last["reason"]:
        return f"{ended}: {plain(last['reason'])}"
    return f"{ended}: {last['differences']} values differ" if last["differences"] else ended
