"""The process that serves: `python -m kadre.local.serve SETTINGS`, which `kadre up` becomes.

It begins to resolve the files before it loads what it serves with, so that both happen at once.
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
    command = planner.python(__spec__.name, settings)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


def main() -> int:
    """Serve until told to stop; the exit code."""
    settings = msgspec.json.decode(sys.argv[1], type=UpSettings)
    resolving = planner.start(settings)

    from kadre.local import up

    return up.run(settings, resolving)


if __name__ == "__main__":
    sys.exit(main())
