"""A process for each piece of code that a model wrote, however it is kept from the rest: started, read and ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kadre.base.errors import ToolError
from kadre.engine.tools.code import BUSY, Ran

RUNNER = Path(__file__).with_name("code_runner.py")
OUTPUT = 1 << 20
"""Bytes of output with which code is ended; the agent's own limit cuts what the model reads further."""
AT_ONCE = 4
"""Pieces of code that run at the same time; more wait, which is part of their time."""
WAITING = 64
"""Pieces of code that wait; further ones are not run."""
LEAST_SECONDS = 0.1
"""For code that has waited for its turn for nearly as long as it may take."""
END_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Start:
    """How the process is started. `words`: what comes before the runner's own; `how`: see its docstring."""

    words: Sequence[str]
    how: Sequence[str] = ()
    folder: str = "/"
    env: Mapping[str, str] = field(default_factory=dict)
    past: Callable[[], Awaitable[None]] | None = None
    """Ends when the code has written more than it may."""


class Turns:
    """So many pieces of code run at once, and so many wait: of one caller half of these. Callers take turns."""

    def __init__(self, at_once: int = AT_ONCE, waiting: int = WAITING) -> None:
        self._free = at_once
        self._most = waiting
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """By caller, the one whose turn is next first."""

    @contextlib.asynccontextmanager
    async def turn(self, seconds: float, caller: str = "") -> AsyncIterator[float]:
        """What is left of its time once it is its turn, in seconds. Raises ToolError where there is none."""
        ends = asyncio.get_running_loop().time() + seconds
        if self._free:
            self._free -= 1
        else:
            await self._wait(ends, caller)
        try:
            yield max(ends - asyncio.get_running_loop().time(), LEAST_SECONDS)
        finally:
            self._next()

    async def _wait(self, ends: float, caller: str) -> None:
        mine, all_of_them = self._waiting.get(caller, ()), sum(map(len, self._waiting.values()))
        if all_of_them >= self._most or (caller and len(mine) >= max(1, self._most // 2)):
            raise ToolError(BUSY)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        try:
            async with asyncio.timeout_at(ends):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._next()  # it was its turn just then
            elif turn in (those := self._waiting.get(caller, deque())):
                those.remove(turn)
                if not those:
                    del self._waiting[caller]
            if isinstance(error, TimeoutError):
                raise ToolError(BUSY) from None
            raise

    def _next(self) -> None:
        """Somebody's turn has ended: it is that of whoever has waited longest for one, and of its eldest."""
        while self._waiting:
            caller = next(iter(self._waiting))
            those = self._waiting.pop(caller)
            turn = those.popleft()
            if those:
                self._waiting[caller] = those
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


def interpreter() -> str:
    """The interpreter itself: an environment's is a link into a folder that code has no business in."""
    return os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)


PYTHON = (interpreter(), "-I", "-S", "-X", "utf8")


def libraries() -> set[str]:
    """What Python and the system's libraries are in."""
    return {"/usr", os.path.realpath(sys.base_prefix), str(Path(interpreter()).parent)}


async def ran(start: Start, code: str, seconds: float) -> Ran:
    """What came of the code, which ends after `seconds` whatever it does. Raises OSError where it cannot be started."""
    starting = asyncio.ensure_future(_started(start, f"{seconds:g}"))
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:  # who is cancelled while it starts would leave it behind
        await _end(await starting)
        raise
    output = bytearray()
    ended: Literal["", "time", "output", "files"] = ""
    try:
        async with asyncio.timeout(seconds):
            ended = await _watched(process, code, output, start)
            if not ended:
                await process.wait()
    except TimeoutError:
        ended = "time"
    finally:
        await _end(process)
    text = bytes(output[:OUTPUT]).decode(errors="replace")
    if ended:
        return Ran(text, ended)
    code_of = process.returncode or 0
    if code_of < 0 or code_of > 128:  # bubblewrap tells a signal as a shell does
        return Ran(text, "killed")
    return Ran(text, "failed" if code_of else "done")


async def _started(start: Start, seconds: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(*start.words, str(RUNNER), seconds, *start.how),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(start.env),
        cwd=start.folder,
        start_new_session=True,
    )


async def _watched(
    process: asyncio.subprocess.Process, code: str, output: bytearray, start: Start
) -> Literal["", "output", "files"]:
    """Read it, and look at what it writes meanwhile where somebody has to."""
    if start.past is None:
        return await _read(process, code, output)
    reading = asyncio.ensure_future(_read(process, code, output))
    looking = asyncio.ensure_future(start.past())
    try:
        await asyncio.wait((reading, looking), return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            return reading.result()
        looking.result()
        return "files"
    finally:
        for task in (reading, looking):
            task.cancel()
        await asyncio.gather(reading, looking, return_exceptions=True)


async def _read(process: asyncio.subprocess.Process, code: str, output: bytearray) -> Literal["", "output"]:
    """Give it the code and read what it prints until it has ended; "output" where that is too much."""
    assert process.stdin is not None  # noqa: S101 - both were asked for
    assert process.stdout is not None  # noqa: S101
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(code.encode(errors="replace"))
        await process.stdin.drain()
    process.stdin.close()
    while chunk := await process.stdout.read(65536):
        output += chunk
        if len(output) > OUTPUT:
            return "output"
    return ""


async def _end(process: asyncio.subprocess.Process) -> None:
    """End it and whatever it began; what is behind bubblewrap goes with that."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            # The loop does not say that it has ended while something of what it printed is unread.
            while process.stdout is not None and await process.stdout.read(1 << 20):
                pass
            await process.wait()
    transport: asyncio.SubprocessTransport = process._transport  # type: ignore[attr-defined]  # noqa: SLF001
    transport.close()  # something that it began, and that is not of its group any more, may hold what it printed to
