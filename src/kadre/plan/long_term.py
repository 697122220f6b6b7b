"""Where an agent keeps what it remembers across sessions."""

from __future__ import annotations

from typing import get_args

import msgspec

from kadre.api.kinds.memory_store import LongTermMemory
from kadre.api.kinds.tool import VectorStore
from kadre.plan import memory, retrieval_tools
from kadre.plan.draft import Draft, Place
from kadre.plan.types import EmbeddingPlan, LongTermPlan, MemoryPlan, ModelPlan, VectorsPlan
from kadre.plan.work import Work

COLLECTION = "memories"
"""Where nothing else is written: a file beside the journal."""
OPENAI_MODEL = "text-embedding-3-small"


def remembering(work: Work, draft: Draft, kept: MemoryPlan, model: ModelPlan | None) -> MemoryPlan:
    """The memory with what is remembered across sessions, where the author wants it. `model`: the agent's own."""
    place, policy = memory.policy(work, draft)
    wanted = policy.long_term_memory if policy is not None else None
    if wanted is None or not wanted.enabled or model is None:
        return kept
    here = place.below("longTermMemory")
    store = _vectors(work, here.below("vectorStore"), wanted.vector_store)
    embedding = _embedding(work, here, wanted, model) if store is not None else None
    if store is None or embedding is None:
        return kept
    return msgspec.structs.replace(kept, long_term=LongTermPlan(vectors=store, embedding=embedding))


def _vectors(work: Work, place: Place, written: VectorStore | None) -> VectorsPlan | None:
    if written is None:
        return VectorsPlan(type="sqlite", collection=COLLECTION)
    if written.type not in get_args(retrieval_tools.Kind):
        work.not_yet(f"long-term memory in {written.type} is not supported yet: the agent remembers nothing")
        return None
    by_secret = written.type == "pgvector" and written.secret_ref is not None
    if written.type in retrieval_tools.SERVERS and not written.host and not by_secret:
        message = f"nothing says where the {written.type} server is: the agent remembers nothing across sessions"
        work.problem(place, "MissingField", message, "add host: with its name or address", "warning")
        return None
    return retrieval_tools.vectors(work, place, written)


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
