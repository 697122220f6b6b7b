"""MCP servers as tools: one live session a server, shared by every agent of the process.

The pool is made by whoever hosts agents; each agent holds a toolset of it and gives it back. This module never imports
the SDK: that costs most of a second and 45 MB, so it is loaded, in a thread, when the first server is connected to.

A connection lives in a task of its own, since the SDK's contexts must be left by the task that entered them; calls go
to its session straight from the task that makes them. A server that died is connected to again by the next call. What
was in flight when it died ends `unknown`; it is sent again only where the server says that its tool just reads, or may
be repeated. A server that keeps failing is left alone for a while.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from kadre.base.breaker import Breaker
from kadre.base.clock import Clock, SystemClock
from kadre.base.errors import ToolError, shorten
from kadre.base.retry import Backoff
from kadre.base.tasks import Tasks, first_of
from kadre.engine.messages import ToolSpec
from kadre.engine.secrets import SecretReader, describe
from kadre.engine.tools.mcp_target import Address, CallFailed, Command, Launch, Target
from kadre.engine.tools.port import CallContext, ToolOutput
from kadre.plan.types import McpTools

if TYPE_CHECKING:
    from kadre.engine.tools.mcp_session import Session

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 30.0
"""Seconds until a server has answered who it is; installing it happens before."""
STEADY = 60.0
"""Seconds a connection must have held for its end not to count as one more failure to start."""
RESTARTS = Backoff(attempts=1_000_000_000, first=0.5, limit=30.0)
"""Waits before a process that ended is started again; the first restart is at once."""
FIRST_WAIT, LONGEST_WAIT = 0.2, 2.0
"""Seconds before a call is sent again: a server that is replaced is away for about as long."""

OnCircuit = Callable[[str, bool], None]
"""Is told of a server, by its name, that it is left alone from now on (True), and that it is no longer."""


class McpPool:
    """Every MCP server this process talks to. Toolsets of one address, or of one launch, share a session."""

    def __init__(
        self,
        secrets: SecretReader,
        launch: Launch | None = None,
        clock: Clock | None = None,
        on_circuit: OnCircuit | None = None,
    ) -> None:
        self._secrets = secrets
        self._launch = launch
        self._clock = clock or SystemClock()
        self._on_circuit = on_circuit
        self._servers: dict[bytes, Server] = {}
        self._tasks = Tasks("mcp")

    @property
    def in_use(self) -> int:
        """How many servers have a toolset."""
        return len(self._servers)

    def toolset(self, plan: McpTools) -> McpToolset:
        """The tools of that server; nothing is connected until they are asked for."""
        # What decides who is spoken to, as whom: the same for all agents that may share a session.
        same = (plan.url, plan.launch, plan.transport, plan.headers, plan.secret_headers)
        key = msgspec.json.encode(same, order="sorted")
        server = self._servers.get(key)
        if server is None:
            server = Server(plan.name, lambda: self._target(plan), self._tasks, self._clock, self._on_circuit)
            self._servers[key] = server
        server.users += 1
        return McpToolset(plan, server, lambda: self._release(key, server))

    async def _target(self, plan: McpTools) -> Target:
        if plan.launch is not None:
            if self._launch is None:
                raise ToolError(f"{plan.name}: MCP servers are not started here; give it a url")
            return await self._launch(plan.name, plan.launch)
        headers = dict(plan.headers)
        for name, ref in plan.secret_headers.items():
            value = self._secrets.read(ref)
            if value is None:
                raise ToolError(f"{plan.name}: no value for the header {name}: it is to come from {describe(ref)}")
            headers[name] = value
        return Address(plan.url, plan.transport, headers)

    async def _release(self, key: bytes, server: Server) -> None:
        server.users -= 1
        if server.users == 0:
            if self._servers.get(key) is server:
                del self._servers[key]
            await server.aclose()

    async def aclose(self) -> None:
        """End every connection and every process started for one."""
        servers = list(self._servers.values())
        self._servers.clear()
        await asyncio.gather(*[server.aclose() for server in servers])
        await self._tasks.aclose()


class McpToolset:
    """One agent's use of one server."""

    def __init__(self, plan: McpTools, server: Server, release: Callable[[], Awaitable[None]]) -> None:
        self.name = plan.name
        self._plan = plan
        self._server = server
        self._release: Callable[[], Awaitable[None]] | None = release
        self._base: Sequence[ToolSpec] = ()
        self._specs: tuple[ToolSpec, ...] = ()

    @property
    def ready(self) -> bool:
        """See Toolset."""
        return self._server.ready

    @property
    def notice(self) -> str:
        """See Toolset."""
        return self._server.notice

    async def specs(self) -> Sequence[ToolSpec]:
        """See Toolset. The last tools known are offered while the server is away."""
        base = await self._server.tools()
        if base is not self._base:
            self._specs = tuple(map(self._spec, base))
            self._base = base
        return self._specs

    def _spec(self, spec: ToolSpec) -> ToolSpec:
        return msgspec.structs.replace(spec, server=self.name, idempotent=spec.idempotent or self._plan.idempotent)

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:  # noqa: ARG002
        """See Toolset."""
        spec = next((each for each in self._specs if each.name == name), None)
        repeatable = spec is not None and bool(spec.read_only or spec.idempotent)
        return await self._server.call(name, arguments, Tries(self._plan, repeatable))

    async def aclose(self) -> None:
        """See Toolset. The server is left alone where another toolset uses it."""
        release, self._release = self._release, None
        if release is not None:
            await release()


class Tries:
    """What is left of one call: seconds in which answers are waited for, and the next try; connecting has its own.

    `repeatable`: it may be sent again where it may have happened.
    """

    def __init__(self, plan: McpTools, repeatable: bool) -> None:
        self.left = plan.timeout
        self._repeatable = repeatable
        self._backoff = Backoff(attempts=plan.retries + 1, first=FIRST_WAIT, limit=LONGEST_WAIT)
        self._attempt = 1
        self._renewed = False
        self._lost = False

    def again(self, error: ToolError, seconds: float) -> float | None:
        """After how long to send it again, `seconds` having been spent on a try that failed so; None: not again."""
        self.left -= seconds
        self._lost = self._lost or error.unknown
        if not isinstance(error, CallFailed) or error.why == "large" or self.left <= 0:
            return None
        if error.stale:  # at once, on a new connection, and once
            renewed, self._renewed = self._renewed, True
            return None if renewed else 0.0
        delay = self._backoff.delay(self._attempt)
        may = error.unsent or (self._repeatable and (error.unknown or error.why == "away"))
        if delay is None or delay >= self.left or not may:
            return None
        self._attempt += 1
        self.left -= delay
        return delay

    def told(self, error: ToolError) -> ToolError:
        """The error of the last try, as that of all."""
        if error.unknown or not self._lost:
            return error
        return ToolError(f"{error}; before that the call was sent, and whether it happened is not known", unknown=True)


class _Link:
    """One attempt at a connection: the task that holds it open, and what came of it."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        """Close now."""
        self.retired = asyncio.Event()
        """Close when the calls under way have ended."""
        self.ready: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None


class Server:
    """One server and, while it is in use, the session with it."""

    def __init__(
        self,
        name: str,
        target: Callable[[], Awaitable[Target]],
        tasks: Tasks,
        clock: Clock,
        on_circuit: OnCircuit | None = None,
    ) -> None:
        self.name = name
        self.users = 0
        self._breaker = Breaker()
        self._on_circuit = on_circuit
        self._last_failure = ""
        self._target = target
        self._tasks = tasks
        self._clock = clock
        self._link: _Link | None = None
        self._links: set[_Link] = set()
        self._tools: tuple[ToolSpec, ...] | None = None
        self.notice = ""
        """What was left out of the tools, for people."""
        self._changed = True
        self._listing = asyncio.Lock()
        self._failures = 0
        self._not_before = 0.0
        self._why = ""
        self._closed = False

    @property
    def ready(self) -> bool:
        """Whether the tools are known and hold."""
        link = self._link
        return self._tools is not None and not self._changed and link is not None and _live(link)

    async def tools(self) -> tuple[ToolSpec, ...]:
        """The tools it offers, under its own names; the same object until they change. Raises ToolError."""
        if self._tools is not None and (self.ready or self._breaker.is_open):
            return self._tools
        async with self._listing:
            try:
                session = await self._session()
                if self._changed or self._tools is None:
                    self._changed = False
                    await self._list(session)
            except ToolError:
                if self._tools is None:
                    raise
        if self._tools is None:
            raise ToolError(f"{self.name}: its tools are not known")
        return self._tools

    async def _list(self, session: Session) -> None:
        try:
            found, notice = await session.tools(CONNECT_TIMEOUT)
        except ToolError as error:
            self._changed = True
            self._drop_if_broken(session, error)
            raise ToolError(f"{self.name}: its tools cannot be listed: {error}") from error
        if (found, notice) != (self._tools, self.notice):
            self._tools, self.notice = found, notice

    async def call(self, name: str, arguments: dict[str, Any], tries: Tries) -> ToolOutput:
        """Call a tool, again where that is safe. Raises ToolError, `unknown` where one try may have happened."""
        wait = self._breaker.wait(self._clock.monotonic())
        if wait > 0:
            last = f"its last {self._breaker.failures} calls failed, the last with: {self._last_failure}"
            raise ToolError(f"{self.name} is left alone for {wait:.0f} s more, and nothing was sent: {last}")
        while True:
            started = self._clock.monotonic()
            try:
                output = await self._send(name, arguments, tries.left)
            except ToolError as error:
                delay = None if self._breaker.is_open else tries.again(error, self._clock.monotonic() - started)
                if delay is None:
                    self._count(error, started)
                    raise tries.told(error) from error
            else:
                self._count(None, started)
                return output
            if delay:
                await self._clock.sleep(delay)

    async def _send(self, name: str, arguments: dict[str, Any], seconds: float) -> ToolOutput:
        session = await self._session()
        try:
            return await session.call(name, arguments, seconds)
        except CallFailed as error:
            self._drop_if_broken(session, error)
            raise error.of(self.name) from error

    def _count(self, error: ToolError | None, began: float) -> None:
        """Heed what came of a call: that its server did its part, whatever it said, or did not."""
        if error is None:
            self._heed("", began)
        elif isinstance(error, CallFailed) and error.server_failed is not None:
            self._heed(str(error) if error.server_failed else "", began)

    def _heed(self, failure: str, began: float) -> None:
        was_open = self._breaker.is_open
        if failure:
            self._last_failure = failure
            self._breaker.failed(self._clock.monotonic(), began)
        else:
            self._breaker.succeeded()
        if self._breaker.is_open != was_open:
            self._tell(open_now=self._breaker.is_open)

    def _tell(self, *, open_now: bool) -> None:
        if open_now:
            seconds = self._breaker.cool_down
            log.warning("%s is left alone for %.0f s: %s", self.name, seconds, self._last_failure)
        else:
            log.info("%s is called again", self.name)
        if self._on_circuit is not None:
            self._on_circuit(self.name, open_now)

    def _drop_if_broken(self, session: Session, error: ToolError) -> None:
        link = self._link
        if link is None or not isinstance(error, CallFailed) or _held(link) is not session:
            return
        if error.broken:
            self._retire(link)
        elif error.unsent or error.why == "away":
            self._changed = True
        elif error.why == "late":
            self._tasks.spawn(f"{self.name}/health", self._check(link, session))

    async def _check(self, link: _Link, session: Session) -> None:
        """A server that did not answer in time may be slow or stuck; one that answers nothing at all is given up."""
        began = self._clock.monotonic()
        if not await session.alive():
            self._retire(link)
            self._heed(f"{self.name}: it answers nothing at all", began)

    def _retire(self, link: _Link) -> None:
        """Use the link for no further call. Those under way may yet be answered."""
        link.retired.set()
        if self._link is link:
            self._link = None

    async def _session(self) -> Session:
        if self._closed:
            raise ToolError(f"{self.name}: the connection was closed")
        link = self._link
        if link is None or not _live(link):
            wait = self._not_before - self._clock.monotonic()
            if wait > 0:
                raise ToolError(f"{self._why} (it is tried again in {wait:.0f} s)")
            link = self._link = _Link()
            self._links.add(link)
            link.task = self._tasks.spawn(self.name, self._hold(link))
        # Shielded: others may wait for the same connection, and it is worth having when this caller has gone.
        return await asyncio.shield(link.ready)

    async def _hold(self, link: _Link) -> None:
        started = self._clock.monotonic()
        target: Target | None = None
        try:
            target = await self._target()
            sdk = await asyncio.to_thread(importlib.import_module, "kadre.engine.tools.mcp_session")
            async with sdk.connected(self.name, target, self._on_change, CONNECT_TIMEOUT) as session:
                self._changed = True
                self._why = f"{self.name}: its process ended"
                link.ready.set_result(session)
                await first_of(link.stop.wait(), link.retired.wait(), session.ended.wait())
                await first_of(link.stop.wait(), session.idle.wait(), session.ended.wait())
        except ToolError as error:
            self._why = str(error)
            if not link.ready.done():
                link.ready.set_exception(error)
        except Exception as error:  # noqa: BLE001 - whatever a transport raises, the agents that wait must be told
            self._why = f"{self.name}: the connection failed: {shorten(str(error))}"
            if not link.ready.done():
                link.ready.set_exception(ToolError(self._why))
        finally:
            if not link.ready.done():
                link.ready.set_exception(ToolError(f"{self.name}: the connection was closed"))
            link.ready.exception()  # asked for, so that an answer nobody waits for any more is no warning
            self._links.discard(link)
            if not link.stop.is_set() and not link.retired.is_set():
                self._put_off(started, link, isinstance(target, Command))

    def _on_change(self) -> None:
        self._changed = True

    def _put_off(self, started: float, link: _Link, process: bool) -> None:
        """Decide when a connection that failed or ended may be tried again."""
        now = self._clock.monotonic()
        # What is refused at once costs nothing to try; what swallows a request holds up each run that starts.
        wait = 0.0 if _held(link) else now - started - 1.0
        if process:
            self._failures = 1 if now - started > STEADY else self._failures + 1
            wait = max(wait, RESTARTS.delay(self._failures - 1) or 0.0) if self._failures > 1 else wait
        self._not_before = now + wait

    async def aclose(self) -> None:
        """End the connection, and the process where one was started."""
        self._closed = True
        self._link = None
        if self._breaker.is_open:
            self._breaker.succeeded()
            self._tell(open_now=False)
        links = list(self._links)
        for link in links:
            link.stop.set()
            if link.task is not None and not link.ready.done():
                link.task.cancel()
        tasks = [link.task for link in links if link.task is not None]
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


def _live(link: _Link) -> bool:
    """Whether the link connects, or will."""
    if not link.ready.done():
        return True
    session = _held(link)
    return session is not None and not session.ended.is_set()


def _held(link: _Link) -> Session | None:
    """The link's session, where it came to one."""
    ready = link.ready
    return ready.result() if ready.done() and not ready.cancelled() and ready.exception() is None else None
