"""Where an agent's conversations are kept."""

from __future__ import annotations

from typing import Any

from kadre.api.kinds.agent import AgentMemory
from kadre.api.kinds.memory_store import MemoryPolicy, MemoryStore
from kadre.plan.findings import Findings
from kadre.plan.types import MemoryPlan

BUILT = frozenset({"in-memory", "sqlite"})
"""Stores that exist; an agent that names another keeps its conversations in the default one for now."""


def planned(memory: AgentMemory | None, findings: Findings) -> MemoryPlan:
    """The memory of an agent, its MemoryStore followed."""
    if memory is None:
        return MemoryPlan()
    if memory.store_ref is not None:
        store = findings.find("MemoryStore", memory.store_ref)
        if not isinstance(store, MemoryStore):
            findings.missing("MemoryStore", memory.store_ref, "spec.memory.storeRef")
            return MemoryPlan()
        section = getattr(store.spec, store.spec.type, None)
        return _plan(store.spec.type, store.spec.policy, _plain(section), findings)
    return _plan(memory.type or "default", memory.config, _plain(memory.config), findings)


def _plan(kind: str, policy: MemoryPolicy | None, settings: dict[str, Any], findings: Findings) -> MemoryPlan:
    if kind not in BUILT and kind != "default":
        findings.not_yet(f"memory of type {kind} is not supported yet; conversations are kept in the default store")
        kind = "default"
    for field, what in (("compression", "summing up long conversations"), ("long_term_memory", "long-term memory")):
        section = getattr(policy, field, None)
        if section is not None and section.enabled:
            findings.not_yet(f"{what} is not supported yet; the agent runs without it")
    limit = policy.max_conversation_history if policy else None
    return MemoryPlan(
        type=kind,  # type: ignore[arg-type]  # one of BUILT, or default
        session_ttl=(policy.session_ttl if policy else None) or 0.0,
        max_history=MemoryPlan().max_history if limit is None else limit,
        settings=settings,
    )


def _plain(section: Any) -> dict[str, Any]:
    if section is None:
        return {}
    plain: dict[str, Any] = section.model_dump(by_alias=True, exclude_none=True, mode="json")
    return plain
