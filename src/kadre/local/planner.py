"""Resolves files in a process of its own, which ends when it has: `python -m kadre.local.planner SETTINGS`.

What it takes to understand YAML (pydantic, the kinds) is 15 MB that a process which serves for days would carry along;
and a file made to hurt hurts nobody but the planner.
"""

from __future__ import annotations

import subprocess
import sys

import msgspec

from kadre.base.errors import ProblemError, shorten
from kadre.base.problems import Problem
from kadre.local.resolved import Resolved
from kadre.local.settings import UpSettings

SECONDS = 60.0
"""A thousand agents take two; more than this is stuck."""


def python(module: str, settings: UpSettings) -> list[str]:
    """The command that runs a module of ours on those settings; -P: ours, whatever lies in the folder we are in."""
    return [sys.executable, "-P", "-m", module, msgspec.json.encode(settings).decode()]


def start(settings: UpSettings) -> subprocess.Popen[bytes]:
    """Begin to resolve; standard input is read where `-` is among the paths."""
    command = python(__spec__.name, settings)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603 - our own


def finish(planner: subprocess.Popen[bytes]) -> Resolved:
    """Wait for what it found. Raises ProblemError where it failed."""
    try:
        answer, said = planner.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        planner.kill()
        planner.wait()
        fix = "load fewer or smaller files"
        raise ProblemError([Problem("PlanTimeout", f"the files took longer than {SECONDS:.0f} s", fix)]) from None
    if planner.returncode:
        message = f"the files could not be read: {shorten(said.decode(errors='replace')[-500:])}"
        raise ProblemError([Problem("PlanFailed", message, "this is a fault of Kadre; please report it")])
    return msgspec.json.decode(answer, type=Resolved)


def main() -> None:
    """The child's side."""
    from kadre.local.resolve import resolve  # here, so that the parent does not load it

    settings = msgspec.json.decode(sys.argv[1], type=UpSettings)
    sys.stdout.buffer.write(msgspec.json.encode(resolve(settings.paths, settings.override())))


if __name__ == "__main__":
    main()
