"""Embedding models behind OpenAI's embeddings API: OpenAI itself, Ollama, vLLM, GPUStack, and whatever speaks it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from kadre.base.errors import ModelError
from kadre.engine.models import http, keys, openai
from kadre.engine.secrets import SecretReader
from kadre.plan.types import EmbeddingPlan

BATCH_TEXTS = 64
BATCH_CHARS = 100_000
"""Of one request: an answer has 64 vectors, 2 MB as JSON, and a server has a bound on tokens, too."""


class _Vector(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Vector]


class HttpEmbedder:
    """One model of one endpoint."""

    def __init__(self, plan: EmbeddingPlan, secrets: SecretReader, wire: http.Wire) -> None:
        self._plan = plan
        self._wire = wire
        self._keyed = keys.Keyed(plan.model, secrets, "/embeddings", openai.headers)

    async def embed(self, texts: Sequence[str]) -> list[Sequence[float]]:
        """See Embedder."""
        vectors: list[Sequence[float]] = []
        for batch in _batches(texts):
            vectors += await self._once(batch)
        return vectors

    async def aclose(self) -> None:
        """Nothing to give back: the connections belong to the session."""

    async def _once(self, texts: Sequence[str]) -> list[list[float]]:
        model = self._plan.model
        body: dict[str, Any] = {"model": model.model, "input": texts, "encoding_format": "float"}
        # Only models of OpenAI's own third kind can be asked for a size; others refuse the word, or overlook it.
        if self._plan.dimension and model.provider == "openai" and model.model.startswith("text-embedding-3"):
            body["dimensions"] = self._plan.dimension
        encoded = msgspec.json.encode(body)
        answer = await self._wire.answered(self._keyed.target, encoded, _decode)
        if sorted(vector.index for vector in answer.data) != list(range(len(texts))):
            text = f"{model.model} answered {len(answer.data)} vectors to {len(texts)} texts"
            raise ModelError(text, reason="ModelAnswerInvalid")
        return [vector.embedding for vector in sorted(answer.data, key=lambda vector: vector.index)]


def _decode(answer: bytes) -> _Answer:
    return msgspec.json.decode(answer, type=_Answer)


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and (len(batch) == BATCH_TEXTS or size + len(text) > BATCH_CHARS):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch
