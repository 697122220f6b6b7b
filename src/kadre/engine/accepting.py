"""Runs on their way into a journal: accepted or not yet known to be, and driven by nobody."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from kadre.engine import events as ev
from kadre.engine import policy
from kadre.engine.memory.port import NewRun
from kadre.engine.memory.turns import Turns
from kadre.engine.messages import Message
from kadre.plan.types import AgentKey, Notice


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A message to an agent. Empty ids are made up; `history` is the caller's own account of what was said before."""

    agent: AgentKey
    message: str
    session_id: str = ""
    run_id: str = ""
    caller: str = "local"
    history: tuple[Message, ...] = ()
    stream: bool = False


class Parent(msgspec.Struct, frozen=True):
    """The run that delegates: `chain` holds the agents from the root down to it.

    `outside`: where text came from that has entered it and that nobody has vouched for.
    """

    run_id: str = ""
    chain: tuple[str, ...] = ()
    outside: str = ""


ROOT = Parent()


class Accepting:
    """Who holds a run id is about to drive it, or to find that there is nothing to drive."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}
        self._turns = Turns()

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._held

    def __bool__(self) -> bool:
        return bool(self._held)

    def hold(self, run_id: str) -> None:
        """Begin; each `hold` has its `release`."""
        self._held[run_id] = self._held.get(run_id, 0) + 1

    def release(self, run_id: str) -> None:
        """It is driven, or nothing came of it."""
        self._held[run_id] -= 1
        if not self._held[run_id]:
            del self._held[run_id]
            self._turns.wake(run_id)

    async def none(self) -> None:
        """Wait until nobody holds any."""
        while self._held:
            await self.over(next(iter(self._held)))

    async def over(self, run_id: str) -> None:
        """Wait until nobody holds it."""
        while run_id in self._held:
            await self._turns.changed(run_id)


def first_events(new: NewRun, ask: Ask, parent: Parent, notices: Iterable[Notice], now: datetime) -> list[ev.Event]:
    """What is committed with a run's creation: that it started, what its agent does without, what was said."""
    ids: dict[str, Any] = {"run_id": new.run_id, "session_id": new.session_id, "time": now}
    said = ev.UserMessage(seq=0, content=ask.message, history=ask.history, **ids)
    outside = parent.outside or policy.outside([said])  # now: a large history is kept apart from its event
    started = ev.RunStarted(
        seq=1,
        agent=new.agent,
        caller=new.caller,
        parent_run_id=parent.run_id,
        chain=parent.chain,
        outside=outside,
        **ids,
    )
    first: list[ev.Event] = [started]
    for notice in notices:
        first.append(ev.System(seq=len(first) + 1, reason=notice.reason, message=notice.message, **ids))
    first.append(msgspec.structs.replace(said, seq=len(first) + 1, outside=outside or msgspec.UNSET))
    return first
