"""Tools of type retrieval."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from kadre.base.problems import errors
from kadre.plan.build import AllPlanned
from kadre.plan.types import EmbeddingPlan, ModelPlan, Override, RetrievalTool, SecretRef, UnsupportedTool, VectorsPlan

Plan = Callable[..., AllPlanned]
LOCAL = "embedding: {provider: local, model: all-minilm-l6-v2}"
STORE = "vectorStore: {type: sqlite, collection: c}"
INDEX = "vectorStore: {type: pinecone, collection: docs, secretRef: {name: pc, key: key}}"


def made(planned: Plan, retrieval: str, more: str = "", env: Mapping[str, str] | None = None) -> AllPlanned:
    text = f"""
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {{name: find}}
spec: {{type: retrieval, retrieval: {{{retrieval}}}{more}}}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: helper}}
spec: {{model: {{provider: ollama, name: m}}, tools: [find]}}
"""
    return planned(text, env)


def tool(result: AllPlanned) -> RetrievalTool:
    assert not errors(result.problems), result.problems
    ((found,),) = [plan.tools for plan in result.plans.values()]
    assert isinstance(found, RetrievalTool)
    return found


def test_what_is_not_written_has_the_usual_value(planned: Plan) -> None:
    found = tool(made(planned, f"{STORE}, {LOCAL}"))
    assert found.store == VectorsPlan(type="sqlite", collection="c")
    assert found.embedding.model.model == "all-minilm-l6-v2"
    assert (found.top_k, found.score_threshold, found.filter, found.as_json) == (5, None, "", False)
    assert (found.query, found.parameters["required"]) == ("query", ["query"])


def test_everything_that_is_written_is_in_the_plan_and_secrets_are_references(planned: Plan) -> None:
    store = "vectorStore: {type: pgvector, host: db, port: 6432, database: d, username: u, collection: c, tls: true, "
    store += "secretRef: {name: db, key: password}}"
    model = "embedding: {provider: openai, model: m, dimension: 8, endpoint: 'http://e/v1', "
    model += "apiKeySecretRef: {name: e, key: key}}"
    search = "search: {topK: 9, scoreThreshold: 0.5, filter: ' a = b '}"
    found = tool(
        made(planned, f"{store}, {model}, {search}", ", output: {type: array}", {"DB_PASSWORD": "x", "E_KEY": "y"})
    )
    secret = SecretRef(namespace="default", name="db", key="password", env="DB_PASSWORD")
    assert found.store == VectorsPlan(
        type="pgvector", collection="c", host="db", port=6432, database="d", user="u", secret=secret, tls=True
    )
    key = SecretRef(namespace="default", name="e", key="key", env="E_KEY")
    assert found.embedding == EmbeddingPlan(
        model=ModelPlan(provider="openai", model="m", endpoint="http://e/v1", api_key=key, timeout=30.0), dimension=8
    )
    assert (found.top_k, found.score_threshold, found.filter, found.as_json) == (9, 0.5, "a = b", True)


@pytest.mark.requirement("vector-stores-pinecone")
def test_an_index_of_pinecone_is_found_by_its_name_or_where_it_is_written(planned: Plan) -> None:
    key = SecretRef(namespace="default", name="pc", key="key", env="PC_KEY")
    search = """search: {filter: '{"year": {"$gt": 2020}}'}"""
    found = tool(made(planned, f"{INDEX}, {LOCAL}, {search}", env={"PC_KEY": "x"}))
    assert found.store == VectorsPlan(type="pinecone", collection="docs", secret=key)
    assert found.filter == '{"year": {"$gt": 2020}}'
    written = INDEX.replace("docs", "My_Docs, database: team, host: docs-1.svc.pinecone.io")
    assert tool(made(planned, f"{written}, {LOCAL}", env={"PC_KEY": "x"})).store == VectorsPlan(
        type="pinecone", collection="My_Docs", host="docs-1.svc.pinecone.io", database="team", secret=key
    )


def test_the_question_is_the_parameter_query_else_the_first_text_that_is_required(planned: Plan) -> None:
    for parameters, query in (
        ("[{name: lang}, {name: query}]", "query"),
        ("[{name: lang}, {name: text, required: true}, {name: more, required: true}]", "text"),
    ):
        assert tool(made(planned, f"{STORE}, {LOCAL}", f", parameters: {parameters}")).query == query


@pytest.mark.parametrize(
    ("retrieval", "more", "reason", "path"),
    [
        (STORE, "", "MissingField", "spec.retrieval"),
        (f"vectorStore: {{type: sqlite}}, {LOCAL}", "", "MissingField", "spec.retrieval.vectorStore"),
        (f"vectorStore: {{type: milvus, collection: c}}, {LOCAL}", "", "MissingField", "spec.retrieval.vectorStore"),
        (f"vectorStore: {{type: pinecone, collection: c}}, {LOCAL}", "", "MissingField", "spec.retrieval.vectorStore"),
        (
            f"{INDEX.replace('docs', 'my_docs')}, {LOCAL}",
            "",
            "InvalidValue",
            "spec.retrieval.vectorStore.collection",
        ),
        (
            f"{INDEX}, {LOCAL}, search: {{filter: 'year > 2020'}}",
            "",
            "InvalidValue",
            "spec.retrieval.search.filter",
        ),
        (
            f"vectorStore: {{type: pgvector, host: h, collection: c, secretRef: {{name: s, key: k}}}}, {LOCAL}",
            "",
            "MissingSecret",
            "spec.retrieval.vectorStore.secretRef",
        ),
        (f"{STORE}, embedding: {{provider: local, model: m}}", "", "InvalidValue", "spec.retrieval.embedding.model"),
        (
            f"{STORE}, embedding: {{provider: local, model: all-MiniLM-L6-v2, dimension: 8}}",
            "",
            "InvalidValue",
            "spec.retrieval.embedding.dimension",
        ),
        (f"{STORE}, embedding: {{provider: openai, model: m}}", "", "MissingSecret", "spec.retrieval.embedding"),
        (f"{STORE}, {LOCAL}", ", parameters: [{name: n, type: integer}]", "MissingField", "spec.parameters"),
        (
            f"{STORE}, {LOCAL}",
            ", parameters: [{name: query}, {name: tags, type: array}]",
            "InvalidValue",
            "spec.parameters[1]",
        ),
    ],
)
def test_what_it_cannot_do_without_is_a_problem_with_its_place(
    planned: Plan, retrieval: str, more: str, reason: str, path: str
) -> None:
    (problem,) = made(planned, retrieval, more, {"PC_KEY": "x"}).problems
    assert (problem.reason, problem.path, bool(problem.fix)) == (reason, path, True)


def test_a_store_or_a_model_that_is_not_built_yet_is_left_out_and_says_so(planned: Plan) -> None:
    for retrieval, what in (
        (f"vectorStore: {{type: qdrant}}, {LOCAL}", "searches in qdrant are not supported yet"),
        (f"{STORE}, embedding: {{provider: bedrock, model: m}}", "embeddings by bedrock are not supported yet"),
    ):
        result = made(planned, retrieval)
        (plan,) = result.plans.values()
        assert isinstance(plan.tools[0], UnsupportedTool)
        assert what in plan.notices[0].message


def test_a_key_that_nobody_names_and_one_for_who_tries_agents_out_may_be_missing(planned: Plan) -> None:
    text = f"""
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {{name: find}}
spec: {{type: retrieval, retrieval: {{{STORE}, embedding: {{provider: openai, model: m}}}}}}
"""
    named = text.replace("model: m}", "model: m, apiKeySecretRef: {name: s, key: k}}")
    scripted = Override(model=ModelPlan(provider="scripted", model="scripted"))
    assert [problem.severity for problem in planned(text).problems] == ["warning"]
    assert [problem.severity for problem in planned(named).problems] == ["error"]
    assert [problem.severity for problem in planned(named, None, scripted).problems] == ["warning"]
