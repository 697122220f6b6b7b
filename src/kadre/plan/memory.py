"""Where an agent's conversations are kept."""

from __future__ import annotations

from typing import Any, Literal

from kadre.api.dialects.kaos import KaosAgent
from kadre.api.kinds.agent import AgentMemory
from kadre.api.kinds.memory_store import MemoryPolicy, MemoryStore, PostgresStore, RedisStore, Tls
from kadre.api.parts import SecretKeyRef
from kadre.base.problems import Severity
from kadre.plan.draft import Draft, Place
from kadre.plan.types import MemoryPlan, PostgresPlan, SecretRef
from kadre.plan.work import Work

Kind = Literal["default", "in-memory", "sqlite", "redis", "postgres"]
BUILT: dict[str, Kind] = {"in-memory": "in-memory", "sqlite": "sqlite", "postgres": "postgres"}
"""Stores that exist. An agent that names another one keeps its conversations in the default one for now."""

MAX_HISTORY = MemoryPlan().max_history
_OF_THE_PLAN = ("session_ttl", "max_conversation_history")


def memory_plan(work: Work, draft: Draft) -> MemoryPlan:
    """The agent's memory, its MemoryStore followed."""
    _kaos_notices(work, draft)
    memory = draft.spec.memory
    if memory is None:
        return MemoryPlan()
    place = draft.place("memory")
    if memory.store_ref is None and memory.type == "postgres":
        return _plan(work, memory.type, memory.config, postgres=_inline_postgres(work, place, memory))
    if memory.store_ref is None:
        secret = None
        if memory.secret_ref is not None:
            secret = work.secret(place.below("secretRef"), memory.secret_ref, severity="warning")
        return _plan(work, memory.type, memory.config, _plain(memory.config), secret)
    field = "memoryStore" if isinstance(draft.resource, KaosAgent) else "storeRef"
    fix = f"create a MemoryStore named {memory.store_ref}, or write type: and config: here"
    store = work.reference(MemoryStore, place.below(field), memory.store_ref, fix)
    if store is None:
        return MemoryPlan()
    postgres, secret = check_store(work, store)
    settings = {} if postgres is not None else _plain(store.spec.redis)
    return _plan(work, store.spec.type, store.spec.policy, settings, secret, postgres)


def check_store(work: Work, store: MemoryStore) -> tuple[PostgresPlan | None, SecretRef | None]:
    """The store's server, and the password of one that nothing connects to yet: missing, that is a warning."""
    place = Place(store, f"spec.{store.spec.type}")
    memories = store.spec.policy.long_term_memory if store.spec.policy else None
    vectors = memories.vector_store if memories else None
    if vectors is not None and vectors.secret_ref is not None:
        where = Place(store, "spec.policy.longTermMemory.vectorStore.secretRef")
        work.secret(where, vectors.secret_ref, severity="warning")
    if store.spec.postgres is not None:
        return _stored_postgres(work, place, store.spec.postgres), None
    return None, _password(work, place, store.spec.redis, severity="warning")


def _password(
    work: Work, place: Place, server: RedisStore | PostgresStore | None, severity: Severity
) -> SecretRef | None:
    login = server.auth.secret_ref if server is not None and server.auth is not None else None
    if login is None:
        return None
    key = SecretKeyRef(name=login.name, key=login.password_key)
    return work.secret(place.below("auth.secretRef"), key, severity=severity)


def _inline_postgres(work: Work, place: Place, memory: AgentMemory) -> PostgresPlan:
    config = memory.config
    secret = work.secret(place.below("secretRef"), memory.secret_ref) if memory.secret_ref is not None else None
    if config is None or not config.host:
        return PostgresPlan(url=secret)
    usual = PostgresPlan()
    return PostgresPlan(
        host=config.host,
        port=config.port or usual.port,
        database=usual.database if config.database is None else str(config.database),
        user=config.username or usual.user,
        password=secret,
        tls=config.tls is not None and config.tls.enabled,
        ca=_authority(work, place.below("config"), config.tls),
    )


def _stored_postgres(work: Work, place: Place, server: PostgresStore) -> PostgresPlan:
    login = server.auth.secret_ref if server.auth is not None else None
    user_secret = None
    if login is not None and login.username_key is not None:
        named = SecretKeyRef(name=login.name, key=login.username_key)
        user_secret = work.secret(place.below("auth.secretRef"), named)
    return PostgresPlan(
        host=server.host,
        port=server.port,
        database=server.database,
        user=(server.auth.username if server.auth is not None else None) or PostgresPlan().user,
        user_secret=user_secret,
        password=_password(work, place, server, severity="error"),
        tls=server.tls is not None and server.tls.enabled,
        ca=_authority(work, place, server.tls),
    )


def _authority(work: Work, place: Place, tls: Tls | None) -> SecretRef | None:
    if tls is None or not tls.enabled or tls.secret_ref is None:
        return None
    return work.secret(place.below("tls.secretRef"), SecretKeyRef(name=tls.secret_ref.name, key="ca.crt"))


def _plan(
    work: Work,
    kind: str | None,
    policy: MemoryPolicy | None,
    settings: dict[str, Any] | None = None,
    secret: SecretRef | None = None,
    postgres: PostgresPlan | None = None,
) -> MemoryPlan:
    settings = settings or {}
    if kind is not None and kind not in BUILT:
        work.not_yet(f"memory of type {kind} is not supported yet: conversations are kept in the default store")
        settings = {"type": kind, **settings}
    policy = policy or MemoryPolicy()
    for part, what in ((policy.compression, "compression of memory"), (policy.long_term_memory, "long-term memory")):
        if part is not None and part.enabled:
            work.not_yet(f"{what} is not supported yet: the agent runs without it")
    history = policy.max_conversation_history
    return MemoryPlan(
        type=BUILT.get(kind or "", "default"),
        session_ttl=policy.session_ttl or 0.0,
        max_history=MAX_HISTORY if history is None else history,
        postgres=postgres,
        settings=settings,
        secret=secret,
    )


def _plain(part: Any) -> dict[str, Any]:
    if part is None:
        return {}
    plain: dict[str, Any] = part.model_dump(by_alias=True, exclude_none=True, mode="json", exclude=set(_OF_THE_PLAN))
    return plain


def _kaos_notices(work: Work, draft: Draft) -> None:
    if not isinstance(draft.resource, KaosAgent):
        return
    config = draft.resource.spec.config
    memory = config.memory if config else None
    if memory is None:
        return
    if memory.type in {"redis", "remote"} and memory.memory_store is None:
        work.not_yet(f"memory of type {memory.type} is not supported yet: conversations are kept in the default store")
    for field, value in (
        ("contextLimit", memory.context_limit),
        ("maxSessions", memory.max_sessions),
        ("maxSessionEvents", memory.max_session_events),
    ):
        if value is not None:
            work.not_yet(f"memory.{field} is not supported yet: nothing is limited by it")
