"""What is kept outlives the server, or the process, that kept it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kadre.engine.vectors.port import Item, VectorStore, VectorsUnavailable
from kadre.engine.vectors.sqlite import SqliteVectors
from tests.contract.vectors.conftest import SERVERS, Open
from tests.support.milvus import Milvus
from tests.support.pinecone import Pinecone
from tests.support.postgres import Cluster

Server = Cluster | Milvus | Pinecone
WRITER = """
import asyncio, sys
from pathlib import Path
from kadre.engine.vectors.port import Item
from kadre.engine.vectors.sqlite import SqliteVectors

async def main():
    store = SqliteVectors(Path(sys.argv[1]), "c")
    await store.ensure(3)
    for number in range(100_000):
        await store.upsert([Item(f"{number}-{part}", (1.0, number, part), "x", {"n": number}) for part in range(3)])
        print(number, flush=True)

asyncio.run(main())
"""


def item(number: int) -> Item:
    return Item(f"i{number}", (1.0, number, 0.0), f"text {number}", {"n": number})


@pytest.fixture
def server(kind: str, request: pytest.FixtureRequest) -> Server:
    """The store's server."""
    found: Server = request.getfixturevalue("pg" if kind == "pgvector" else kind)
    return found


@pytest.mark.parametrize("kind", SERVERS, indirect=True)
async def test_a_server_that_is_killed_and_comes_back_has_all_it_acknowledged(
    store: VectorStore, server: Server
) -> None:
    acknowledged = []

    async def write() -> None:
        for number in range(60):
            for _ in range(5):
                try:
                    await store.upsert([item(number)])
                except VectorsUnavailable:
                    continue
                acknowledged.append(number)
                break

    writing = asyncio.create_task(write())
    async with asyncio.timeout(20):
        while len(acknowledged) < 10:  # noqa: ASYNC110 - the store sends no event
            await asyncio.sleep(0)
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    await asyncio.wait_for(writing, 45)
    assert acknowledged == list(range(60))
    assert await store.count() == 60
    assert [hit.id for hit in await store.search((1.0, 30.0, 0.0), 1, {"n": 30})] == ["i30"]


@pytest.mark.parametrize("kind", SERVERS, indirect=True)
async def test_while_it_is_away_whoever_asks_is_told_soon_and_nothing_needs_a_restart(
    opened: Open, store: VectorStore, server: Server
) -> None:
    await store.upsert([item(1)])
    await asyncio.to_thread(server.kill)
    try:
        ones: list[Any] = [store, opened()]
        for one in ones:
            began = time.monotonic()
            with pytest.raises(VectorsUnavailable, match=one._name):
                await one.search((1.0, 0.0, 0.0), 1)
            assert time.monotonic() - began < 25
    finally:
        await asyncio.to_thread(server.start)
    async with asyncio.timeout(20):
        while True:
            try:
                hits = await store.search((1.0, 1.0, 0.0), 1)
                break
            except VectorsUnavailable:
                continue
    assert [hit.id for hit in hits] == ["i1"]


async def test_a_process_that_is_killed_while_it_writes_a_file_leaves_whole_batches(tmp_path: Path) -> None:
    file = tmp_path / "c.db"
    last = await asyncio.to_thread(_killed_writer, file)
    store = SqliteVectors(file, "c")
    count = await store.count()
    assert count % 3 == 0
    assert count >= (last + 1) * 3
    assert len(await store.search((1.0, last, 1.0), 1000)) == min(count, 1000)
    await store.upsert([item(1)])
    assert await store.count() == count + 1
    await store.aclose()


def _killed_writer(file: Path) -> int:
    """The last batch that a process had written when it was killed."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    with writer.stdout as said:
        while int(said.readline()) < 20:
            pass
        writer.send_signal(signal.SIGKILL)
        last = max([20, *(int(line) for line in said if line.endswith("\n"))])
    writer.wait(10)
    return last
