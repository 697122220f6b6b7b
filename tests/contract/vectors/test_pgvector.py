"""What only PostgreSQL's tables and indexes can go wrong with."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from kadre.engine.vectors.pgvector import Address, PgVectors
from kadre.engine.vectors.port import Item
from tests.support.postgres import Cluster

pytestmark = [pytest.mark.stores, pytest.mark.timeout(60)]
# As in a table of 40,000 rows, where the planner takes the index and the index gives up at 20,000.
SMALL = "hnsw.max_scan_tuples=300&enable_seqscan=off&enable_bitmapscan=off"


@pytest.fixture
async def stores(pg: Cluster) -> AsyncIterator[list[PgVectors]]:
    """Two collections whose names share 58 characters."""
    start = uuid.uuid4().hex * 2
    dsn = pg.dsn()
    address = Address(dsn=f"{dsn}{'&' if '?' in dsn else '?'}{SMALL}")
    made = [PgVectors(lambda: address, f"{start[:58]}{end}") for end in ("-one", "-two")]
    yield made
    for store in made:
        await store.aclose()


async def test_a_filter_that_leaves_rows_far_away_finds_all_of_them(stores: list[PgVectors]) -> None:
    store, _ = stores
    await store.ensure(2)
    for start in range(0, 2000, 1000):
        rows = range(start, start + 1000)
        await store.upsert(
            [Item(f"i{n}", (-1.0 if n % 100 == 0 else 1.0, n / 4000), "x", {"t": n % 100}) for n in rows]
        )
    assert len(await store.search((1.0, 0.0), 5, {"t": 0})) == 5
    hits = await store.search((1.0, 0.0), 50, expression="metadata->>'t' = '0'")
    assert len(hits) == 20
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


async def test_collections_of_nearly_one_name_have_each_their_index(stores: list[PgVectors]) -> None:
    for store in stores:
        await store.ensure(2)
        await store.upsert([Item("a", (1.0, 0.0), "x")])
        assert [hit.id for hit in await store.search((1.0, 0.0), 1)] == ["a"]


async def test_a_collection_that_is_searched_often_is_searched_by_its_index_each_time(pg: Cluster) -> None:
    """A plan for whatever may be asked would read all rows: it takes every filter for one that leaves few."""
    name = f"c{uuid.uuid4().hex}"
    # As in a table of more rows, which is not worth reading as a whole.
    store = PgVectors(lambda: Address(dsn=f"{pg.dsn()}&enable_seqscan=off"), name)
    await store.ensure(64)
    for start in (0, 1000, 2000):
        rows = range(start, start + 1000)
        await store.upsert(
            [Item(f"i{n}", [math.sin((n + 1) * k) for k in range(1, 65)], "x", {"t": n % 9}) for n in rows]
        )
    db = await asyncpg.connect(pg.dsn())
    await db.execute(f'ANALYZE "{name}"')  # as the server does by itself
    for _ in range(10):
        assert len(await store.search([1.0] * 64, 5)) == 5
    await store.aclose()  # its connection has then told what it used
    scans = "SELECT idx_scan FROM pg_stat_user_indexes WHERE relname = $1 AND indexrelname LIKE '%embedding%'"
    async with asyncio.timeout(10):
        while await db.fetchval(scans, name) < 10:
            await db.execute("SELECT pg_stat_clear_snapshot()")
    await db.close()


async def test_two_that_write_the_same_items_in_another_order_do_not_wait_for_each_other(
    stores: list[PgVectors],
) -> None:
    store, _ = stores
    await store.ensure(2)
    items = [Item(f"i{n}", (1.0, n), "x") for n in range(300)]
    for _ in range(5):
        await asyncio.gather(store.upsert(items), store.upsert(items[::-1]), store.upsert(items[150:] + items[:150]))
    assert await store.count() == 300
