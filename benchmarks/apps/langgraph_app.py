"""LangGraph's `create_agent` behind FastAPI."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, HumanMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from benchmarks.apps import MODEL_URL
from benchmarks.scenarios import ANSWER, HISTORY_TURNS, SYSTEM_PROMPT, USER_TEXT, echo


class Turn(BaseModel):
    """What every scenario posts."""

    message: str
    session_id: str = ""


def earlier() -> list[AnyMessage]:
    """What was said before: an object each, because the graph takes those with one id for one message."""
    turns = ((HumanMessage(USER_TEXT), AIMessage(ANSWER)) for _ in range(HISTORY_TURNS))
    return [message for turn in turns for message in turn]


def create_app() -> FastAPI:
    """One endpoint a scenario."""
    model = ChatOpenAI(model="mock", base_url=MODEL_URL, api_key=SecretStr("none"))
    plain: Any = create_agent(model, system_prompt=SYSTEM_PROMPT)
    with_tool: Any = create_agent(model, tools=[echo], system_prompt=SYSTEM_PROMPT)
    sessions: dict[str, list[AnyMessage]] = {}
    app = FastAPI()

    async def answer(agent: Any, messages: list[AnyMessage]) -> dict[str, str]:
        result = await agent.ainvoke({"messages": messages})
        return {"response": result["messages"][-1].text}

    @app.post("/hello")
    async def hello(turn: Turn) -> dict[str, str]:
        return await answer(plain, [HumanMessage(turn.message)])

    @app.post("/tool")
    async def tool(turn: Turn) -> dict[str, str]:
        return await answer(with_tool, [HumanMessage(turn.message)])

    @app.post("/history")
    async def history(turn: Turn) -> dict[str, str]:
        past = sessions.get(turn.session_id) or sessions.setdefault(turn.session_id, earlier())
        reply = await answer(plain, [*past, HumanMessage(turn.message)])
        past += [HumanMessage(turn.message), AIMessage(reply["response"])]
        del past[:2]
        return reply

    @app.post("/stream")
    async def stream(turn: Turn) -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            given = {"messages": [HumanMessage(turn.message)]}
            async for message, _ in plain.astream(given, stream_mode="messages"):
                if isinstance(message, AIMessageChunk) and message.text:
                    yield f"data: {json.dumps({'content': message.text})}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return app
