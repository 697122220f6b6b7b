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
from kadre.engine.memory import conversation, pages, spill
from kadre.engine.memory.port import Journal, NewRun, RunInfo
from kadre.engine.messages import Message

FORKED = "Forked"
"""The reason of the System event by which such a run says where it comes from."""
MAX_BYTES = 16 * 1024 * 1024
"""Of a conversation: one that has more is refused, as soon as so much of it was read."""
EVENTS = 200
"""Events of a run that are read at once."""


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
    of, room = source, _Room()
    said = await _said(journal, source, at, room)
    if not any(isinstance(event, ev.UserMessage) for event in said.events):
        earlier = await _before(journal, source)
        if earlier is None:
            raise BadRequest(f"nothing was said in the session by event {said.at}", reason="NothingSaid")
        of = earlier
        said = msgspec.structs.replace(await _said(journal, of, None, room), note=said.note)
    new = NewRun(
        run_id=_run_id(source.agent, session_id) if session_id else new_id("run"),
        session_id=session_id or new_id("ses"),
        agent=source.agent,
        caller=caller,
        fresh=not session_id,
    )
    first = await _first(journal, new, Fork(run=of, of=of.run_id, at=said.at), said, room, clock)
    created = await journal.create(new, first)
    if created.existing:
        raise _taken(session_id)
    return Fork(run=created.run, of=of.run_id, at=said.at, note=said.note)


class _Room:
    """What is left of MAX_BYTES for what a fork holds in memory."""

    def __init__(self) -> None:
        self._left = MAX_BYTES

    def take(self, size: int) -> None:
        """Have so many bytes. Raises TooLarge where they are not left."""
        self._left -= size
        if self._left < 0:
            limit = f"more than {MAX_BYTES / 1024 / 1024:g} MiB, which is the most that can be forked"
            raise TooLarge(f"the conversation has {limit}; fork it up to an earlier run", reason="ForkTooLarge")

    def give_back(self, size: int) -> None:
        """These are not held any more."""
        self._left += size


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


_SAID = (ev.UserMessage, ev.AssistantMessage, ev.ToolStart, ev.ToolEnd)


async def _said(journal: Journal, run: RunInfo, at: int | None, room: _Room) -> Whole:
    last = run.last_seq if at is None else at
    kept: list[ev.Event] = []
    outside, after = "", 0
    while after < last and (page := await journal.events(run.run_id, after, min(EVENTS, last - after))):
        for event in page:
            told = await spill.restore(journal, event)
            outside = outside or policy.outside([told])
            if isinstance(told, _SAID):
                room.take(len(ev.encode(told)))
                kept.append(told)
        after = page[-1].seq
    if not after:
        raise NotFound(f"there is no run {run.run_id!r}", reason="NoSuchRun")
    return msgspec.structs.replace(consistent(kept, last), outside=outside)


async def _before(journal: Journal, run: RunInfo) -> RunInfo | None:
    """The last run of the session before that one that has ended."""
    events = await journal.history(run.agent, run.session_id, run.order, 1)
    return await journal.run(events[0].run_id) if events else None


async def _history(journal: Journal, run: RunInfo, room: _Room) -> tuple[list[Message], str]:
    """What was said in the ended runs of the session before `run`, whole, and where text from outside came from in it.

    A run at a time: what is summed up later in the session takes no room from there on.
    """
    said: list[Message] = []
    held, outside = 0, ""
    async for events in pages.said(journal, run.agent, run.session_id, run.order):
        whole, read = [], 0
        for event in events:
            told = await spill.restore(journal, event)
            size = len(ev.encode(told))
            room.take(size)
            read += size
            whole.append(told)
        outside = outside or policy.outside(whole)
        before = 0 if any(isinstance(event, ev.Summary) for event in whole) else len(said)
        conversation.tell(said, whole)
        room.give_back(read if before else read + held)
        added = sum(len(_encode(message)) for message in said[before:])
        room.take(added)
        held = held + added if before else added
    return said, outside


_encode = msgspec.json.Encoder().encode


async def _first(journal: Journal, new: NewRun, fork: Fork, said: Whole, room: _Room, clock: Clock) -> list[ev.Event]:
    """The events of the run that the session begins with, those too large for one spilled."""
    ids: dict[str, Any] = {"run_id": new.run_id, "session_id": new.session_id, "time": clock.now()}
    message = f"the conversation of session {fork.run.session_id} up to event {fork.at} of run {fork.of}"
    history, outside = await _history(journal, fork.run, room)
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
    return [await spill.spill(journal, event) for event in first]
