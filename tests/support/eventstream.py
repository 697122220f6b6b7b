"""Amazon's event stream, written by hand from its description: what Bedrock streams in."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any


def message(headers: dict[str, str], payload: bytes) -> bytes:
    """One message: prelude with its checksum, headers of type string (7), payload, checksum of all."""
    packed = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(packed) + len(payload), len(packed))
    prelude += struct.pack("!I", zlib.crc32(prelude))
    whole = prelude + packed + payload
    return whole + struct.pack("!I", zlib.crc32(whole))


def event(name: str, **fields: Any) -> bytes:
    """An event, with the JSON of its fields."""
    return message({":message-type": "event", ":event-type": name}, json.dumps(fields).encode())


def exception(name: str, text: str) -> bytes:
    """An exception in place of an event."""
    return message({":message-type": "exception", ":exception-type": name}, json.dumps({"message": text}).encode())
