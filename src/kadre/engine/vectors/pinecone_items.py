"""What Pinecone holds of an item, and what it is asked by: its limits, and its form of metadata and of filters.

Pure: what is said here is sent by the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from kadre.engine.vectors import port
from kadre.engine.vectors.port import Item, Scalar, VectorsRefused

URL_BYTES = 4000
"""Of the ids in one address."""
REQUEST_BYTES = 1_900_000
"""Written at once: 2 MB are allowed."""
KEPT_BYTES = 40_960
"""Of an item's metadata as JSON, its text with it."""
TEXT = f"{port.HIDDEN}text"
"""The name that the text has among an item's metadata."""
EXACT = 2**53
"""Numbers are 64-bit floating point there: beyond, neighbours are one."""


def is_id(name: str) -> bool:
    """Whether Pinecone could have an item of that id."""
    return name.isascii()


def row(item: Item) -> dict[str, Any]:
    """The item as Pinecone takes it. Raises VectorsRefused for one that it does not hold as it is."""
    if not is_id(item.id):
        raise VectorsRefused(f"the id {item.id!r:.80} has characters beyond ASCII, which Pinecone does not take")
    for name, value in item.metadata.items():
        if not name or name.startswith("$"):
            raise VectorsRefused(f"the metadata {name!r:.80} of {item.id}: Pinecone takes no name that begins with $")
        if not isinstance(value, str) and abs(value) > EXACT:
            raise VectorsRefused(f"the metadata {name!r:.80} of {item.id} is too large a number: keep it as a text")
    metadata = {**{name: port.plain(value) for name, value in item.metadata.items()}, TEXT: item.text}
    size = len(msgspec.json.encode(metadata))
    if size > KEPT_BYTES:
        raise VectorsRefused(
            f"{item.id} has {size} bytes of text and metadata, and Pinecone keeps {KEPT_BYTES}: use smaller passages"
        )
    return {"id": item.id, "values": [float(number) for number in item.vector], "metadata": metadata}


def batches(rows: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The rows, as many at once as one request takes."""
    some: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        more = len(msgspec.json.encode(row)) + 1
        if some and size + more > REQUEST_BYTES:
            yield some
            some, size = [], 0
        some.append(row)
        size += more
    if some:
        yield some


def shares(ids: Sequence[str], most: int) -> Iterator[list[str]]:
    """The ids, as many at once as an address takes, and no more than `most`."""
    some: list[str] = []
    size = 0
    for name in ids:
        more = len(quote(name, safe="")) + len("&ids=")
        if some and (size + more > URL_BYTES or len(some) == most):
            yield some
            some, size = [], 0
        some.append(name)
        size += more
    if some:
        yield some


def content(metadata: Mapping[str, Any] | None) -> tuple[str, dict[str, Scalar]]:
    """An item's text, and the rest of its metadata."""
    whole = metadata or {}
    names = (TEXT, *port.TEXTS)
    text = next((name for name in names if isinstance(whole.get(name), str)), "")
    rest = {name: port.plain(value) for name, value in whole.items() if name != text and isinstance(value, Scalar)}
    return str(whole.get(text, "")), rest


def where(equal: Mapping[str, Scalar] | None, expression: str = "") -> dict[str, Any] | None:
    """Both as one filter of Pinecone's; None where there is none. Raises VectorsRefused for what is no filter."""
    parts: list[dict[str, Any]] = []
    for name, value in (equal or {}).items():
        if name.startswith("$"):
            raise VectorsRefused(f"the metadata {name!r:.80}: Pinecone takes no name that begins with $")
        parts.append({name: {"$eq": port.plain(value)}})
    if expression:
        try:
            parts.append(msgspec.json.decode(expression, type=dict[str, Any]))
        except (msgspec.DecodeError, RecursionError):
            example = '{"year": {"$gt": 2020}}'
            message = f"the filter {expression!r:.200} is no JSON object, as Pinecone's are: {example}"
            raise VectorsRefused(message) from None
    return parts[0] if len(parts) == 1 else {"$and": parts} if parts else None
