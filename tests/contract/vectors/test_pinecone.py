"""What only Pinecone has: namespaces, a key, limits of its own, indexes that others fill, addresses to be asked for."""

from __future__ import annotations

import asyncio
import itertools
import socket
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from kadre.engine.vectors import pinecone as own
from kadre.engine.vectors.port import CollectionMissing, Item, VectorsRefused, VectorsUnavailable
from tests.support.pinecone import KEY, Index, Pinecone

A, B = Item("a", (1.0, 0.0), "first", {"n": 1}), Item("b", (0.6, 0.8), "second", {"n": 2})
Opened = Callable[..., own.PineconeVectors]


@pytest.fixture
def index(pinecone: Pinecone) -> Index:
    """An empty index of vectors of two numbers."""
    return pinecone.create(f"i-{uuid.uuid4().hex[:8]}", 2)


@pytest.fixture
async def opened(pinecone: Pinecone, index: Index) -> AsyncIterator[Opened]:
    """Opens the index, as the words say."""
    async with AsyncExitStack() as stack:

        def open_one(**words: str) -> own.PineconeVectors:
            address = own.Address(**{"key": KEY, "control": pinecone.url, **words})
            store = own.PineconeVectors(lambda: address, index.name)
            stack.push_async_callback(store.aclose)
            return store

        yield open_one


@pytest.mark.parametrize("metric", ["dotproduct", "euclidean"])
async def test_an_index_that_others_fill_is_read_filtered_and_scored_alike(
    pinecone: Pinecone, opened: Opened, index: Index, metric: str
) -> None:
    other = pinecone.create(index.name, 2, metric)
    other.keep("__default__", "a", [30.0, 0.0], {"text": "first", "lang": "en", "tags": ["x"]})
    other.keep("__default__", "b", [0.0, 2.0], {"page_content": "second", "lang": "de", "title": "t"})
    other.keep("__default__", "c", [-1.0, 0.0], {"lang": "en"})
    store = opened()
    hits = await store.search((0.6, 0.8), 5)
    assert [(hit.id, round(hit.score, 4), hit.text) for hit in hits] == [
        ("b", 0.8, "second"),
        ("a", 0.6, "first"),
        ("c", -0.6, ""),
    ]
    assert [hit.metadata for hit in hits] == [{"lang": "de", "title": "t"}, {"lang": "en"}, {"lang": "en"}]
    assert [hit.id for hit in await store.search((1.0, 0.0), 5, {"lang": "en"}, '{"text": {"$exists": true}}')] == ["a"]


async def test_what_is_in_another_namespace_is_neither_found_nor_counted_nor_forgotten(opened: Opened) -> None:
    usual, named = opened(), opened(namespace="team-1")
    await usual.upsert([A, B])
    await named.upsert([A])
    assert (await usual.count(), await named.count(), await opened(namespace="__default__").count()) == (2, 1, 2)
    assert [hit.id for hit in await named.search((0.6, 0.8), 5)] == ["a"]
    await usual.delete(["a"])
    assert [document.id async for document in named.walk()] == ["a"]
    empty = opened(namespace="nothing-yet")
    await empty.delete(["a"])
    await empty.delete(equal={"n": 1})
    assert (await empty.count(), await empty.get(["a"]), await empty.search((1.0, 0.0), 5)) == (0, [], [])


async def test_an_index_whose_host_is_written_is_not_asked_for(opened: Opened, index: Index) -> None:
    store = opened(host=f"http://127.0.0.1:{index.port}", control="http://127.0.0.1:1")
    await store.ensure(2)
    await store.upsert([A])
    assert await store.count() == 1


async def test_an_index_that_is_not_there_is_told_with_what_is_to_be_made_and_by_whom(
    pinecone: Pinecone, opened: Opened, index: Index
) -> None:
    store = opened()
    await store.ensure(2)
    pinecone.drop(index.name)
    with pytest.raises(CollectionMissing, match=rf"{index.name} is not there: make it at Pinecone \(.* dimension 2,"):
        await store.ensure(2)
    with pytest.raises(CollectionMissing, match="which Kadre does not do"):
        await store.search((1.0, 0.0), 1)


async def test_an_index_that_does_not_answer_is_told_in_time_and_needs_no_restart_when_it_is_elsewhere(
    opened: Opened, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened().ensure(2)  # the library is there
    at, store = index.port, opened()
    monkeypatch.setattr(own, "SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        index.listening.port = silent.getsockname()[1]
        with pytest.raises(VectorsUnavailable, match="no answer came in time"):
            await store.ensure(2)
        index.listening.port = at
        await store.ensure(2)


async def test_too_many_requests_are_repeated_and_in_the_end_told(opened: Opened, index: Index) -> None:
    store = opened()
    await store.ensure(2)
    index.answers = [429, 429, 200]
    await store.upsert([A])
    assert await store.count() == 1
    index.answers = [429] * 100
    with pytest.raises(VectorsUnavailable, match="too many requests") as told:
        await store.count({"n": 1})
    assert KEY not in str(told.value)
    index.answers = [503, 200]
    assert await store.count({"n": 1}) == 1


async def test_a_key_that_is_refused_is_told_and_never_shown_and_a_new_one_counts_at_once(
    pinecone: Pinecone, index: Index
) -> None:
    addresses = [own.Address(key="old-and-secret", control=pinecone.url)]
    store = own.PineconeVectors(lambda: addresses[-1], index.name)
    for host in ("", f"http://127.0.0.1:{index.port}"):
        addresses.append(own.Address(key="old-and-secret", control=pinecone.url, host=host))
        with pytest.raises(VectorsUnavailable, match="refuses the API key") as told:
            await store.ensure(2)
        assert "old-and-secret" not in f"{told.value} {told.value.__cause__} {addresses[-1]}"
    addresses.append(own.Address(key=KEY, control=pinecone.url))
    await store.ensure(2)
    index.answers = [401]
    with pytest.raises(VectorsUnavailable, match="refuses the API key") as told:
        await store.search((1.0, 0.0), 1)
    assert KEY not in str(told.value)
    await store.aclose()


async def test_calls_that_run_while_the_address_changes_end_well(pinecone: Pinecone, index: Index) -> None:
    turns = itertools.count()

    def address() -> own.Address:
        return own.Address(key=KEY, host=f"http://127.0.0.1:{index.port}", control=f"http://127.0.0.1:{next(turns)}")

    store = own.PineconeVectors(address, index.name)
    await store.upsert([A])
    found = await asyncio.gather(*[store.search((1.0, 0.0), 1) for _ in range(20)])
    assert [[hit.id for hit in hits] for hits in found] == [["a"]] * 20
    await store.aclose()


async def test_no_header_of_the_environment_is_sent(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINECONE_ADDITIONAL_HEADERS", '{"Api-Key": "of somebody else"}')
    await opened().ensure(2)


async def test_more_than_one_search_gives_are_counted_all_the_same(
    opened: Opened, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "COUNTED", 200)
    for number in range(350):
        index.keep("__default__", f"i{number}", [1.0, number], {"odd": number % 2})
    store = opened()
    assert (await store.count(), await store.count({"odd": 1}), await store.count({"odd": 2})) == (350, 175, 0)
    for number in range(350, 450):
        index.keep("__default__", f"i{number}", [1.0, number], {"odd": 1})
    assert await store.count({"odd": 1}) == 275
    assert len(await store.get(equal={"odd": 1}, limit=130)) == 130
    assert len(await store.get(limit=130)) == 130


async def test_what_is_sent_at_once_is_no_more_than_is_taken(pinecone: Pinecone, opened: Opened, index: Index) -> None:
    large = pinecone.create(index.name, 2000)
    store = opened()
    items = [Item(f"{number:03d}{'%' * 240}", [0.1] * 2000, "x" * 9000) for number in range(150)]
    await store.upsert(items)
    assert (await store.count(), sum(path == "/vectors/upsert" for path, _ in large.asked) > 1) == (150, True)
    assert len(await store.get([item.id for item in items])) == 150
    assert len([document async for document in store.walk()]) == 150


async def test_what_pinecone_does_not_hold_as_it_is_is_refused_before_anything_is_sent(
    opened: Opened, index: Index
) -> None:
    store = opened()
    await store.ensure(2)
    for item, why in (
        (Item("ü", (1.0, 0.0), "x"), "beyond ASCII"),
        (Item("a", (1.0, 0.0), "x", {"$n": 1}), "begins with"),
        (Item("a", (1.0, 0.0), "x", {"n": 2**53 + 1}), "too large a number"),
        (Item("a", (1.0, 0.0), "x" * 41_000), "41017 bytes of text and metadata, and Pinecone keeps 40960"),
    ):
        with pytest.raises(VectorsRefused, match=why):
            await store.upsert([B, item])
    assert {path for path, _ in index.asked} == {"/describe_index_stats"}
    with pytest.raises(VectorsRefused, match="begins with"):
        await store.delete(equal={"$or": "x"})
    await store.upsert([A])
    assert [document.id for document in await store.get(["ü", "a"])] == ["a"]
    await store.delete(["ü"])
    assert await store.count() == 1


async def test_a_filter_that_pinecone_refuses_is_told_as_the_authors(opened: Opened) -> None:
    store = opened()
    for expression, said in (
        ('{"n": {"$gt": "1"}}', "must be followed by a number"),
        ('{"n": {"$like": 1}}', "valid op"),
    ):
        with pytest.raises(VectorsRefused, match=f"is none that Pinecone takes: .*{said}"):
            await store.search((1.0, 0.0), 1, {"n": 1}, expression)
    assert await store.search((1.0, 0.0), 1, None, '{"n": {"$in": [1]}}') == []


async def test_what_answers_with_something_else_is_told(opened: Opened, index: Index, pinecone: Pinecone) -> None:
    with pytest.raises(CollectionMissing):
        await opened(host=pinecone.url).count()
    with pytest.raises(VectorsUnavailable, match=r"cannot be reached: .*127\.0\.0\.1:1 \(check its host"):
        await opened(host="http://127.0.0.1:1").count()
    with pytest.raises(VectorsRefused, match="does not appear to be a valid URL"):
        await opened(host="https://nowhere").count()
