"""What README and the guides show on a command line is run, and does what they say."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.architecture import code
from tests.docs import story
from tests.support.upping import Upped, free_port, up

pytestmark = [pytest.mark.requirement("docs-executed"), pytest.mark.needs("curl"), pytest.mark.timeout(150)]

PAGES = sorted(
    path
    for path in code.files()
    if path == "README.md" or (path.startswith("docs/guides/") and not story.needs_cluster(code.ROOT / path))
)
# A request that is refused fails its step; `curl` itself is content with any answer.
PRELUDE = 'curl() { command curl --fail-with-body --max-time 40 "$@"; echo; }\n'
BOUND = 45.0
"""Seconds for one block, which takes two."""


class Teller:
    """Acts a page out in a folder of its own, on a port of its own."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._port = free_port()
        self._server: Upped | None = None

    async def tell(self, step: story.Step) -> None:
        """Act one step out."""
        match step.kind:
            case "file":
                (self._folder / step.name).write_text(step.text, encoding="utf-8")
            case "server":
                await self.end()
                program, command, *words = shlex.split(step.text)
                assert (program, command) == ("kadre", "up"), f"line {step.line}: only `kadre up` is a server"
                here = [self._folder / word if (self._folder / word).exists() else word for word in words]
                data = self._folder / "data"
                self._server = await self._stack.enter_async_context(
                    up(*here, port=self._port, KADRE_DATA_DIR=str(data))
                )
            case "run":
                await self._run(step)
            case "unmarked":
                pytest.fail(f"line {step.line}: a bash block that is not run; mark it, or show it as console")

    async def _run(self, step: story.Step) -> None:
        commands = step.text.replace("localhost:8080", f"localhost:{self._port}")
        env = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "KADRE_DATA_DIR": str(self._folder / "data"),
            "KADRE_SERVER": f"http://127.0.0.1:{self._port}",
            "XDG_STATE_HOME": str(self._folder / "state"),
        }
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", PRELUDE + commands),
            cwd=self._folder,
            env={**os.environ, **env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            said, _ = await asyncio.wait_for(process.communicate(), BOUND)
        finally:
            if process.returncode is None:
                process.kill()
        server = self._server.said if self._server else ""
        assert process.returncode == 0, f"line {step.line}:\n{said.decode()}\n{server}"

    async def end(self) -> None:
        """Stop the server that runs; it ends cleanly."""
        if self._server is not None:
            server, self._server = self._server, None
            assert await server.stop() == 0, server.said


@pytest.fixture
async def teller(tmp_path: Path) -> AsyncIterator[Teller]:
    shutil.copytree(code.ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns(".*"))
    async with AsyncExitStack() as stack:
        yield Teller(tmp_path, stack)


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_does_what_it_shows(page: str, teller: Teller) -> None:
    steps = story.steps((code.ROOT / page).read_text(encoding="utf-8"))
    assert any(step.kind == "run" for step in steps)
    for step in steps:
        await teller.tell(step)
    await teller.end()
