"""Runs a command that ends when its parent does: `launcher.py SIGNAL PARENT COMMAND ARG…`.

A script of its own, with the standard library only and started without site-packages, so that it costs a few
milliseconds: Linux can send a signal to a child whose parent died, but only the child can ask for it, before it becomes
the command. Elsewhere the command is run all the same; one that reads stdin sees it end.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the command, as a child that does not outlive process number PARENT."""
    name, parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        import ctypes  # only where there is such a call

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.Signals[name]), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit("the parent is gone")
    try:
        os.execvp(command[0], command)  # noqa: S606 - the command is the whole point
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
