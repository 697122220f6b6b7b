"""Collections of Milvus that others have made are searched as they are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kadre.engine.vectors import milvus as own
from kadre.engine.vectors.port import Item, VectorsRefused
from tests.support.milvus import Milvus

pytestmark = [pytest.mark.stores, pytest.mark.timeout(60)]


def make(server: Milvus, name: str, metric: str, *, dynamic: bool) -> None:
    """A collection as other tools make them: metadata in fields of its own."""
    from pymilvus import DataType, MilvusClient

    client = MilvusClient(uri=server.uri)
    schema = client.create_schema(auto_id=False, enable_dynamic_field=dynamic)
    schema.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("page_content", DataType.VARCHAR, max_length=1000)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=2)
    if not dynamic:
        schema.add_field("category", DataType.VARCHAR, max_length=64)
    index = client.prepare_index_params()
    index.add_index(field_name="embedding", index_type="AUTOINDEX", metric_type=metric)
    client.create_collection(name, schema=schema, index_params=index)
    rows: list[dict[str, Any]] = [
        {"pk": "a", "page_content": "first", "embedding": [1.0, 0.0], "category": "faq"},
        {"pk": "b", "page_content": "second", "embedding": [0.6, 0.8], "category": "manual"},
    ]
    client.insert(name, rows)
    client.close()


@pytest.mark.parametrize(("metric", "dynamic"), [("COSINE", False), ("IP", True), ("L2", False), ("L2", True)])
async def test_one_with_other_fields_is_read_filtered_and_scored_alike(
    milvus: Milvus, metric: str, dynamic: bool
) -> None:
    name = f"others_{metric}_{dynamic}"
    await asyncio.to_thread(lambda: make(milvus, name, metric, dynamic=dynamic))
    store = own.MilvusVectors(lambda: own.Address(uri=milvus.uri), name)
    hits = await store.search((1.0, 0.0), 5)
    assert [(hit.id, round(hit.score, 4), hit.text) for hit in hits] == [("a", 1.0, "first"), ("b", 0.6, "second")]
    assert hits[0].metadata == {"category": "faq"}
    assert [hit.id for hit in await store.search((1.0, 0.0), 5, {"category": "manual"})] == ["b"]
    assert [hit.id for hit in await store.search((1.0, 0.0), 5, {}, 'category == "faq"')] == ["a"]
    (document,) = await store.get(["b"])
    assert (document.text, document.metadata) == ("second", {"category": "manual"})
    await store.upsert([Item("c", (0.0, 1.0), "third", {"category": "policy"})])
    assert await store.count({"category": "policy"}) == 1
    await store.aclose()


@pytest.mark.parametrize("metric", ["IP", "L2"])
async def test_vectors_of_any_length_are_scored_by_their_cosine(milvus: Milvus, metric: str) -> None:
    name = f"others_long_{metric}"
    await asyncio.to_thread(lambda: make(milvus, name, metric, dynamic=True))
    store = own.MilvusVectors(lambda: own.Address(uri=milvus.uri), name)
    await store.upsert([Item("c", (0.0, 30.0), "third")])
    hits = await store.search((3.0, 4.0), 5)
    assert [(hit.id, round(hit.score, 4)) for hit in hits] == [("b", 1.0), ("c", 0.8), ("a", 0.6)]
    assert "embedding" not in hits[0].metadata
    await store.aclose()


async def test_one_without_vectors_of_that_size_is_refused(milvus: Milvus) -> None:
    await asyncio.to_thread(lambda: make(milvus, "others_small", "COSINE", dynamic=True))
    store = own.MilvusVectors(lambda: own.Address(uri=milvus.uri), "others-small")
    with pytest.raises(VectorsRefused, match="2 numbers"):
        await store.ensure(3)
    await store.aclose()
