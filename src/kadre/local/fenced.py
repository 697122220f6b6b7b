"""Where code that a model wrote runs in a pod, in which no walls can be made: a process of its own for each call, that
the kernel's Landlock keeps from every file but Python's, the system's libraries, and a folder that is made for it.

What bubblewrap's walls do besides is done by the filter of system calls: other processes are seen and cannot be
signalled, bounded or looked into. What it writes is bounded from outside: a look at its folder now and then, and the
file system that the folder is in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
from pathlib import Path

from kadre.base.clock import Clock, SystemClock
from kadre.base.errors import ToolError
from kadre.engine.tools.code import Ran
from kadre.local import code_process, code_runner
from kadre.local.code_process import PYTHON, Start, Turns

START_SECONDS = 10.0
LOOK_SECONDS = 0.1
"""Between two looks at what code has written."""
MISSING = (
    "this kernel has no Landlock, by which code is kept from files (Linux 5.13 has it; it is switched on by `landlock`"
    " in the boot parameter lsm=): run this where it is, or start it with --without-landlock to let code read"
    " whatever this process may"
)


class FencedSandbox:
    """A process for each call. `folder`: where each has one of its own; `unfenced`: also where there is no Landlock."""

    def __init__(
        self, folder: Path, *, unfenced: bool = False, turns: Turns | None = None, clock: Clock | None = None
    ) -> None:
        self._folder = folder
        self._unfenced = unfenced
        self._turns = turns or Turns()
        self._clock = clock or SystemClock()
        self._how: tuple[str, ...] | None = None

    async def check(self) -> None:
        """See Sandbox."""
        if self._how is not None:
            return
        fenced = bool(code_runner.fences())
        if not fenced and not self._unfenced:
            raise ToolError(MISSING)
        self._how = ("--fenced", *_readable()) if fenced else ()
        ran = await self._ran("print(1 + 1)", START_SECONDS)
        if (ran.ended, ran.output) != ("done", "2\n"):
            self._how = None
            raise ToolError(f"no code can be run here: {ran.output.strip() or ran.ended}")

    async def run(self, code: str, seconds: float, caller: str = "") -> Ran:
        """See Sandbox. `caller`: whose it is, where there are several."""
        await self.check()
        async with self._turns.turn(seconds, caller) as left:
            return await self._ran(code, left)

    async def _ran(self, code: str, seconds: float) -> Ran:
        # No code can guess another's name for it, and none can list the folder that both are in.
        own = self._folder / secrets.token_hex(16)
        own.mkdir(0o700)
        env = {name: str(own) for name in ("HOME", "TMPDIR")} | {"PATH": "/usr/bin", "LANG": "C.UTF-8"}
        start = Start(PYTHON, self._how or (), str(own), env, lambda: self._filled(own))
        try:
            return await code_process.ran(start, code, seconds)
        finally:
            with contextlib.suppress(OSError):
                own.chmod(0o700)  # code can take even that away
            shutil.rmtree(own, ignore_errors=True)

    async def _filled(self, own: Path) -> None:
        """Until there is more in it than code may write."""
        # In a thread: as many files as code may write take long enough to hold up whoever else is served.
        while not await asyncio.to_thread(_is_full, own):
            await self._clock.sleep(LOOK_SECONDS)


def _is_full(own: Path) -> bool:
    size = number = 0
    with contextlib.suppress(OSError), os.scandir(own) as found:
        for each in found:
            with contextlib.suppress(OSError):  # it is removed just now
                size += each.stat(follow_symlinks=False).st_blocks * 512
            number += 1
            if size > code_runner.SPACE or number > code_runner.FILES:
                return True
    return False


def _readable() -> list[str]:
    folders = {*code_process.libraries(), "/lib", "/lib64"}
    return sorted(folder for folder in folders if Path(folder).is_dir())


def clear(folder: Path) -> None:
    """Have nothing in it of a process before this one."""
    for each in folder.iterdir():
        shutil.rmtree(each, ignore_errors=True)
