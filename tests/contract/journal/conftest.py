"""One suite, several stores: every test that takes `journal` runs on each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kadre.base.clock import FakeClock
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.memory.port import Journal
from kadre.engine.memory.sqlite import SqliteJournal


@pytest.fixture(params=["in-memory", "sqlite"])
async def journal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Journal]:
    """An empty store of each kind."""
    store: Journal = InMemoryJournal(clock=FakeClock())
    if request.param == "sqlite":
        store = await SqliteJournal.open(tmp_path, clock=FakeClock())
    yield store
    await store.aclose()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    """An empty SQLite journal."""
    store = await SqliteJournal.open(tmp_path)
    yield store
    await store.aclose()
