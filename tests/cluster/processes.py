"""Programs of the test cluster that run: started with a log, waited for, and stopped one by one.

Each leaves a note of its process beside its log, by which another process can end it: `python -m tests.cluster down`
ends what `up` has started.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.cluster import cache

TAIL = 20
"""Lines of a log that are shown where a program fails."""
LOOK_AGAIN = 0.05
"""Seconds between two looks at whether something has come up."""


class Process:
    """One program. Its output goes to `log`."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path, cwd: Path | None = None) -> None:
        self.name = name
        self._command = [str(part) for part in command]
        self.log = log
        self._cwd = cwd
        self._running: subprocess.Popen[bytes] | None = None
        self._record: Record | None = None

    def start(self) -> None:
        """Start it, in a session of its own: a Ctrl-C at the tests is not meant for it."""
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self._cwd, start_new_session=True
            )
        born = _born(self.pid)
        _note(self.log).write_text(f"{self.pid} {born}")
        self._record = Record(self.pid, born, os.getpid(), _born(os.getpid()), self.log)
        self._record.write()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._running is not None
        return self._running.pid

    def until(self, ready: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait until it is `ready`. Raises RuntimeError with the end of its log where it ends, or takes too long."""
        assert self._running is not None
        for _ in range(int(seconds / LOOK_AGAIN)):
            with contextlib.suppress(OSError):
                if ready():
                    return
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._running.wait(LOOK_AGAIN)
                raise RuntimeError(f"{self.name} ended with {code}:\n{self.tail()}")
        raise RuntimeError(f"{self.name} is not ready after {seconds:.0f} s:\n{self.tail()}")

    def stop(self, seconds: float = 10.0) -> None:
        """End it, gently for `seconds`."""
        if self._running is None:
            return
        self._running.terminate()
        try:
            self._running.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._forget()

    def kill(self) -> None:
        """End it at once."""
        assert self._running is not None
        self._running.kill()
        self._running.wait()
        self._forget()

    def _forget(self) -> None:
        if self._record is not None:
            self._record.forget()

    def pause(self) -> None:
        """Let it do nothing until `resume`: it neither answers nor hangs up."""
        assert self._running is not None
        self._running.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._running is not None
        self._running.send_signal(signal.SIGCONT)

    @property
    def ended(self) -> bool:
        """Whether it runs no longer."""
        return self._running is None or self._running.poll() is not None

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-TAIL:])


class Record(NamedTuple):
    """That a process runs, and who has started it: kept where it outlives the folder of a test."""

    pid: int
    born: str
    starter: int
    starter_born: str
    log: Path

    @property
    def _file(self) -> Path:
        return _records() / f"{self.pid}-{self.born}"

    def write(self) -> None:
        """Keep it."""
        self._file.write_text("\n".join(str(part) for part in self))

    def forget(self) -> None:
        """Keep it no longer."""
        self._file.unlink(missing_ok=True)

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return _is(self.pid, self.born)

    @property
    def orphaned(self) -> bool:
        """Whether it runs and who started it does not."""
        return self.running and not _is(self.starter, self.starter_born)


def records() -> list[Record]:
    """All of them."""
    found = []
    for file in _records().iterdir():
        pid, born, starter, starter_born, log = file.read_text().split("\n")
        found.append(Record(int(pid), born, int(starter), starter_born, Path(log)))
    return found


def _records() -> Path:
    folder = cache.folder() / "processes"
    folder.mkdir(exist_ok=True)
    return folder


def _is(pid: int, born: str) -> bool:
    """Whether that process runs: one that has ended may still be there for its parent to hear of it."""
    try:
        return _born(pid) == born and _stat(pid)[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def running(log: Path) -> bool:
    """Whether the program with this log runs, whoever started it."""
    return _noted(log) is not None


def stop(log: Path, seconds: float = 10.0) -> None:
    """End the program with this log, which another process started: gently for `seconds`. It may have ended."""
    pid = _noted(log)
    if pid is not None:
        end(pid, _born(pid), seconds)


def end(pid: int, born: str, seconds: float = 10.0) -> None:
    """End a process of anybody's, gently for `seconds`. It may have ended, and its number may be another's."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        handle = os.pidfd_open(pid)
        try:
            if _born(pid) != born:
                return
            for number in (signal.SIGTERM, signal.SIGKILL):
                signal.pidfd_send_signal(handle, number)
                if select.select([handle], [], [], seconds)[0]:
                    return
        finally:
            os.close(handle)


def _note(log: Path) -> Path:
    return log.with_suffix(".pid")


def _noted(log: Path) -> int | None:
    """The process of the note, unless it has ended: its number may be another's by now, born at another time."""
    try:
        pid, born = _note(log).read_text().split()
        return int(pid) if _is(int(pid), born) else None
    except FileNotFoundError:
        return None


def _born(pid: int) -> str:
    """When a process was started, in ticks since the machine was."""
    return _stat(pid)[19]


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def free_ports(count: int) -> list[int]:
    """Ports that nobody on this machine listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [made.getsockname()[1] for made in sockets]
    finally:
        for made in sockets:
            made.close()
