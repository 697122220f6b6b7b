"""One suite, several vector stores: every test that takes `kind` runs on each of them.

The servers are started once for all tests of a process (`make test-stores`); each test has a collection of its own.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from pinecone._internal.http_client import get_budget_registry

from kadre.engine.vectors.pinecone import Address as PineconeAddress
from kadre.engine.vectors.pinecone import PineconeVectors
from kadre.engine.vectors.port import VectorStore
from kadre.engine.vectors.sqlite import SqliteVectors
from tests.support.milvus import Milvus
from tests.support.pinecone import KEY, Pinecone
from tests.support.postgres import Cluster, with_vectors

PGVECTOR = pytest.param("pgvector", marks=pytest.mark.stores)
MILVUS = pytest.param("milvus", marks=pytest.mark.stores)
PINECONE = pytest.param("pinecone", marks=pytest.mark.stores)  # its client takes seconds to give up
SERVERS = [PGVECTOR, MILVUS, PINECONE]
KINDS = ["in-memory", "sqlite", PGVECTOR, MILVUS, "pinecone"]
Open = Callable[..., VectorStore]


@pytest.fixture(scope="session")
def pg() -> Iterator[Cluster]:
    """A PostgreSQL server with pgvector."""
    with Cluster(programs_in=with_vectors()) as started:
        yield started


@pytest.fixture(scope="session")
def milvus() -> Iterator[Milvus]:
    """A Milvus server."""
    with Milvus() as started:
        yield started


@pytest.fixture(scope="session")
def pinecone() -> Iterator[Pinecone]:
    """A stand-in for Pinecone."""
    with Pinecone() as started:
        yield started


@pytest.fixture(autouse=True)
def budget() -> None:
    """Pinecone's client repeats less and less at a host that failed often: what a test does counts in no other."""
    get_budget_registry()._reset()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which store."""
    name: str = request.param
    return name


@pytest.fixture
async def opened(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens a collection, by its name: as another process would, but for one in memory."""
    suffix = uuid.uuid4().hex[:8]
    async with AsyncExitStack() as stack:

        def open_one(name: str = "c") -> VectorStore:
            store = _open(kind, f"{name}-{suffix}", request, tmp_path)
            stack.push_async_callback(store.aclose)
            return store

        yield open_one


def _open(kind: str, name: str, request: pytest.FixtureRequest, folder: Path) -> VectorStore:
    match kind:
        case "pgvector":
            from kadre.engine.vectors import pgvector

            address = pgvector.Address(dsn=request.getfixturevalue("pg").dsn())
            return pgvector.PgVectors(lambda: address, name)
        case "milvus":
            from kadre.engine.vectors.milvus import Address, MilvusVectors

            server: Milvus = request.getfixturevalue("milvus")
            return MilvusVectors(lambda: Address(uri=server.uri), name)
        case "pinecone":
            at = PineconeAddress(key=KEY, control=request.getfixturevalue("pinecone").url)
            return PineconeVectors(lambda: at, name)
        case "sqlite":
            return SqliteVectors(folder / f"{name}.db", name)
        case _:
            return SqliteVectors(None, name)


@pytest.fixture
async def store(opened: Open, request: pytest.FixtureRequest) -> VectorStore:
    """An empty collection of vectors of three numbers."""
    made = opened()
    if isinstance(made, PineconeVectors):  # its index is made by its owner
        request.getfixturevalue("pinecone").create(made._collection, 3)
    await made.ensure(3)
    return made


@pytest.fixture
def remake(kind: str, request: pytest.FixtureRequest) -> Callable[[VectorStore, int], Awaitable[None]]:
    """Makes a collection anew, with vectors of that many numbers, as somebody else would."""

    async def made(store: Any, dimension: int) -> None:
        if kind == "pinecone":
            request.getfixturevalue("pinecone").create(store._collection, dimension)
        elif kind == "pgvector":
            import asyncpg

            db = await asyncpg.connect(dsn=request.getfixturevalue("pg").dsn())
            await db.execute(f"DROP TABLE {store._table}")
            await db.close()
        else:
            from pymilvus import MilvusClient

            client = await asyncio.to_thread(MilvusClient, uri=request.getfixturevalue("milvus").uri)
            await asyncio.to_thread(client.drop_collection, store._collection)
            await asyncio.to_thread(client.close)
        other = type(store)(store._address, store._table.strip('"') if kind == "pgvector" else store._collection)
        await other.ensure(dimension)
        await other.aclose()

    return made
