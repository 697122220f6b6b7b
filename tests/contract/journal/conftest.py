"""One suite, several stores: every test that takes `journal` runs on each, or `store` on each that has a server.

A server is started once for all tests of a process (`make test-stores`); each test has a part of it of its own.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kadre.base.clock import FakeClock, SystemClock
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.memory.port import Journal, OwnJournal
from kadre.engine.memory.remote_journal import RemoteJournal
from kadre.engine.memory.sqlite import SqliteJournal
from tests.support.cut import Cut
from tests.support.postgres import Cluster
from tests.support.redis import RedisServer
from tests.support.scene import Scene
from tests.support.stores import Store, new_space, started

LEASE = 1.5
"""Seconds; long enough for a machine that is busy."""
SERVERS = [pytest.param(kind, marks=[pytest.mark.stores, pytest.mark.needs(kind)]) for kind in ("postgres", "redis")]


@pytest.fixture(scope="session")
def stores() -> Iterator[Callable[[str], Store]]:
    """The store of a kind, started when it is first wanted."""
    with ExitStack() as running:
        yield functools.cache(lambda kind: running.enter_context(started(kind)))


@pytest.fixture(params=SERVERS)
def store(request: pytest.FixtureRequest, stores: Callable[[str], Store]) -> Store:
    """Each server that keeps a journal."""
    return stores(request.param)


@pytest.fixture(params=["in-memory", "sqlite", *SERVERS])
async def journal(
    request: pytest.FixtureRequest, tmp_path: Path, stores: Callable[[str], Store]
) -> AsyncIterator[Journal]:
    """An empty store of each kind."""
    store: Journal
    if request.param == "in-memory":
        store = InMemoryJournal(clock=FakeClock())
    elif request.param == "sqlite":
        store = await SqliteJournal.open(tmp_path, clock=FakeClock())
    else:
        store = await stores(request.param).open(new_space(), clock=FakeClock())
    yield store
    await store.aclose()


@pytest.fixture(params=["in-memory", "sqlite"])
async def own(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OwnJournal]:
    """An empty store of each kind that one process has."""
    in_memory = request.param == "in-memory"
    store: OwnJournal = InMemoryJournal(clock=FakeClock()) if in_memory else await SqliteJournal.open(tmp_path)
    yield store
    await store.aclose()


@pytest.fixture
def cluster(stores: Callable[[str], Store]) -> Cluster:
    """A PostgreSQL server of our own."""
    server = stores("postgres").server
    assert isinstance(server, Cluster)
    return server


@pytest.fixture
def redis(stores: Callable[[str], Store]) -> RedisServer:
    """A Redis server of our own."""
    server = stores("redis").server
    assert isinstance(server, RedisServer)
    return server


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    """An empty SQLite journal."""
    store = await SqliteJournal.open(tmp_path)
    yield store
    await store.aclose()


@pytest.fixture
def space() -> str:
    """The part of its store that a test has."""
    return new_space()


@pytest.fixture
async def shared(store: Store, space: str) -> AsyncIterator[tuple[RemoteJournal, RemoteJournal]]:
    """Two journals over one store, as two processes would have them."""
    both = (await store.open(space, lease=LEASE), await store.open(space, lease=LEASE))
    yield both
    for journal in both:
        await journal.aclose()


@pytest.fixture
async def begin(store: Store, space: str) -> AsyncIterator[Callable[..., Awaitable[Scene]]]:
    """Begins a host over one store: `cut` leads there another way, `begun=False` leaves alone what is there."""
    scenes = []

    async def begin(*, cut: Cut | None = None, begun: bool = True) -> Scene:
        scene = Scene(await store.open(space, lease=LEASE, cut=cut), SystemClock())
        scenes.append(scene)
        if begun:
            await scene.host.recover()
        return scene

    yield begin
    for scene in scenes:
        await scene.host.aclose(0)


@pytest.fixture
async def hosts(begin: Callable[..., Awaitable[Scene]]) -> tuple[Scene, Scene]:
    """Two hosts that have begun, over one store."""
    return await begin(), await begin()
