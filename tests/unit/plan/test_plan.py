"""The one function as a whole: all problems at once, the documents' own manifests, and many agents."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

from kadre.api import manifest
from kadre.base.problems import errors
from kadre.plan.build import AllPlanned, plan, plan_all
from kadre.plan.lookup import Resources
from kadre.plan.types import (
    AgentTool,
    ApiTool,
    EmbeddingPlan,
    LaunchPlan,
    McpTools,
    ModelPlan,
    Override,
    RetrievalTool,
    SecretRef,
    UnsupportedTool,
    VectorsPlan,
)

Plan = Callable[..., AllPlanned]
SEARCH = RetrievalTool(
    name="search-knowledge-base",
    store=VectorsPlan(
        type="milvus", collection="support-knowledge", host="milvus.ai-data.svc.cluster.local", port=19530
    ),
    embedding=EmbeddingPlan(
        model=ModelPlan(
            provider="openai",
            model="text-embedding-3-small",
            endpoint="https://api.openai.com/v1",
            api_key=SecretRef(namespace="ai-agents", env="OPENAI_API_KEY", exported=True),
            timeout=30.0,
        ),
        dimension=1536,
    ),
    description=(
        "Search company knowledge base for relevant documents.\n"
        "Use to find information for answering customer inquiries."
    ),
    parameters={
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "Search question or keywords"},
            "category": {
                "type": "string",
                "description": "Filter document category (e.g., faq, manual, policy)",
                "enum": ["faq", "manual", "policy", "all"],
                "default": "all",
            },
        },
        "additionalProperties": False,
        "required": ["query"],
    },
    score_threshold=0.7,
    as_json=True,
)
SCRIPTED = Override(model=ModelPlan(provider="scripted", model="scripted"))


def block(document: Path, first: str) -> str:
    """The YAML block of a document that begins with this line or this comment."""
    blocks: list[str] = re.findall(r"```yaml\n(.*?)```", document.read_text(), re.DOTALL)
    return next(text for text in blocks if text.startswith(first))


def seed(seeds: Path, number: str) -> Path:
    return next(seeds.glob(f"{number}_*.txt"))


def test_everything_that_is_wrong_is_told_at_once_each_with_a_fix(planned: Plan) -> None:
    text = """
    apiVersion: kagent.dev/v1alpha1
    kind: Agent
    metadata: {name: helper}
    spec:
      templateRef: no-template
      modelConfig: no-config
      tools: [no-tool]
      agents: [nobody]
      memory: {storeRef: no-store}
      env: [{name: X, valueFrom: {secretKeyRef: {name: no-secret, key: k}}}]
    """
    result = planned(text)
    assert {problem.reason for problem in result.problems} == {
        "MissingTemplate",
        "MissingModelConfig",
        "MissingTool",
        "MissingAgent",
        "MissingMemoryStore",
        "MissingSecret",
    }
    assert result.plans == {}
    for problem in result.problems:
        assert problem.fix
        assert problem.message
        assert problem.source.file == "agents.yaml"
        assert 6 <= problem.source.line <= 11


def test_the_kaos_quickstart(seeds: Path, planned: Plan) -> None:
    result = planned(block(seed(seeds, "004"), "# simple-agent.yaml"))
    assert result.problems == []
    (made,) = result.plans.values()
    assert made.model == ModelPlan(
        provider="ollama", model="smollm2:135m", endpoint="http://localhost:11434/v1", hosted=True
    )
    launch = LaunchPlan(kind="package", package="test-mcp-echo-server")
    assert made.tools == (McpTools(name="echo-tools", launch=launch, granted=True),)
    assert made.system_prompt.startswith("You are a helpful assistant. Use the echo tool")
    assert made.notices == ()


def test_the_kaos_multi_agent_system(seeds: Path, planned: Plan) -> None:
    result = planned(block(seed(seeds, "004"), "# multi-agent-gateway.yaml"))
    assert result.problems == []
    plans = {key.name: made for key, made in result.plans.items()}
    assert [tool.name for tool in plans["coordinator"].tools if isinstance(tool, AgentTool)] == [
        "researcher",
        "analyst",
    ]
    assert plans["coordinator"].limits.deadline == 120
    (calculator,) = plans["analyst"].tools
    assert isinstance(calculator, McpTools)
    assert calculator.launch is not None
    assert "def calculate" in calculator.launch.source


def test_customer_support_runs_without_what_is_not_built_yet(seeds: Path, planned: Plan) -> None:
    document = seed(seeds, "001")
    agent = block(document, "apiVersion: kagent.dev/v1alpha1\nkind: Agent\nmetadata:\n  name: customer-support-agent\n")
    tools = block(document, "apiVersion: kagent.dev/v1alpha1\nkind: Tool")
    text = f"{agent}\n---\n{tools}"
    redis = {"REDIS_CREDENTIALS_PASSWORD": "p"}
    result = planned(text, redis, SCRIPTED)
    assert errors(result.problems) == []
    (made,) = result.plans.values()
    assert [tool for tool in made.tools if isinstance(tool, UnsupportedTool)] == []
    assert [tool.name for tool in made.tools if isinstance(tool, ApiTool)] == ["create-ticket", "get-customer-info"]
    assert [tool for tool in made.tools if isinstance(tool, RetrievalTool)] == [SEARCH]
    assert len(made.notices) == 1  # tracing
    assert (made.memory.type, made.memory.session_ttl, made.memory.max_history) == ("redis", 3600, 50)
    assert made.workload["scaling"]["keda"]["enabled"] is True

    own = planned(text, {"OPENAI_API_KEY": "k", **redis})
    (made,) = own.plans.values()
    assert (made.model.provider, made.model.model, made.model.endpoint) == (
        "openai",
        "gpt-4-turbo",
        "https://api.openai.com/v1",
    )
    assert made.model.params == {
        "temperature": 0.7,
        "max_tokens": 4096,
        "top_p": 0.9,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
    }


def test_the_kagent_agent_and_its_model_config(seeds: Path, planned: Plan) -> None:
    document = seed(seeds, "000")
    agent = block(document, "apiVersion: kagent.dev/v1alpha1\nkind: Agent\n")
    config = block(document, "apiVersion: kagent.dev/v1alpha1\nkind: ModelConfig")
    result = planned(f"{agent}\n---\n{config}", {"OPENAI_API_KEY": "k"})
    assert result.problems == []
    (made,) = result.plans.values()
    assert made.tools == (McpTools(name="kubernetes-mcp", url="http://kubernetes-mcp-server:80"),)
    assert made.model.params == {"temperature": 0.7, "max_tokens": 4096}


def fleet(count: int) -> Resources:
    text = dedent("""
        apiVersion: kagent.dev/v1alpha1
        kind: ModelConfig
        metadata: {name: model}
        spec: {provider: ollama, model: qwen3, temperature: 0.5}
        ---
        apiVersion: kagent.dev/v1alpha1
        kind: AgentTemplate
        metadata: {name: base}
        spec: {modelConfig: model, systemPrompt: hello, tools: [{name: k, endpoint: 'http://k:80'}]}
        """)
    for number in range(count):
        follower = f", agents: [agent-{number + 1}]" if number + 1 < count else ""
        text += dedent(f"""
            ---
            apiVersion: kagent.dev/v1alpha1
            kind: Agent
            metadata: {{name: agent-{number}}}
            spec: {{templateRef: base, description: number {number}{follower}}}
            """)
    loaded = manifest.load(text, "fleet.yaml")
    assert not loaded.problems
    return Resources(loaded.resources)


def test_agents_in_one_long_chain_take_no_more_time_each_where_there_are_more_of_them() -> None:
    def seconds(agents: int) -> float:
        look = fleet(agents)
        gc.disable()  # it would look at all that other tests have left, which is no part of planning
        try:
            before = time.process_time()
            result = plan_all(look)
            took = time.process_time() - before
        finally:
            gc.enable()
        assert result.problems == []
        assert len(result.plans) == agents
        return took

    # Five times as many: 5 where the time is in proportion, 25 where each looks at all the others.
    few = max(seconds(200), seconds(200))
    assert seconds(1000) < 12 * few


def test_one_plan_is_what_all_plans_have() -> None:
    look = fleet(5)
    everything = plan_all(look)
    agent = look.get("Agent", "default", "agent-2", "kagent.dev")
    assert agent is not None
    made = plan(agent, look).plan
    assert made is not None
    assert everything.plans[made.key] == made
