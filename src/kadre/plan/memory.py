"""Where an agent's conversations are kept."""

from __future__ import annotations

import msgspec

from kadre.api.dialects.kaos import KaosAgent
from kadre.api.kinds.agent import AgentMemory
from kadre.api.kinds.memory_store import MemoryPolicy, MemoryStore, MemoryType, PostgresStore, RedisStore, Tls
from kadre.api.parts import SecretKeyRef
from kadre.plan.draft import Draft, Place
from kadre.plan.lookup import find
from kadre.plan.types import MemoryPlan, PostgresPlan, RedisPlan, SecretRef
from kadre.plan.work import Work

MAX_HISTORY = MemoryPlan().max_history
ServerPlan = PostgresPlan | RedisPlan


def memory_plan(work: Work, draft: Draft) -> MemoryPlan:
    """The agent's memory, its MemoryStore followed."""
    _kaos_notices(work, draft)
    memory = draft.spec.memory
    if memory is None:
        return MemoryPlan()
    place = draft.place("memory")
    if memory.store_ref is None:
        return _plan(memory.type, memory.config, _inline(work, place, memory))
    field = "memoryStore" if isinstance(draft.resource, KaosAgent) else "storeRef"
    fix = f"create a MemoryStore named {memory.store_ref}, or write type: and config: here"
    store = work.reference(MemoryStore, place.below(field), memory.store_ref, fix)
    if store is None:
        return MemoryPlan()
    plan = _plan(store.spec.type, store.spec.policy, check_store(work, store))
    return msgspec.structs.replace(plan, failure_mode=store.spec.failure_mode)


def check_store(work: Work, store: MemoryStore) -> ServerPlan | None:
    """The store's server. Of vectors, which nothing keeps yet, a missing password is a warning."""
    vectors = None
    if store.spec.policy is not None and store.spec.policy.long_term_memory is not None:
        vectors = store.spec.policy.long_term_memory.vector_store
    if vectors is not None and vectors.secret_ref is not None:
        where = Place(store, "spec.policy.longTermMemory.vectorStore.secretRef")
        work.secret(where, vectors.secret_ref, severity="warning")
    place = Place(store, f"spec.{store.spec.type}")
    if store.spec.postgres is not None:
        return _stored_postgres(work, place, store.spec.postgres)
    return None if store.spec.redis is None else _stored_redis(work, place, store.spec.redis)


def _inline(work: Work, place: Place, memory: AgentMemory) -> ServerPlan | None:
    config = memory.config
    secret = work.secret(place.below("secretRef"), memory.secret_ref) if memory.secret_ref is not None else None
    if memory.type not in ("postgres", "redis"):
        return None
    if config is None or not config.host:
        return PostgresPlan(url=secret) if memory.type == "postgres" else RedisPlan(url=secret)
    tls, ca = config.tls is not None and config.tls.enabled, _authority(work, place.below("config"), config.tls)
    if memory.type == "redis":
        return RedisPlan(
            host=config.host,
            port=config.port or RedisPlan().port,
            database=int(config.database or 0),
            user=config.username or "",
            password=secret,
            tls=tls,
            ca=ca,
        )
    usual = PostgresPlan()
    return PostgresPlan(
        host=config.host,
        port=config.port or usual.port,
        database=usual.database if config.database is None else str(config.database),
        user=config.username or usual.user,
        password=secret,
        tls=tls,
        ca=ca,
    )


def _stored_postgres(work: Work, place: Place, server: PostgresStore) -> PostgresPlan:
    user_secret, password = _login(work, place, server)
    return PostgresPlan(
        host=server.host,
        port=server.port,
        database=server.database,
        user=(server.auth.username if server.auth is not None else None) or PostgresPlan().user,
        user_secret=user_secret,
        password=password,
        tls=server.tls is not None and server.tls.enabled,
        ca=_authority(work, place, server.tls),
    )


def _stored_redis(work: Work, place: Place, server: RedisStore) -> RedisPlan:
    user_secret, password = _login(work, place, server)
    return RedisPlan(
        host=server.host,
        port=server.port,
        database=server.database,
        user=(server.auth.username if server.auth is not None else None) or "",
        user_secret=user_secret,
        password=password,
        tls=server.tls is not None and server.tls.enabled,
        ca=_authority(work, place, server.tls),
    )


def _login(work: Work, place: Place, server: RedisStore | PostgresStore) -> tuple[SecretRef | None, SecretRef | None]:
    """Where the user's name is, if it is in a Secret, and the password."""
    login = server.auth.secret_ref if server.auth is not None else None
    if login is None:
        return None, None
    where = place.below("auth.secretRef")
    user = None
    if login.username_key is not None:
        user = work.secret(where, SecretKeyRef(name=login.name, key=login.username_key))
    return user, work.secret(where, SecretKeyRef(name=login.name, key=login.password_key))


def _authority(work: Work, place: Place, tls: Tls | None) -> SecretRef | None:
    if tls is None or not tls.enabled or tls.secret_ref is None:
        return None
    return work.secret(place.below("tls.secretRef"), SecretKeyRef(name=tls.secret_ref.name, key="ca.crt"))


def policy(work: Work, draft: Draft) -> tuple[Place, MemoryPolicy | None]:
    """How much is kept, as the agent or its MemoryStore says it, and where that stands."""
    memory = draft.spec.memory
    if memory is None or memory.store_ref is None:
        return draft.place("memory").below("config"), memory.config if memory is not None else None
    store = find(work.lookup, MemoryStore, draft.resource.namespace, memory.store_ref)
    if store is None:
        return draft.place("memory"), None
    return Place(store, "spec.policy"), store.spec.policy


def _plan(kind: MemoryType | None, written: MemoryPolicy | None, server: ServerPlan | None) -> MemoryPlan:
    policy = written or MemoryPolicy()
    history = policy.max_conversation_history
    return MemoryPlan(
        type=kind or "default",
        session_ttl=policy.session_ttl or 0.0,
        max_history=MAX_HISTORY if history is None else history,
        postgres=server if isinstance(server, PostgresPlan) else None,
        redis=server if isinstance(server, RedisPlan) else None,
    )


def _kaos_notices(work: Work, draft: Draft) -> None:
    if not isinstance(draft.resource, KaosAgent):
        return
    config = draft.resource.spec.config
    memory = config.memory if config else None
    if memory is None:
        return
    if memory.type == "redis" and memory.memory_store is None:
        fix = "name a MemoryStore of type redis in memoryStore"
        work.not_yet(f"memory of type redis names no server: conversations are kept in the default store; {fix}")
    if memory.type == "remote" and memory.memory_store is None:
        work.not_yet("memory of type remote is not supported yet: conversations are kept in the default store")
    for field, value in (
        ("contextLimit", memory.context_limit),
        ("maxSessions", memory.max_sessions),
        ("maxSessionEvents", memory.max_session_events),
    ):
        if value is not None:
            work.not_yet(f"memory.{field} is not supported yet: nothing is limited by it")
