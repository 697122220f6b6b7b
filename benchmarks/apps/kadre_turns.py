"""Kadre's side of `benchmarks.checkpoints`: a host, as every pod has it, with one agent, its tool and its journal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from benchmarks import conversation
from benchmarks.conversation import ANSWERS, MODEL_SECONDS, QUESTIONS, RESULTS, TOOL, USED, Script
from kadre.base.clock import SystemClock
from kadre.engine.accepting import Ask
from kadre.engine.agent import HostedAgent
from kadre.engine.host import Host
from kadre.engine.memory.port import Journal
from kadre.engine.messages import Message, ToolCall, Usage
from kadre.engine.models.port import ModelRequest, Reply, TextDelta
from kadre.engine.tools.functions import Functions
from kadre.plan.types import AgentKey, AgentPlan, ModelPlan

KEY = AgentKey("bench", "support")


class Model:
    """Asks for the tool, and then answers."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def call(self, request: ModelRequest) -> AsyncGenerator[TextDelta | Reply, None]:
        """See `port.Model.call`."""
        await asyncio.sleep(MODEL_SECONDS)
        if request.messages[-1].role == "user":
            call = ToolCall(f"call-{self._script.said}", TOOL, '{"query": "open"}')
            yield Reply(Message("assistant", "", (call,)), Usage(*USED), "tool_calls")
        else:
            yield Reply(Message("assistant", self._script.next(ANSWERS)), Usage(*USED))

    async def aclose(self) -> None:
        """Nothing to give back."""


class Kadre:
    """See `conversation.Side`."""

    def __init__(self, host: Host, journal: Journal, script: Script) -> None:
        self._host, self._journal, self._script = host, journal, script

    async def turn(self, session: str) -> str:
        """See `conversation.Side.turn`."""
        live = await self._host.start(Ask(agent=KEY, message=self._script.next(QUESTIONS), session_id=session))
        finished = await live.wait()
        if finished.status != "completed":
            raise RuntimeError(f"a run ended {finished.status}: {live.error()}")
        return finished.session_id

    async def kept(self, session: str) -> int:
        """See `conversation.Side.kept`."""
        return len(await self._journal.history(str(KEY), session, 1_000_000, 1_000_000))


async def journal(kind: str, address: str) -> Journal:
    """The store of that kind."""
    if kind == "sqlite":
        from kadre.engine.memory.sqlite import SqliteJournal

        return await SqliteJournal.open(address)
    if kind == "postgres":
        from kadre.engine.memory.postgres import PostgresJournal

        return await PostgresJournal.open(address)
    if kind == "redis":
        from kadre.engine.memory.redis import RedisJournal

        return await RedisJournal.open(address)
    from kadre.engine.memory.inmemory import InMemoryJournal

    return InMemoryJournal()


@contextlib.asynccontextmanager
async def opened(kind: str, address: str) -> AsyncIterator[Kadre]:
    """The host."""
    script, store = Script(), await journal(kind, address)

    async def search_tickets(query: str) -> str:  # noqa: ARG001 - every search finds something
        """Tickets that are like it."""
        return script.next(RESULTS)

    host = Host([store])
    await host.recover()
    plan = AgentPlan(key=KEY, model=ModelPlan(provider="scripted", model="m"))
    tools = [Functions(search_tickets, read_only=True)]
    await host.replace({KEY: HostedAgent(plan, Model(script), tools, store, SystemClock())})
    yield Kadre(host, store, script)
    await host.aclose(0)


if __name__ == "__main__":
    conversation.main(opened)
