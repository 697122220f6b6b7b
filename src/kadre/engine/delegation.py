"""A call that another agent answers, as a run of its own: what the run that asks tells of it, and makes of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Iterable

from kadre.base.errors import KadreError, ToolError
from kadre.engine import approvals
from kadre.engine import events as ev
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


def unfinished(events: Iterable[ev.Event]) -> list[str]:
    """The ids of the runs that these events delegate to and do not tell the end of."""
    children: dict[str, None] = {}
    for event in events:
        if isinstance(event, ev.DelegateStart):
            children[event.child_run_id] = None
        elif isinstance(event, ev.DelegateEnd):
            children.pop(event.child_run_id, None)
    return list(children)


async def answer(parent: Runner, child: Live, message: str, context: CallContext) -> ToolOutput:
    """The child's answer, when it has ended. Raises ToolError where the child was lost."""
    recorder, agent = parent.recorder, child.info.agent
    told = {"agent": agent, "child_run_id": child.info.run_id, "tool_call_id": context.tool_call_id}
    await recorder.tell(ev.DelegateStart, message=message[:MESSAGE_PREVIEW], **told)
    status = await _follow(parent, child)
    await recorder.tell(ev.DelegateEnd, status=status, **told)
    if status == "completed":
        return ToolOutput(child.answer())
    cause = child.error()
    return ToolOutput(f"{agent} ended {status}" + (f": {cause.message}" if cause else ""), is_error=True)


async def _heard(child: Live) -> AsyncIterator[ev.Event]:
    try:
        async for event in child.follow():
            yield event
    except KadreError as error:
        raise ToolError(f"{child.info.agent} was lost while it worked: {error}") from error


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
        parent.deadline.release(holder)
    return (await child.wait()).status
