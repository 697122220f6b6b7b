"""What a run asks people before it makes a call, and what they say.

A run asks about its own calls only. What a run below it asks is told again in its events, because people watch the
root; it is decided in the run that asked, which every approval names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

from kadre.base.clock import Clock
from kadre.base.errors import NotFound
from kadre.base.ids import new_id
from kadre.base.tasks import first_of
from kadre.engine import events as ev
from kadre.engine.calling import Prepared
from kadre.engine.deadline import Deadline
from kadre.engine.recorder import Recorder

EXPIRY = timedelta(hours=1)
"""How long a question to a person stays open before it is denied: the wait of a lunch, not of a weekend."""

Decision = Literal["allow", "deny"]
OWN = "own questions"
"""Who holds the deadline while this run waits for a person."""


class Approvals:
    """One run's own questions."""

    def __init__(self, recorder: Recorder, deadline: Deadline, clock: Clock) -> None:
        self._recorder = recorder
        self._deadline = deadline
        self._clock = clock
        self._open: dict[str, ev.Approval] = {}
        self._decisions: dict[str, ev.ApprovalDecided] = {}
        self._decided = asyncio.Event()

    def take_up(self, asked: Sequence[ev.Approval], decisions: dict[str, ev.ApprovalDecided]) -> None:
        """Go on with what was asked, and in part decided, before the process ended."""
        self._decisions.update(decisions)
        self._open.update((approval.id, approval) for approval in asked if approval.id not in decisions)

    async def settle(self, calls: Sequence[Prepared], asked: Sequence[ev.Approval] = ()) -> dict[str, str]:
        """Wait until a person has decided every call that needs it; returns call id -> why it was denied.

        `asked`: questions about some of these calls that were asked before.
        """
        by_call = {approval.tool_call.id: approval for approval in asked}
        fresh = [self._question(item) for item in calls if item.asks and item.call.id not in by_call]
        by_call.update((approval.tool_call.id, approval) for approval in fresh)
        if fresh:
            self._open.update((approval.id, approval) for approval in fresh)
            await self._recorder.tell(ev.ApprovalRequired, approvals=tuple(fresh))
        await self._wait([approval.id for approval in by_call.values()])
        denied = {}
        for call_id, approval in by_call.items():
            decision = self._decisions[approval.id]
            if decision.decision == "deny":
                note = f": {decision.note}" if decision.note else ""
                denied[call_id] = f"this call was denied by {decision.by}{note}"
        return denied

    def _question(self, item: Prepared) -> ev.Approval:
        return ev.Approval(
            id=new_id("apr"),
            run_id=self._recorder.live.info.run_id,
            tool_call=item.state("pending"),
            reason=f"{item.call.name} may change something, and its author has not allowed it in advance",
            expires=self._clock.now() + EXPIRY,
        )

    async def _wait(self, ids: Sequence[str]) -> None:
        self._deadline.hold(OWN)
        try:
            while undecided := [self._open[key] for key in ids if key not in self._decisions]:
                left = (min(approval.expires for approval in undecided) - self._clock.now()).total_seconds()
                self._decided.clear()
                if left > 0:
                    await first_of(self._decided.wait(), self._clock.sleep(left))
                    await self._recorder.commit()  # what somebody decided who left before it was durable
                for approval in undecided:
                    if approval.id in self._open and approval.expires <= self._clock.now():
                        await self.decide(approval.id, "deny", "expiry", "nobody answered in time")
        finally:
            self._deadline.release(OWN)

    async def decide(self, approval_id: str, decision: Decision, by: str, note: str = "") -> None:
        """Record a decision; committed when it returns. Raises NotFound where the question is not open."""
        if self._open.pop(approval_id, None) is None:
            raise NotFound(f"there is no open approval {approval_id!r}", reason="NoSuchApproval")
        self._decisions[approval_id] = self._recorder.emit(
            ev.ApprovalDecided, approval_id=approval_id, decision=decision, by=by, note=note
        )
        try:
            await self._recorder.commit()
        finally:
            self._decided.set()  # where it could not be recorded the run must find out, not wait for another

    def close(self) -> None:
        """The run is ending: a decision that comes now comes too late."""
        self._open.clear()


async def retell(recorder: Recorder, event: ev.ApprovalRequired | ev.ApprovalDecided) -> None:
    """Tell another run's question, or its answer, in this run too.

    Once: a child that is followed again after a restart says it again.
    """
    live = recorder.live
    if isinstance(event, ev.ApprovalRequired):
        asked = (told.approvals for told in live.events if isinstance(told, ev.ApprovalRequired))
        if event.approvals not in asked:
            await recorder.tell(ev.ApprovalRequired, approvals=event.approvals)
    elif event.approval_id in {approval.id for approval in live.pending_approvals()}:
        await recorder.tell(
            ev.ApprovalDecided, approval_id=event.approval_id, decision=event.decision, by=event.by, note=event.note
        )
