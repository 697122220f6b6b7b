"""Runs to be told to a journal: the smallest sequences of events that mean something."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from kadre.engine import events as ev
from kadre.engine.memory.port import Created, Journal, NewRun
from kadre.engine.messages import Usage
from kadre.plan.types import OnBusy

AGENT = "default/assistant"
START = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Teller:
    """Tells one run to a journal, numbering its events; a minute passes with every run, a second with every event."""

    def __init__(
        self, run_id: str, session_id: str, *, agent: str = AGENT, caller: str = "local", minute: int = 0
    ) -> None:
        self.run_id = run_id
        self.session_id = session_id
        self.agent = agent
        self.caller = caller
        self.seq = 0
        self.epoch = 1
        self.start = START + timedelta(minutes=minute)

    def event(self, kind: type[Any], **fields: Any) -> Any:
        """The run's next event."""
        self.seq += 1
        time = self.start + timedelta(seconds=self.seq)
        return kind(run_id=self.run_id, session_id=self.session_id, seq=self.seq, time=time, **fields)

    def first(self, message: str = "hello") -> list[ev.Event]:
        """What a run begins with."""
        started = self.event(ev.RunStarted, agent=self.agent, caller=self.caller)
        return [started, self.event(ev.UserMessage, content=message)]

    def last(self, answer: str = "hi", status: ev.RunStatus = "completed") -> list[ev.Event]:
        """What a run ends with."""
        return [
            self.event(ev.AssistantMessage, content=answer),
            self.event(ev.UsageEvent, model="m", usage=Usage(3, 2, 5)),
            self.event(ev.RunFinished, status=status),
        ]

    def asks(self, *approval_ids: str) -> ev.ApprovalRequired:
        """The run asks a person."""
        call = ev.ToolCallState(id="call-1", name="scale", arguments={"replicas": 3}, status="pending")
        expires = self.start + timedelta(hours=1)
        approvals = tuple(
            ev.Approval(id=key, run_id=self.run_id, tool_call=call, reason="it writes", expires=expires)
            for key in approval_ids
        )
        event: ev.ApprovalRequired = self.event(ev.ApprovalRequired, approvals=approvals)
        return event

    def starts_a_call(self) -> ev.ToolStart:
        """The run is about to send a call."""
        call = ev.ToolCallState(id="call-1", name="scale", arguments={"replicas": 3}, status="running")
        event: ev.ToolStart = self.event(ev.ToolStart, name="scale", tool_call=call)
        return event

    async def create(
        self,
        journal: Journal,
        message: str = "hello",
        *,
        on_busy: OnBusy = "queue",
        queue_limit: int = 8,
        parent: str = "",
        fresh: bool = False,
    ) -> Created:
        """Have the run accepted."""
        new = NewRun(
            run_id=self.run_id,
            session_id=self.session_id,
            agent=self.agent,
            caller=self.caller,
            parent_run_id=parent,
            on_busy=on_busy,
            queue_limit=queue_limit,
            fresh=fresh,
        )
        return await journal.create(new, self.first(message))

    async def append(self, journal: Journal, *events: ev.Event) -> None:
        """Have its next events kept."""
        await journal.append(self.run_id, events[0].seq - 1, events, self.epoch)

    async def end(self, journal: Journal, answer: str = "hi", status: ev.RunStatus = "completed") -> None:
        """Answer and end."""
        await self.append(journal, *self.last(answer, status))


async def whole_run(journal: Journal, run_id: str, session_id: str, **how: Any) -> Teller:
    """A run from its message to its end."""
    teller = Teller(run_id, session_id, **how)
    await teller.create(journal, f"message of {run_id}")
    await teller.end(journal, f"answer of {run_id}")
    return teller


def numbers(events: Sequence[ev.Event]) -> list[int]:
    """The events' numbers."""
    return [event.seq for event in events]


def said(events: Sequence[ev.Event]) -> list[str]:
    """The texts of a conversation's messages."""
    return [event.content for event in events if isinstance(event, ev.UserMessage | ev.AssistantMessage)]
