"""A server of its own for every test of the command: a real host behind real doors, with a model that does as told."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

import msgspec
import pytest
import uvicorn

from kadre.base.clock import SystemClock
from kadre.base.errors import ModelError
from kadre.cli import main
from kadre.engine.agent import HostedAgent
from kadre.engine.host import Host
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.messages import Message, ToolCall, ToolSpec, Usage
from kadre.engine.models.port import ModelRequest, Reply, TextDelta
from kadre.engine.tools.human import HumanToolset
from kadre.engine.tools.port import CallContext, ToolOutput, Toolset
from kadre.plan.types import AgentKey, AgentPlan, HumanTool, ModelPlan, Notice
from kadre.server import app
from kadre.server.metrics import Metrics

BOUND = 10.0
"""Seconds a test waits for something that takes milliseconds."""


def kadre(*words: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main.main(words)
    return int(ended.value.code or 0)


class Obedient:
    """`call NAME JSON` calls a tool, `hang` never ends, `fail` fails; everything else is said back, word by word."""

    async def call(self, request: ModelRequest) -> AsyncGenerator[TextDelta | Reply, None]:
        last = request.messages[-1]
        usage = Usage(3, 2, 5)
        if last.role == "user" and last.content.startswith("call "):
            _, name, arguments = last.content.split(" ", 2)
            yield Reply(Message("assistant", tool_calls=(ToolCall("c1", name, arguments),)), usage, "tool_calls")
            return
        if last.content == "fail":
            raise ModelError("the model is on strike", reason="ModelOnStrike")
        text = f"You said {last.content}"
        for number, word in enumerate(text.split(" ")):
            yield TextDelta(word if number == 0 else f" {word}")
        if last.content == "hang":
            await asyncio.Event().wait()
        yield Reply(Message("assistant", text), usage)

    async def aclose(self) -> None: ...


class Desk:
    """`look` only reads; `write` needs a person's word, and so does `ticket`, which takes a priority."""

    notice = ""
    ready = True

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    async def specs(self) -> Sequence[ToolSpec]:
        return SPECS

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:
        if name in {"write", "ticket"}:
            self.written.append(arguments)
        return ToolOutput(f"{name} {msgspec.json.encode(arguments).decode()} done")

    async def aclose(self) -> None: ...


PRIORITY = {
    "type": "object",
    "properties": {"priority": {"type": "string", "enum": ["low", "high"]}, "text": {"type": "string"}},
    "required": ["priority"],
    "additionalProperties": False,
}
SPECS = (
    ToolSpec(name="look", read_only=True, server="desk"),
    ToolSpec(name="write", ask=True, server="desk"),
    ToolSpec(name="ticket", ask=True, server="desk", parameters=PRIORITY),
)


class Served:
    """A running server: its address, and what its tools did."""

    def __init__(self) -> None:
        self.desk = Desk()
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:{1}".format(*self._listening.getsockname())
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="served")

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(BOUND)

    def stop(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(BOUND)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        clock = SystemClock()
        journal = InMemoryJournal()
        host = Host([journal], clock=clock)
        plans = [
            AgentPlan(
                key=AgentKey("default", "parrot"),
                model=ModelPlan(provider="scripted", model="obedient"),
                description="Says things back",
                notices=(Notice(reason="NotSupportedYet", message="the telephone is not connected"),),
            ),
            AgentPlan(key=AgentKey("team-a", "owl"), model=ModelPlan(provider="scripted", model="obedient")),
        ]
        tools: list[Toolset] = [self.desk, HumanToolset(HumanTool(name="ask_desk", prompt="A guest is waiting"))]
        await host.replace({plan.key: HostedAgent(plan, Obedient(), tools, journal, clock) for plan in plans})
        config = uvicorn.Config(app.build(host, Metrics(clock)), lifespan="off", log_config=None, ws="none")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([self._listening]), name="serve")
        self._listening.listen()
        self._ready.set()
        await self._stop.wait()
        await host.aclose(grace=0)
        server.should_exit = True
        await serving
        self._listening.close()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A running server, which every command of the test asks: KADRE_SERVER."""
    served = Served()
    monkeypatch.setenv("KADRE_SERVER", served.url)
    served.start()
    yield served
    served.stop()
