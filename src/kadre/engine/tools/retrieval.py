"""A search in a vector store, offered as a tool: it only reads.

What the model gives besides the question is compared with the documents' metadata; `all` stands for no such filter. The
answer says of each text how alike it is and where it is from, best first, and no more than fits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import msgspec

from kadre.base.errors import ModelError, Refused, ToolError
from kadre.engine.messages import ToolSpec
from kadre.engine.models import embedding
from kadre.engine.secrets import SecretReader
from kadre.engine.tools import parameters
from kadre.engine.tools.port import CallContext, ToolOutput
from kadre.engine.vectors.port import HIDDEN, MODEL, Hit, Scalar
from kadre.engine.vectors.stores import VectorStores
from kadre.plan.types import RetrievalTool

EVERYTHING = "all"
"""The value of a parameter that filters nothing."""
SECONDS = 60.0
"""For one search, the embedding of its question with it."""
QUESTION_LIMIT = 8000
"""Characters."""
PASSAGE_LIMIT = 4000
"""Characters of one text."""
ANSWER_LIMIT = 32_000
"""Characters in all: half of what reaches a model of one tool's answer unless its author says otherwise."""
SOURCES = ("source", "url", "title", "file", "path")
"""Metadata that says where a text is from, the first that is there."""
NOTHING = "Nothing was found. Try other words, or fewer filters."


class Retrieval:
    """What the retrieval tools of one process share: stores, and the way to embedding models."""

    def __init__(self, stores: VectorStores, secrets: SecretReader, http: aiohttp.ClientSession) -> None:
        self._stores = stores
        self._secrets = secrets
        self._http = http

    def toolset(self, plan: RetrievalTool) -> RetrievalToolset:
        """The tool, connected to when it is first called. Raises ProblemError where a library is missing."""
        return RetrievalToolset(plan, self._stores, embedding.build(plan.embedding, self._secrets, self._http))


def spec_of(plan: RetrievalTool) -> ToolSpec:
    """The tool as a model sees it."""
    return ToolSpec(
        name=plan.name,
        description=plan.description or f"Search {plan.store.collection}",
        parameters=plan.parameters,
        read_only=True,
        idempotent=True,
        read_by_model=True,  # the one that embeds the question
        filled=True,
        server=plan.name,
    )


class RetrievalToolset:
    """One search as one tool."""

    notice = ""
    """See Toolset."""
    ready = True
    """See Toolset."""

    def __init__(self, plan: RetrievalTool, stores: VectorStores, embedder: embedding.Embedder) -> None:
        self._plan = plan
        self._stores = stores
        self._store = stores.take(plan.store)
        self._embedder = embedder
        self._specs = (spec_of(plan),)

    async def specs(self) -> Sequence[ToolSpec]:
        """See Toolset."""
        return self._specs

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:  # noqa: ARG002
        """See Toolset."""
        given = parameters.check(self._plan.parameters, arguments)
        question = given.pop(self._plan.query, "")
        if not isinstance(question, str) or not question.strip() or len(question) > QUESTION_LIMIT:
            raise ToolError(f"{name} needs `{self._plan.query}`, a text of 1 to {QUESTION_LIMIT} characters")
        try:
            async with asyncio.timeout(SECONDS):
                hits = await self._search(question, _filters(given))
        except TimeoutError:
            raise ToolError(f"{name}: nothing came within {SECONDS:g} s; try again later") from None
        except (ModelError, Refused) as error:
            raise ToolError(f"{name}: {error}") from error
        return ToolOutput(_as_json(hits) if self._plan.as_json else _as_text(hits))

    async def aclose(self) -> None:
        """See Toolset."""
        await self._embedder.aclose()
        await self._stores.leave(self._plan.store)

    async def _search(self, question: str, equal: Mapping[str, Scalar]) -> list[Hit]:
        plan = self._plan
        (vector,) = await self._embedder.embed([question])
        hits = await self._store.search(vector, plan.top_k, equal, plan.filter)
        model = embedding.named(plan.embedding)
        own = [hit for hit in hits if hit.metadata.get(MODEL, model) == model]
        if hits and not own:
            other = _cut(str(hits[0].metadata[MODEL]), 100)
            raise ToolError(
                f"{plan.name}: {plan.store.collection} was filled with another embedding model ({other}) than this"
                " tool's: whoever runs this agent has to fill it again"
            )
        hits = own
        least = plan.score_threshold
        return hits if least is None else [hit for hit in hits if hit.score >= least]


def _filters(given: Mapping[str, Any]) -> dict[str, Scalar]:
    return {name: value for name, value in given.items() if isinstance(value, Scalar) and value != EVERYTHING}


def _as_text(hits: Sequence[Hit]) -> str:
    parts: list[str] = []
    left = ANSWER_LIMIT
    for number, hit in enumerate(hits, 1):
        source = next((str(hit.metadata[name]) for name in SOURCES if hit.metadata.get(name)), hit.id)
        part = f"[{number}] score {hit.score:.2f}, source {_cut(source, 200)}\n{_cut(hit.text.strip(), PASSAGE_LIMIT)}"
        if len(part) > left:
            parts.append(f"({len(hits) - number + 1} more were found that do not fit here)")
            break
        parts.append(part)
        left -= len(part) + 2
    return "\n\n".join(parts) or NOTHING


def _as_json(hits: Sequence[Hit]) -> str:
    found: list[dict[str, Any]] = []
    left = ANSWER_LIMIT
    for hit in hits:
        content = _cut(hit.text, PASSAGE_LIMIT)
        one = {"content": content, "score": round(hit.score, 4), "metadata": _shown(hit.metadata)}
        left -= len(msgspec.json.encode(one))
        if left < 0:
            break
        found.append(one)
    return msgspec.json.encode(found).decode()


def _shown(metadata: Mapping[str, Scalar]) -> dict[str, Scalar]:
    return {name: value for name, value in metadata.items() if not name.startswith(HIDDEN)}


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
