"""The process that serves: `python -m kadre.local.serve SETTINGS PID FD`, which `kadre up` becomes.

The files are resolved while it loads what it serves with: by a planner that the command left it, told by PID and FD.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import msgspec

from kadre.local import planner
from kadre.local.settings import UpSettings


def become(settings: UpSettings) -> NoReturn:
    """Replace the running command, and all that its command line took to understand, by the process that serves."""
    resolving = planner.fork(settings)
    os.set_inheritable(resolving.answer, True)
    command = [*planner.python(__spec__.name, settings), str(resolving.pid), str(resolving.answer)]
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


def main() -> int:
    """Serve until told to stop; the exit code."""
    told, pid, answer = sys.argv[1:]
    settings = msgspec.json.decode(told, type=UpSettings)

    from kadre.local import up

    return up.run(settings, planner.Planner(int(pid), int(answer)))


if __name__ == "__main__":
    sys.exit(main())
