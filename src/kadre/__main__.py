"""`python -m kadre`: the same as the command.

A container's first process does not get a signal that it has no handler for, and what takes a second to load has none:
a pod that is told to end meanwhile would be waited for until its grace is over, five minutes. So the image's entry
point starts us with SIGTERM blocked, which keeps it, and here it is let in again as soon as there is a handler.
"""

import signal
import sys


def _let_in() -> None:
    if sys.platform != "win32" and signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))


_let_in()

from kadre.cli.main import main  # noqa: E402 - it takes the time in question

main()
