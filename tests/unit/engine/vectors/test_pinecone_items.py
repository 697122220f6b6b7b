"""What Pinecone is sent, and what is made of what it has."""

from __future__ import annotations

import pytest

from kadre.engine.vectors import pinecone_items as items
from kadre.engine.vectors.port import Item, Scalar, VectorsRefused


def test_a_text_and_metadata_of_any_name_come_back_as_they_were() -> None:
    metadata: dict[str, Scalar] = {"text": "a title", "year": 2024, "open": True, "weight": 1.5, "content": ""}
    row = items.row(Item("a", (1, 2), "the text", metadata))
    assert row["values"] == [1.0, 2.0]
    assert items.content({**row["metadata"], "year": 2024.0}) == ("the text", metadata)
    assert items.content(None) == ("", {})


def test_a_filter_joins_what_the_author_wrote_and_never_gives_way_to_it() -> None:
    assert items.where(None) is None
    assert items.where({"n": 2.0}) == {"n": {"$eq": 2}}
    assert items.where({"a": "x", "b": True}) == {"$and": [{"a": {"$eq": "x"}}, {"b": {"$eq": True}}]}
    joined = items.where({"a": "x"}, '{"a": "y", "$or": [{"b": 1}]}')
    assert joined == {"$and": [{"a": {"$eq": "x"}}, {"a": "y", "$or": [{"b": 1}]}]}


@pytest.mark.parametrize("expression", ["year > 2020", "[1]", '"text"', "null", "{", "[" * 100_000, '{"a": 1} or'])
def test_a_filter_that_is_no_object_is_refused(expression: str) -> None:
    with pytest.raises(VectorsRefused, match="is no JSON object"):
        items.where({"a": "x"}, expression)


def test_requests_are_as_large_as_is_allowed_and_nothing_is_left_out() -> None:
    rows = [items.row(Item(f"i{number}", [0.1] * 10, "x" * 30_000)) for number in range(200)]
    batches = list(items.batches(rows))
    assert [row for some in batches for row in some] == rows
    assert len(batches) == 4
    ids = [f"{number}{'%' * 100}" for number in range(50)] + [str(number) for number in range(250)]
    shares = list(items.shares(ids, 100))
    assert [name for some in shares for name in some] == ids
    assert max(len(some) for some in shares) == 100
    assert max(len("%25" * 100) * sum("%" in name for name in some) for some in shares) < items.URL_BYTES
    assert (list(items.batches([])), list(items.shares([], 100))) == ([], [])
