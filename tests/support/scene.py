"""A host with one store, a model that says what the test tells it to, and Python functions as tools."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import msgspec

from kadre.base.clock import Clock, FakeClock
from kadre.base.errors import ModelError
from kadre.engine import events as ev
from kadre.engine.accepting import Ask
from kadre.engine.afar import Afar
from kadre.engine.agent import HostedAgent
from kadre.engine.host import Host
from kadre.engine.live import Live
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.memory.port import Journal
from kadre.engine.messages import Message, ToolCall, ToolSpec, Usage
from kadre.engine.models.port import ModelRequest, Reply, TextDelta
from kadre.engine.tools.functions import Functions
from kadre.engine.tools.port import Toolset
from kadre.plan.types import AgentKey, AgentPlan, Limits, ModelPlan

SECONDS = 30
"""For which anything is waited for: far more than it takes on a machine that is busy."""
Turn = str | list[tuple[str, dict[str, Any] | str]] | ModelError | asyncio.Event
USAGE = Usage(10, 2, 12)


class Told:
    """A model that answers from a list: text, tool calls, an error, or nothing until an event is set."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self.turns = list(turns)
        self.requests: list[ModelRequest] = []
        self.closed = False
        self.called = asyncio.Event()
        self.words: list[str] = []
        """What is streamed before anything else."""

    async def call(self, request: ModelRequest) -> AsyncGenerator[TextDelta | Reply, None]:
        self.requests.append(request)
        self.called.set()
        for word in self.words:
            yield TextDelta(word)
        turn = self.turns.pop(0)
        while isinstance(turn, asyncio.Event):
            await turn.wait()
            turn = self.turns.pop(0)
        if isinstance(turn, ModelError):
            raise turn
        if isinstance(turn, str):
            for word in re.findall(r"\S+\s*", turn) if request.stream else []:
                yield TextDelta(word)
                await asyncio.sleep(0)  # as between two pieces from a network
            yield Reply(Message("assistant", turn), USAGE)
            return
        number = len(self.requests)
        calls = tuple(
            ToolCall(f"call-{number}-{index}", name, arguments if isinstance(arguments, str) else json.dumps(arguments))
            for index, (name, arguments) in enumerate(turn)
        )
        yield Reply(Message("assistant", "", calls), USAGE, "tool_calls")

    async def aclose(self) -> None:
        self.closed = True


class Asking(Functions):
    """Functions that a person must approve."""

    async def specs(self) -> Sequence[ToolSpec]:
        return tuple(msgspec.structs.replace(spec, ask=True) for spec in await super().specs())


CALL: list[tuple[str, dict[str, Any] | str]] = [("write", {"text": "hi"})]
"""A call of a `Pen`."""


class Pen:
    """Counts what was written."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, text: str) -> str:
        """Write it down."""
        self.written.append(text)
        return f"wrote {text}"


class Scene:
    """One host, by a clock of the test's own unless another is given.

    `says` adds an agent; `ask` runs a message to its end.
    """

    def __init__(self, journal: Journal | None = None, clock: Clock | None = None, afar: Afar | None = None) -> None:
        self.clock = FakeClock()
        self._clock = clock or self.clock
        self.journal: Journal = journal or InMemoryJournal()
        self.host = Host([self.journal], clock=self._clock, afar=afar)
        self.models: dict[str, Told] = {}

    async def says(
        self, *turns: Turn, name: str = "a", tools: Sequence[Toolset] = (), limits: Limits | None = None, **plan: Any
    ) -> Told:
        model = self.models[name] = Told(turns)
        key = AgentKey("default", name)
        made = AgentPlan(key=key, model=ModelPlan(provider="scripted", model="m"), limits=limits or Limits(), **plan)
        agent = HostedAgent(made, model, tools, self.journal, self._clock)
        await self.host.replace({**self.host.agents, key: agent})
        return model

    async def start(self, message: str = "hi", name: str = "a", **more: Any) -> Live:
        return await self.host.start(Ask(agent=AgentKey("default", name), message=message, **more))

    async def ask(self, message: str = "hi", name: str = "a", **more: Any) -> Live:
        live = await self.start(message, name, **more)
        await asyncio.wait_for(live.wait(), SECONDS)
        return live

    @staticmethod
    def types(live: Live) -> list[str]:
        return [str(type(event).__struct_config__.tag) for event in live.events]

    @staticmethod
    async def until(live: Live, condition: Callable[[], bool]) -> None:
        """Wait, at most SECONDS, for the run to get there."""
        async with asyncio.timeout(SECONDS):
            while not condition():
                await live.changed()

    async def approval(self, live: Live) -> ev.Approval:
        """The one question the run waits for."""
        await self.until(live, lambda: bool(live.pending_approvals()))
        (approval,) = live.pending_approvals()
        return approval

    @staticmethod
    def tool_ends(live: Live) -> list[ev.ToolCallState]:
        return [event.tool_call for event in live.events if isinstance(event, ev.ToolEnd)]


async def restarted(scene: Any) -> Any:
    """Another host on the store of one that has ended; the store outlives it, as a file would."""
    journal = scene.journal
    kept, journal.aclose = journal.aclose, _nothing
    await scene.host.aclose(0.01)
    journal.aclose = kept
    return type(scene)(journal)


async def _nothing() -> None:
    pass
