"""What the socket's task does with commands beside writing them: claims them, and notes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define
from sqlalchemy import Connection

from recorder.log.rules.event import Draft
from recorder.log.tasks.inbox import NextPosition, Submission
from recorder.outbox.sql.dispatch import ClaimedCommand
from recorder.outbox.tasks.send_queue import Dispatch


@define(eq=False)
class Claiming:
    """One dispatch in the log's transaction, and what the last try of it took."""

    dispatch: Dispatch
    account: str
    connection_id: str
    drafts: Callable[[ClaimedCommand], list[Draft]]
    taken: Sequence[ClaimedCommand] = ()

    def decide(self, connection: Connection, next_position: NextPosition) -> list[Draft]:
        """Take what may go; return the events of that."""
        position = next_position(self.account)
        self.taken = self.dispatch.claim(connection, self.connection_id, position)
        return [draft for taken in self.taken for draft in self.drafts(taken)]

    def record(self, connection: Connection, positions: Sequence[int]) -> None:
        """Record where the ``sent`` events stand."""
        self.dispatch.record(connection, self.taken, positions[1::2])


def claim_facts(taken: ClaimedCommand) -> dict[str, object]:
    """Return what a note says of the command that it is about."""
    return {"outbox_id": taken.outbox_id, "client_msg_id": taken.client_msg_id}


def mark_all_sent(dispatch: Dispatch, sent: Sequence[tuple[ClaimedCommand, int]]) -> Submission:
    """Return what says on the rows that the kernel has the bytes, with the events' positions."""
    taken, positions = [each for each, _ in sent], [position for _, position in sent]

    def record(connection: Connection, _: Sequence[int]) -> None:
        dispatch.mark_sent(connection, taken, positions)

    return Submission(record=record, is_plain=True)
