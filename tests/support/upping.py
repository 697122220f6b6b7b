"""`kadre up` and `kadre host` as they are run: a process of its own, that can be killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

START_SECONDS = 30.0


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Upped:
    """A running `kadre up` or `kadre host`. `said` is what it has written so far."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.said = ""
        self.http = aiohttp.ClientSession(self.url)
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.said += line.decode()
            self._changed.set()
        self._changed.set()

    async def until_said(self, text: str, seconds: float = START_SECONDS) -> None:
        """Wait until it has written that; fails with all it wrote where it ends without."""
        async with asyncio.timeout(seconds):
            while text not in self.said:
                assert not self._reading.done(), f"kadre up ended without saying {text!r}:\n{self.said}"
                self._changed.clear()
                await self._changed.wait()

    async def post(self, path: str, body: Any, **more: Any) -> tuple[int, Any]:
        """POST JSON; status and JSON of the answer."""
        async with self.http.post(path, json=body, **more) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str) -> Any:
        """GET; the JSON of the answer."""
        async with self.http.get(path) as answer:
            return await answer.json()

    def open_files(self) -> int:
        """File descriptors the process has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    async def until_it_watches(self, count: int) -> None:
        """Wait until it watches at least so many folders (Linux)."""
        async with asyncio.timeout(START_SECONDS):
            while self.watched() < count:
                await self.get("/health")

    def watched(self) -> int:
        """Folders it watches (Linux)."""
        count = 0
        for file in Path(f"/proc/{self.process.pid}/fdinfo").iterdir():
            with suppress(FileNotFoundError):  # closed since it was listed
                count += file.read_text().count("inotify wd:")
        return count

    async def until_no_more_files_than(self, count: int) -> None:
        """Wait until it has given back what it had open for a while only, such as the pipes to a planner."""
        async with asyncio.timeout(START_SECONDS):
            while self.open_files() > count:
                await self.get("/health")

    async def stop(self, number: int = signal.SIGINT) -> int:
        """Send the signal; the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        code = await asyncio.wait_for(self.process.wait(), 20)
        await self._reading
        await self.http.close()
        return code


@asynccontextmanager
async def up(
    *words: str | Path, port: int = 0, ready: bool = True, cwd: Path | None = None, **env: str
) -> AsyncIterator[Upped]:
    """Run `kadre up WORDS`, wait until it is ready, end it with the block."""
    port = port or free_port()
    command = ["up", *map(str, words), "--port", str(port)]
    async with _running(command, port, "ready in" if ready else "", cwd, env) as upped:
        yield upped


@asynccontextmanager
async def hosting(plan: Path, *words: str | Path, program: str = "kadre", **env: str) -> AsyncIterator[Upped]:
    """Run `kadre host` with that plan, as a pod does, wait until it serves, end it with the block.

    `program`: the module that is run instead of kadre.
    """
    port = free_port()
    command = ["host", "--plan", str(plan), *map(str, words), "--host", "127.0.0.1", "--port", str(port)]
    async with _running(command, port, "is served on port", None, env, program) as upped:
        yield upped


@asynccontextmanager
async def _running(
    words: list[str], port: int, ready: str, cwd: Path | None, env: dict[str, str], program: str = "kadre"
) -> AsyncIterator[Upped]:
    command = [sys.executable, "-m", program, *words]
    process = await asyncio.create_subprocess_exec(
        *command, stderr=asyncio.subprocess.PIPE, cwd=cwd, env={**os.environ, "NO_COLOR": "1", **env}
    )
    upped = Upped(process, port)
    try:
        if ready:
            await upped.until_said(ready)
        yield upped
    finally:
        await upped.stop(signal.SIGKILL)
