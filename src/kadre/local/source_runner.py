"""Serves an author's Python functions as MCP tools, in a process with limits: `source_runner.py FILE SECONDS`.

Every public function that the file defines is a tool. The process is given no secret: its environment holds what it was
started with, which is next to nothing. It is bounded in memory, files and processes; a call is bounded in time, and
since a thread cannot be ended, a call that overruns ends the process after the caller was told. Whoever started it
starts it again. This keeps an author's mistakes from the rest; it is no sandbox for code that nobody has read.

Run by path, and imports nothing of Kadre: what the functions see is Python and the SDK.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import inspect
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

MEMORY = 1 << 30
"""Bytes of address space."""
FILE_SIZE = 64 << 20
"""Bytes of one file."""
OPEN_FILES = 128
THREADS = 8
"""Calls of plain functions at once; more wait."""
SPARE_PROCESSES = 64
"""Processes and threads it may add to those the machine has."""
GRACE = 2.0
"""Seconds after a call's time is up until the process ends without further ado."""


def limit() -> None:
    """Bound this process, for good."""
    bounds = {
        resource.RLIMIT_AS: MEMORY,
        resource.RLIMIT_FSIZE: FILE_SIZE,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_CORE: 0,
    }
    with contextlib.suppress(OSError, ValueError, IndexError):
        # The bound is on all of the user's threads together, so it counts from what runs now.
        running = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
        bounds[resource.RLIMIT_NPROC] = running + SPARE_PROCESSES
    for kind, bound in bounds.items():
        _, hard = resource.getrlimit(kind)
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)  # noqa: PLW2901 - never above the hard one
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (bound, bound))


class Watchdog:
    """Bounds each call to `seconds`.

    A call that overruns is answered, then the process ends. Should it not let the process do even that, an alarm that
    needs no help from the interpreter ends it.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._slots = asyncio.Semaphore(THREADS)
        self._ends: dict[object, float] = {}
        self.ending = False
        """A call overran; the process ends as soon as that is said."""

    async def run(self, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """What the function returns. Raises TimeoutError, and whatever it raises."""
        async with self._slots:
            call = object()
            self._ends[call] = time.monotonic() + self.seconds + GRACE
            self._arm()
            try:
                async with asyncio.timeout(self.seconds):
                    if inspect.iscoroutinefunction(function):
                        return await function(**arguments)
                    return await asyncio.to_thread(function, **arguments)
            except TimeoutError:
                if not inspect.iscoroutinefunction(function):
                    self.ending = True
                    asyncio.get_running_loop().call_later(GRACE / 10, os._exit, 1)
                raise
            finally:
                del self._ends[call]
                self._arm()

    def _arm(self) -> None:
        left = min(self._ends.values()) - time.monotonic() if self._ends else 0.0
        signal.setitimer(signal.ITIMER_REAL, max(left, 0.01) if self._ends else 0.0)


def load(file: Path) -> ModuleType:
    """The file as a module. Its prints go to stderr: stdout is the protocol's."""
    spec = importlib.util.spec_from_file_location("tools", file)
    if spec is None or spec.loader is None:
        sys.exit(f"{file.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules["tools"] = module
    with contextlib.redirect_stdout(sys.stderr):
        spec.loader.exec_module(module)
    return module


def functions(module: ModuleType) -> list[Callable[..., Any]]:
    """The functions the file defines, in order, without those whose name starts with an underscore."""
    return [
        value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]


def tool(function: Callable[..., Any], watchdog: Watchdog) -> Callable[..., Any]:
    """The function as the SDK calls it: bounded, and with its errors in words."""
    from mcp.server.mcpserver.exceptions import ToolError

    @functools.wraps(function)
    async def call(**arguments: Any) -> Any:
        if watchdog.ending:
            raise ToolError("not called: an earlier call overran, and the functions are started again; try again")
        try:
            return sendable(await watchdog.run(function, arguments))
        except TimeoutError:
            raise ToolError(f"took longer than {watchdog.seconds:g} s and was ended") from None
        except (Exception, SystemExit) as error:
            raise ToolError(sendable(f"{type(error).__name__}: {error}")) from error

    return call


def sendable(value: Any) -> Any:
    """The value without halves of characters, which no answer can carry: the caller would wait for it in vain."""
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case list() | tuple():
            return [sendable(item) for item in value]
        case dict():
            return {sendable(key): sendable(item) for key, item in value.items()}
    return value


def main() -> None:
    """Serve the functions of the file over stdin and stdout."""
    file, seconds = Path(sys.argv[1]), float(sys.argv[2])
    from mcp.server.mcpserver import MCPServer  # before the limits count, and before the author's code runs

    limit()
    try:
        found = functions(load(file))
    except SyntaxError as error:
        sys.exit(f"line {error.lineno}: {error.msg}")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an author's module may raise anything
        sys.exit(f"the source raises {type(error).__name__}: {error}")
    if not found:
        sys.exit("the source defines no function")
    server = MCPServer("functions", log_level="ERROR")
    watchdog = Watchdog(seconds)
    for function in found:
        try:
            server.add_tool(tool(function, watchdog), structured_output=False)
        except Exception as error:  # noqa: BLE001 - an author's annotations may raise anything
            sys.exit(f"the function {function.__name__} cannot be a tool: {error}")
    server.run("stdio")


if __name__ == "__main__":
    main()
