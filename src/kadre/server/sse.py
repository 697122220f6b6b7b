"""Server-sent events, with a heartbeat, and an end when the client is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from kadre.server.streaming import Stream

HEARTBEAT_SECONDS = 15.0
"""Quiet for longer than this and proxies begin to close connections."""
HEARTBEAT = b": keep-alive\n\n"
MAX_DIGITS = 18
"""Digits of a number in a request: what counts events and pages is far below."""


class EventStream(Stream):
    """Sends events as they come."""

    heartbeat = HEARTBEAT
    quiet = HEARTBEAT_SECONDS

    def __init__(
        self,
        source: AsyncIterator[bytes],
        headers: dict[str, str] | None = None,
        gone: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(source, "text/event-stream", {"Cache-Control": "no-cache", **(headers or {})}, gone)


def parse_last_event_id(text: str) -> tuple[int, int]:
    """`seq` or `seq.offset` -> (seq, offset); (0, -1), the beginning, where it is neither."""
    first, dot, second = text.strip().partition(".")
    seq, offset = number(first), number(second) if dot else -1
    return (0, -1) if seq is None or offset is None else (seq, offset)


def number(text: str) -> int | None:
    """A number as clients write them: a few plain digits. None for anything else."""
    return int(text) if len(text) <= MAX_DIGITS and text.isascii() and text.isdigit() else None
