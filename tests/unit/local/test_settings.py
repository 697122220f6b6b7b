"""What `kadre up` is told: where data lies, which model is put in place, what is mapped where."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kadre.base.errors import ProblemError
from kadre.local import maps
from kadre.local.settings import Mapped, UpSettings, parse_map
from kadre.plan.types import (
    AgentKey,
    AgentPlan,
    AgentTool,
    EmbeddingPlan,
    McpTools,
    MemoryPlan,
    ModelPlan,
    RedisPlan,
    RetrievalTool,
    VectorsPlan,
)

REDIS = Mapped("redis.data.svc", 6379, "localhost", 6380)
WEB = Mapped("tools.mcp", 80, "127.0.0.1", 9000)


def test_data_lies_beside_the_first_path(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    assert UpSettings(paths=(str(tmp_path),)).data_path() == tmp_path / ".kadre"
    assert UpSettings(paths=(str(file),)).data_path() == tmp_path / ".kadre"
    assert UpSettings(paths=("-",)).data_path() == Path(".kadre")
    assert UpSettings(paths=(str(file),), data_dir="/var/kadre").data_path() == Path("/var/kadre")


def test_a_model_is_put_in_place_by_name() -> None:
    assert UpSettings().override().model is None
    scripted = UpSettings(model="scripted:rules.yaml").override().model
    assert scripted == ModelPlan(provider="scripted", model="scripted", rules="rules.yaml")
    local = UpSettings(model="local").override().model
    assert local is not None
    assert local.provider == "local"
    with pytest.raises(ProblemError, match="use --model scripted"):
        UpSettings(model="gpt-4").override()


def test_a_map_says_from_where_to_where() -> None:
    assert parse_map("redis.data.svc:6379=localhost:6380") == REDIS
    for wrong in ("", "a=b", "a:1", "a:x=b:1", ":1=b:1", "a:²=b:1", "a:1=b:65536"):
        with pytest.raises(ProblemError, match="host:port=host:port"):
            parse_map(wrong)


@pytest.mark.parametrize(
    ("url", "reached"),
    [
        ("http://tools.mcp:80/mcp", "http://127.0.0.1:9000/mcp"),
        ("http://tools.mcp/mcp?x=1", "http://127.0.0.1:9000/mcp?x=1"),
        ("https://tools.mcp/mcp", "https://tools.mcp/mcp"),
        ("http://tools.mcp:81", "http://tools.mcp:81"),
        ("", ""),
    ],
)
def test_an_address_is_mapped_where_host_and_port_are_the_maps(url: str, reached: str) -> None:
    assert maps.mapped_url(url, [REDIS, WEB]) == reached


def test_models_tools_and_memories_of_a_plan_are_mapped_and_nothing_else_is() -> None:
    key = AgentKey("default", "a")
    plan = AgentPlan(
        key=key,
        model=ModelPlan(provider="openai", model="m", endpoint="http://tools.mcp/v1"),
        tools=(McpTools(name="t", url="http://tools.mcp/mcp"), AgentTool(name="b", agent=key)),
        memory=MemoryPlan(type="redis", redis=RedisPlan(host=REDIS.host, database=2)),
    )
    mapped = maps.mapped(plan, [WEB])
    assert mapped.model.endpoint == "http://127.0.0.1:9000/v1"
    assert mapped.tools == (McpTools(name="t", url="http://127.0.0.1:9000/mcp"), AgentTool(name="b", agent=key))
    assert mapped.memory == plan.memory
    there = RedisPlan(host=REDIS.to_host, port=REDIS.to_port, database=2)
    assert maps.mapped(plan, [REDIS]).memory == MemoryPlan(type="redis", redis=there)
    assert maps.mapped(plan, []) is plan


def test_a_search_is_sent_to_where_its_store_and_its_embedding_model_are_here() -> None:
    store = VectorsPlan(type="milvus", collection="c", host="milvus.data.svc")
    model = ModelPlan(provider="vllm", model="m", endpoint="http://web.svc:80/v1")
    tool = RetrievalTool(name="t", store=store, embedding=EmbeddingPlan(model=model))
    index = msgspec.structs.replace(tool, store=VectorsPlan(type="pinecone", collection="c", host="c.pinecone.io"))
    moved = maps.mapped_tool(index, [Mapped("c.pinecone.io", 443, "localhost", 1)])
    assert (moved.store.host, moved.store.port) == ("localhost", 1)
    there = Mapped("milvus.data.svc", 19530, "localhost", 1)
    made = maps.mapped_tool(tool, [there, Mapped("web.svc", 80, "localhost", 2)])
    assert (made.store.host, made.store.port) == ("localhost", 1)
    assert made.embedding.model.endpoint == "http://localhost:2/v1"
    assert maps.mapped_tool(tool, [Mapped("milvus.data.svc", 1, "localhost", 1)]) == tool
