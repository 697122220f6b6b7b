"""Server-sent events, parsed from bytes as they arrive: of every model API that streams, and of our own.

It follows the HTML standard's grammar (three line endings, comments, several data lines, a byte order mark) and works
on bytes: an event's data is decoded only when it is whole, so a character split between two chunks is no case of its
own.
"""

from __future__ import annotations

import msgspec

MAX_EVENT = 1024 * 1024
"""Bytes of one line and of one event's data: nobody sends more in one piece, and a peer must not fill memory."""


class EventTooLarge(ValueError):
    """A line or an event passed `MAX_EVENT`."""


class ServerEvent(msgspec.Struct, frozen=True):
    """One event: its type (empty: the default, `message`) and its data lines joined by line feeds."""

    event: str
    data: bytes


class Parser:
    """Feed it chunks as they come; it gives back the events that are complete. One that is not at the end is none."""

    def __init__(self) -> None:
        self._tail = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._event = ""
        self._skip_line_feed = False
        self._started = False

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that `chunk` completes. Raises EventTooLarge."""
        lines = self._lines(chunk)
        events: list[ServerEvent] = []
        for line in lines:
            if line:
                self._field(line)
            elif self._data:
                events.append(ServerEvent(self._event, b"\n".join(self._data)))
                self._reset()
            else:
                self._reset()
        return events

    def _lines(self, chunk: bytes) -> list[bytes]:
        if self._skip_line_feed and chunk:
            self._skip_line_feed = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" in chunk:
            # A carriage return ends a line at once; the line feed that may follow in the next chunk belongs to it.
            self._skip_line_feed = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        head, newline, rest = chunk.partition(b"\n")
        self._tail += head
        if len(self._tail) > MAX_EVENT:
            raise EventTooLarge(f"a line of the stream is longer than {MAX_EVENT} bytes")
        if not newline:
            return []
        lines = [bytes(self._tail), *rest.split(b"\n")]
        self._tail = bytearray(lines.pop())
        if not self._started:
            self._started = True
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
        return lines

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._size += len(value)
            if self._size > MAX_EVENT:
                raise EventTooLarge(f"an event of the stream is larger than {MAX_EVENT} bytes")
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")

    def _reset(self) -> None:
        self._data = []
        self._size = 0
        self._event = ""
