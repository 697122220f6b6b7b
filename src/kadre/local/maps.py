"""Sends what a plan addresses to a cluster's service name to where that service is on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

import msgspec

from kadre.local.settings import Mapped
from kadre.plan.types import (
    A2aTool,
    AgentPlan,
    ApiTool,
    EmbeddingPlan,
    McpTools,
    MemoryPlan,
    ModelPlan,
    PostgresPlan,
    RedisPlan,
    RetrievalTool,
    ToolPlan,
    VectorsPlan,
)

S = TypeVar("S", PostgresPlan | None, RedisPlan | None)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_STORE_PORTS = {"pgvector": 5432, "milvus": 19530, "pinecone": 443}
T = TypeVar("T", bound=ToolPlan)


def mapped_url(url: str, maps: Sequence[Mapped]) -> str:
    """`url` with host and port replaced where a map names them."""
    parts = urlsplit(url)
    if "{" in parts.netloc:
        return url  # a parameter says where it is
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    for entry in maps:
        if parts.hostname == entry.host and port == entry.port:
            return urlunsplit(parts._replace(netloc=f"{entry.to_host}:{entry.to_port}"))
    return url


def mapped(plan: AgentPlan, maps: Sequence[Mapped]) -> AgentPlan:
    """The plan with every address mapped; the same object where nothing is."""
    if not maps:
        return plan
    tools = tuple(mapped_tool(tool, maps) for tool in plan.tools)
    memory = _mapped_memory(plan.memory, maps)
    return msgspec.structs.replace(plan, model=_mapped_model(plan.model, maps), tools=tools, memory=memory)


def _mapped_model(model: ModelPlan, maps: Sequence[Mapped]) -> ModelPlan:
    return msgspec.structs.replace(model, endpoint=mapped_url(model.endpoint, maps))


def _mapped_embedding(embedding: EmbeddingPlan, maps: Sequence[Mapped]) -> EmbeddingPlan:
    return msgspec.structs.replace(embedding, model=_mapped_model(embedding.model, maps))


def _mapped_memory(memory: MemoryPlan, maps: Sequence[Mapped]) -> MemoryPlan:
    """The memory, its journal's server there, and so whatever sums up and remembers."""
    compression, long_term = memory.compression, memory.long_term
    if compression is not None and compression.model is not None:
        compression = msgspec.structs.replace(compression, model=_mapped_model(compression.model, maps))
    if long_term is not None:
        vectors, embedding = _mapped_store(long_term.vectors, maps), _mapped_embedding(long_term.embedding, maps)
        long_term = msgspec.structs.replace(long_term, vectors=vectors, embedding=embedding)
    return msgspec.structs.replace(
        memory,
        postgres=_mapped_server(memory.postgres, maps),
        redis=_mapped_server(memory.redis, maps),
        compression=compression,
        long_term=long_term,
    )


def _mapped_server(server: S, maps: Sequence[Mapped]) -> S:
    """A memory's server, there. One whose whole address is in a Secret stays where that says."""
    for entry in maps:
        if server is not None and (server.host, server.port) == (entry.host, entry.port):
            return msgspec.structs.replace(server, host=entry.to_host, port=entry.to_port)
    return server


def mapped_tool(tool: T, maps: Sequence[Mapped]) -> T:
    """The tool with its addresses mapped."""
    match tool:
        case McpTools() | A2aTool():
            return msgspec.structs.replace(tool, url=mapped_url(tool.url, maps))
        case ApiTool():
            login = tool.login and msgspec.structs.replace(tool.login, token_url=mapped_url(tool.login.token_url, maps))
            return msgspec.structs.replace(tool, endpoint=mapped_url(tool.endpoint, maps), login=login)
        case RetrievalTool():
            store, embedding = _mapped_store(tool.store, maps), _mapped_embedding(tool.embedding, maps)
            return msgspec.structs.replace(tool, store=store, embedding=embedding)
        case _:
            return tool


def _mapped_store(store: VectorsPlan, maps: Sequence[Mapped]) -> VectorsPlan:
    port = store.port or _STORE_PORTS.get(store.type, 0)
    for entry in maps:
        if store.host == entry.host and port == entry.port:
            return msgspec.structs.replace(store, host=entry.to_host, port=entry.to_port)
    return store
