"""Amazon's event stream, written by hand from its description: what Bedrock streams in."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any


def message(headers: dict[str, str], payload: bytes) -> bytes:
    """One message, with headers of type string (7)."""
    written = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for name, value in headers.items()
    )
    return packed(len(written), written + payload)


def packed(headers: int, rest: bytes) -> bytes:
    """A message's frame around `rest`, which begins with that many bytes of headers; its checksums are right."""
    prelude = struct.pack("!II", 16 + len(rest), headers)
    prelude += struct.pack("!I", zlib.crc32(prelude))
    whole = prelude + rest
    return whole + struct.pack("!I", zlib.crc32(whole))


def event(name: str, **fields: Any) -> bytes:
    """An event, with the JSON of its fields."""
    return message({":message-type": "event", ":event-type": name}, json.dumps(fields).encode())


def exception(name: str, text: str) -> bytes:
    """An exception in place of an event."""
    return message({":message-type": "exception", ":exception-type": name}, json.dumps({"message": text}).encode())
