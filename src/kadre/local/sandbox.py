"""Where code that a model wrote runs on this machine: a process of its own behind bubblewrap, once for each call."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from kadre.base.errors import ToolError
from kadre.engine.tools.code import Ran

RUNNER = Path(__file__).with_name("code_runner.py")
OUTPUT = 1 << 20
"""Bytes of output with which code is ended; the agent's own limit cuts what the model reads further."""
AT_ONCE = 4
"""Pieces of code that run at the same time; more wait, which is part of their time."""
HOME = "/tmp"  # noqa: S108 - inside, where it is nobody else's
START_SECONDS = 10.0
LEAST_SECONDS = 0.1
"""For code that has waited for its turn for nearly as long as it may take."""
END_SECONDS = 2.0
MISSING = (
    "there is no sandbox for code on this machine: install bubblewrap (on Debian and Ubuntu: apt install bubblewrap),"
    " or start Kadre with --unsafe-code to run what models write with your own rights"
)


class ProcessSandbox:
    """A process for each call. `unsafe`: with the rights of this one, where there is no bubblewrap that works."""

    def __init__(self, *, unsafe: bool = False) -> None:
        self._unsafe = unsafe
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._checking = asyncio.Lock()
        self._start: tuple[str, ...] = ()
        """What is started, found once and kept: what works by then must not be another thing later."""

    async def check(self) -> None:
        """See Sandbox."""
        async with self._checking:
            if self._start:
                return
            why = MISSING
            walls = shutil.which("bwrap")
            if walls is not None:
                ran = await self._ran((walls, *_walls(), "--", *_PYTHON), "--walled", "print(1 + 1)", START_SECONDS)
                if (ran.ended, ran.output) == ("done", "2\n"):
                    self._start = (walls, *_walls(), "--", *_PYTHON)
                    return
                why = f"no sandbox can be made on this machine: {ran.output.strip() or ran.ended}; {MISSING}"
            if not self._unsafe:
                raise ToolError(why)
            self._start = tuple(_PYTHON)

    async def run(self, code: str, seconds: float) -> Ran:
        """See Sandbox."""
        await self.check()
        ends = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(ends):
                await self._slots.acquire()
        except TimeoutError:
            raise ToolError("too much other code runs just now: it was not run; try again") from None
        try:
            left = max(ends - asyncio.get_running_loop().time(), LEAST_SECONDS)
            return await self._ran(self._start, self._how(), code, left)
        finally:
            self._slots.release()

    def _how(self) -> str:
        if self._start[0] != _PYTHON[0]:
            return "--walled"
        return "" if sys.platform == "linux" else "--open"

    @staticmethod
    async def _started(start: Sequence[str], seconds: str, how: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(*start, str(RUNNER), seconds, *([how] if how else [])),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={},
            cwd="/",
            start_new_session=True,
        )

    async def _ran(self, start: Sequence[str], how: str, code: str, seconds: float) -> Ran:
        starting = asyncio.ensure_future(self._started(start, f"{seconds:g}", how))
        try:
            process = await asyncio.shield(starting)
        except asyncio.CancelledError:  # who is cancelled while it starts would leave it behind
            await _end(await starting)
            raise
        output = bytearray()
        ended: Literal["", "time", "output"] = ""
        try:
            async with asyncio.timeout(seconds):
                ended = await _read(process, code, output)
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


def _interpreter() -> str:
    """The interpreter itself: an environment's is a link into a folder that code has no business in."""
    return os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)


_PYTHON = (_interpreter(), "-I", "-S", "-X", "utf8")


def _walls() -> list[str]:
    """What there is inside: Python and the system's libraries. No network, nobody's files, and nothing to write to.

    Code is the first process there, and the only one: bubblewrap's own would have no limits, and could be written to.
    What the kernel shows of itself can be read and not changed, which it would let root do from inside.
    """
    words = [
        "--unshare-all",
        "--uid",
        "0",
        "--gid",
        "0",
        "--as-pid-1",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
    ]
    words += ["--proc", "/proc", "--dev", "/dev", "--dir", HOME, "--chdir", "/"]
    words += ["--setenv", "HOME", HOME, "--setenv", "PATH", "/usr/bin", "--setenv", "LANG", "C.UTF-8"]
    for folder in ("/lib", "/lib64", "/bin"):
        link = Path(folder)
        if link.is_symlink():
            words += ["--symlink", str(link.readlink()), folder]
        elif link.is_dir():
            words += ["--ro-bind", folder, folder]
    shown = {"/usr", os.path.realpath(sys.base_prefix), str(Path(_interpreter()).parent), str(RUNNER)}
    for path in sorted(shown):
        words += ["--ro-bind-try", path, path]
    for folder in ("/proc", "/dev", "/"):
        words += ["--remount-ro", folder]
    return [*words, "--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SETPCAP"]


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
