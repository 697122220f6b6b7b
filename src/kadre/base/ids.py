"""Names for runs, sessions and calls: unique without coordination, and sorted by time when sorted by text."""

from __future__ import annotations

import os
import re
import time

ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
"""What a caller may choose as a run or session id: safe in a URL, a file name and a Redis key."""


def new_id(prefix: str) -> str:
    """`prefix-` + 11 hex digits of milliseconds + 10 of chance: 26 characters with a three-letter prefix."""
    return f"{prefix}-{time.time_ns() // 1_000_000:011x}{os.urandom(5).hex()}"


def is_id(text: str) -> bool:
    """Whether a caller's own id may be used as it is."""
    return ID_PATTERN.fullmatch(text) is not None
