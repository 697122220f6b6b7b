"""The port to embedding models, which turn texts into vectors, and from a plan to the adapter that speaks to one.

Above: tools that search, memory, `kadre ingest`. Below: OpenAI's embeddings API, a model in this process, a script. It
knows nothing of where vectors are kept.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from typing import Protocol

import aiohttp

from kadre.base.errors import ModelError
from kadre.engine.secrets import SecretReader
from kadre.plan.types import EmbeddingPlan

TEXT_LIMIT = 64_000
"""Bytes of one text; a model reads less of it, and cuts off or refuses the rest."""
_WORD = re.compile(r"\w+")


class Embedder(Protocol):
    """A model that can be asked many times at once."""

    async def embed(self, texts: Sequence[str]) -> list[Sequence[float]]:
        """A vector for each text, in their order, all of one dimension. Raises errors.ModelError."""
        ...

    async def aclose(self) -> None:
        """Give back threads; may be called once."""
        ...


def build(plan: EmbeddingPlan, secrets: SecretReader, http: aiohttp.ClientSession) -> Embedder:
    """The model, loaded or connected to when it is first asked."""
    match plan.model.provider:
        case "local":
            from kadre.engine.models.embedding_local import LocalEmbedder

            return Measured(LocalEmbedder(), plan)
        case "scripted":
            return Hashed(plan.dimension or HASHED)
        case _:
            from kadre.engine.models.embedding_http import HttpEmbedder
            from kadre.engine.models.http import Wire

            return Measured(HttpEmbedder(plan, secrets, Wire(http, plan.model.timeout)), plan)


def named(plan: EmbeddingPlan) -> str:
    """Which model it is, as it is kept with what it has made."""
    return f"{plan.model.provider}/{plan.model.model}"


class Measured:
    """A model whose vectors have the dimension that its author says."""

    def __init__(self, inner: Embedder, plan: EmbeddingPlan) -> None:
        self._inner = inner
        self._plan = plan

    async def embed(self, texts: Sequence[str]) -> list[Sequence[float]]:
        """See Embedder."""
        if not texts:
            return []
        vectors = await self._inner.embed(texts)
        wanted, found = self._plan.dimension, {len(vector) for vector in vectors}
        if len(found) != 1 or (wanted and found != {wanted}):
            sizes = ", ".join(map(str, sorted(found)))
            raise ModelError(
                f"the embedding model {self._plan.model.model} gives vectors of {sizes} numbers"
                + (
                    f", not the {wanted} of its embedding.dimension: correct that"
                    if wanted
                    else ": not all of one size"
                ),
                reason="ModelAnswerInvalid",
            )
        return vectors

    async def aclose(self) -> None:
        """See Embedder."""
        await self._inner.aclose()


HASHED = 256
"""Numbers of the scripted model's vectors, where its author says nothing else."""


class Hashed:
    """The scripted model's counterpart: texts are alike by the words they share. The same everywhere, for ever."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension

    async def embed(self, texts: Sequence[str]) -> list[Sequence[float]]:
        """See Embedder."""
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> list[float]:
        vector = [0.0] * self._dimension
        for word in _WORD.findall(text.lower()) or [text]:
            digest = hashlib.sha256(word.encode(errors="replace")).digest()
            vector[int.from_bytes(digest[:4]) % self._dimension] += 1.0 if digest[4] % 2 else -1.0
        if not any(vector):  # two words may take each other out
            vector[0] = 1.0
        length = math.hypot(*vector)
        return [number / length for number in vector]

    async def aclose(self) -> None:
        """See Embedder."""
