"""What every vector store does alike."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from kadre.base.errors import Unavailable
from kadre.engine.vectors.port import CollectionMissing, Hit, Item, Scalar, VectorsRefused, VectorStore
from tests.contract.vectors.conftest import SERVERS, Open

FAQ = Item("faq-1", (1.0, 0.0, 0.0), "How to return it", {"category": "faq", "year": 2024, "open": True})
MANUAL = Item("man-1", (0.6, 0.8, 0.0), 'The "manual" – ü', {"category": "manual", "year": 2025, "weight": 1.5})
POLICY = Item("pol-1", (0.0, 0.0, 5.0), "Policy\nof returns", {"category": 'it\'s "quoted" \\ ü', "year": 2025})
NESTED: Any = {"a": ["b"]}
ALL = (FAQ, MANUAL, POLICY)
NEWER = {"milvus": 'metadata["year"] > 2024', "pinecone": '{"year": {"$gt": 2024}}'}
"""Filters in the stores' own languages; of the others it is SQL."""
TENANT = {
    "milvus": 'metadata["tenant"] == 0',
    "pgvector": "metadata->>'tenant' = '0'",
    "pinecone": '{"tenant": 0}',
}


def ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.id for hit in hits]


async def test_a_score_is_the_cosine_in_every_store_and_the_best_comes_first(store: VectorStore) -> None:
    await store.upsert([*ALL, Item("opposite", (-2.0, 0.0, 0.0), "no")])
    hits = await store.search((3.0, 0.0, 0.0), 10)
    assert [(hit.id, round(hit.score, 5)) for hit in hits] == [
        ("faq-1", 1.0),
        ("man-1", 0.6),
        ("pol-1", 0.0),
        ("opposite", -1.0),
    ]
    assert ids(await store.search((0.0, 0.0, 1.0), 1)) == ["pol-1"]
    assert (hits[1].text, hits[1].metadata) == (MANUAL.text, MANUAL.metadata)


async def test_metadata_is_filtered_by_equality_of_value_and_type(store: VectorStore) -> None:
    await store.upsert(ALL)
    filters: list[tuple[dict[str, Scalar], list[str]]] = [
        ({"category": "faq"}, ["faq-1"]),
        ({"year": 2025}, ["man-1", "pol-1"]),
        ({"year": 2025.0, "category": "manual"}, ["man-1"]),
        ({"open": True}, ["faq-1"]),
        ({"weight": 1.5}, ["man-1"]),
        ({"category": POLICY.metadata["category"]}, ["pol-1"]),
        ({"year": "2025"}, []),
        ({"nothing": "faq"}, []),
        ({"category": "faq' OR 1=1 --"}, []),
    ]
    for equal, found in filters:
        assert ids(await store.search((1.0, 0.1, 0.0), 10, equal)) == found, equal
        assert await store.count(equal) == len(found), equal
        assert sorted(document.id for document in await store.get(equal=equal)) == sorted(found), equal


async def test_an_expression_is_the_stores_own_and_joins_the_other_filters(store: VectorStore, kind: str) -> None:
    await store.upsert(ALL)
    newer = NEWER.get(kind, "cast(metadata->>'year' as integer) > 2024")
    assert ids(await store.search((1.0, 0.0, 0.0), 10, expression=newer)) == ["man-1", "pol-1"]
    assert ids(await store.search((1.0, 0.0, 0.0), 10, {"category": "manual"}, newer)) == ["man-1"]
    assert ids(await store.search((1.0, 0.0, 0.0), 10, {"category": "faq"}, newer)) == []


@pytest.mark.parametrize("expression", ["no such thing", "1) or (1", "true) -- ", "true; drop table items"])
async def test_an_expression_that_is_none_is_refused_and_harms_nothing(store: VectorStore, expression: str) -> None:
    await store.upsert(ALL)
    with pytest.raises(VectorsRefused, match="the filter"):
        await store.search((1.0, 0.0, 0.0), 10, {"category": "faq"}, expression)
    assert await store.count() == 3


async def test_an_item_takes_the_place_of_the_one_with_its_id(store: VectorStore) -> None:
    await store.upsert(ALL)
    await store.search((1.0, 0.0, 0.0), 1)
    await store.upsert([Item("faq-1", (0.0, 1.0, 0.0), "first"), Item("faq-1", (0.0, 0.0, 1.0), "last", {"n": 1})])
    assert await store.count() == 3
    assert await store.count({"category": "faq"}) == 0
    (document,) = await store.get(["faq-1", "gone"])
    assert (document.text, document.metadata) == ("last", {"n": 1})
    assert ids(await store.search((1.0, 0.0, 0.0), 1)) == ["man-1"]


async def test_items_are_forgotten_by_id_and_by_filter(store: VectorStore) -> None:
    await store.upsert(ALL)
    await store.delete(["faq-1", "gone"])
    assert ids(await store.search((1.0, 0.0, 0.0), 10)) == ["man-1", "pol-1"]
    await store.delete(equal={"year": 2025})
    assert (await store.count(), await store.search((1.0, 0.0, 0.0), 10)) == (0, [])
    with pytest.raises(VectorsRefused, match="which items"):
        await store.delete()


async def test_what_no_store_could_hold_is_refused_by_all(store: VectorStore, kind: str) -> None:
    for item in (
        Item("", (1.0, 0.0, 0.0), "x"),
        Item("i" * 257, (1.0, 0.0, 0.0), "x"),
        Item("i", (1.0, 0.0), "x"),
        Item("i", (0.0, 0.0, 0.0), "x"),
        Item("i", (math.nan, 0.0, 0.0), "x"),
        Item("i", (1.0, 0.0, 0.0), "x" * 64_001),
        Item("i", (1.0, 0.0, 0.0), "x\0"),
        Item("i", (1.0, 0.0, 0.0), "x", {"a": "y" * 20_000}),
        Item("i", (1.0, 0.0, 0.0), "x", {"a": math.inf}),
        Item("i", (1.0, 0.0, 0.0), "x", NESTED),
    ):
        with pytest.raises(VectorsRefused):
            await store.upsert([item])
    with pytest.raises(VectorsRefused, match="another embedding model"):
        await store.search((1.0, 0.0), 3)
    assert await store.count() == 0
    most = 20_000 if kind == "pinecone" else 32_000  # what Pinecone keeps of an item is 40 KB, all in all
    await store.upsert([Item("i" * 256, (1.0, 0.0, 0.0), "ü" * most)])
    assert await store.count() == 1


async def test_a_collection_keeps_its_dimension(store: VectorStore, opened: Open, kind: str) -> None:
    await store.ensure(3)
    with pytest.raises(VectorsRefused, match="3 numbers, the embedding model gives 4"):
        await store.ensure(4)
    if kind != "in-memory":
        with pytest.raises(VectorsRefused, match="3 numbers"):
            await opened().ensure(5)


async def test_a_collection_that_is_not_there_is_told(opened: Open) -> None:
    works: list[Callable[[VectorStore], Awaitable[object]]] = [
        lambda store: store.search((1.0, 0.0, 0.0), 3),
        lambda store: store.get(["a"]),
        lambda store: store.count(),
        lambda store: store.upsert([FAQ]),
        lambda store: store.delete(["a"]),
    ]
    for work in works:
        with pytest.raises(CollectionMissing, match="kadre ingest"):
            await work(opened("nothing"))


async def test_what_one_process_writes_another_finds(store: VectorStore, opened: Open, kind: str) -> None:
    if kind == "in-memory":
        return
    other = opened()
    await store.upsert([FAQ])
    assert ids(await other.search((1.0, 0.0, 0.0), 10)) == ["faq-1"]
    await store.upsert([MANUAL])
    assert ids(await other.search((1.0, 0.0, 0.0), 10)) == ["faq-1", "man-1"]
    await store.delete(["faq-1"])
    assert ids(await other.search((1.0, 0.0, 0.0), 10)) == ["man-1"]
    await other.upsert([POLICY])
    assert ids(await store.search((1.0, 0.0, 0.0), 10)) == ["man-1", "pol-1"]


async def test_two_processes_make_a_collection_at_once(opened: Open, kind: str) -> None:
    if kind in (
        "in-memory",
        "milvus",
        "pinecone",
    ):  # Milvus tells one of the two that it is there; Pinecone's are made elsewhere
        return
    stores = [opened() for _ in range(4)]
    await asyncio.gather(*[store.ensure(3) for store in stores])
    await asyncio.gather(*[store.upsert([Item(f"i{n}", (1.0, n, 0.0), "x")]) for n, store in enumerate(stores)])
    assert await stores[0].count() == 4


async def test_many_vectors_are_found_as_a_plain_comparison_finds_them(store: VectorStore) -> None:
    made = random.Random(7)
    items = [Item(f"i{n}", [made.gauss(0, 1) for _ in range(3)], f"t{n}", {"odd": n % 2}) for n in range(1500)]
    for start in range(0, len(items), 500):
        await store.upsert(items[start : start + 500])
    wanted = (0.3, -0.5, 0.8)

    def cosine(item: Item) -> float:
        return sum(a * b for a, b in zip(item.vector, wanted, strict=True)) / (
            math.hypot(*item.vector) * math.hypot(*wanted)
        )

    exact = sorted((item for item in items if item.metadata["odd"]), key=cosine, reverse=True)[:20]
    hits = await store.search(wanted, 20, {"odd": 1})
    assert len(set(ids(hits)) & {item.id for item in exact}) >= 18
    assert hits[0].score == pytest.approx(cosine(exact[0]), abs=1e-5)
    assert len(await store.search(wanted, 5000)) == 1000


async def test_one_tenant_in_a_hundred_is_found_however_far_away_it_is(store: VectorStore, kind: str) -> None:
    made = random.Random(3)

    def item(number: int) -> Item:
        side = -1.0 if number % 100 == 0 else 1.0
        vector = (side, made.gauss(0, 0.1), made.gauss(0, 0.1))
        return Item(f"i{number}", vector, "x", {"tenant": number % 100})

    for start in range(0, 1000, 500):
        await store.upsert([item(number) for number in range(start, start + 500)])
    assert len(await store.search((1.0, 0.0, 0.0), 5, {"tenant": 0})) == 5
    only = TENANT.get(kind, "metadata->>'tenant' = 0")
    assert len(await store.search((1.0, 0.0, 0.0), 5, expression=only)) == 5
    assert len(await store.search((1.0, 0.0, 0.0), 20, {"tenant": 0})) == 10


@pytest.mark.parametrize("kind", SERVERS, indirect=True)
async def test_one_that_was_made_anew_with_another_dimension_needs_no_restart(
    store: VectorStore, opened: Open, remake: Callable[[VectorStore, int], Awaitable[None]]
) -> None:
    reader = opened()
    await store.upsert([FAQ])
    assert ids(await reader.search((1.0, 0.0, 0.0), 1)) == ["faq-1"]
    await remake(store, 2)
    writer = opened()
    await writer.upsert([Item("two", (1.0, 0.0), "x")])
    assert ids(await reader.search((1.0, 0.0), 1)) == ["two"]
    await store.upsert([Item("three", (0.0, 1.0), "x")])
    with pytest.raises(VectorsRefused, match="the collection has 2"):
        await reader.search((1.0, 0.0, 0.0), 1)


async def test_all_of_them_are_walked_however_many(store: VectorStore) -> None:
    for start in range(0, 2500, 500):
        rows = [Item(f"i{n}", (1.0, n, 0.0), "x", {"odd": n % 2, "n": n}) for n in range(start, start + 500)]
        await store.upsert(rows)
    assert {document.id async for document in store.walk()} == {f"i{n}" for n in range(2500)}
    odd = [document async for document in store.walk({"odd": 1})]
    assert {document.id for document in odd} == {f"i{n}" for n in range(1, 2500, 2)}
    assert {document.metadata["n"] for document in odd} == set(range(1, 2500, 2))
    assert [document async for document in store.walk({"odd": 2})] == []


async def test_a_closed_one_says_so(store: VectorStore) -> None:
    await store.aclose()
    with pytest.raises(Unavailable, match="closed"):
        await store.count()
