"""A Redis server of the tests' own, in a folder: reached by a socket in it, and at a port of the loopback where wanted.

It writes every command to its file before it answers, so that one that is killed has lost nothing.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import IO, Self

from tests.support.upping import free_port

SECONDS = 30
PROGRAM = "redis-server"
SOCKET = "redis.sock"
FILES = "appendonlydir"
READY = (b"ready to accept connections at", b"ready to accept connections unix")
"""At the socket, which it says last: as Redis says it up to 7.0, and since."""
SETTINGS = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")


class RedisServer:
    """Started by `with`, stopped and deleted after it. `settings`: what it is told besides, as on its command line.

    `address`: of this machine, where it listens at a port too; `tls`: which is encrypted. `program`: the server's, if
    not this machine's own.
    """

    def __init__(self, *settings: str, address: str = "", tls: bool = False, program: Path | None = None) -> None:
        found = program or shutil.which(PROGRAM)
        assert found is not None
        self._program = found
        # Not below pytest's folder: a socket's path has at most 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="kadre-rd-"))
        self.port = free_port() if address else 0
        port = ("--port", "0", "--tls-port") if tls else ("--port",)
        reached = ("--bind", address or "127.0.0.1", "--protected-mode", "no")
        self._settings = (*reached, *port, str(self.port), *settings)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server.poll() is None:
            self._server.kill()
            self._server.wait(SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / SOCKET

    @property
    def pid(self) -> int:
        """Its process."""
        return self._server.pid

    @property
    def url(self) -> str:
        """The address of its socket."""
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start it, and wait until it takes connections. It is our own child, so that one killed is really gone."""
        where = ("--dir", str(self.folder), "--unixsocket", str(self.socket))
        self._server = subprocess.Popen(
            [self._program, *where, *SETTINGS, *self._settings],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said = self._server.stdout
        assert said is not None
        lines = []
        for line in said:
            lines.append(line.decode(errors="replace"))
            if any(ready in line.lower() for ready in READY):
                threading.Thread(target=_drain, args=(said,), daemon=True).start()
                return
        said.close()
        self._server.wait(SECONDS)
        raise RuntimeError(f"Redis did not start: {''.join(lines)}")

    def stop(self) -> None:
        """Stop it as its owner would."""
        self._server.send_signal(signal.SIGTERM)
        self._server.wait(SECONDS)

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self._server.kill()
        self._server.wait(SECONDS)

    def freeze(self) -> None:
        """Stop it where it is, as a machine does that is out of memory or is moved."""
        self._server.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._server.send_signal(signal.SIGCONT)

    def remember(self) -> None:
        """Copy its file as it is at this moment, for `go_back`."""
        self.freeze()
        _copy(self.folder / FILES, self.folder / "copy")
        self.thaw()

    def go_back(self) -> None:
        """Kill it and start it as it was then: as one whose machine failed before its file was flushed."""
        self.kill()
        _copy(self.folder / "copy", self.folder / FILES)
        self.start()

    def ask(self, *words: str) -> str:
        """What it answers, by its own client."""
        client = ["redis-cli", "-s", str(self.socket), *words]
        done = subprocess.run(client, capture_output=True, text=True, check=True, timeout=SECONDS)
        return done.stdout.strip()

    async def asked(self, *words: str) -> str:
        """The same beside an event loop that others need meanwhile."""
        return await asyncio.to_thread(self.ask, *words)


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def _drain(said: IO[bytes]) -> None:
    with said:
        for _ in said:
            pass
