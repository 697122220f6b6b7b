"""What one server may send, and why a connection with it ended.

A server is somebody else's program: whatever it sends is read into memory whole before it is understood, so each way to
read has a bound.
"""

from __future__ import annotations

import asyncio
import re

MESSAGE_LIMIT = 16 << 20
"""Bytes of one message: a picture of ten megabytes in base64 fits. What a model reads of it is bounded elsewhere."""
LIST_LIMIT = 16 << 20
"""Bytes of one server's whole list of tools, as a model would be sent it."""
MAX_TOOLS = 1000
MAX_PAGES = 50
SSE_LIMIT = 1_000_000
"""Bytes of one message over the older transport: the SDK's own bound there is 1 MiB, and is not to be set."""


class End(asyncio.Event):
    """Set when the other side of a connection has gone. `why`: in words, where more is known than that."""

    why = ""

    def because(self, why: str) -> None:
        """Set it, with the reason; the first one holds."""
        self.why = self.why or why
        self.set()


def too_large(limit: int) -> str:
    """What is said of a message above the bound."""
    return f"the server sent a message of more than {limit // 1_000_000} MB, which is not read"


def says_too_large(why: str) -> bool:
    """Whether that says so, in these words or in the SDK's."""
    return (
        re.search(r"message of more than \d+ MB, which is not read|event exceeded the \d+ byte limit", why) is not None
    )
