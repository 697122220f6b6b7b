"""Embedding models: what is asked at once, and the scripted one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from kadre.base.errors import ModelError
from kadre.engine.models import embedding_http
from kadre.engine.models.embedding import Hashed, Measured
from kadre.plan.types import EmbeddingPlan, ModelPlan

PLAN = EmbeddingPlan(model=ModelPlan(provider="openai", model="m"), dimension=3)


class Fixed:
    """Vectors of these sizes."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes

    async def embed(self, texts: Sequence[str]) -> list[Sequence[float]]:
        return [[1.0] * size for size in self.sizes]

    async def aclose(self) -> None:
        """Nothing to give back."""


def test_a_batch_is_bounded_by_number_and_by_size_and_keeps_the_order() -> None:
    texts = [f"{number}" for number in range(150)]
    batches = list(embedding_http._batches(texts))
    assert [len(batch) for batch in batches] == [64, 64, 22]
    assert [text for batch in batches for text in batch] == texts
    large = ["x" * 60_000, "y" * 60_000, "z" * 200_000]
    assert [len(batch) for batch in embedding_http._batches(large)] == [1, 1, 1]


async def test_vectors_of_another_size_than_the_author_says_are_refused() -> None:
    assert await Measured(Fixed(3, 3), PLAN).embed(["a", "b"]) == [[1.0] * 3] * 2
    assert await Measured(Fixed(), PLAN).embed([]) == []
    with pytest.raises(ModelError, match=r"vectors of 4 numbers, not the 3 of its embedding.dimension"):
        await Measured(Fixed(4), PLAN).embed(["a"])
    free = EmbeddingPlan(model=PLAN.model)
    with pytest.raises(ModelError, match="vectors of 3, 4 numbers: not all of one size"):
        await Measured(Fixed(3, 4), free).embed(["a", "b"])


async def test_the_scripted_one_finds_texts_alike_that_share_words() -> None:
    model = Hashed(256)
    one, same, near, far, empty = await model.embed(["the red car", "The RED car!", "a red car", "so it goes", ""])
    assert one == same
    assert sum(a * b for a, b in zip(one, near, strict=True)) > sum(a * b for a, b in zip(one, far, strict=True))
    assert [math.hypot(*vector) for vector in (one, near, far, empty)] == pytest.approx([1.0] * 4)
    assert (await Hashed(256).embed(["the red car"]))[0] == one
