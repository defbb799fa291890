"""``recorder status``: is it recording, and how far is everything?

It never prints "connected" from a row alone: a process that died left that row behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import frozen
from sqlalchemy import Connection

from recorder.cli.call import Call
from recorder.cli.command import command
from recorder.cli.exits import OK
from recorder.cli.output import Column
from recorder.database.blockers import lasting_blockers
from recorder.database.engine import in_unit
from recorder.display import duration_text, plain, short_time
from recorder.lease.holder import pid_here
from recorder.queries.account_status import (
    AccountStatus,
    read_account_status,
    tables_behind,
    warnings,
)

_PROJECTIONS = (
    Column("projection"),
    Column("position", right=True),
    Column("lag", "behind", right=True),
    Column("updated_at", "updated (UTC)", spare=True),
    Column("error", "last failure"),
)


@command()
def status_command(call: Call) -> int:
    """Print one JSON object, or one page, per account."""

    def look(connection: Connection) -> list[AccountStatus]:
        accounts = call.accounts(connection, queued=True)
        return [read_account_status(connection, account) for account in accounts]

    output = call.output
    with call.database() as database:
        url, found = database.url_shown, in_unit(database.reader, look)
        leases = [status.lease for status in found if status.lease]
        in_the_way = lasting_blockers(database, [pid_here(each.holder) for each in leases])
    now = call.now()
    for number, status in enumerate(found):
        answer = _Answer(status, now, in_the_way)
        if output.as_json:
            output.json_line(answer.facts())
            continue
        if number:
            output.line()
        account = {"account": f"{plain(status.account)}  in {url}"}
        output.labelled({**account, **answer.lines()})
        for each in in_the_way:
            output.line(f"in the way  {plain(each)}")
        for warning in answer.warnings:
            output.line(f"warning     {warning}")
        if status.checkpoints:
            output.line()
        empty = "tables      nothing folded yet: the first start of `recorder run` begins with it"
        output.rows(_PROJECTIONS, answer.projections, empty=empty)
    return OK


@frozen
class _Answer:
    """What is printed about one account, for a program and for a person."""

    status: AccountStatus
    now: datetime
    in_the_way: Sequence[str]

    @property
    def is_running(self) -> bool:
        return self.status.is_running(self.now)

    @property
    def warnings(self) -> tuple[str, ...]:
        return (*warnings(self.status, self.now), *tables_behind(self.status, self.now))

    @property
    def connection_state(self) -> str:
        """The state of the last connection's row, unless the process that kept it true is gone."""
        row = self.status.connection
        if row is None:
            return "none yet"
        return "unknown" if row["is_open"] and not self.is_running else str(row["state"])

    @property
    def projections(self) -> list[dict[str, Any]]:
        return [
            {
                "projection": name,
                "position": row["position"],
                "lag": self.status.position - row["position"],
                "updated_at": row["updated_at"],
                "error": row["error"],
            }
            for name, row in self.status.checkpoints.items()
        ]

    def facts(self) -> dict[str, Any]:
        status, row, lease = self.status, self.status.connection, self.status.lease
        recorder = "running" if self.is_running else "not running"
        connection = row and {
            "connection_id": row["connection_id"],
            "state": self.connection_state,
            **_picked(row, "opened_at authenticated_at closed_at close_code close_reason"),
            "last_frame_at": status.last_frame_at,
            "last_frame_age_s": status.frame_age_s(self.now),
        }
        of_lease = ("holder", "epoch", "taken_at", "renewed_at", "expires_at")
        return {
            "account": status.account,
            "recorder": recorder if lease else "never ran",
            "live": not self.warnings,
            "warnings": self.warnings,
            "in_the_way": self.in_the_way,
            "head": {
                "position": status.position,
                "received_at": status.head_at,
                "digest": status.digest,
            },
            "connection": connection,
            "lease": lease and {name: getattr(lease, name) for name in of_lease},
            "projections": self.projections,
            "outbox": dict(status.pending),
            "switch": status.switch
            and _picked(status.switch, "trading reason changed_by changed_at"),
            "gaps_open": status.gaps_open,
            "gaps": dict(status.gaps_ended),
            "reconciled": status.reconciled and dict(status.reconciled),
        }

    def lines(self) -> dict[str, str]:
        """Return the page: label → sentence."""
        pending = [f"{number:,} {state}" for state, number in self.status.pending.items() if number]
        return {
            "recorder": self._recorder(),
            "connection": self._connection(),
            "log": self._head(),
            "outbox": ", ".join(pending) or "nothing queued, nothing open",
            "switch": self._switch(),
            "gaps": self._gaps(),
            "reconciled": self._reconciled(),
        }

    def _recorder(self) -> str:
        lease = self.status.lease
        if lease is None:
            return "never ran for this account on this database"
        holder = f"{plain(lease.holder)}, epoch {lease.epoch}"
        if self.is_running:
            return f"running: {holder}; lease renewed {self._ago(lease.renewed_at)}"
        end = f"{short_time(lease.expires_at)} UTC"
        if lease.expires_at > self.now:
            # Its process is gone; the lease lasts until then, or until another takes it over.
            return f"not running: {holder}; lease not released, ends {end}"
        return f"not running: lease of {holder} ended {end}"

    def _connection(self) -> str:
        row, state = self.status.connection, self.connection_state
        if row is None:
            return state
        if state == "unknown":
            return "unknown: it was not closed, and no process holds it"
        since = row["authenticated_at"] or row["opened_at"]
        if not row["is_open"]:
            since = row["closed_at"]
            state += f" ({plain(row['close_reason'])})" if row["close_reason"] else ""
        when = f" since {short_time(since)} UTC" if since else ""
        last = self.status.last_frame_at
        return f"{state}{when}{f'; last frame {self._ago(last)}' if last else ''}"

    def _head(self) -> str:
        at, position = self.status.head_at, self.status.position
        if at is None:
            return "empty"
        return f"position {position:,}, {short_time(at)} UTC ({self._ago(at)})"

    def _switch(self) -> str:
        switch = self.status.switch
        if switch is None:
            return "not set; the first start sets it to on, and nothing is sent before"
        reason = f": {plain(switch['reason'])}" if switch["reason"] else ""
        changed = f"{short_time(switch['changed_at'])} UTC, by {plain(switch['changed_by'])}"
        return f"{switch['trading']} since {changed}{reason}"

    def _gaps(self) -> str:
        status, gap = self.status, self.status.open_gap
        ended = ", ".join(f"{number:,} {state}" for state, number in status.gaps_ended.items())
        others = f"; {ended}" if ended else ""
        if gap is None:
            return f"none open{others} (`recorder gaps` adds them up)"
        start = f"{short_time(gap['from_at'])} UTC" if gap["from_at"] else "before the first start"
        return f"{status.gaps_open:,} open, since {start}: {plain(gap['cause'])}{others}"

    def _reconciled(self) -> str:
        last = self.status.reconciled
        if last is None:
            return "never yet (`recorder reconcile` compares now)"
        ended = f"{last['state']}, {short_time(last['ended_at'])} UTC"
        if last["reason"]:
            return f"{ended}: {plain(last['reason'])}"
        return f"{ended}: {last['differences']:,} values differ" if last["differences"] else ended

    def _ago(self, at: datetime) -> str:
        return f"{duration_text((self.now - at).total_seconds())} ago"


def _picked(row: Mapping[str, Any], names: str) -> dict[str, Any]:
    return {name: row[name] for name in names.split() if name in row}
