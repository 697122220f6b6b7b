"""pydantic-ai behind FastAPI."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from pydantic_ai import Agent, ModelMessage, ModelRequest, ModelResponse, TextPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from benchmarks.apps import MODEL_URL
from benchmarks.scenarios import ANSWER, HISTORY_TURNS, SYSTEM_PROMPT, USER_TEXT, echo


class Turn(BaseModel):
    """What every scenario posts."""

    message: str
    session_id: str = ""


def create_app() -> FastAPI:
    """One endpoint a scenario."""
    model = OpenAIChatModel("mock", provider=OpenAIProvider(base_url=MODEL_URL, api_key="none"))
    plain: Agent[Any, str] = Agent(model, instructions=SYSTEM_PROMPT)
    with_tool: Agent[Any, str] = Agent(model, instructions=SYSTEM_PROMPT, tools=[echo])
    sessions: dict[str, list[ModelMessage]] = {}
    app = FastAPI()

    @app.post("/hello")
    async def hello(turn: Turn) -> dict[str, str]:
        return {"response": (await plain.run(turn.message)).output}

    @app.post("/tool")
    async def tool(turn: Turn) -> dict[str, str]:
        return {"response": (await with_tool.run(turn.message)).output}

    @app.post("/history")
    async def history(turn: Turn) -> dict[str, str]:
        said: list[ModelMessage] = [ModelRequest.user_text_prompt(USER_TEXT), ModelResponse([TextPart(ANSWER)])]
        past = sessions.setdefault(turn.session_id, said * HISTORY_TURNS)
        result = await plain.run(turn.message, message_history=past)
        past += result.new_messages()
        del past[:2]
        return {"response": result.output}

    @app.post("/stream")
    async def stream(turn: Turn) -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            async with plain.run_stream(turn.message) as result:
                async for text in result.stream_text(delta=True, debounce_by=None):
                    yield f"data: {json.dumps({'content': text})}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return app
