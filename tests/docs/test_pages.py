"""What README and the guides show on a command line is run, and does what they say."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture import code
from tests.docs import served, story

pytestmark = [pytest.mark.requirement("docs-executed"), pytest.mark.needs("curl"), pytest.mark.timeout(150)]

PAGES = sorted(path for path in code.files() if path == "README.md" or path.startswith("docs/guides/"))
# A request that is refused fails its step; `curl` itself is content with any answer.
PRELUDE = 'curl() { command curl --fail-with-body --max-time 40 "$@"; echo; }\n'


class Teller:
    """Acts a page out in a folder of its own, on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = served.free_port()
        self._server: served.Up | None = None
        self._env = {
            "PATH": f"{served.KADRE.parent}{os.pathsep}{os.environ['PATH']}",
            "KADRE_DATA_DIR": str(folder / "data"),
            "KADRE_SERVER": f"http://127.0.0.1:{self._port}",
            "XDG_STATE_HOME": str(folder / "state"),
        }

    def tell(self, step: story.Step) -> None:
        """Act one step out."""
        match step.kind:
            case "file":
                (self._folder / step.name).write_text(step.text, encoding="utf-8")
            case "server":
                self.end()
                words = ["bash", "-c", f"exec {step.text}"]
                self._server = served.Up(words, self._folder, self._port, self._env)
                self._server.wait()
            case "run":
                self._run(step)
            case "unmarked":
                pytest.fail(f"line {step.line}: a bash block that is not run; mark it, or show it as console")

    def _run(self, step: story.Step) -> None:
        commands = step.text.replace("localhost:8080", f"localhost:{self._port}")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", PRELUDE + commands],
            cwd=self._folder,
            env={**os.environ, **self._env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=served.BOUND,
            check=False,
        )
        told = self._server.text if self._server else ""
        assert done.returncode == 0, f"line {step.line}:\n{done.stdout}\n{done.stderr}\n{told}"

    def end(self) -> None:
        """Stop the server that runs; it ends cleanly."""
        if self._server is not None:
            server, self._server = self._server, None
            assert server.stop() == 0, server.text


@pytest.fixture
def teller(tmp_path: Path) -> Iterator[Teller]:
    shutil.copytree(code.ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns(".*"))
    teller = Teller(tmp_path)
    yield teller
    teller.end()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_shows(page: str, teller: Teller) -> None:
    steps = story.steps((code.ROOT / page).read_text(encoding="utf-8"))
    assert any(step.kind == "run" for step in steps)
    for step in steps:
        teller.tell(step)
