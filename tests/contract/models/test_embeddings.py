"""Embedding models: over HTTP, and the one that is carried."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import aiohttp
import pytest

from kadre.base.errors import ModelError
from kadre.base.retry import Backoff
from kadre.engine import http_client
from kadre.engine.models import embedding
from kadre.engine.models.embedding import Embedder, Hashed, Measured
from kadre.engine.models.embedding_http import HttpEmbedder
from kadre.engine.models.http import Wire
from kadre.plan.types import EmbeddingPlan, ModelPlan, SecretRef
from tests.contract.models.conftest import KEY, Patience, Secrets
from tests.support.embeddings import Embeddings, embeddings


@pytest.fixture
async def server() -> AsyncIterator[Embeddings]:
    """An endpoint."""
    async with embeddings() as serving:
        yield serving


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """Connections."""
    async with http_client.session() as session:
        yield session


def model(server: Embeddings, http: aiohttp.ClientSession, dimension: int = 0, attempts: int = 3) -> Embedder:
    plan = EmbeddingPlan(
        model=ModelPlan(provider="openai", model="m", endpoint=server.url, api_key=SecretRef(env="API_KEY")),
        dimension=dimension,
    )
    wire = Wire(http, 5.0, backoff=Backoff(attempts=attempts), clock=Patience())
    return Measured(HttpEmbedder(plan, Secrets({"API_KEY": KEY}), wire), plan)


async def test_each_text_has_its_vector_in_their_order_over_several_requests(
    server: Embeddings, http: aiohttp.ClientSession
) -> None:
    texts = [f"text {number}" for number in range(100)]
    vectors = await model(server, http).embed(texts)
    assert vectors == await Hashed(256).embed(texts)
    assert [len(body["input"]) for body in server.asked] == [64, 36]
    assert {(body["model"], "dimensions" in body) for body in server.asked} == {("m", False)}
    assert set(server.keys) == {f"Bearer {KEY}"}


async def test_what_may_pass_is_tried_again_and_the_rest_is_told_without_the_key(
    server: Embeddings, http: aiohttp.ClientSession
) -> None:
    server.answers = [503, 429]
    assert len(await model(server, http).embed(["a"])) == 1
    server.answers = [503, 503, 503]
    with pytest.raises(ModelError, match="answered 503"):
        await model(server, http).embed(["a"])
    server.answers = [401]
    with pytest.raises(ModelError, match="check the API key") as caught:
        await model(server, http).embed(["a"])
    assert KEY not in str(caught.value)
    assert len(server.asked) == 7


async def test_vectors_of_another_size_than_was_said_are_refused(
    server: Embeddings, http: aiohttp.ClientSession
) -> None:
    server.dimension = 8
    with pytest.raises(ModelError, match="vectors of 8 numbers, not the 16"):
        await model(server, http, dimension=16).embed(["a"])


@pytest.mark.needs("embedding-model")
async def test_the_carried_model_gives_the_vectors_it_was_published_with(http: aiohttp.ClientSession) -> None:
    plan = EmbeddingPlan(model=ModelPlan(provider="local", model="all-minilm-l6-v2"))
    local = embedding.build(plan, Secrets({}), http)
    texts = ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
    first, *others = await local.embed(texts)
    assert [len(first), math.hypot(*first)] == [384, pytest.approx(1.0, abs=1e-5)]
    # As its authors show them.
    scores = [sum(a * b for a, b in zip(first, other, strict=True)) for other in others]
    assert scores == pytest.approx([0.6946, 0.9429, 0.2569], abs=1e-3)
    alone = [(await local.embed([text]))[0] for text in texts]
    together = await local.embed([*texts, "a much longer text " * 100, ""])
    for one, many in zip(alone, together, strict=False):
        assert one == pytest.approx(many, abs=1e-5)
