"""The guides of the cluster do on a real one what they show."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture import code
from tests.cluster import programs
from tests.cluster.cluster import Cluster
from tests.cluster.processes import Process, free_ports
from tests.docs import story
from tests.e2e.conftest import REPOSITORY, ROOT, TAG, Terminal

PAGES = sorted(
    path for path in code.files() if path.startswith("docs/guides/") and story.needs_cluster(code.ROOT / path)
)
PRELUDE = 'curl() { command curl --fail-with-body --max-time 40 "$@"; echo; }\n'
SECONDS = 150.0
"""For one block."""


class Reader:
    """Follows a page in a folder of their own, with the repository's charts and examples in it."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self.folder = folder / "reader"
        self.folder.mkdir()
        for name in ("charts", "examples"):
            shutil.copytree(ROOT / name, self.folder / name)
        (self.folder / "bin").mkdir()
        (self.folder / "bin" / "helm").symlink_to(programs.published("helm"))
        (self._port,) = free_ports(1)
        self._env = os.environ | {
            "HOME": str(self.folder),
            "KUBECONFIG": str(kubeconfig),
            "PATH": os.pathsep.join([str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
        }
        self._server: Process | None = None

    def follow(self, step: story.Step) -> None:
        """Do what one block of the page says."""
        text = step.text.replace("localhost:8080", f"localhost:{self._port}")
        text = re.sub(r"(?<= )8080:", f"{self._port}:", text)
        match step.kind:
            case "file":
                image = text.replace("registry.example/kadre", REPOSITORY).replace('tag: "0.1"', f'tag: "{TAG}"')
                (self.folder / step.name).write_text(image, encoding="utf-8")
            case "server":
                self.end()
                self._serve(text)
            case "run":
                done = subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", PRELUDE + text],
                    check=False,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=SECONDS,
                    cwd=self.folder,
                    env=self._env,
                )
                assert done.returncode == 0, f"line {step.line}:\n{done.stdout}\n{done.stderr}"
            case "unmarked":
                pytest.fail(f"line {step.line}: a bash block that is not run; mark it, or show it as console")

    def _serve(self, text: str) -> None:
        words = ["env", *(f"{name}={self._env[name]}" for name in ("KUBECONFIG", "HOME", "PATH")), *shlex.split(text)]
        self._server = Process("port-forward", words, self.folder / "port-forward.log")
        self._server.start()
        self._server.until(self._listens, 20)

    def _listens(self) -> bool:
        socket.create_connection(("127.0.0.1", self._port), 1).close()
        return True

    def end(self) -> None:
        """Close what stays open in another terminal."""
        if self._server is not None:
            self._server.stop()
            self._server = None


@pytest.fixture
def reader(installed: Terminal, testbed: Cluster, tmp_path: Path) -> Iterator[Reader]:
    assert installed
    made = Reader(testbed.kubeconfig, tmp_path)
    yield made
    made.end()


@pytest.mark.requirement("docs-executed")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("page", PAGES)
def test_a_guide_does_what_it_shows(page: str, reader: Reader) -> None:
    for step in story.steps((code.ROOT / page).read_text(encoding="utf-8")):
        reader.follow(step)
