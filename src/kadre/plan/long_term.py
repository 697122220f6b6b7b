"""Where an agent keeps what it remembers across sessions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import msgspec

from kadre.api.kinds.memory_store import LongTermMemory
from kadre.api.kinds.tool import VectorStore
from kadre.plan import memory, retrieval_tools
from kadre.plan.draft import Draft, Place
from kadre.plan.types import (
    EmbeddingPlan,
    LongTermPlan,
    MemoryPlan,
    ModelPlan,
    RetrievalTool,
    ToolPlan,
    VectorsPlan,
)
from kadre.plan.work import Work

COLLECTION = "memories"
"""Where nothing else is written: a file beside the journal."""
OPENAI_MODEL = "text-embedding-3-small"


def remembering(
    work: Work, draft: Draft, kept: MemoryPlan, model: ModelPlan | None, tools: Iterable[ToolPlan] = ()
) -> MemoryPlan:
    """The memory with what is remembered across sessions, where the author wants it.

    `model` and `tools`: the agent's own; a store that does not say where its server is has that of the tools.
    """
    place, policy = memory.policy(work, draft)
    wanted = policy.long_term_memory if policy is not None else None
    if wanted is None or not wanted.enabled or model is None:
        return kept
    here = place.below("longTermMemory")
    searched = [tool.store for tool in tools if isinstance(tool, RetrievalTool)]
    store = _vectors(work, here.below("vectorStore"), wanted.vector_store, _servers(searched))
    if store in searched:
        message = (
            f"a tool of the agent searches the collection {store.collection}, for whoever asks: it remembers nothing"
        )
        fix = "name a collection that no tool searches in longTermMemory.vectorStore"
        work.problem(here.below("vectorStore"), "SharedCollection", message, fix, "warning")
        return kept
    embedding = _embedding(work, here, wanted, model) if store is not None else None
    if store is None or embedding is None:
        return kept
    return msgspec.structs.replace(kept, long_term=LongTermPlan(vectors=store, embedding=embedding))


def _servers(searched: Iterable[VectorsPlan]) -> set[VectorsPlan]:
    """The vector stores that the agent searches, whatever collections it searches there."""
    return {msgspec.structs.replace(store, collection="") for store in searched}


def _vectors(
    work: Work, place: Place, written: VectorStore | None, searched: Iterable[VectorsPlan]
) -> VectorsPlan | None:
    if written is None:
        return VectorsPlan(type="sqlite", collection=COLLECTION)
    if written.type not in get_args(retrieval_tools.Kind):
        work.not_yet(f"long-term memory in {written.type} is not supported yet: the agent remembers nothing")
        return None
    by_secret = written.type == "pgvector" and written.secret_ref is not None
    if written.type not in retrieval_tools.SERVERS or written.host or by_secret:
        return retrieval_tools.vectors(work, place, written)
    return _beside(work, place, written, [store for store in searched if store.type == written.type])


def _beside(work: Work, place: Place, written: VectorStore, servers: list[VectorsPlan]) -> VectorsPlan | None:
    """A collection on the one server of its type that the agent searches, and logs in at, already."""
    if len(servers) == 1 and written.collection:
        return msgspec.structs.replace(servers[0], collection=written.collection)
    problem, fix = f"nothing says where the {written.type} server is", "add host: with its name or address"
    if len(servers) == 1:
        problem, fix = "nothing says which collection is meant", "add collection: with a name of its own"
    elif servers:
        problem = f"the agent's tools search {len(servers)} {written.type} servers, and nothing says which is meant"
    message = f"{problem}: the agent remembers nothing across sessions"
    work.problem(place, "MissingField", message, fix, "warning")
    return None


def _embedding(work: Work, place: Place, wanted: LongTermMemory, model: ModelPlan) -> EmbeddingPlan | None:
    """What is written; else that of the agent's provider where it has one by a known name, else the local one."""
    if wanted.embedding is not None:
        return retrieval_tools.embedding(work, place, wanted.embedding)
    if model.provider == "openai":
        named = msgspec.structs.replace(model, model=OPENAI_MODEL, params={}, timeout=retrieval_tools.EMBEDDING_TIMEOUT)
        return EmbeddingPlan(model=named)
    if model.provider == "scripted":
        return EmbeddingPlan(model=ModelPlan(provider="scripted", model="scripted"))
    local = ModelPlan(provider="local", model=retrieval_tools.LOCAL_MODEL)
    return EmbeddingPlan(model=local, dimension=retrieval_tools.LOCAL_DIMENSION)
