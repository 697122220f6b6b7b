"""The agent frameworks, each behind FastAPI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from benchmarks.systems import WebApp


class LangGraph(WebApp):
    """LangGraph's ready-made agent loop, with no checkpointer."""

    name = "langgraph"
    title = "LangGraph create_agent + FastAPI"
    module = "langgraph_app"
    packages = ("langchain", "langgraph", "langchain-openai", "openai", "fastapi")
    cannot: ClassVar[Mapping[str, str]] = {"mcp": "it has no MCP client of its own"}


class PydanticAI(WebApp):
    """pydantic-ai's Agent."""

    name = "pydantic-ai"
    title = "pydantic-ai + FastAPI"
    module = "pydantic_ai_app"
    packages = ("pydantic-ai-slim", "openai", "fastapi")
    cannot: ClassVar[Mapping[str, str]] = {"mcp": "its MCP client is not in the bench dependencies; KAOS measures it"}
