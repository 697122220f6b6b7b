"""A vector store in Milvus, by its own library, which is loaded with the first call (two seconds, 100 MB).

The library waits, so it does so in threads. A collection that others have made is read as it is: its one field of
vectors, its field of texts, and the rest as metadata.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from kadre.base.clock import Clock, SystemClock
from kadre.base.errors import KadreError, ProblemError, Unavailable, shorten
from kadre.base.problems import Problem
from kadre.base.retry import Backoff
from kadre.engine.vectors import port
from kadre.engine.vectors.port import Document, Hit, Item, Scalar, VectorsRefused, VectorsUnavailable

PORT = 19530
SECONDS = 10.0
"""For one call."""
THREADS = 4
TEXT_BYTES = 65_535
_AGAIN = Backoff(attempts=8, first=0.1, limit=2.0)
"""All that is done here is the same when it is done twice."""
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_]")
_NOT_FOUND, _NOT_LOADED, _BAD_VALUE, _BAD_FILTER = 100, 101, 1100, 6
_SAID = {_BAD_VALUE, _BAD_FILTER, 65535}
"""Codes under which a server tells that what was asked is wrong."""
T = TypeVar("T")


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server is. `token` (`user:password`, or an API key) is told to nobody."""

    uri: str
    token: str = ""
    database: str = ""

    def __repr__(self) -> str:
        return f"Address({self.uri!r})"


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a collection. `metadata`: the JSON field that is all of it; empty: every other field is a part."""

    dimension: int
    metric: str
    id: str
    vector: str
    text: str
    metadata: str
    others: tuple[str, ...] = ()

    @property
    def output(self) -> list[str]:
        """What is asked for of each row."""
        return [name for name in (self.text, *([self.metadata] if self.metadata else self.others)) if name]


class MilvusVectors:
    """One collection. Milvus knows only letters, digits and _ in names: others become _."""

    def __init__(self, address: Callable[[], Address], collection: str, clock: Clock | None = None) -> None:
        self._address = address
        self._clock = clock or SystemClock()
        self._collection = collection_name(collection)
        self._name = f"the Milvus collection {self._collection}"
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="milvus")
        self._opening = asyncio.Lock()
        self._client: Any = None
        self._opened: Address | None = None
        self._shape: Shape | None = None
        self._closed = False

    async def ensure(self, dimension: int) -> None:
        """See VectorStore."""
        await self._do(lambda client: self._make(client, dimension))
        self._shape = None
        shape = await self._shaped()
        if shape.dimension != dimension:
            raise port.dimension_differs(self._name, shape.dimension, dimension)

    async def upsert(self, items: Sequence[Item]) -> None:
        """See VectorStore."""
        port.check_items(items)
        shape = await self._shaped([item.vector for item in items])
        if not items:
            return
        latest = {item.id: item for item in items}.values()
        rows = [_row(shape, item) for item in latest]
        await self._do(lambda client: client.upsert(self._collection, rows, timeout=SECONDS * 3))

    async def search(
        self, vector: Sequence[float], top_k: int, equal: Mapping[str, Scalar] | None = None, expression: str = ""
    ) -> list[Hit]:
        """See VectorStore. The expression is Milvus's own: `metadata["year"] > 2020`."""
        port.check_expression(expression)
        shape = await self._shaped([vector])
        parts = [*_equal(shape, equal), *([f"({expression})"] if expression else [])]
        found = await self._do(
            lambda client: client.search(
                self._collection,
                [[float(number) for number in vector]],
                filter=" and ".join(parts),
                limit=min(top_k, port.MOST_HITS),
                output_fields=[*shape.output, *([] if shape.metric == "COSINE" else [shape.vector])],
                anns_field=shape.vector,
                consistency_level="Strong",
                timeout=SECONDS,
            ),
            expression,
        )
        hits = [_hit(shape, row, vector) for row in found[0]] if found else []
        return sorted(hits, key=lambda hit: -hit.score)

    async def get(
        self, ids: Sequence[str] = (), equal: Mapping[str, Scalar] | None = None, limit: int = port.MOST_HITS
    ) -> list[Document]:
        """See VectorStore."""
        shape = await self._shaped()
        rows = await self._query(_chosen(shape, ids, equal), [shape.id, *shape.output], min(limit, port.MOST_HITS))
        return [Document(str(row[shape.id]), *_content(shape, row)) for row in rows]

    async def walk(self, equal: Mapping[str, Scalar] | None = None) -> AsyncIterator[Document]:
        """See VectorStore."""
        shape = await self._shaped()
        fields = [shape.id, *([shape.metadata] if shape.metadata else shape.others)]
        where = " and ".join(_equal(shape, equal))
        pages = await self._do(
            lambda client: client.query_iterator(
                self._collection,
                filter=where,
                output_fields=fields,
                batch_size=port.MOST_HITS,
                consistency_level="Strong",
                timeout=SECONDS,
            )
        )
        while rows := await self._do(lambda _: pages.next()):
            for row in rows:
                yield Document(str(row[shape.id]), "", _content(shape, row)[1])

    async def delete(self, ids: Sequence[str] = (), equal: Mapping[str, Scalar] | None = None) -> None:
        """See VectorStore."""
        port.check_chosen(ids, equal)
        where = _chosen(await self._shaped(), ids, equal)
        await self._do(lambda client: client.delete(self._collection, filter=where, timeout=SECONDS))

    async def count(self, equal: Mapping[str, Scalar] | None = None) -> int:
        """See VectorStore."""
        where = " and ".join(_equal(await self._shaped(), equal))
        (row,) = await self._query(where, ["count(*)"], None)
        return int(row["count(*)"])

    async def aclose(self) -> None:
        """See VectorStore."""
        if not self._closed:
            self._closed = True
            await self._disconnect()
            self._threads.shutdown(wait=False)

    async def _query(self, where: str, fields: list[str], limit: int | None) -> Any:
        bound = {} if limit is None else {"limit": limit}
        return await self._do(
            lambda client: client.query(
                self._collection,
                filter=where,
                output_fields=fields,
                consistency_level="Strong",
                timeout=SECONDS,
                **bound,
            )
        )

    # -- the server ----------------------------------------------------------------------------------------------

    async def _connected(self) -> Any:
        """The client; another one where the address, or the secret that is part of it, is another now."""
        address = self._address()
        async with self._opening:
            if self._client is None or address != self._opened:
                await self._disconnect()
                self._client, self._opened = await self._thread(lambda: _open(address)), address
        return self._client

    async def _disconnect(self) -> None:
        """Begin anew with the next call: a connection that was lost waits longer and longer before it tries again."""
        client, self._client = self._client, None
        if client is not None:
            await self._thread(client.close)

    async def _shaped(self, vectors: Sequence[Sequence[float]] = ()) -> Shape:
        """The collection as it is, read once more where it may have been made anew since.

        Raises VectorsRefused for a vector that it does not take.
        """
        shape = self._shape
        if shape is None or any(len(vector) != shape.dimension for vector in vectors):
            shape = self._shape = await self._do(self._read)
        for vector in vectors:
            port.check_vector(vector, shape.dimension)
        return shape

    async def _thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _do(self, work: Callable[[Any], T], expression: str = "") -> T:
        """What `work` returns for a client, in a thread; done again where the server was not reached, for a while."""
        began, attempt = self._clock.monotonic(), 0
        while True:
            attempt += 1
            if self._closed:
                raise Unavailable(f"{self._name} is closed")
            try:
                client = await self._connected()
                return await self._thread(functools.partial(self._loaded, client, work))
            except Exception as error:
                told = self._told(error, expression)
                if told is None:
                    raise
                late = self._clock.monotonic() - began > SECONDS
                delay = None if late or not isinstance(told, VectorsUnavailable) else _AGAIN.delay(attempt)
                if isinstance(told, VectorsUnavailable):
                    async with self._opening:
                        await self._disconnect()
                if delay is None:
                    raise told from error
            await self._clock.sleep(delay)

    def _loaded(self, client: Any, work: Callable[[Any], T]) -> T:
        """What `work` returns; a collection that the server has not in memory is loaded for it."""
        try:
            return work(client)
        except Exception as error:
            if getattr(error, "code", None) != _NOT_LOADED:
                raise
            client.load_collection(self._collection)
            return work(client)

    def _told(self, error: Exception, expression: str) -> Exception | None:
        """What a failure of the library's means; None for what is not its own."""
        if isinstance(error, KadreError):  # it may be that there is no library
            return None
        from pymilvus.exceptions import MilvusException

        if not isinstance(error, MilvusException):
            grpc = type(error).__module__.startswith("grpc")
            return VectorsUnavailable(f"{self._name}: the connection was lost", retry_after=5.0) if grpc else None
        said = shorten(str(error.message), 200)
        if error.code == _NOT_FOUND:
            self._shape = None
            return port.missing(self._name)
        if expression and error.code in _SAID:
            return VectorsRefused(f"the filter {expression!r} is none that Milvus takes: {said}")
        if error.code in (_BAD_VALUE, _BAD_FILTER):
            return VectorsRefused(f"{self._name}: {said}")
        hint = "check that it runs, its address, who logs in and the network between"
        return VectorsUnavailable(f"{self._name}: {said} ({hint})", retry_after=5.0)

    def _make(self, client: Any, dimension: int) -> None:
        if client.has_collection(self._collection, timeout=SECONDS):
            return
        from pymilvus import DataType

        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=port.ID_LIMIT * 4)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
        schema.add_field("text", DataType.VARCHAR, max_length=TEXT_BYTES)
        schema.add_field("metadata", DataType.JSON)
        index = client.prepare_index_params()
        index.add_index(field_name="vector", index_type="AUTOINDEX", metric_type="COSINE")
        client.create_collection(self._collection, schema=schema, index_params=index, timeout=SECONDS * 3)

    def _read(self, client: Any) -> Shape:
        if not client.has_collection(self._collection, timeout=SECONDS):
            raise port.missing(self._name)
        from pymilvus import DataType

        told = client.describe_collection(self._collection, timeout=SECONDS)
        fields = {field["name"]: field for field in told["fields"]}
        vectors = [name for name, field in fields.items() if field["type"] == DataType.FLOAT_VECTOR]
        if not vectors:
            raise VectorsRefused(f"{self._name} has no field of float vectors: name another collection")
        vector, key = vectors[0], next(name for name, field in fields.items() if field.get("is_primary"))
        texts = [name for name, field in fields.items() if field["type"] == DataType.VARCHAR and name != key]
        text = next((name for name in port.TEXTS if name in texts), texts[0] if texts else "")
        metadata = "metadata" if fields.get("metadata", {}).get("type") == DataType.JSON else ""
        others = [name for name, field in fields.items() if name not in (key, text) and not _is_vector(field["type"])]
        index = client.describe_index(self._collection, _index_of(client, self._collection, vector), timeout=SECONDS)
        return Shape(
            dimension=int(fields[vector]["params"]["dim"]),
            metric=str((index or {}).get("metric_type", "COSINE")).upper(),
            id=key,
            vector=vector,
            text=text,
            metadata=metadata,
            others=(*others, *(["*"] if told.get("enable_dynamic_field") else [])),
        )


def collection_name(name: str) -> str:
    """The name as Milvus takes it: `support-knowledge` -> support_knowledge."""
    plain = _NOT_IN_NAME.sub("_", name)
    return plain if plain[:1].isalpha() or plain[:1] == "_" else f"_{plain}"


def _open(address: Address) -> Any:
    try:
        import pymilvus
    except ImportError as absent:
        problem = Problem(
            "StoreLibraryMissing", "a Milvus store needs the extra `milvus`", "pip install 'kadre[milvus]'"
        )
        raise ProblemError([problem]) from absent
    # It writes every error down with its stack before it raises it; here it is told once, by whoever asked.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL + 1)
    more = {"db_name": address.database} if address.database else {}
    return pymilvus.MilvusClient(uri=address.uri, token=address.token, timeout=SECONDS, **more)


def _index_of(client: Any, collection: str, field: str) -> str:
    names = client.list_indexes(collection, field_name=field, timeout=SECONDS)
    return str(names[0]) if names else field


def _is_vector(kind: int) -> bool:
    return int(kind) >= 100  # Milvus's own numbers: all types of vectors are from 100 on


def _row(shape: Shape, item: Item) -> dict[str, Any]:
    row: dict[str, Any] = {shape.id: item.id, shape.vector: [float(number) for number in item.vector]}
    if shape.text:
        row[shape.text] = item.text
    metadata = {name: port.plain(value) for name, value in item.metadata.items()}
    return {**row, shape.metadata: metadata} if shape.metadata else {**metadata, **row}


def _hit(shape: Shape, row: Any, asked: Sequence[float]) -> Hit:
    key = row.get(shape.id, row.get("id"))
    # By another metric a score follows from the distance only where all vectors are of length 1: others' are not.
    score = float(row["distance"]) if shape.metric == "COSINE" else port.cosine(asked, row["entity"][shape.vector])
    return Hit(str(key), max(-1.0, min(1.0, score)), *_content(shape, row["entity"]))


def _content(shape: Shape, row: Mapping[str, Any]) -> tuple[str, dict[str, Scalar]]:
    whole = row.get(shape.metadata) or {} if shape.metadata else row
    hidden = {shape.id, shape.vector, shape.text} if not shape.metadata else set()
    metadata = {name: value for name, value in whole.items() if name not in hidden and isinstance(value, Scalar)}
    return str(row.get(shape.text) or ""), metadata


def _equal(shape: Shape, equal: Mapping[str, Scalar] | None) -> list[str]:
    found = []
    for name, value in (equal or {}).items():
        known = not shape.metadata and name in shape.others
        field = name if known else f"{shape.metadata or '$meta'}[{json.dumps(name)}]"
        found.append(f"{field} == {json.dumps(port.plain(value), ensure_ascii=False)}")
    return found


def _chosen(shape: Shape, ids: Sequence[str], equal: Mapping[str, Scalar] | None) -> str:
    if ids:
        return f"{shape.id} in {json.dumps(list(ids), ensure_ascii=False)}"
    return " and ".join(_equal(shape, equal))
