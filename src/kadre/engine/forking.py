"""A session's conversation up to an event, as the beginning of another session. What it is taken from stays as it is.

The new session begins with a run that has ended: it holds what was said, and no model was asked for it. So every store
can do it with what it does anyway, at once or not at all, and every reader knows what it reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from kadre.base.clock import Clock
from kadre.base.errors import BadRequest, Conflict, NotFound, TooLarge
from kadre.base.ids import is_id, new_id
from kadre.engine import events as ev
from kadre.engine import policy
from kadre.engine.memory import conversation, spill
from kadre.engine.memory.port import Journal, NewRun, RunInfo
from kadre.engine.messages import Message

FORKED = "Forked"
"""The reason of the System event by which such a run says where it comes from."""
MAX_RUNS = 1000
"""Runs of a session whose conversation is taken along, the latest."""
MAX_BYTES = 16 * 1024 * 1024
"""Of a conversation: one that has more is refused."""


class Fork(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. `at`: the event up to which the conversation is there, `of` the run; `note`: why not further."""

    run: RunInfo
    of: str
    at: int
    note: str = ""


class Whole(msgspec.Struct, frozen=True):
    """What was said in a run up to an event, in pieces that a model can go on from. `outside`: see policy.outside."""

    events: Sequence[ev.Event]
    at: int
    note: str = ""
    outside: str = ""


async def fork(
    journal: Journal, source: RunInfo, caller: str, clock: Clock, *, at: int | None = None, session_id: str = ""
) -> Fork:
    """Begin another session of the caller with what was said in the source's up to its event `at`, or all of it.

    Raises BadRequest: there is no such event, or nothing was said by then; Conflict: the session is there already;
    TooLarge, NotFound, and Unavailable where the store cannot take it.
    """
    if session_id and not is_id(session_id):
        raise BadRequest("session_id must match [A-Za-z0-9][A-Za-z0-9._:-]{0,127}", reason="BadId")
    if at is not None and not 1 <= at <= source.last_seq:
        message = f"run {source.run_id} has events 1 to {source.last_seq}, and no event {at}"
        raise BadRequest(message, reason="NoSuchEvent")
    if session_id and await journal.runs(agent=source.agent, session_id=session_id, limit=1):
        raise _taken(session_id)
    of, said = source, await _said(journal, source, at)
    earlier = await _earlier(journal, source)
    if not any(isinstance(event, ev.UserMessage) for event in said.events):
        if not earlier:
            raise BadRequest(f"nothing was said in the session by event {said.at}", reason="NothingSaid")
        of = earlier.pop()
        said = msgspec.structs.replace(await _said(journal, of, None), note=said.note)
    new = NewRun(
        run_id=_run_id(source.agent, session_id) if session_id else new_id("run"),
        session_id=session_id or new_id("ses"),
        agent=source.agent,
        caller=caller,
        fresh=not session_id,
    )
    first = await _first(journal, new, Fork(run=of, of=of.run_id, at=said.at), said, earlier, clock)
    created = await journal.create(new, first)
    if created.existing:
        raise _taken(session_id)
    return Fork(run=created.run, of=of.run_id, at=said.at, note=said.note)


def _taken(session_id: str) -> Conflict:
    return Conflict(f"there is a session {session_id} already; choose another id", reason="SessionTaken")


def _run_id(agent: str, session_id: str) -> str:
    """One for each session: of two who fork into one at the same moment, one does."""
    return f"fork-{hashlib.sha256(f'{agent} {session_id}'.encode()).hexdigest()[:21]}"


def consistent(events: Sequence[ev.Event], at: int) -> Whole:
    """What was said up to event `at`; without the calls of a reply of which some have no outcome by then."""
    kept: list[ev.Event] = []
    begun: list[ev.Event] = []
    pending: set[str] = set()
    for event in events:
        if event.seq > at:
            break
        match event:
            case ev.AssistantMessage() if event.tool_calls:
                begun, pending = [event], {call.id for call in event.tool_calls}
            case ev.ToolStart() | ev.ToolEnd() if begun:
                begun.append(event)
                if isinstance(event, ev.ToolEnd):
                    pending.discard(event.tool_call.id)
                if not pending:
                    kept, begun = kept + begun, []
            case ev.UserMessage() | ev.AssistantMessage():
                kept.append(event)
            case _:
                pass
    if not begun:
        return Whole(kept, at)
    point = begun[0].seq - 1
    lost = f"event {at} is amid the calls of a reply; the conversation goes up to event {point}, before that reply"
    return Whole(kept, point, lost)


async def _said(journal: Journal, run: RunInfo, at: int | None) -> Whole:
    events = await journal.events(run.run_id, limit=run.last_seq)
    if not events:
        raise NotFound(f"there is no run {run.run_id!r}", reason="NoSuchRun")
    whole = [await spill.restore(journal, event) for event in events if at is None or event.seq <= at]
    said = consistent(whole, run.last_seq if at is None else at)
    return msgspec.structs.replace(said, outside=policy.outside(whole))


async def _earlier(journal: Journal, run: RunInfo) -> list[RunInfo]:
    """Ended runs of the session before that one, in their order."""
    if run.order <= 1:
        return []
    runs = await journal.runs(agent=run.agent, session_id=run.session_id, limit=MAX_RUNS)
    before = [each for each in runs if each.order < run.order and each.status in ev.ENDED]
    return sorted(before, key=lambda each: each.order)


async def _history(journal: Journal, run: RunInfo, runs: Sequence[RunInfo]) -> tuple[list[Message], str]:
    """What was said in those runs of the session before `run`, whole, and where text from outside came from in it."""
    if not runs:
        return [], ""
    events = await journal.history(run.agent, run.session_id, runs[-1].order + 1, len(runs))
    whole = [await spill.restore(journal, event) for event in events]
    brought = sum(len(event.history) for event in whole if isinstance(event, ev.UserMessage))
    return conversation.messages(whole, len(whole) + brought), policy.outside(whole)


async def _first(
    journal: Journal, new: NewRun, fork: Fork, said: Whole, earlier: Sequence[RunInfo], clock: Clock
) -> list[ev.Event]:
    """The events of the run that the session begins with, those too large for one spilled."""
    ids: dict[str, Any] = {"run_id": new.run_id, "session_id": new.session_id, "time": clock.now()}
    message = f"the conversation of session {fork.run.session_id} up to event {fork.at} of run {fork.of}"
    history, outside = await _history(journal, fork.run, earlier)
    outside = outside or said.outside
    first: list[ev.Event] = [
        ev.RunStarted(seq=1, agent=new.agent, caller=new.caller, outside=outside, **ids),
        ev.System(seq=2, reason=FORKED, message=message, **ids),
    ]
    for event in said.events:
        if isinstance(event, ev.UserMessage):
            event = msgspec.structs.replace(event, outside=outside or msgspec.UNSET)  # noqa: PLW2901
            if history:  # what the caller brought repeats what is in the history
                event = msgspec.structs.replace(event, history=tuple(history))  # noqa: PLW2901
        first.append(msgspec.structs.replace(event, seq=len(first) + 1, **ids))
    first.append(ev.RunFinished(seq=len(first) + 1, status="completed", **ids))
    if sum(len(ev.encode(event)) for event in first) > MAX_BYTES:
        limit = f"{MAX_BYTES // 1024 // 1024} MiB"
        raise TooLarge(f"the conversation has more than {limit}, which is the most that can be forked")
    return [await spill.spill(journal, event) for event in first]
