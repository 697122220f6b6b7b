"""The port to a vector store.

Above: tools that search documents, and memory. Below: a file, a database, a server. One store object is one collection.
It knows nothing of where vectors come from; all of a collection have one dimension.

A score is the cosine similarity of two vectors, from -1 to 1, in every store: 1 for the same direction, 0 for nothing
in common. Vectors of any length may be given.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

import msgspec

from kadre.base import errors

_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
Scalar = str | int | float | bool
HIDDEN = "kadre_"
"""What names of metadata begin with that no model is told of."""
MODEL = f"{HIDDEN}model"
"""The name of the metadata that says which embedding model made the vector."""
MOST_HITS = 1000
"""Of one search, or of one `get`."""
MOST_ITEMS = 1000
"""Written at once."""
ID_LIMIT = 256
"""Characters."""
TEXT_LIMIT = 64_000
"""Bytes of one text: what every store holds in one field."""
METADATA_LIMIT = 16_000
"""Bytes of one item's metadata, as JSON."""
TEXTS = ("text", "content", "page_content", "document", "chunk", "body")
"""Names by which a field of texts that others have written is known, before any other."""


class VectorsUnavailable(errors.Unavailable):
    """503: the store could not do it now; a later try may succeed."""

    default_reason = "VectorsUnavailable"


class VectorsRefused(errors.BadRequest):
    """400: the store will not do this, however often it is asked: a wrong dimension, a filter that is none."""

    default_reason = "VectorsRefused"


class CollectionMissing(errors.NotFound):
    """404: there is no such collection yet."""

    default_reason = "CollectionMissing"


class Item(msgspec.Struct, frozen=True):
    """A text with its vector. `metadata`: texts, numbers and booleans by name, for filters and for people."""

    id: str
    vector: Sequence[float]
    text: str
    metadata: Mapping[str, Scalar] = {}


class Document(msgspec.Struct, frozen=True):
    """An item without its vector."""

    id: str
    text: str
    metadata: dict[str, Scalar] = {}


class Hit(msgspec.Struct, frozen=True):
    """What a search found. `score`: see the port."""

    id: str
    score: float
    text: str
    metadata: dict[str, Scalar] = {}


class VectorStore(Protocol):
    """One collection. All methods may raise VectorsUnavailable; those that read, CollectionMissing.

    `equal` stands for the items whose metadata has all of these values. Whatever returns normally is kept.
    """

    async def ensure(self, dimension: int) -> None:
        """Make the collection where there is none. Raises VectorsRefused where it has vectors of another dimension."""
        ...

    async def upsert(self, items: Sequence[Item]) -> None:
        """Keep the items, in place of those that have their ids. Raises VectorsRefused for one that cannot be kept."""
        ...

    async def search(
        self, vector: Sequence[float], top_k: int, equal: Mapping[str, Scalar] | None = None, expression: str = ""
    ) -> list[Hit]:
        """The `top_k` most alike, best first. `expression`: a further filter, in the store's own language.

        Raises VectorsRefused for a vector of another dimension and for an expression that is none.
        """
        ...

    async def get(
        self, ids: Sequence[str] = (), equal: Mapping[str, Scalar] | None = None, limit: int = MOST_HITS
    ) -> list[Document]:
        """Those of the ids that are there, or else those of `equal`; in no order."""
        ...

    async def delete(self, ids: Sequence[str] = (), equal: Mapping[str, Scalar] | None = None) -> None:
        """Forget those of the ids, or else those of `equal`; one of the two is given and not empty."""
        ...

    def walk(self, equal: Mapping[str, Scalar] | None = None) -> AsyncIterator[Document]:
        """All of them, however many, in no order and without their texts. What changes meanwhile may be missed."""
        ...

    async def count(self, equal: Mapping[str, Scalar] | None = None) -> int:
        """How many there are."""
        ...

    async def aclose(self) -> None:
        """Give back connections and threads; may be called once."""
        ...


def check_items(items: Sequence[Item]) -> None:
    """Raise VectorsRefused for what some store could not hold: every store refuses the same."""
    if len(items) > MOST_ITEMS:
        raise VectorsRefused(f"{len(items)} items at once; at most {MOST_ITEMS} are allowed")
    for item in items:
        if not item.id or len(item.id) > ID_LIMIT or "\0" in item.id:
            raise VectorsRefused(f"the id {item.id!r:.80} must have 1 to {ID_LIMIT} characters, none of them NUL")
        if len(item.text.encode()) > TEXT_LIMIT or "\0" in item.text:
            raise VectorsRefused(f"the text of {item.id} must have at most {TEXT_LIMIT} bytes, none of them NUL")
        for name, value in item.metadata.items():
            if not isinstance(value, Scalar) or (isinstance(value, float) and not math.isfinite(value)):
                raise VectorsRefused(f"the metadata {name!r:.80} of {item.id} is no text, number or boolean")
        if len(encoded(item.metadata)) > METADATA_LIMIT or "\\u0000" in encoded(item.metadata):
            raise VectorsRefused(f"the metadata of {item.id} has more than {METADATA_LIMIT} bytes, or a NUL")


def check_vector(vector: Sequence[float], dimension: int) -> None:
    """Raise VectorsRefused where it is of another dimension, or of no direction."""
    if len(vector) != dimension:
        raise VectorsRefused(
            f"a vector of {len(vector)} numbers, where the collection has {dimension}: it was filled with another"
            " embedding model; use that one, or another collection"
        )
    if not math.isfinite(sum(vector)) or not any(vector):
        raise VectorsRefused("a vector that has no direction: it is all zeros, or not of finite numbers")


def check_chosen(ids: Sequence[str], equal: Mapping[str, Scalar] | None) -> None:
    """Raise VectorsRefused where nothing says which items are to be forgotten."""
    if not ids and not equal:
        raise VectorsRefused("nothing says which items are meant")


def check_expression(expression: str) -> None:
    """Raise VectorsRefused where it does not stand by itself: its author's other filters must not be left out by it."""
    bare = _QUOTED.sub("", expression)
    depth = 0
    for sign in bare:
        depth += (sign == "(") - (sign == ")")
        if depth < 0:
            break
    if depth or any(sign in bare for sign in ("'", '"', ";", "--", "/*")):
        raise VectorsRefused(
            f"the filter {expression!r:.200} does not stand by itself: close its quotes and parentheses, and leave out"
            " comments and semicolons"
        )


def encoded(metadata: Mapping[str, Scalar]) -> str:
    """As JSON, by which equal values are equal texts: a whole number is written without a fraction."""
    return msgspec.json.encode({name: plain(value) for name, value in metadata.items()}).decode()


def plain(value: Scalar) -> Scalar:
    """The value, 2.0 as 2: JSON's numbers are of one kind, and stores differ where they are not."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """The score of two vectors of one dimension."""
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(map(operator.mul, one, other)) / lengths if lengths else 0.0


def dimension_differs(name: str, found: int, wanted: int) -> VectorsRefused:
    """What is said of a collection that has vectors of another dimension."""
    return VectorsRefused(
        f"{name} has vectors of {found} numbers, the embedding model gives {wanted}: use the model it was filled with,"
        " or another collection"
    )


def missing(name: str) -> CollectionMissing:
    """What is said where there is no collection."""
    return CollectionMissing(
        f"{name} is not there: fill it with `kadre ingest`, or check its name and the store's host"
    )
