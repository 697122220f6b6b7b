"""An MCP server in a pod of its own: an author's functions or a package, at `/mcp` for everybody in the cluster.

What it runs speaks over stdin and stdout, in a process of its own that is started again where it ends. Who calls gets
its tools and the text that they answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from kadre.base import collector
from kadre.base.clock import SystemClock
from kadre.base.errors import ProblemError, ToolError
from kadre.base.problems import Problem
from kadre.base.tasks import Tasks
from kadre.engine.messages import ToolSpec
from kadre.engine.tools.mcp import McpPool, McpToolset
from kadre.engine.tools.port import CallContext
from kadre.local import serving
from kadre.local.mounted import MountedSecrets
from kadre.local.servers import Servers
from kadre.plan.types import LaunchPlan, McpTools

log = logging.getLogger(__name__)

NAME = "tools"
LAST_WORDS = Path("/dev/termination-log")
"""Where Kubernetes reads a container's last words."""
CALL_SECONDS = 300.0
"""A call may take: the caller's own limit is shorter, as a rule."""


@dataclass(frozen=True, slots=True)
class ToolServerSettings:
    """Everything the process is told."""

    launch: Path
    """File that says what is run, as JSON."""
    source: Path | None = None
    """File with the functions, where they are not in `launch`."""
    env: tuple[str, ...] = ()
    """Variables of this process that what it runs gets."""
    host: str = "0.0.0.0"  # noqa: S104 - a pod is reached from outside or not at all
    port: int = 8000


def install(settings: ToolServerSettings) -> int:
    """Have the package in the cache, and say its version as our last words; the exit code. Raises ProblemError."""
    launch = _launch(settings)
    try:
        version = asyncio.run(_installed(launch))
    except ToolError as error:
        fix = "correct spec.config.mcp, or what the chart says of packages (kaos.packages)"
        raise ProblemError([Problem("PackageNotInstalled", str(error), fix)]) from error
    log.info("installed %s", version)
    with contextlib.suppress(OSError):
        LAST_WORDS.write_text(version, encoding="utf-8")
    return 0


async def _installed(launch: LaunchPlan) -> str:
    servers = Servers(MountedSecrets(Path()), stand_ins=False)
    try:
        return await servers.version(NAME, launch)
    finally:
        await servers.aclose()


def run(settings: ToolServerSettings) -> int:
    """Serve until told to stop; the exit code. Raises ProblemError where it cannot start."""
    import uvloop

    launch = _launch(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, launch))


def _launch(settings: ToolServerSettings) -> LaunchPlan:
    try:
        launch = msgspec.json.decode(settings.launch.read_bytes(), type=LaunchPlan)
        if settings.source is not None:
            launch = msgspec.structs.replace(launch, source=settings.source.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        fix = "run the image in the version its controller has"
        raise ProblemError([Problem("UnusablePlan", f"nothing can be run: {error}", fix)]) from error
    given = {name: os.environ[name] for name in settings.env if name in os.environ}
    return msgspec.structs.replace(launch, env={**launch.env, **given})


async def _serve(settings: ToolServerSettings, launch: LaunchPlan) -> int:
    stop, tasks = asyncio.Event(), Tasks("tools")
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(serving.leave_signals)
        servers = Servers(MountedSecrets(Path()), _offline(launch), stand_ins=False)
        stack.push_async_callback(servers.aclose)
        pool = McpPool(MountedSecrets(Path()), servers.start, SystemClock())
        stack.push_async_callback(pool.aclose)
        toolset = pool.toolset(McpTools(name=NAME, launch=launch, timeout=CALL_SECONDS))
        stack.push_async_callback(tasks.aclose)
        found = await _first(toolset)
        bridge = _bridge(toolset)
        doors = bridge.streamable_http_app(
            json_response=True, stateless_http=True, host=settings.host, custom_starlette_routes=[_health()]
        )
        await stack.enter_async_context(bridge.session_manager.run())
        server = serving.Server(serving.listen(settings.host, settings.port), doors)
        answering = tasks.spawn("serve", server.serve())
        log.info("%s served on port %d", ", ".join(spec.name for spec in found) or "no tools are", settings.port)
        collector.settle()
        serving.heed_signals(stop)
        await stop.wait()
        server.should_exit = True
        await asyncio.wait([answering], timeout=serving.GRACE)
    return 0


def _offline(launch: LaunchPlan) -> dict[str, str]:
    """Our surroundings; a package is installed already, and nothing else is to take its place."""
    return {**os.environ, "UV_OFFLINE": "1"} if launch.kind == "package" else dict(os.environ)


async def _first(toolset: McpToolset) -> Sequence[ToolSpec]:
    """Its tools. A server that cannot be started at all ends the process: that is seen and said by others."""
    try:
        return await toolset.specs()
    except ToolError as error:
        fix = "correct the functions, or the package: kadre up runs the same ones on a laptop"
        raise ProblemError([Problem("ServerNotStarted", str(error), fix)]) from error


def _bridge(toolset: McpToolset) -> Any:
    import mcp_types as types
    from mcp.server.lowlevel import Server

    async def listed(*_: object) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_tool(spec) for spec in await toolset.specs()])

    async def called(_: object, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            output = await toolset.call(params.name, params.arguments or {}, CallContext("", "", ""))
        except ToolError as error:
            return types.CallToolResult(content=[types.TextContent(type="text", text=str(error))], is_error=True)
        text = types.TextContent(type="text", text=output.content)
        return types.CallToolResult(content=[text], is_error=output.is_error)

    return Server(NAME, on_list_tools=listed, on_call_tool=called)


def _tool(spec: ToolSpec) -> Any:
    import mcp_types as types

    hints = types.ToolAnnotations(read_only_hint=spec.read_only, idempotent_hint=spec.idempotent or None)
    return types.Tool(name=spec.name, description=spec.description, input_schema=spec.parameters, annotations=hints)


def _health() -> Any:
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    return Route("/health", health)
