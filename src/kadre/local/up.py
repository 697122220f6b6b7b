"""`kadre up`: files in, agents out, until Ctrl-C.

One process, one port: the files are resolved straight into an agent host, and followed while it runs. A change that
cannot be used keeps what was served before, and is shown wherever somebody looks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import aiohttp

from kadre.base import collector
from kadre.base.addresses import Policy
from kadre.base.clock import SystemClock
from kadre.base.errors import ModelError, ProblemError, ToolError, Unavailable
from kadre.base.problems import Problem
from kadre.base.tasks import Tasks
from kadre.engine import http_client
from kadre.engine.agent import HostedAgent
from kadre.engine.host import Host
from kadre.engine.models.port import Startable
from kadre.engine.tools.mcp import McpPool
from kadre.local import hints, maps, planner, servers, serving, standin, watch
from kadre.local.console import Console
from kadre.local.files import STDIN
from kadre.local.hosting import Assembly, Journals
from kadre.local.resolved import Resolved
from kadre.local.sandbox import ProcessSandbox
from kadre.local.secrets import LocalSecrets
from kadre.local.settings import UpSettings
from kadre.plan.types import McpTools, UnsupportedTool
from kadre.server import app
from kadre.server.metrics import Metrics

log = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds that runs under way have to end after Ctrl-C."""
SILENCE = 1.0
"""Seconds of reading files after which a person is told of it."""
MIND_SECONDS = 2.0
"""Between two looks at whether the data folder is still there."""


def run(settings: UpSettings, resolving: planner.Planner | None = None) -> int:
    """Serve until told to stop; the exit code. `resolving`: a planner that is under way already."""
    import uvloop

    console = Console(color=settings.color)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(Up(settings, console).serve(resolving or planner.start(settings)))
    except ProblemError as error:
        console.problems(error.problems)
        return 1
    except KeyboardInterrupt:
        return 130


class Up:
    """One `kadre up`."""

    def __init__(self, settings: UpSettings, console: Console) -> None:
        self._settings = settings
        self._console = console
        self._clock = SystemClock()
        self._metrics = Metrics(self._clock)
        self._host = Host(clock=self._clock, observer=self._metrics, resumes=False)
        self._secrets = LocalSecrets()
        self._servers = servers.Servers(self._secrets)
        self._tasks = Tasks("up")
        self._problems: Sequence[Problem] = ()
        self._lost: Sequence[Problem] = ()
        """Of the data folder: these stay, whatever the files come to."""
        self._folders: Sequence[Path] = ()
        self._files: frozenset[str] = frozenset()
        """Names of the files that were read, some of which no other rule would tell for manifests."""
        self._seen = ""
        """The fingerprint of the files looked at last, usable or not; empty where they could not be looked at."""
        self._unusable = False
        self._stop = asyncio.Event()

    async def serve(self, resolving: planner.Planner) -> int:
        """Start, say where, follow the files, and end cleanly. Raises ProblemError where it cannot start."""
        settings = self._settings
        resolved = await self._planned(resolving)
        resolved.raise_errors()
        self._looked_at(resolved)
        listening = serving.listen(settings.host, settings.port)
        async with contextlib.AsyncExitStack() as stack:
            # Last of all: a second Ctrl-C does not cut short what the first began.
            stack.callback(serving.leave_signals)
            stack.callback(listening.close)
            http = http_client.session()
            stack.push_async_callback(http.close)
            stack.push_async_callback(self._servers.aclose)
            pool = McpPool(self._secrets, self._servers.start, self._clock, self._metrics.circuit)
            stack.push_async_callback(pool.aclose)
            journals = Journals(settings.data_path(), self._secrets, self._clock)
            assembly = Assembly(self._host, http, pool, self._secrets, journals, self._clock)
            assembly.sandbox = ProcessSandbox(unsafe=settings.unsafe_code)
            stack.push_async_callback(self._tasks.aclose)
            stack.push_async_callback(self._host.aclose, GRACE)
            await self._take(resolved, assembly, http)
            cut_off = await self._host.recover()
            self._host.sweep_expired_sessions()
            policy = Policy.of(settings.webhook_networks)
            doors = app.build(self._host, self._metrics, lambda: [*self._lost, *self._problems], policy=policy)
            await serving.speak_grpc(stack, doors.grpc, settings.host, settings.grpc_port)
            server = serving.Server(listening, doors)
            answering = self._tasks.spawn("serve", server.serve())
            await self._connect(self._host.agents.values())
            self._announce(resolved, len(cut_off))
            if STDIN not in settings.paths:  # what came from there cannot be read a second time
                self._tasks.spawn("watch", self._follow(assembly, http))
            self._tasks.spawn("mind-data", self._mind_data(journals))
            collector.settle()
            serving.heed_signals(self._stop)
            await self._stop.wait()
            self._console.say("stopping …")
            server.should_exit = True
            await self._host.aclose(GRACE)
            await asyncio.wait([answering], timeout=GRACE)
        return 0

    async def _planned(self, resolving: planner.Planner) -> Resolved:
        """What the planner finds; a person who has waited for a second is told what for."""
        telling = asyncio.get_running_loop().call_later(SILENCE, self._console.begun, "reading the files")
        try:
            return await asyncio.to_thread(planner.finish, resolving)
        finally:
            telling.cancel()

    def _looked_at(self, resolved: Resolved) -> None:
        """Follow those files from now on, whatever they come to: what is wrong is mended there, too."""
        self._seen = resolved.fingerprint
        self._folders = [Path(folder) for folder in resolved.folders]
        self._files = frozenset(Path(file).name for file in (*resolved.files, *self._settings.paths))

    async def _take(self, resolved: Resolved, assembly: Assembly, http: aiohttp.ClientSession) -> None:
        """Serve what the files come to now, or raise ProblemError and leave all as it was."""
        resolved.raise_errors()
        stand_ins = standin.StandIns(http)
        plans = {plan.key: maps.mapped(await stand_ins.replace(plan), self._settings.maps) for plan in resolved.plans}
        documents = {(secret.namespace, secret.name): secret.values for secret in resolved.secrets}
        before = self._secrets.replace(documents, resolved.env, resolved.exported)
        try:
            agents = await assembly.build(plans)  # journals are opened with what Secrets say now
        except BaseException as error:
            self._secrets.replace(*before)
            if isinstance(error, Unavailable):
                fix = "start the server, mend its address, or say with --map where it is on this machine"
                raise ProblemError([Problem("JournalUnavailable", str(error), fix)]) from error
            raise
        await self._host.replace(agents)
        self._problems = resolved.problems

    # -- following the files -------------------------------------------------------------------------------------

    async def _follow(self, assembly: Assembly, http: aiohttp.ClientSession) -> None:
        async for _ in watch.changes(lambda: self._folders, lambda: self._files):
            try:
                await self._reload(assembly, http)
                if self._unusable:
                    self._unusable = False
                    self._console.done("the files can be used again")
            except ProblemError as error:
                self._problems, self._unusable = error.problems, True
                self._console.warn("the changed files cannot be used; what was served before goes on")
                self._console.problems(error.problems)
            except Exception:
                log.exception("the changed files could not be taken over")  # and the next change is looked at

    async def _reload(self, assembly: Assembly, http: aiohttp.ClientSession) -> None:
        before = dict(self._host.agents)
        seen, self._seen = self._seen, ""
        resolved = await asyncio.to_thread(lambda: planner.finish(planner.start(self._settings)))
        self._looked_at(resolved)
        if resolved.fingerprint == seen:
            return
        await self._take(resolved, assembly, http)
        self._console.problems(resolved.problems)
        after = self._host.agents
        changed = [agent for key, agent in after.items() if before.get(key) is not agent]
        for key in before.keys() - after.keys():
            self._console.done(f"{key} is no longer served")
        await self._connect(changed)
        for agent in changed:
            self._console.done(f"{agent.plan.key.short} {'reloaded' if agent.plan.key in before else 'added'}")

    async def _mind_data(self, journals: Journals) -> None:
        """Say it once where the data folder is deleted; every write finds out for itself."""
        while not self._lost:
            await asyncio.sleep(MIND_SECONDS)
            try:
                journals.check()
            except Unavailable as error:
                self._lost = [Problem("DataDirLost", str(error), "until then, new messages are refused with 503")]
                self._console.problems(self._lost)

    async def _connect(self, agents: Iterable[HostedAgent]) -> None:
        """Start models and tools now, so that the first message does not wait for them; what fails is said and kept."""
        wanted = [agent for agent in agents if agent.toolsets or isinstance(agent.model, Startable)]
        if not wanted:
            return
        with self._console.step("starting models and tools"):
            results = await asyncio.gather(*[self._ready(agent) for agent in wanted])
        for message in dict.fromkeys(message for result in results for message in result):
            self._console.warn(message)

    async def _ready(self, agent: HostedAgent) -> list[str]:
        """Start what the agent needs; what people should know of it."""
        said = []
        try:
            if isinstance(agent.model, Startable):
                await agent.model.start()
            for tool in agent.plan.tools:
                if isinstance(tool, McpTools) and tool.launch is not None:
                    notices = await self._servers.prepare(tool.name, tool.launch, self._console.say)
                    said += [f"{tool.name}: {notice.message}" for notice in notices]
        except (ModelError, ToolError) as error:
            return [*said, f"{agent.plan.key.short}: {error}"]
        offer = await agent.offer()
        return [*said, *(f"{agent.plan.key.short}: {notice.message}" for notice in offer.notices)]

    # -- what people see -----------------------------------------------------------------------------------------

    def _announce(self, resolved: Resolved, cut_off: int) -> None:
        console, settings = self._console, self._settings
        console.problems(resolved.problems)
        if resolved.ignored:
            console.warn(f"ignored, not Kadre's: {', '.join(resolved.ignored)}")
        rows = []
        for agent in sorted(self._host.agents.values(), key=lambda agent: agent.plan.key):
            plan = agent.plan
            names = [tool.name for tool in plan.tools if not isinstance(tool, UnsupportedTool)]
            rows.append((plan.key.short, f"{plan.model.model} ({plan.model.provider})", ", ".join(names) or "-"))
            for notice in plan.notices:
                console.warn(f"{plan.key.short}: {notice.reason}: {notice.message}")
        console.table(("AGENT", "MODEL", "TOOLS"), rows)
        base = hints.base_url(settings.host, settings.port)
        if cut_off:
            runs = "1 run was" if cut_off == 1 else f"{cut_off} runs were"
            console.warn(f"{runs} cut off when the last process ended, and marked interrupted")
        first = hints.entrance(agent.plan for agent in self._host.agents.values())
        console.say(f"\n  chat     {hints.chat_command(first, base)}   or   POST {base}/agents/{first}/chat")
        console.say(f"  openai   {base}/v1        runs  {base}/runs        metrics  {base}/metrics")
        console.say(f"  data     {settings.data_path()}")
        console.done(f"ready in {self._clock.monotonic() - settings.started:.1f} s; Ctrl-C stops it")
