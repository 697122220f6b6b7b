"""Resolves files in a process of its own, which ends when it has: `python -m kadre.local.planner SETTINGS`.

What it takes to understand YAML (pydantic, the kinds) is 15 MB that a process which serves for days would carry along;
and a file made to hurt hurts nobody but the planner.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from dataclasses import dataclass

import msgspec

from kadre.base.errors import ProblemError, shorten
from kadre.base.problems import Problem
from kadre.local.resolved import Resolved
from kadre.local.settings import UpSettings

SECONDS = 60.0
"""A thousand agents take two; more than this is stuck."""
STDOUT, STDERR = 1, 2


@dataclass(frozen=True, slots=True)
class Planner:
    """One at work: its process, a child of ours, and the end of the pipe that its answer comes out of."""

    pid: int
    answer: int


def python(module: str, settings: UpSettings) -> list[str]:
    """The command that runs a module of ours on those settings; -P: ours, whatever lies in the folder we are in."""
    return [sys.executable, "-P", "-m", module, msgspec.json.encode(settings).decode()]


def start(settings: UpSettings) -> Planner:
    """Begin to resolve; standard input is read where `-` is among the paths."""
    answer, writing = os.pipe()
    command = python(__spec__.name, settings)
    files = [
        (os.POSIX_SPAWN_DUP2, writing, STDOUT),
        (os.POSIX_SPAWN_OPEN, STDERR, os.devnull, os.O_WRONLY, 0),
    ]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=files)
    os.close(writing)
    return Planner(pid, answer)


def fork(settings: UpSettings) -> Planner:
    """`start`, in a copy of this process: for one that has loaded pydantic, as the command line has, and no thread."""
    answer, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os._exit(_resolve(settings, writing))
    os.close(writing)
    return Planner(pid, answer)


def finish(planner: Planner) -> Resolved:
    """Wait for what it found. Raises ProblemError where it failed."""
    late = threading.Timer(SECONDS, os.kill, (planner.pid, signal.SIGKILL))
    late.start()
    with open(planner.answer, "rb") as pipe:  # noqa: PTH123 - it has no path
        answer = pipe.read()
    late.cancel()
    _, status = os.waitpid(planner.pid, 0)
    match os.waitstatus_to_exitcode(status):
        case 0:
            return msgspec.json.decode(answer, type=Resolved)
        case code if code == -signal.SIGKILL:
            message, fix = (
                f"the files took longer than {SECONDS:.0f} s, or too much memory",
                "load fewer or smaller files",
            )
            raise ProblemError([Problem("PlanTimeout", message, fix)])
        case code:
            said = shorten(answer[-500:].decode(errors="replace")) or f"exit code {code}"
            fix = "this is a fault of Kadre; please report it"
            raise ProblemError([Problem("PlanFailed", f"the files could not be read: {said}", fix)])


def _resolve(settings: UpSettings, writing: int) -> int:
    """The child's side: write what the files come to, or why that cannot be told; the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is told by the process that serves, and ends this one
    try:
        from kadre.local.resolve import resolve  # here, so that the parent does not load it

        answer, code = msgspec.json.encode(resolve(settings.paths, settings.override())), 0
    except Exception:  # noqa: BLE001 - whatever it is, the parent tells it
        answer, code = traceback.format_exc().encode(), 1
    with open(writing, "wb") as pipe:
        pipe.write(answer)
    return code


if __name__ == "__main__":
    sys.exit(_resolve(msgspec.json.decode(sys.argv[1], type=UpSettings), STDOUT))
