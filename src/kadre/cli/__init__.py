"""The `kadre` command: one thin module a command.

Law: a command reads its arguments, calls one function of a lower room and prints; it decides nothing.
"""

import time

STARTED = time.monotonic()
"""When the command began, to within the start of Python: nothing of ours is loaded before this."""
