"""What a person typed in earlier chats, for the arrow keys. Kept for them alone, and bounded."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

LINES = 1000


@contextlib.contextmanager
def remembered() -> Iterator[Callable[[str], None]]:
    """Line editing with what was typed before; yields what remembers a line. Without readline it remembers nothing."""
    try:
        import readline
    except ImportError:  # not everywhere
        yield lambda _: None
        return
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    file = state / "kadre" / "chat_history"
    with contextlib.suppress(OSError):
        readline.read_history_file(file)
    readline.set_auto_history(False)  # answers to questions are no messages
    readline.set_history_length(LINES)
    try:
        yield readline.add_history
    finally:
        with contextlib.suppress(OSError):  # a home that cannot be written to is no reason to fail
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o600)
            readline.write_history_file(file)
