"""From plans to an agent host's agents: models, toolsets and journals of a laptop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp

from kadre.base.clock import Clock
from kadre.engine.agent import HostedAgent
from kadre.engine.host import Host
from kadre.engine.masking import Masks
from kadre.engine.memory.port import Journal
from kadre.engine.models import factory as models
from kadre.engine.models.port import Model
from kadre.engine.secrets import SecretReader
from kadre.engine.tools import factory as tools
from kadre.engine.tools.code import Sandbox
from kadre.engine.tools.mcp import McpPool
from kadre.plan.types import AgentKey, AgentPlan, LongTermPlan, MemoryPlan, ModelPlan, PostgresPlan, RedisPlan

if TYPE_CHECKING:
    from kadre.engine.memory.longterm import LongTermMemory
    from kadre.engine.memory.remote_journal import RemoteJournal
    from kadre.engine.memory.sqlite import SqliteJournal
    from kadre.engine.tools.retrieval import Retrieval
    from kadre.engine.vectors.stores import VectorStores


class Installed(NamedTuple):
    """The journal of whoever installed Kadre: for agents that name none, or one that is not built yet."""

    plan: PostgresPlan
    secrets: SecretReader


class Journals:
    """The stores of one process. SQLite in the folder is for agents that name none, where none is installed.

    `lasts`: whether the folder is there after whatever runs the process has gone; a pod's own goes with it.
    """

    def __init__(
        self,
        folder: Path,
        secrets: SecretReader,
        clock: Clock,
        installed: Installed | None = None,
        *,
        lasts: bool = True,
    ) -> None:
        self.folder = folder
        self._lasts = lasts
        self._secrets = secrets
        self._clock = clock
        self._installed = installed
        self._memory: Journal | None = None
        self._disk: SqliteJournal | None = None
        self._servers: dict[PostgresPlan | RedisPlan, RemoteJournal] = {}
        self._places: dict[str, RemoteJournal] = {}
        """The same by where they are: two plans may lead to one database, of which two journals show runs twice."""
        self._opening: dict[str, asyncio.Lock] = {}
        """Held by who opens one: of several agents that want it the first."""

    async def of(self, memory: MemoryPlan) -> Journal:
        """The journal for such a plan, opened when it is first wanted.

        Raises ProblemError where it cannot be, and Unavailable where it cannot be now.
        """
        server = memory.postgres or memory.redis
        if server is not None:
            return await self._server(server, self._secrets)
        if memory.type == "default" and self._installed is not None:
            return await self._server(*self._installed)
        if memory.type == "in-memory":
            if self._memory is None:
                from kadre.engine.memory.inmemory import InMemoryJournal

                self._memory = InMemoryJournal(clock=self._clock)
            return self._memory
        async with self._opens(""):
            if self._disk is None:
                from kadre.engine.memory.sqlite import SqliteJournal  # the file is made only where it is used

                self._disk = await SqliteJournal.open(self.folder, clock=self._clock)
                self._disk.durable = self._lasts
        return self._disk

    def _opens(self, place: str) -> asyncio.Lock:
        return self._opening.setdefault(place, asyncio.Lock())

    async def _server(self, plan: PostgresPlan | RedisPlan, secrets: SecretReader) -> Journal:
        if plan not in self._servers:
            where, opened = _way(plan, secrets)
            async with self._opens(where):
                if where not in self._places:
                    self._places[where] = await opened(clock=self._clock)
            self._servers[plan] = self._places[where]
        return self._servers[plan]

    def check(self) -> None:
        """Raise Unavailable where the durable one's file was taken away."""
        if self._disk is not None:
            self._disk.presence.check()


def _way(plan: PostgresPlan | RedisPlan, secrets: SecretReader) -> tuple[str, Callable[..., Awaitable[RemoteJournal]]]:
    """Where the server's journal is, for people, and what opens it. Its library is loaded only here."""
    if isinstance(plan, RedisPlan):
        from kadre.engine.memory import redis, redis_address, redis_server

        named = redis_address.of_plan(plan, secrets)
        return redis_server.place(named).name, functools.partial(redis.RedisJournal.open, named)
    from kadre.engine.memory import postgres, postgres_address, postgres_server

    address = postgres_address.of_plan(plan, secrets)
    where = postgres_server.place(address, postgres_server.SCHEMA).name
    return where, functools.partial(postgres.PostgresJournal.open, address)


class Assembly:
    """Builds hosted agents, and keeps those whose plan has not changed."""

    def __init__(
        self,
        host: Host,
        http: aiohttp.ClientSession,
        pool: McpPool,
        secrets: SecretReader,
        journals: Journals,
        clock: Clock,
    ) -> None:
        self._host = host
        self._http = http
        self._pool = pool
        self._secrets = secrets
        self._journals = journals
        self._clock = clock
        self.sandbox: Sandbox | None = None
        """Where code runs that models write."""
        self._stores: VectorStores | None = None
        self._searches: Retrieval | None = None

    async def build(self, plans: Mapping[AgentKey, AgentPlan]) -> dict[AgentKey, HostedAgent]:
        """Hosted agents for the plans; an agent whose plan is the same as now is the same object as now.

        Raises ProblemError where one cannot be had, and Unavailable where its journal is not reached now; the others
        that were made for it are closed again.
        """
        agents = {}
        async with contextlib.AsyncExitStack() as made:
            for key, plan in plans.items():
                known = self._host.agents.get(key)
                if known is not None and known.plan == plan:
                    agents[key] = known
                else:
                    agents[key] = await self._agent(plan)
                    made.push_async_callback(agents[key].aclose)
            made.pop_all()
        return agents

    async def _agent(self, plan: AgentPlan) -> HostedAgent:
        journal = await self._journals.of(plan.memory)
        self._host.add_journal(journal)
        depth = plan.limits.max_depth
        model = self._model(plan.model)  # before the toolsets: they would have to be given back where it cannot be made
        means = tools.Means(self._pool, self._host, self._secrets, self._searching, self.sandbox)
        built = [tools.build(tool, means, depth) for tool in plan.tools]
        toolsets = [toolset for toolset in built if toolset is not None]
        agent = HostedAgent(plan, model, toolsets, journal, self._clock, Masks(plan, self._secrets))
        if plan.memory.long_term is not None:
            agent.memories = self._memories(plan.key, plan.memory.long_term)
            agent.memories.open_soon()
        compression = plan.memory.compression
        agent.summarizer = self._model(compression.model) if compression is not None and compression.model else None
        return agent

    def _searching(self) -> Retrieval:
        if self._searches is None:
            from kadre.engine.tools.retrieval import Retrieval

            self._searches = Retrieval(self._vectors(), self._secrets, self._http)
        return self._searches

    def _vectors(self) -> VectorStores:
        if self._stores is None:
            from kadre.engine.vectors.stores import VectorStores

            self._stores = VectorStores(self._journals.folder, self._secrets)
        return self._stores

    def _memories(self, agent: AgentKey, plan: LongTermPlan) -> LongTermMemory:
        """What the agent remembers across sessions. Raises ProblemError where a library is missing."""
        from kadre.engine.memory.longterm import LongTermMemory
        from kadre.engine.models import embedding

        stores = self._vectors()
        embedder = embedding.build(plan.embedding, self._secrets, self._http)
        store = stores.take(plan.vectors)
        return LongTermMemory(str(agent), store, embedder, functools.partial(stores.leave, plan.vectors))

    def _model(self, plan: ModelPlan) -> Model:
        return models.build(plan, self._secrets, self._http, _read_rules)


def _read_rules(path: str) -> list[Any]:
    from kadre.local import rules  # reads YAML, which no other part of a process that serves does

    return rules.read_rules(path)
