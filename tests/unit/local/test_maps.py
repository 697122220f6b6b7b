"""What is meant for a cluster's service goes to where that service is on this machine."""

from __future__ import annotations

import pytest

from kadre.local import maps
from kadre.local.settings import Mapped
from kadre.plan.types import (
    A2aTool,
    AgentKey,
    AgentPlan,
    ApiLogin,
    ApiTool,
    CompressionPlan,
    EmbeddingPlan,
    LongTermPlan,
    McpTools,
    MemoryPlan,
    ModelPlan,
    RedisPlan,
    SecretRef,
    ToolPlan,
    VectorsPlan,
)

pytestmark = pytest.mark.requirement("tool-api")
MAPS = [Mapped("tickets.support.svc", 8080, "127.0.0.1", 9000), Mapped("id.example", 443, "127.0.0.1", 9001)]


def moved(tool: ToolPlan) -> ToolPlan:
    model = ModelPlan(provider="ollama", model="m", endpoint="http://ollama:11434/v1")
    (found,) = maps.mapped(AgentPlan(key=AgentKey("default", "a"), model=model, tools=(tool,)), MAPS).tools
    return found


def test_every_tool_that_has_an_address_is_moved() -> None:
    for kind in (McpTools, A2aTool):
        before, after = "http://tickets.support.svc:8080/x", "http://127.0.0.1:9000/x"
        assert moved(kind(name="t", url=before)) == kind(name="t", url=after)


def test_an_apis_address_keeps_its_parameters_and_its_tokens_are_asked_for_there_too() -> None:
    def api(endpoint: str, token_url: str) -> ApiTool:
        login = ApiLogin(type="oauth", secret=SecretRef(), token_url=token_url, client_id="c")
        return ApiTool(name="t", endpoint=endpoint, parameters={}, login=login)

    assert moved(api("http://tickets.support.svc:8080/c/{id}?k={k}", "https://id.example/token")) == api(
        "http://127.0.0.1:9000/c/{id}?k={k}", "https://127.0.0.1:9001/token"
    )
    elsewhere = ApiTool(name="t", endpoint="http://{host}:{port}/c", parameters={})
    assert moved(elsewhere) == elsewhere


def test_what_an_agent_remembers_and_sums_up_by_is_moved() -> None:
    def memory(model: str, host: str, port: int) -> MemoryPlan:
        at = ModelPlan(provider="vllm", model="m", endpoint=model)
        return MemoryPlan(
            redis=RedisPlan(host=host, port=port),
            compression=CompressionPlan(model=at),
            long_term=LongTermPlan(
                vectors=VectorsPlan(type="milvus", collection="c", host=host, port=port),
                embedding=EmbeddingPlan(model=at),
            ),
        )

    plan = AgentPlan(
        key=AgentKey("default", "a"),
        model=ModelPlan(provider="ollama", model="m"),
        memory=memory("https://id.example/v1", "tickets.support.svc", 8080),
    )
    assert maps.mapped(plan, MAPS).memory == memory("https://127.0.0.1:9001/v1", "127.0.0.1", 9000)
