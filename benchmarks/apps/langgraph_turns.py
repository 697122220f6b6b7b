"""LangGraph's side of `benchmarks.checkpoints`: a graph of an agent and its tools, compiled with a checkpointer.

Each is opened as its own guide has it; PostgreSQL's with as many connections as Kadre's journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from benchmarks import conversation
from benchmarks.conversation import ANSWERS, MODEL_SECONDS, QUESTIONS, RESULTS, TOOL, USED, Script

CONNECTIONS = 4
DURABILITY = os.environ.get("BENCH_DURABILITY", "async")
"""When a checkpoint is written: while the next step runs, which is the default, or before it (`sync`)."""


def graph(script: Script, checkpointer: Any) -> Any:
    """The agent."""

    async def search_tickets(query: str) -> str:  # noqa: ARG001 - every search finds something
        """Tickets that are like it."""
        return script.next(RESULTS)

    async def agent(state: MessagesState) -> dict[str, list[AIMessage]]:
        await asyncio.sleep(MODEL_SECONDS)
        used = UsageMetadata(input_tokens=USED[0], output_tokens=USED[1], total_tokens=USED[2])
        if isinstance(state["messages"][-1], HumanMessage):
            call = {"id": f"call-{script.said}", "name": TOOL, "args": {"query": "open"}}
            return {"messages": [AIMessage("", tool_calls=[call], usage_metadata=used)]}
        return {"messages": [AIMessage(script.next(ANSWERS), usage_metadata=used)]}

    made: Any = StateGraph(MessagesState)
    made.add_node("agent", agent)
    made.add_node("tools", ToolNode([search_tickets]))
    made.add_edge(START, "agent")
    made.add_conditional_edges("agent", tools_condition)
    made.add_edge("tools", "agent")
    return made.compile(checkpointer=checkpointer)


class LangGraph:
    """See `conversation.Side`. Without a checkpointer it keeps the messages in a dict and gives them to every turn."""

    def __init__(self, checkpointer: Any) -> None:
        self._script = Script()
        self._checkpointer = checkpointer
        self._graph = graph(self._script, checkpointer)
        self._said: dict[str, list[AnyMessage]] = {}

    async def turn(self, session: str) -> str:
        """See `conversation.Side.turn`."""
        session = session or str(uuid4())
        said = HumanMessage(self._script.next(QUESTIONS))
        if self._checkpointer is None:
            after = await self._graph.ainvoke({"messages": [*self._said.get(session, ()), said]})
            self._said[session] = after["messages"]
        else:
            thread = {"configurable": {"thread_id": session}}
            await self._graph.ainvoke({"messages": [said]}, thread, durability=DURABILITY)
        return session

    async def kept(self, session: str) -> int:
        """See `conversation.Side.kept`."""
        if self._checkpointer is None:
            return len(self._said[session])
        state = await self._graph.aget_state({"configurable": {"thread_id": session}})
        return len(state.values["messages"])


@contextlib.asynccontextmanager
async def opened(kind: str, address: str) -> AsyncIterator[LangGraph]:
    """The graph."""
    async with contextlib.AsyncExitStack() as stack:
        saver: Any = None
        if kind == "sqlite":
            from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

            file = str(Path(address) / "checkpoints.db")
            saver = await stack.enter_async_context(AsyncSqliteSaver.from_conn_string(file))
        elif kind == "postgres":
            from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
            from psycopg.rows import dict_row
            from psycopg_pool import AsyncConnectionPool

            how = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
            pool: Any = AsyncConnectionPool(address, min_size=CONNECTIONS, max_size=CONNECTIONS, kwargs=how, open=False)
            saver = AsyncPostgresSaver(await stack.enter_async_context(pool))
            await saver.setup()
        elif kind == "redis":
            from langgraph.checkpoint.redis.aio import AsyncRedisSaver

            saver = await stack.enter_async_context(AsyncRedisSaver.from_conn_string(address))
            await saver.asetup()
        yield LangGraph(saver)


if __name__ == "__main__":
    conversation.main(opened)
