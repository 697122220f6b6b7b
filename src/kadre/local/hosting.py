"""From plans to an agent host's agents: models, toolsets and journals of a laptop."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp

from kadre.base.clock import Clock
from kadre.engine.agent import HostedAgent
from kadre.engine.host import Host
from kadre.engine.memory.port import Journal
from kadre.engine.models import factory as models
from kadre.engine.models.port import Model
from kadre.engine.secrets import SecretReader
from kadre.engine.tools import factory as tools
from kadre.engine.tools.mcp import McpPool
from kadre.plan.types import AgentKey, AgentPlan, MemoryPlan, ModelPlan, PostgresPlan

if TYPE_CHECKING:
    from kadre.engine.memory.postgres import PostgresJournal
    from kadre.engine.memory.sqlite import SqliteJournal


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
        self._folder = folder
        self._lasts = lasts
        self._secrets = secrets
        self._clock = clock
        self._installed = installed
        self._memory: Journal | None = None
        self._disk: SqliteJournal | None = None
        self._servers: dict[PostgresPlan, PostgresJournal] = {}
        self._places: dict[str, PostgresJournal] = {}
        """The same by where they are: two plans may lead to one database, of which two journals show runs twice."""

    async def of(self, memory: MemoryPlan) -> Journal:
        """The journal for such a plan, opened when it is first wanted.

        Raises ProblemError where it cannot be, and Unavailable where it cannot be now.
        """
        if memory.postgres is not None:
            return await self._server(memory.postgres, self._secrets)
        if memory.type == "default" and self._installed is not None:
            return await self._server(*self._installed)
        if memory.type == "in-memory":
            if self._memory is None:
                from kadre.engine.memory.inmemory import InMemoryJournal

                self._memory = InMemoryJournal(clock=self._clock)
            return self._memory
        if self._disk is None:
            from kadre.engine.memory.sqlite import SqliteJournal  # the file is made only where it is used

            self._disk = await SqliteJournal.open(self._folder, clock=self._clock)
            self._disk.durable = self._lasts
        return self._disk

    async def _server(self, plan: PostgresPlan, secrets: SecretReader) -> Journal:
        if plan not in self._servers:
            from kadre.engine.memory import postgres, postgres_address, postgres_server

            address = postgres_address.of_plan(plan, secrets)
            where = postgres_server.place(address, postgres_server.SCHEMA).name
            if where not in self._places:
                self._places[where] = await postgres.PostgresJournal.open(address, clock=self._clock)
            self._servers[plan] = self._places[where]
        return self._servers[plan]

    def check(self) -> None:
        """Raise Unavailable where the durable one's file was taken away."""
        if self._disk is not None:
            self._disk.presence.check()


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
        built = [tools.build(tool, self._pool, self._host, depth) for tool in plan.tools]
        toolsets = [toolset for toolset in built if toolset is not None]
        return HostedAgent(plan, model, toolsets, journal, self._clock)

    def _model(self, plan: ModelPlan) -> Model:
        return models.build(plan, self._secrets, self._http, _read_rules)


def _read_rules(path: str) -> list[Any]:
    from kadre.local import rules  # reads YAML, which no other part of a process that serves does

    return rules.read_rules(path)
