"""What a run asks people before it makes a call, and what they say.

A run asks about its own calls only. What a run below it asks is told again in its events, because people watch the
root; it is decided in the run that asked, which every approval names. A question to a person, which a tool of type
human is, is asked in the same way: its answer is the call's result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Literal

import msgspec

from kadre.base.clock import Clock
from kadre.base.errors import BadRequest, Conflict, NotFound, Unavailable, shorten
from kadre.base.ids import new_id
from kadre.base.tasks import first_of
from kadre.engine import calling, policy
from kadre.engine import events as ev
from kadre.engine.calling import Prepared
from kadre.engine.deadline import Deadline
from kadre.engine.masking import NO_MASKS, Masks
from kadre.engine.recorder import Recorder
from kadre.engine.tools import parameters, validity
from kadre.plan.types import ApprovalPlan

Decision = Literal["allow", "deny"]
OWN = "own questions"
"""Who holds the deadline while this run waits for a person."""
KNOWN_SECONDS = 30.0
"""In which a run that was taken up knows its tools again, for whoever changes a call of it."""
SHOWN_BYTES = ev.MAX_EVENT_BYTES - 4096
"""JSON of the questions in one event, with room for its own fields: nobody decides about a call they see a part of."""
EXPIRED = "nobody answered in time"


class Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a person says besides their decision.

    `digest`: that of the call they saw; `arguments`: those that the call is to be made with instead of its own;
    `answer`: to a question.
    """

    digest: str = ""
    arguments: dict[str, Any] | None = None
    answer: str | None = None


NOTHING = Said()


def check(approval: ev.Approval, decision: Decision, said: Said) -> None:
    """Raises Conflict where another call was seen than the one that waits, BadRequest for what makes no sense."""
    if said.digest and said.digest != approval.digest:
        message = f"the call that waits has the digest {approval.digest}, not {said.digest}: look at it again"
        raise Conflict(message, reason="DigestMismatch")
    if decision == "deny" and (said.arguments is not None or said.answer is not None):
        raise BadRequest("a call that is denied has no arguments and no answer; say why in note", reason="BadDecision")
    if approval.kind == "question":
        if said.arguments is not None:
            raise BadRequest("this is a question: send the answer as `answer`", reason="BadDecision")
        if decision == "allow" and said.answer is None:
            message = 'this is a question: send {"decision": "allow", "answer": …}, or deny it'
            raise BadRequest(message, reason="AnswerMissing")
    elif said.answer is not None:
        raise BadRequest("this is a call to be allowed or denied: it takes no answer", reason="BadDecision")


class Approvals:
    """One run's own questions."""

    def __init__(
        self, recorder: Recorder, deadline: Deadline, clock: Clock, plan: ApprovalPlan, masks: Masks = NO_MASKS
    ) -> None:
        self._recorder = recorder
        self._deadline = deadline
        self._clock = clock
        self._plan = plan
        self._masks = masks
        self._open: dict[str, ev.Approval] = {}
        self._calls: dict[str, Prepared] = {}
        """What is asked about, by approval: not known yet where the run has just been taken up."""
        self._decisions: dict[str, ev.ApprovalDecided] = {}
        self._decided = asyncio.Event()
        self._known = asyncio.Event()

    def take_up(self, asked: Sequence[ev.Approval], decisions: dict[str, ev.ApprovalDecided]) -> None:
        """Go on with what was asked, and in part decided, before the process ended."""
        self._decisions.update(decisions)
        self._open.update((approval.id, approval) for approval in asked if approval.id not in decisions)

    async def settle(self, calls: Sequence[Prepared], asked: Sequence[ev.Approval] = ()) -> None:
        """Wait until a person has decided every call that needs it, and make of each what they said.

        `asked`: questions about some of these calls that were asked before.
        """
        by_call = {approval.tool_call.id: approval for approval in asked}
        fresh = [asks for item in calls if item.asks and item.call.id not in by_call if (asks := self._question(item))]
        by_call.update((approval.tool_call.id, approval) for approval in fresh)
        mine = [(item, by_call[item.call.id]) for item in calls if item.call.id in by_call]
        self._calls = {approval.id: item for item, approval in mine}
        self._known.set()
        if fresh:
            self._open.update((approval.id, approval) for approval in fresh)
            for some in _in_events(fresh):
                self._recorder.emit(ev.ApprovalRequired, approvals=some)
            await self._recorder.commit()
        await self._wait([approval.id for approval in by_call.values()])
        self._known.clear()
        for item, approval in mine:
            _apply(item, approval, self._decisions[approval.id])

    def _question(self, item: Prepared) -> ev.Approval | None:
        """What is asked about the call; None where that is more than anybody is shown, which is its problem then."""
        question, reason, seconds = item.question, item.verdict.reason, self._plan.expires
        default: str | None = None
        lets = self._plan.on_expiry == "allow" and not item.verdict.lapsed
        if question is not None:
            default = question.default
            lets = default is not None
            reason = question.prompt or f"{item.call.name} asks a person"
            seconds = question.seconds or seconds
        approval = ev.Approval(
            id=new_id("apr"),
            run_id=self._recorder.live.info.run_id,
            tool_call=item.state("pending"),
            reason=reason,
            expires=self._clock.now() + timedelta(seconds=seconds),
            digest=policy.digest(item.call.name, item.arguments),
            kind="call" if question is None else "question",
            on_expiry="allow" if lets else "deny",
            default=default,
        )
        size = _size(approval)
        if size <= SHOWN_BYTES:
            return approval
        item.problem = (
            f"nothing was called: a person must see all of this call to decide about it, and it has {size} bytes where"
            f" {SHOWN_BYTES} can be shown. Call it with less, in several calls where that does"
        )
        return None

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
                        said = Said(answer=approval.default)
                        await self.decide(approval.id, approval.on_expiry, "expiry", EXPIRED, said)
        finally:
            self._deadline.release(OWN)

    async def decide(self, approval_id: str, decision: Decision, by: str, note: str = "", said: Said = NOTHING) -> None:
        """Record a decision; committed when it returns.

        Raises NotFound where the question is not open, BadRequest for arguments that the tool does not take, and what
        `check` does.
        """
        approval = self._open.get(approval_id)
        if approval is None:
            raise _none(approval_id)
        check(approval, decision, said)
        arguments = said.arguments
        if arguments is not None:
            arguments = await self._check_arguments(approval_id, arguments)
        if self._open.pop(approval_id, None) is None:  # decided while the arguments were checked
            raise _none(approval_id)
        self._decisions[approval_id] = self._recorder.emit(
            ev.ApprovalDecided,
            approval_id=approval_id,
            decision=decision,
            by=by,
            # A person may have typed one of the agent's secrets: the model, and whoever reads events, are told of it.
            note=self._masks.hide(note),
            arguments=self._masks.hidden(arguments),
            answer=self._masks.hidden(said.answer),
        )
        try:
            await self._recorder.commit()
        finally:
            self._decided.set()  # where it could not be recorded the run must find out, not wait for another

    async def _check_arguments(self, approval_id: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments as the tool would be called with them."""
        if not self._known.is_set():
            await first_of(self._known.wait(), self._clock.sleep(KNOWN_SECONDS))
        item = self._calls.get(approval_id)
        if item is None or item.bound is None:
            message = "what the tool of this call takes is not known just now; decide again, or without arguments"
            raise Unavailable(message, reason="ToolsUnavailable", retry_after=5.0)
        spec = item.bound.spec
        real = calling.revealed(spec, arguments, self._masks)
        if self._masks.reveal(self._masks.hidden(arguments)) != self._masks.reveal(arguments):
            message = "a secret is in the arguments otherwise than as it is, in part or in base64 perhaps"
            message += f"; {spec.name} can be given it as it is alone: write it so, or [secret:…]"
            raise BadRequest(message, reason="InvalidArguments")
        known = self._masks.knows(arguments)
        if known and (wrong := validity.fault(spec.parameters, real, self._masks.hide)):
            raise BadRequest(f"{spec.name} does not take these arguments: {wrong}", reason="InvalidArguments")
        if spec.filled:
            arguments = parameters.fill(spec.parameters, arguments)
        verdict = policy.decide(self._plan, spec, item.bound.name, arguments, "")
        if verdict.action == "deny":
            raise BadRequest(f"with these arguments {verdict.reason}", reason="DeniedByPolicy")
        return arguments

    def close(self) -> None:
        """The run is ending: a decision that comes now comes too late."""
        self._open.clear()


def _size(approval: ev.Approval) -> int:
    """Bytes of its JSON, without the answer that stands for none: an author's may be kept apart."""
    return len(msgspec.json.encode(msgspec.structs.replace(approval, default=None)))


def _in_events(approvals: Sequence[ev.Approval]) -> Iterator[tuple[ev.Approval, ...]]:
    """As many together as one event has room for."""
    some: list[ev.Approval] = []
    left = SHOWN_BYTES
    for approval in approvals:
        size = len(msgspec.json.encode(approval))
        if some and size > left:
            yield tuple(some)
            some, left = [], SHOWN_BYTES
        some.append(approval)
        left -= size
    yield tuple(some)


def _none(approval_id: str) -> NotFound:
    return NotFound(f"there is no open approval {approval_id!r}", reason="NoSuchApproval")


def _apply(item: Prepared, approval: ev.Approval, decided: ev.ApprovalDecided) -> None:
    """Make of a call what was decided about it."""
    if item.problem:
        return
    note = f": {decided.note}" if decided.note else ""
    if decided.decision == "deny":
        question = approval.kind == "question"
        told = f"{decided.by}{note}"
        item.problem = f"nobody answered this question ({told})" if question else f"this call was denied by {told}"
    elif approval.digest and approval.digest != policy.digest(item.call.name, item.arguments):
        item.problem = "this is not the call that was allowed: ask again"
    elif approval.kind == "question":
        item.answer = decided.answer or ""
    elif decided.arguments is not None and decided.arguments != item.arguments:
        item.arguments = decided.arguments
        told = shorten(msgspec.json.encode(decided.arguments).decode())
        item.note = f"{decided.by} allowed this call with other arguments: {told}"


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
        names = ("approval_id", "decision", "by", "note", "arguments", "answer")
        await recorder.tell(ev.ApprovalDecided, **{name: getattr(event, name) for name in names})
