"""A vector store in Pinecone, by its own library, which is loaded with the first call (0.3 s, 20 MB).

A collection is one namespace of an index of vectors. The index is made by who pays for it: here is only filled what is
there. What is written is found some seconds later, not at once: Pinecone promises no more. The text of an item is a
part of its metadata there; of vectors that others have written it is the one under a name that texts often have.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from kadre.base.errors import KadreError, ProblemError, Unavailable, shorten
from kadre.base.problems import Problem
from kadre.engine.vectors import pinecone_items, port
from kadre.engine.vectors.port import Document, Hit, Item, Scalar, VectorsRefused, VectorsUnavailable

if TYPE_CHECKING:
    from pinecone import AsyncIndex, AsyncPinecone, Vector
    from pinecone.models.vectors.responses import FetchByMetadataResponse, ListResponse

SECONDS = 20.0
"""For one call, the client's own repetitions with it."""
REQUEST_SECONDS = 10.0
PAGE = 100
"""Of what is listed or fetched at once: vectors come with it, of which each may be 30 KB."""
DELETED = 1000
"""Ids in one request."""
COUNTED = 10_000
"""The most that one search gives, and so counts."""
DEFAULT_NAMESPACE = "__default__"
# The client reads PINECONE_ADDITIONAL_HEADERS from the environment where it is given no header: nothing of the
# environment is sent to an address that a file names.
_HEADERS = {"Accept": "application/json"}
T = TypeVar("T")
Work = Callable[["AsyncIndex", str], Awaitable[T]]
"""Asks something of an index, in that namespace of it."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where an index is. `key` is told to nobody.

    `host`: the URL of the index itself; empty: asked for, by the index's name. `control`: the URL that is asked; empty:
    Pinecone's own, or what PINECONE_CONTROLLER_HOST says.
    """

    key: str
    host: str = ""
    namespace: str = ""
    control: str = ""

    def __repr__(self) -> str:
        return f"Address({self.host!r})"


class Shape(msgspec.Struct, frozen=True):
    """Of an index."""

    dimension: int
    metric: str


class _Lost(VectorsUnavailable):
    """It was not reached: it may be elsewhere by now."""


class _Late(VectorsUnavailable):
    """It did not answer in time."""


class _Opened:
    """A client of the index. One that another has replaced is closed when the last call by it has ended."""

    def __init__(self, address: Address, host: str, index: AsyncIndex) -> None:
        self.address = address
        self.host = host
        self.index = index
        self.users = 0
        self.replaced = False


class PineconeVectors:
    """One namespace of an index. `address` is asked before every call, so that a changed key counts."""

    def __init__(self, address: Callable[[], Address], index: str) -> None:
        self._address = address
        self._collection = index
        self._name = f"the Pinecone index {index}"
        self._opening = asyncio.Lock()
        self._opened: _Opened | None = None
        self._shape: Shape | None = None
        self._closed = False

    async def ensure(self, dimension: int) -> None:
        """See VectorStore. Makes no index: raises CollectionMissing, with what is to be made, where there is none."""
        self._shape = None
        shape = await self._shaped(wanted=dimension)
        if shape.dimension != dimension:
            raise port.dimension_differs(self._name, shape.dimension, dimension)

    async def upsert(self, items: Sequence[Item]) -> None:
        """See VectorStore. Where it fails, some of many items may have been kept."""
        port.check_items(items)
        await self._shaped([item.vector for item in items])
        latest = {item.id: item for item in items}.values()
        for rows in pinecone_items.batches([pinecone_items.row(item) for item in latest]):
            await self._write(rows)

    async def search(
        self, vector: Sequence[float], top_k: int, equal: Mapping[str, Scalar] | None = None, expression: str = ""
    ) -> list[Hit]:
        """See VectorStore. The expression is Pinecone's filter, as JSON: `{"year": {"$gt": 2020}}`."""
        where = pinecone_items.where(equal, expression)
        shape = await self._shaped([vector])
        cosine = shape.metric == "cosine"
        found = await self._do(
            lambda index, namespace: index.query(
                top_k=min(top_k, port.MOST_HITS),
                vector=[float(number) for number in vector],
                namespace=namespace,
                filter=where,
                include_metadata=True,
                include_values=not cosine,
            ),
            expression,
        )
        hits = []
        for match in found.matches:
            score = match.score if cosine else port.cosine(vector, match.values)
            hits.append(Hit(match.id, max(-1.0, min(1.0, score)), *pinecone_items.content(match.metadata)))
        return sorted(hits, key=lambda hit: -hit.score)

    async def get(
        self, ids: Sequence[str] = (), equal: Mapping[str, Scalar] | None = None, limit: int = port.MOST_HITS
    ) -> list[Document]:
        """See VectorStore."""
        await self._shaped()
        limit = min(limit, port.MOST_HITS)
        if ids:
            kept = [name for name in dict.fromkeys(ids) if pinecone_items.is_id(name)]
            return [document for some in pinecone_items.shares(kept, PAGE) for document in await self._fetched(some)][
                :limit
            ]
        documents: list[Document] = []
        async for document in self._all(equal, limit):
            documents.append(document)
            if len(documents) == limit:
                break
        return documents

    async def walk(self, equal: Mapping[str, Scalar] | None = None) -> AsyncIterator[Document]:
        """See VectorStore."""
        await self._shaped()
        async for document in self._all(equal, PAGE):
            yield Document(document.id, "", document.metadata)

    async def delete(self, ids: Sequence[str] = (), equal: Mapping[str, Scalar] | None = None) -> None:
        """See VectorStore."""
        port.check_chosen(ids, equal)
        where = pinecone_items.where(equal)
        await self._shaped()
        if not ids:
            await self._forget(filter=where)
        kept = [name for name in ids if pinecone_items.is_id(name)]
        for start in range(0, len(kept), DELETED):
            await self._forget(ids=kept[start : start + DELETED])

    async def count(self, equal: Mapping[str, Scalar] | None = None) -> int:
        """See VectorStore. All are counted as the index tells it; those of `equal` by a search for them."""
        if not equal:
            return (await self._read())[1]
        where, shape = pinecone_items.where(equal), await self._shaped()
        anywhere = [1.0] + [0.0] * (shape.dimension - 1)
        found = await self._do(
            lambda index, namespace: index.query(top_k=COUNTED, vector=anywhere, namespace=namespace, filter=where)
        )
        if len(found.matches) < COUNTED:
            return len(found.matches)
        number = 0
        async for _ in self._all(equal, PAGE):
            number += 1
        return number

    async def aclose(self) -> None:
        """See VectorStore."""
        self._closed = True
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.index.close()

    async def _all(self, equal: Mapping[str, Scalar] | None, limit: int) -> AsyncIterator[Document]:
        """Those of `equal`, or all, page by page of at most `limit`."""
        where, token = pinecone_items.where(equal), None
        while True:
            documents, token = await self._page(where, max(1, min(limit, PAGE)), token)
            for document in documents:
                yield document
            if not token:
                return

    async def _page(
        self, where: Mapping[str, Any] | None, limit: int, token: str | None
    ) -> tuple[list[Document], str | None]:
        """One page of them, and what the next one is asked by."""
        if where is not None:
            found = await self._do(
                lambda index, namespace: index.fetch_by_metadata(
                    filter=where, limit=limit, pagination_token=token, namespace=namespace
                )
            )
            return _documents(found.vectors), _next(found)
        listed = await self._do(
            lambda index, namespace: index.list_paginated(limit=limit, pagination_token=token, namespace=namespace)
        )
        ids = [item.id for item in listed.vectors if item.id]
        documents = [document for some in pinecone_items.shares(ids, PAGE) for document in await self._fetched(some)]
        return documents, _next(listed)

    async def _fetched(self, ids: Sequence[str]) -> list[Document]:
        found = await self._do(lambda index, namespace: index.fetch(ids=ids, namespace=namespace))
        return _documents(found.vectors)

    async def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        await self._do(lambda index, namespace: index.upsert(vectors=rows, namespace=namespace))

    async def _forget(self, **chosen: Any) -> None:
        await self._do(lambda index, namespace: _deleted(index.delete(namespace=namespace, **chosen)))

    # -- the service ---------------------------------------------------------------------------------------------

    async def _shaped(self, vectors: Sequence[Sequence[float]] = (), wanted: int = 0) -> Shape:
        """The index as it is, read once more where it may have been made anew since.

        Raises VectorsRefused for a vector that it does not take.
        """
        shape = self._shape
        if shape is None or any(len(vector) != shape.dimension for vector in vectors):
            shape = (await self._read(wanted))[0]
        for vector in vectors:
            port.check_vector(vector, shape.dimension)
        return shape

    async def _read(self, wanted: int = 0) -> tuple[Shape, int]:
        """The index, and how many items the namespace has."""
        told = await self._do(lambda index, _: index.describe_index_stats(), wanted=wanted)
        if not told.dimension:
            raise VectorsRefused(f"{self._name} has no dense vectors: name an index of dense vectors")
        self._shape = Shape(told.dimension, (told.metric or "cosine").lower())
        own = self._address().namespace or DEFAULT_NAMESPACE
        names = (DEFAULT_NAMESPACE, "") if own == DEFAULT_NAMESPACE else (own,)
        return self._shape, sum(told.namespaces[name].vector_count for name in names if name in told.namespaces)

    async def _do(self, work: Work[T], expression: str = "", wanted: int = 0) -> T:
        """What `work` returns for the index and the namespace; once more where the index has moved meanwhile.

        The client itself repeats what was not answered, or with 408, 429 or 5xx: three times, waiting in between.
        """
        before = self._opened
        try:
            return await self._once(work, expression, wanted)
        except (_Lost, port.CollectionMissing):
            self._shape = None
            if before is None or not await self._moved(before, wanted):
                raise
        except _Late:
            async with self._opening:
                await self._replace(None)  # the next call looks for it anew
            raise
        return await self._once(work, expression, wanted)

    async def _once(self, work: Work[T], expression: str, wanted: int) -> T:
        address = self._address()
        with self._telling(address, expression, wanted):
            async with asyncio.timeout(SECONDS):
                opened = await self._connected(address)
                opened.users += 1
                try:
                    return await work(opened.index, address.namespace)
                finally:
                    opened.users -= 1
                    await _closed(opened)

    async def _connected(self, address: Address) -> _Opened:
        """A client; another one where the address, or the key that is part of it, is another now."""
        async with self._opening:
            if self._closed:
                raise Unavailable(f"{self._name} is closed")
            if self._opened is None or self._opened.address != address:
                host = address.host or await self._found(address)
                index = await asyncio.to_thread(_open, address, host)
                opened = _Opened(address, host, index)
                await self._replace(opened)
                return opened
            return self._opened

    async def _replace(self, opened: _Opened | None) -> None:
        old, self._opened = self._opened, opened
        if old is not None:
            old.replaced = True
            await _closed(old)

    async def _moved(self, opened: _Opened, wanted: int) -> bool:
        """Whether the index has another address than it had. Raises CollectionMissing where it is gone."""
        if opened.address.host:
            return False
        async with self._opening:
            if self._opened is not opened:
                return True
            try:
                with self._telling(opened.address, wanted=wanted):
                    async with asyncio.timeout(SECONDS):
                        host = await self._found(opened.address)
            except VectorsUnavailable:
                return False
            if host == opened.host:
                return False
            await self._replace(None)
            return True

    async def _found(self, address: Address) -> str:
        """Where the index is, as Pinecone tells it."""
        client = await asyncio.to_thread(_control, address)
        try:
            told = await client.indexes.describe(self._collection)
        finally:
            await client.close()
        if not told.host:
            raise VectorsUnavailable(f"{self._name} is still being made", retry_after=5.0)
        return told.host

    @contextlib.contextmanager
    def _telling(self, address: Address, expression: str = "", wanted: int = 0) -> Iterator[None]:
        """Raise what a failure of the client's means."""
        try:
            yield
        except Exception as error:
            told = self._told(error, address.key, expression, wanted)
            if told is None:
                raise
            raise told from None  # what was answered may repeat the key

    def _told(self, error: Exception, key: str, expression: str, wanted: int) -> Exception | None:
        """What a failure means; None for what is not the client's own."""
        if self._closed and not isinstance(error, KadreError):
            return Unavailable(f"{self._name} is closed")
        if isinstance(error, TimeoutError):
            return _Late(f"{self._name}: no answer came in time; try again later", retry_after=5.0)
        if isinstance(error, KadreError):
            return None
        from pinecone.errors import exceptions as known

        if not isinstance(error, known.PineconeError):
            return None
        said = shorten(str(getattr(error, "message", error)).replace(key, "…"), 200)
        match error:
            case known.NotFoundError():
                return _missing(self._name, wanted)
            case known.UnauthorizedError() | known.ForbiddenError():
                what = f"Pinecone refuses the API key ({said}): put one of the index's project into the Secret"
                return VectorsUnavailable(f"{self._name}: {what}", retry_after=5.0)
            case known.RateLimitError():
                return VectorsUnavailable(
                    f"{self._name}: too many requests ({said})", retry_after=error.retry_after or 5
                )
            case known.ServiceError() | known.PaymentRequiredError() | known.ResponseParsingError():
                return VectorsUnavailable(f"{self._name}: {said}", retry_after=5.0)
            case known.PineconeConnectionError():
                hint = "check its host and the network between"
                return _Lost(f"{self._name} cannot be reached: {said} ({hint})", retry_after=5.0)
            case known.ApiError() if expression and error.status_code == 400:
                return VectorsRefused(f"the filter {expression!r:.200} is none that Pinecone takes: {said}")
            case _:
                return VectorsRefused(f"{self._name}: {said}")


def _library() -> Any:
    try:
        import pinecone
    except ImportError as absent:
        problem = Problem(
            "StoreLibraryMissing", "a Pinecone store needs the extra `pinecone`", "pip install 'kadre[pinecone]'"
        )
        raise ProblemError([problem]) from absent
    logging.getLogger("pinecone").setLevel(logging.CRITICAL)  # what fails is told to whoever asked
    return pinecone


def _open(address: Address, host: str) -> AsyncIndex:
    index: AsyncIndex = _library().AsyncIndex(host=host, api_key=address.key, **_settings())
    return index


def _control(address: Address) -> AsyncPinecone:
    client: AsyncPinecone = _library().AsyncPinecone(address.key, host=address.control or None, **_settings())
    return client


def _settings() -> dict[str, Any]:
    trusted = ssl.get_default_verify_paths()  # whom this machine trusts, and not only whom the client does
    return {
        "additional_headers": _HEADERS,
        "source_tag": "kadre",
        "ssl_ca_certs": trusted.cafile or trusted.capath,
        "timeout": REQUEST_SECONDS,
    }


async def _closed(opened: _Opened) -> None:
    """Close one that nobody uses any more."""
    if opened.replaced and not opened.users:
        await opened.index.close()


async def _deleted(deleting: Awaitable[None]) -> None:
    """A namespace in which nothing was ever written is not there, and has nothing to forget."""
    from pinecone.errors.exceptions import NotFoundError

    try:
        await deleting
    except NotFoundError as error:
        if "namespace" not in error.message.lower():
            raise


def _missing(name: str, wanted: int) -> port.CollectionMissing:
    size = f"dimension {wanted}" if wanted else "the dimension of the embedding model"
    return port.CollectionMissing(
        f"{name} is not there: make it at Pinecone (an index of dense vectors, {size}, metric cosine), which Kadre does"
        " not do, and fill it with `kadre ingest`; or check its name and host, and whose project the API key is of"
    )


def _documents(found: Mapping[str, Vector]) -> list[Document]:
    return [Document(name, *pinecone_items.content(kept.metadata)) for name, kept in found.items()]


def _next(page: FetchByMetadataResponse | ListResponse) -> str | None:
    return page.pagination.next if page.pagination is not None else None
