"""A search as a tool: what it asks, and what the model reads of what was found."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kadre.base.errors import ToolError
from kadre.engine.models.embedding import Hashed
from kadre.engine.tools.port import CallContext
from kadre.engine.tools.retrieval import ANSWER_LIMIT, NOTHING, RetrievalToolset
from kadre.engine.vectors.port import Item, Scalar
from kadre.engine.vectors.stores import VectorStores
from kadre.plan.types import EmbeddingPlan, ModelPlan, RetrievalTool, SecretRef, VectorsPlan

CONTEXT = CallContext(run_id="run-1", session_id="ses-1", key="run-1/1")
STORE = VectorsPlan(type="in-memory", collection="c")
PLAN = RetrievalTool(
    name="find",
    store=STORE,
    embedding=EmbeddingPlan(model=ModelPlan(provider="scripted", model="m"), dimension=64),
    parameters={
        "type": "object",
        "properties": {
            "query": {"type": "string"},
            "lang": {"type": "string", "default": "all"},
            "year": {"type": "integer"},
        },
        "required": ["query"],
        "additionalProperties": False,
    },
)
TEXTS: tuple[tuple[str, dict[str, Scalar]], ...] = (
    ("red car", {"lang": "en", "year": 2024, "source": "cars.md"}),
    ("rotes auto red", {"lang": "de", "year": 2024, "title": "Autos"}),
    ("green tree", {"lang": "en", "year": 2025}),
)
Find = Callable[..., Awaitable[str]]


class NoSecrets:
    def read(self, ref: SecretRef) -> str | None:
        return None


@pytest.fixture
async def find(tmp_path: Path) -> AsyncIterator[Find]:
    """`find({"query": …}, top_k=…)`: what the tool of that plan answers."""
    shelf = VectorStores(tmp_path, NoSecrets())
    store, model = shelf.take(STORE), Hashed(64)
    await store.ensure(64)
    vectors = await model.embed([text for text, _ in TEXTS])
    await store.upsert([Item(f"i{n}", vectors[n], text, data) for n, (text, data) in enumerate(TEXTS)])

    async def ask(arguments: dict[str, Any], **plan: Any) -> str:
        toolset = RetrievalToolset(RetrievalTool(**{**_fields(), **plan}), shelf, model)
        output = await toolset.call("find", arguments, CONTEXT)
        await toolset.aclose()
        return output.content

    yield ask
    await shelf.leave(STORE)


def _fields() -> dict[str, Any]:
    return {name: getattr(PLAN, name) for name in PLAN.__struct_fields__}


async def test_it_is_offered_as_a_tool_that_only_reads(tmp_path: Path) -> None:
    toolset = RetrievalToolset(PLAN, VectorStores(tmp_path, NoSecrets()), Hashed(64))
    (spec,) = await toolset.specs()
    assert (spec.name, spec.read_only, spec.idempotent, spec.description) == ("find", True, True, "Search c")
    assert (toolset.ready, spec.parameters) == (True, PLAN.parameters)
    assert spec.read_by_model  # what embeds the question is one: it is sent no secret
    await toolset.aclose()


async def test_each_text_comes_with_its_score_and_where_it_is_from_best_first(find: Find) -> None:
    answer = await find({"query": "red car"}, top_k=2)
    assert answer == "[1] score 1.00, source cars.md\nred car\n\n[2] score 0.41, source Autos\nrotes auto red"


async def test_other_parameters_are_filters_and_all_is_none(find: Find) -> None:
    async def found(**arguments: Any) -> list[str]:
        answer = json.loads(await find({"query": "red", **arguments}, as_json=True))
        return sorted(one["content"] for one in answer)

    assert len(await found()) == len(await found(lang="all")) == len(await found(lang=None)) == 3
    assert await found(lang="de") == ["rotes auto red"]
    assert await found(year=2024) == ["red car", "rotes auto red"]
    assert await found(year=2024, lang="en") == ["red car"]
    assert await found(lang="fr") == []


async def test_top_k_threshold_and_filter_have_their_effect(find: Find) -> None:
    assert (await find({"query": "red car"}, top_k=1)).count("score") == 1
    assert (await find({"query": "red car"}, score_threshold=0.9)).count("score") == 1
    assert await find({"query": "red car"}, score_threshold=0.5, filter="metadata->>'lang' = 'de'") == NOTHING
    assert (await find({"query": "red"}, filter="metadata->>'year' = 2025", as_json=True)).count("green tree") == 1


async def test_what_was_asked_for_as_json_is_content_score_and_metadata(find: Find) -> None:
    assert json.loads(await find({"query": "red car"}, as_json=True, top_k=1)) == [
        {"content": "red car", "score": 1.0, "metadata": TEXTS[0][1]}
    ]


@pytest.mark.parametrize(
    "arguments", [{}, {"query": ""}, {"query": " "}, {"query": "x" * 8001}, {"query": "x", "y": 1}]
)
async def test_arguments_that_are_wrong_are_told_and_nothing_is_searched(find: Find, arguments: dict[str, Any]) -> None:
    with pytest.raises(ToolError, match=r"query|unknown"):
        await find(arguments)


async def test_what_the_store_refuses_the_model_can_read(find: Find) -> None:
    with pytest.raises(ToolError, match="find: the filter 'no such' is none that"):
        await find({"query": "red"}, filter="no such")


@pytest.mark.parametrize("as_json", [True, False])
async def test_an_answer_is_bounded_however_much_was_found(tmp_path: Path, as_json: bool) -> None:
    shelf = VectorStores(tmp_path, NoSecrets())
    store, model = shelf.take(STORE), Hashed(64)
    await store.ensure(64)
    (vector,) = await model.embed(["red"])
    await store.upsert([Item(f"i{n}", vector, f"red {n} " + "x" * 10_000) for n in range(50)])
    toolset = RetrievalToolset(RetrievalTool(**{**_fields(), "top_k": 50, "as_json": as_json}), shelf, model)
    answer = (await toolset.call("find", {"query": "red"}, CONTEXT)).content
    assert 20_000 < len(answer) <= ANSWER_LIMIT + 100
    assert as_json == answer.startswith("[{")
    assert as_json or "more were found that do not fit here" in answer
    await toolset.aclose()
    await shelf.leave(STORE)


async def test_what_another_model_has_embedded_is_left_out_and_told_where_that_is_all(tmp_path: Path) -> None:
    shelf = VectorStores(tmp_path, NoSecrets())
    store, model = shelf.take(STORE), Hashed(64)
    await store.ensure(64)
    (vector,) = await model.embed(["red car"])
    await store.upsert([Item("a", vector, "red car", {"kadre_model": "openai/other"})])
    toolset = RetrievalToolset(RetrievalTool(**{**_fields(), "as_json": True}), shelf, model)
    with pytest.raises(ToolError, match=r"filled with another embedding model \(openai/other\)"):
        await toolset.call("find", {"query": "red car"}, CONTEXT)
    await store.upsert([Item("b", vector, "red car", {"kadre_model": "scripted/m", "lang": "en"})])
    (found,) = json.loads((await toolset.call("find", {"query": "red car"}, CONTEXT)).content)
    assert found["metadata"] == {"lang": "en"}
    await toolset.aclose()
    await shelf.leave(STORE)
