"""One suite, several stores: every test that takes `journal` runs on each of them.

PostgreSQL's server is started once for all tests of a process (`make test-stores`); each test has a schema of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kadre.base.clock import FakeClock, SystemClock
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.memory.port import Journal, OwnJournal
from kadre.engine.memory.sqlite import SqliteJournal
from tests.support.postgres import Cluster, new_schema
from tests.support.scene import Scene

if TYPE_CHECKING:
    from kadre.engine.memory.postgres import PostgresJournal

LEASE = 1.5
"""Seconds; long enough for a machine that is busy."""
POSTGRES = pytest.param("postgres", marks=[pytest.mark.stores, pytest.mark.needs("postgres")])


@pytest.fixture(params=["in-memory", "sqlite", POSTGRES])
async def journal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Journal]:
    """An empty store of each kind."""
    store: Journal = InMemoryJournal(clock=FakeClock())
    if request.param == "sqlite":
        store = await SqliteJournal.open(tmp_path, clock=FakeClock())
    elif request.param == "postgres":
        from kadre.engine.memory.postgres import PostgresJournal

        cluster: Cluster = request.getfixturevalue("cluster")
        store = await PostgresJournal.open(cluster.dsn(), schema=new_schema(), clock=FakeClock())
    yield store
    await store.aclose()


@pytest.fixture(params=["in-memory", "sqlite"])
async def own(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OwnJournal]:
    """An empty store of each kind that one process has."""
    in_memory = request.param == "in-memory"
    store: OwnJournal = InMemoryJournal(clock=FakeClock()) if in_memory else await SqliteJournal.open(tmp_path)
    yield store
    await store.aclose()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of our own."""
    with Cluster() as started:
        yield started


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    """An empty SQLite journal."""
    store = await SqliteJournal.open(tmp_path)
    yield store
    await store.aclose()


@pytest.fixture
async def shared(cluster: Cluster) -> AsyncIterator[tuple[PostgresJournal, PostgresJournal]]:
    """Two journals over one PostgreSQL database, as two processes would have them."""
    from kadre.engine.memory.postgres import PostgresJournal

    schema = new_schema()
    both = (
        await PostgresJournal.open(cluster.dsn(), schema=schema, lease=LEASE),
        await PostgresJournal.open(cluster.dsn(), schema=schema, lease=LEASE),
    )
    yield both
    for store in both:
        await store.aclose()


@pytest.fixture
async def begin(cluster: Cluster) -> AsyncIterator[Callable[..., Awaitable[Scene]]]:
    """Begins a host over one database: `dsn` leads there another way, `begun=False` leaves alone what is there."""
    from kadre.engine.memory.postgres import PostgresJournal

    schema, scenes = new_schema(), []

    async def begin(*, dsn: str = "", begun: bool = True) -> Scene:
        # By one connection where it may be cut: another one that is open would find out at once what became of it.
        number = 1 if dsn else 4
        journal = await PostgresJournal.open(dsn or cluster.dsn(), schema=schema, lease=LEASE, connections=number)
        scene = Scene(journal, SystemClock())
        scenes.append(scene)
        if begun:
            await scene.host.recover()
        return scene

    yield begin
    for scene in scenes:
        await scene.host.aclose(0)


@pytest.fixture
async def hosts(begin: Callable[..., Awaitable[Scene]]) -> tuple[Scene, Scene]:
    """Two hosts that have begun, over one PostgreSQL database."""
    return await begin(), await begin()
