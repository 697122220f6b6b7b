"""Processes of a run: started on the right core, watched through /proc, and ended with everything they started."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec

from benchmarks import load
from benchmarks.systems import Launch

ROOT = Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
START_TIMEOUT = 90.0
PATIENCE = 30.0
"""Seconds that the load generator may take for a job beside those the job has."""
_LIBC = ctypes.CDLL(None)  # before a fork: nothing is loaded between fork and exec
PDEATHSIG = 1


def _end_with_parent() -> None:
    """In a child before it becomes another program: on Linux it is killed when this process ends, however that does."""
    if sys.platform == "linux":
        _LIBC.prctl(PDEATHSIG, signal.SIGKILL)


def cores() -> tuple[set[int], set[int]]:
    """The core that the server under test has to itself, and those for the mock model, the MCP server and the load."""
    usable = sorted(os.sched_getaffinity(0))
    return ({usable[-1]}, set(usable[:-1])) if len(usable) > 1 else (set(usable), set(usable))


def environment(launch: Launch) -> dict[str, str]:
    """A server's: this process's, but with modules kept compiled, as where people install it, whatever is set here."""
    mine = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**mine, "PYTHONPATH": str(ROOT), **launch.env}


class Process:
    """A server process on a port of its own, with everything it starts."""

    def __init__(self, launch: Launch, port: int, folder: Path, cpus: set[int]) -> None:
        """Start it in that folder, which also gets its output."""
        self.port = port
        self._output = folder / "output.txt"
        self.started = time.perf_counter()
        with self._output.open("ab") as output:
            self._popen = subprocess.Popen(
                launch.command,
                cwd=folder,
                env=environment(launch),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - there are no threads
            )
        os.sched_setaffinity(self._popen.pid, cpus)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def wait_for(self, shot: load.Shot) -> float:
        """Seconds from its start until that request was answered with 200 and the right text.

        Raises RuntimeError where it exits, does not answer in time, or answers anything else but "not yet" (503).
        """
        for _ in self._tries():
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, body = ask(self.port, shot)
                if status == 200 and shot.expect.encode() in body:
                    break
                if status != 503:
                    raise RuntimeError(f"a server's first answer was {status} {body[-500:]!r}:\n{self.tail()}")
        return time.perf_counter() - self.started

    def wait_until_open(self) -> None:
        """Wait until it takes connections. Raises RuntimeError where it exits or takes none in time."""
        for _ in self._tries():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                break

    def _tries(self) -> Iterator[None]:
        """Moments to look whether it is there yet. Raises RuntimeError where it exits or takes too long."""
        while time.perf_counter() - self.started < START_TIMEOUT:
            if self._popen.poll() is not None:
                raise RuntimeError(f"a server exited with {self._popen.returncode}:\n{self.tail()}")
            yield
            time.sleep(0.002)  # another process's socket tells nobody that it is open
        raise RuntimeError(f"a server did not answer within {START_TIMEOUT:g} s:\n{self.tail()}")

    def tail(self) -> str:
        """The end of what it printed."""
        return self._output.read_text(errors="replace")[-2000:]

    def cpu(self) -> float:
        """Seconds of CPU so far, user and system, of it and all it started, ended ones included."""
        return cpu(self._popen.pid)

    def rss(self, *, children: bool = True) -> float:
        """MiB of resident memory now, of it and all it started, or without those."""
        pids = _tree(self._popen.pid) if children else (self._popen.pid,)
        return sum(_status(pid, "VmRSS") for pid in pids) / 1024

    def stop(self) -> None:
        """End it, gently first, and what it may have left behind."""
        self._popen.terminate()
        try:
            self._popen.wait(10)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)


def cpu(pid: int) -> float:
    """Seconds of CPU so far, user and system, of that process and all it started, ended ones included."""
    fields = (Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in _tree(pid))
    return sum(sum(map(int, stat[11:15])) for stat in fields) / TICKS


def _tree(root: int) -> Iterator[int]:
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        yield pid
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            waiting += map(int, children.read_text().split())


def ask(port: int, shot: load.Shot) -> tuple[int, bytes]:
    """Send one request on a connection of its own; its status and body. Raises OSError or HTTPException."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(shot.data.encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.read()


def _status(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    return 0


def free_port() -> int:
    """A port that nobody listened on just now."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port: int = held.getsockname()[1]
        return port


class Worker:
    """A program that answers every line it is given with one of its own."""

    def __init__(self, command: Sequence[str], cpus: set[int] | None = None) -> None:
        """Start it; on these cores, where they are given."""
        self._popen = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - there are no threads
        )
        if cpus:
            os.sched_setaffinity(self._popen.pid, cpus)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def ask(self, line: bytes, seconds: float) -> bytes:
        """Its answer to a line. Raises TimeoutError, and EOFError or OSError where it has ended."""
        return _exchange(self._popen, line + b"\n", seconds)

    def kill(self) -> None:
        """End it at once."""
        self._popen.kill()
        self.stop()

    def stop(self) -> None:
        """End it: it is told by the end of what it reads."""
        _pipe(self._popen.stdin).close()
        self._popen.wait(10)
        _pipe(self._popen.stdout).close()


class Loader:
    """The load generator's process; another one takes its place where it gives no answer."""

    def __init__(self, cpus: set[int]) -> None:
        self._cpus = cpus
        self._worker = self._started()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._worker.pid

    def _started(self) -> Worker:
        return Worker([sys.executable, "-m", "benchmarks.load"], self._cpus)

    def run(self, job: load.Job) -> load.Outcome:
        """Send a job and wait for its end. Raises RuntimeError where that does not come: the job is not measured."""
        seconds = 2 * job.timeout + PATIENCE  # it may use up its time for connecting, and again for sending
        try:
            answer = self._worker.ask(msgspec.json.encode(job), seconds)
        except (OSError, EOFError) as error:
            self._worker.kill()
            self._worker = self._started()
            raise RuntimeError(f"the load generator did not answer within {seconds:g} s ({error!r})") from error
        return msgspec.json.decode(answer, type=load.Outcome)

    def stop(self) -> None:
        """End it."""
        self._worker.stop()


def _exchange(popen: subprocess.Popen[bytes], line: bytes, seconds: float) -> bytes:
    """Write a line and read one. Raises TimeoutError, and EOFError or OSError where the process has ended."""
    writing, reading = _pipe(popen.stdin).fileno(), _pipe(popen.stdout).fileno()
    os.set_blocking(writing, False)
    until = time.monotonic() + seconds
    answer = bytearray()
    while not answer.endswith(b"\n"):
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        readable, writable, _ = select.select([reading], [writing] if line else [], [], left)
        if writable:
            line = line[os.write(writing, line) :]
        if readable:
            chunk = os.read(reading, 1 << 16)
            if not chunk:
                raise EOFError("it ended")
            answer += chunk
    return bytes(answer)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def module(name: str, *arguments: str) -> Launch:
    """A module of this package as a process."""
    return Launch([sys.executable, "-m", f"benchmarks.{name}", *arguments])
