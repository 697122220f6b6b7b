"""A run while it is in this process: its events so far, its tokens, and those who follow it.

Doors read from here while the run goes on, and from the journal afterwards; `follow` is the same in both cases,
because an ended run is a Live whose events came from the journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from kadre.base.errors import KadreError
from kadre.engine import events as ev
from kadre.engine.memory.port import RunInfo

TOKEN_RING = 8192
"""Tokens kept since the last journalled event; a follower further behind is caught up by the next assistant_message."""


class Live:
    """One run's stream. Written by its runner, and with what is there already by whoever makes it."""

    def __init__(self, info: RunInfo, *, stream: bool = False) -> None:
        self.info = info
        self.stream = stream
        """Whether anyone wants tokens: the model is asked to stream only then."""
        self.events: list[ev.Event] = []
        self.finished: ev.RunFinished | None = None
        self.lost: KadreError | None = None
        """Set where the run's end could not be recorded: what a waiting caller is told instead."""
        self.whole: ev.AssistantMessage | None = None
        """The last thing the model said, where it was too large for its event."""
        self._tokens: list[ev.Token] = []
        self._offset = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._more: Callable[[], Awaitable[None]] | None = None
        self._leave: Callable[[], None] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.finished is not None or self.lost is not None

    def publish(self, events: Sequence[ev.Event]) -> None:
        """Committed events, in order; they replace the tokens before them."""
        self.events.extend(events)
        if self._tokens or self._offset:
            self._tokens = []
            self._offset = 0
        last = events[-1]
        if type(last) is ev.RunFinished:
            self.finished = last
        self._wake()

    def token(self, token: ev.Token) -> None:
        """A piece of text that is not journalled."""
        self._tokens.append(token)
        self._offset += 1
        if len(self._tokens) > TOKEN_RING:
            del self._tokens[: TOKEN_RING // 2]
        self._wake()

    @property
    def offset(self) -> int:
        """The offset of the next token."""
        return self._offset

    def fail(self, error: KadreError) -> None:
        """The run cannot be recorded any further: end everyone's waiting with that error."""
        self.lost = error
        self._wake()

    def read_on(self, more: Callable[[], Awaitable[None]], leave: Callable[[], None] | None = None) -> None:
        """Nobody drives the run here any more: who waits calls `more`, which publishes what it waits for.

        `leave`: gives back what that holds between two calls.
        """
        self._more, self._leave = more, leave
        self._wake()

    def leave(self) -> None:
        """Nobody waits for it here any more, for now."""
        if self._leave is not None:
            self._leave()

    def _wake(self) -> None:
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def changed(self) -> None:
        """Wait for the next event, token or end."""
        if self._more is not None:
            await self._more()
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    async def wait(self) -> ev.RunFinished:
        """Wait for the end. Raises what `fail` was given."""
        while self.finished is None:
            if self.lost is not None:
                raise self.lost
            await self.changed()
        return self.finished

    async def wait_decision(self) -> ev.RunFinished | None:
        """Wait until the run has ended, or waits for a person (None)."""
        while self.finished is None and not self.pending_approvals():
            if self.lost is not None:
                raise self.lost
            await self.changed()
        return self.finished

    async def follow(self, after: int = 0, offset: int = -1) -> AsyncIterator[ev.Event]:
        """Events with a number above `after` (and tokens past `offset` of it), until the run has ended.

        Raises what `fail` was given.
        """
        while True:
            while after < len(self.events):
                event = self.events[after]
                after, offset = event.seq, -1
                yield event
            if self._tokens and after == len(self.events):
                first = self._tokens[0].offset
                for token in self._tokens[max(0, offset + 1 - first) :]:
                    offset = token.offset
                    yield token
                if after < len(self.events) or (self._tokens and self._tokens[-1].offset > offset):
                    continue
            if self.finished is not None and after >= len(self.events):
                return
            if self.lost is not None:
                raise self.lost
            await self.changed()

    def pending_approvals(self) -> list[ev.Approval]:
        """What this run is waiting for a person to decide, a child's questions included."""
        pending: dict[str, ev.Approval] = {}
        for event in self.events:
            if type(event) is ev.ApprovalRequired:
                pending.update((approval.id, approval) for approval in event.approvals)
            elif type(event) is ev.ApprovalDecided:
                pending.pop(event.approval_id, None)
        return list(pending.values()) if self.finished is None else []

    def answer(self) -> str:
        """The last thing the model said."""
        for event in reversed(self.events):
            if type(event) is ev.AssistantMessage:
                return self.said(event)
        return ""

    def said(self, message: ev.AssistantMessage) -> str:
        """What the model said there, all of it where it is the last that was too large for its event."""
        return self.whole.content if self.whole is not None and self.whole.seq == message.seq else message.content

    def error(self) -> ev.Error | None:
        """Why the run failed, where it did."""
        for event in reversed(self.events):
            if type(event) is ev.Error:
                return event
        return None
