"""Where code that a model wrote runs on this machine: a process of its own behind bubblewrap, once for each call."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

from kadre.base.errors import ToolError
from kadre.engine.tools.code import Ran
from kadre.local import code_process
from kadre.local.code_process import PYTHON, RUNNER, Start, Turns

HOME = "/tmp"  # noqa: S108 - inside, where it is nobody else's
START_SECONDS = 10.0
MISSING = (
    "there is no sandbox for code on this machine: install bubblewrap (on Debian and Ubuntu: apt install bubblewrap),"
    " or start Kadre with --unsafe-code to run what models write with your own rights"
)


class ProcessSandbox:
    """A process for each call. `unsafe`: with the rights of this one, where there is no bubblewrap that works."""

    def __init__(self, *, unsafe: bool = False) -> None:
        self._unsafe = unsafe
        self._turns = Turns()
        self._checking = asyncio.Lock()
        self._start: Start | None = None
        """What is started, found once and kept: what works by then must not be another thing later."""

    async def check(self) -> None:
        """See Sandbox."""
        await self._found()

    async def run(self, code: str, seconds: float) -> Ran:
        """See Sandbox."""
        start = await self._found()
        async with self._turns.turn(seconds) as left:
            return await code_process.ran(start, code, left)

    async def _found(self) -> Start:
        async with self._checking:
            if self._start is not None:
                return self._start
            why = MISSING
            walls = shutil.which("bwrap")
            if walls is not None:
                start = Start((walls, *_walls(), "--", *PYTHON), ("--walled",))
                ran = await code_process.ran(start, "print(1 + 1)", START_SECONDS)
                if (ran.ended, ran.output) == ("done", "2\n"):
                    self._start = start
                    return start
                why = f"no sandbox can be made on this machine: {ran.output.strip() or ran.ended}; {MISSING}"
            if not self._unsafe:
                raise ToolError(why)
            self._start = Start(PYTHON, () if sys.platform == "linux" else ("--open",))
            return self._start


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
    for path in sorted({*code_process.libraries(), str(RUNNER)}):
        words += ["--ro-bind-try", path, path]
    for folder in ("/proc", "/dev", "/"):
        words += ["--remount-ro", folder]
    return [*words, "--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SETPCAP"]
