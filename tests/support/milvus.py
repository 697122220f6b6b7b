"""A Milvus server of the tests' own: milvus-lite in a process, on a port of this machine, that can be killed."""

from __future__ import annotations

import select
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Self

from tests.support.upping import free_port

SECONDS = 30


class Milvus:
    """Started by `with`, stopped and its folder deleted after it. `address`: of this machine, where it listens."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.address = address
        self.folder = Path(tempfile.mkdtemp(prefix="kadre-milvus-"))
        self.port = free_port()

    @property
    def uri(self) -> str:
        """Where it answers."""
        return f"http://{self.address}:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start it at its address, and wait until it answers there."""
        words = ["--data-dir", str(self.folder / "data"), "--host", self.address, "--port", str(self.port)]
        self._server = subprocess.Popen(
            [sys.executable, "-u", "-m", "milvus_lite", "server", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = self._server.stdout
        assert said is not None
        lines = []
        while select.select([said], [], [], SECONDS)[0] and (line := said.readline()):
            lines.append(line)
            if "listening" in line:
                threading.Thread(target=_drain, args=(said,), daemon=True).start()
                return
        raise RuntimeError(f"Milvus did not start: {''.join(lines)}")

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self._server.kill()
        self._server.wait(SECONDS)


def _drain(said: IO[str]) -> None:
    with said:
        for _ in said:
            pass
