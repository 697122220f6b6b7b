"""A call that another agent answers, as a run of its own: what the run that asks tells of it, and makes of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Container, Iterable, Mapping
from typing import Any, Protocol

from kadre.base.errors import Conflict, KadreError, NotFound, Refused, ToolError, Unavailable
from kadre.engine import approvals, policy
from kadre.engine import events as ev
from kadre.engine.accepting import Ask, Parent
from kadre.engine.afar import Afar
from kadre.engine.live import Live
from kadre.engine.runner import Runner
from kadre.engine.tools.port import CallContext, ToolOutput

MESSAGE_PREVIEW = 4096
"""Characters of the message in the parent's event; the whole is in the child's own user_message."""
OWN_ID = re.compile(r"run-[0-9a-f]{21}$")
"""A run id that we made, which begins with its time; a caller may choose others."""
TIMED = len("run-") + 11


def child_of(run_id: str, key: str) -> str:
    """The id of the run that a call delegates to: the same for the same call, and listed beside its parent."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    when = run_id[:TIMED] if OWN_ID.match(run_id) else f"run-{digest[10:21]}"
    return when + digest[:10]


def unfinished(events: Iterable[ev.Event]) -> list[ev.DelegateStart]:
    """The runs that these events delegate to and do not tell the end of."""
    children: dict[str, ev.DelegateStart] = {}
    for event in events:
        if isinstance(event, ev.DelegateStart):
            children[event.child_run_id] = event
        elif isinstance(event, ev.DelegateEnd):
            children.pop(event.child_run_id, None)
    return list(children.values())


class Starts(Protocol):
    """Who can have an agent take a message: the host, or where others are asked."""

    async def start(self, ask: Ask, parent: Parent) -> Live:
        """The run. Raises Refused."""
        ...


async def begin(at: Starts, ask: Ask, above: Parent, parent: Runner) -> Live:
    """The child's run. Raises ToolError where it is not begun, as far as is known.

    One at another host that was begun before is not begun again: where its journal is gone nobody knows what it did.
    """
    told = any(isinstance(event, ev.DelegateStart) and event.child_run_id == ask.run_id for event in parent.live.events)
    try:
        return await at.begun(ask) if told and isinstance(at, Afar) else await at.start(ask, above)
    except Refused as error:
        raise ToolError(f"{ask.agent} cannot be asked now: {error}") from error


async def hand_on(
    afar: Afar, live: Live, served: Container[str], approval: ev.Approval, decided: Mapping[str, Any]
) -> bool:
    """Tell what a person decided to the host of the run that asked, or that asked for it; whether one took it.

    `served`: the agents that are here. Raises Refused: Unavailable where that host cannot be reached.
    """
    failed: Unavailable | None = None
    for child in sorted(unfinished(live.events), key=lambda child: child.child_run_id != approval.run_id):
        if child.agent in served:
            continue
        asked_there = child.child_run_id == approval.run_id
        try:
            await afar.by(live.info.agent).approve(child.child_run_id, live.info.caller, decided)
        except (NotFound, Conflict):
            if not asked_there:  # else it was decided meanwhile
                continue
        except Unavailable as error:
            if asked_there:
                raise
            failed = error
            continue
        return True
    if failed is not None:
        raise failed
    return False


async def answer(parent: Runner, child: Live, message: str, context: CallContext) -> ToolOutput:
    """The child's answer, when it has ended. Raises ToolError where the child was lost."""
    recorder, agent = parent.recorder, child.info.agent
    told = {"agent": agent, "child_run_id": child.info.run_id, "tool_call_id": context.tool_call_id}
    await recorder.tell(ev.DelegateStart, message=message[:MESSAGE_PREVIEW], **told)
    status = await _follow(parent, child)
    await recorder.tell(ev.DelegateEnd, status=status, **told)
    outside = policy.outside(child.events)
    if status == "completed":
        return ToolOutput(child.answer(), outside=outside)
    cause = child.error()  # which may tell what its model's endpoint said, and that may repeat what it was sent
    why = f": {cause.message}" if cause else ""
    return ToolOutput(f"{agent} ended {status}{why}", is_error=True, outside=outside)


async def _heard(child: Live) -> AsyncIterator[ev.Event]:
    try:
        async for event in child.follow():
            yield event
    except KadreError as error:
        raise ToolError(f"{child.info.agent} was lost while it worked: {error}", unknown=True) from error


async def _follow(parent: Runner, child: Live) -> ev.RunStatus:
    """Wait for the child's end. While it waits for a person, so does the parent."""
    holder = child.info.run_id
    try:
        async for event in _heard(child):
            if isinstance(event, ev.ApprovalRequired | ev.ApprovalDecided):
                if child.pending_approvals():
                    parent.deadline.hold(holder)
                else:
                    parent.deadline.release(holder)
                await approvals.retell(parent.recorder, event)
    finally:
        child.leave()
        parent.deadline.release(holder)
    return (await child.wait()).status
