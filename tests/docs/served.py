"""`kadre up` as a process of its own, for tests of what pages and examples show."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

KADRE = Path(sys.executable).with_name("kadre")
BOUND = 45.0
"""Seconds for what takes two at most; a machine under load gets its time, a hang does not get the suite's."""


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Up:
    """A running `kadre up`: where it answers, and what it has said so far."""

    def __init__(self, words: Sequence[str], folder: Path, port: int, env: Mapping[str, str]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.said: list[str] = []
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            words,
            cwd=folder,
            env={**os.environ, **env, "KADRE_PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(line)
            if "ready in" in line:
                self._ready.set()
        self._ready.set()

    def wait(self) -> None:
        """Wait until it answers; fails with what it said where it ended instead."""
        assert self._ready.wait(BOUND), self.text
        assert self._process.poll() is None, self.text

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(BOUND)
        finally:
            self._process.kill()
            self._reader.join(BOUND)
            if self._process.stdout is not None:
                self._process.stdout.close()
        return code

    @property
    def text(self) -> str:
        """Everything it said."""
        return "".join(self.said)

    def get(self, path: str) -> Any:
        """The JSON at that path."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=BOUND) as answer:
            return json.load(answer)

    def post(self, path: str, body: Any) -> Any:
        """The JSON that `body`, sent to that path, is answered with."""
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=BOUND) as answer:
            return json.load(answer)


@contextlib.contextmanager
def up(*words: str, folder: Path, env: Mapping[str, str] | None = None) -> Iterator[Up]:
    """`kadre up WORDS` in that folder until the block ends; it then ends cleanly, or the test fails."""
    running = Up([str(KADRE), "up", *words], folder, free_port(), env or {})
    try:
        running.wait()
        yield running
    except BaseException:
        running.stop()
        raise
    assert running.stop() == 0, running.text
