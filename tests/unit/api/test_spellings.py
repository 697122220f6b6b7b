"""Every spelling the documents use means the same, and two that differ are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kadre.api.kinds.agent import Agent, AgentSpec
from kadre.api.kinds.memory_store import MemoryStore
from kadre.api.kinds.model_config import ModelConfig
from kadre.api.manifest import Loaded

Load = Callable[..., Loaded]


def agent(loaded: Loaded) -> AgentSpec:
    assert not loaded.problems, [str(problem) for problem in loaded.problems]
    [resource] = loaded.resources
    assert isinstance(resource, Agent)
    return resource.spec


@pytest.mark.parametrize("name", ["systemPrompt", "systemMessage"])
def test_a_prompt_has_two_names(load_spec: Load, name: str) -> None:
    loaded = load_spec("Agent", f"description: x\n{name}: hello")
    assert agent(loaded).system_prompt == "hello"
    assert loaded.resources[0].line("spec.systemPrompt") == 7


def test_two_names_with_different_values_are_a_problem(load_spec: Load) -> None:
    [problem] = load_spec("Agent", "systemPrompt: a\nsystemMessage: b").problems
    assert problem.reason == "ConflictingFields"
    assert problem.message == "systemPrompt and systemMessage are both written, with different values"


def test_two_names_with_one_value_are_none(load_spec: Load) -> None:
    assert agent(load_spec("Agent", "systemPrompt: a\nsystemMessage: a")).system_prompt == "a"


def test_an_inline_model_is_called_by_name(load_spec: Load) -> None:
    spec = agent(load_spec("Agent", "model: {provider: openai, name: gpt-4o, baseUrl: 'http://x/v1', topK: 5}"))
    assert spec.model is not None
    assert (spec.model.model, spec.model.endpoint, spec.model.top_k) == ("gpt-4o", "http://x/v1", 5)


def test_a_model_config_calls_its_endpoint_by_either_name(load_spec: Load) -> None:
    [resource] = load_spec("ModelConfig", "provider: vllm\nmodel: m\nbaseUrl: http://x/v1").resources
    assert isinstance(resource, ModelConfig)
    assert resource.spec.endpoint == "http://x/v1"


@pytest.mark.parametrize("written", ["templateRef: base", "templateRef: {name: base}"])
def test_a_template_is_named_plainly_or_in_a_mapping(load_spec: Load, written: str) -> None:
    assert agent(load_spec("Agent", written)).template_ref == "base"


def test_tools_are_names_references_endpoints_or_written_in_place(load_spec: Load) -> None:
    spec = agent(
        load_spec(
            "Agent",
            """
            tools:
              - plain
              - name: reference
              - name: server
                endpoint: http://server:80
                capabilities: [read, "get_*"]
              - name: lookup
                type: api
                description: Looks it up.
                config:
                  endpoint: http://crm/{id}
                parameters:
                  - name: id
            """,
        )
    )
    assert spec.tools is not None
    plain, reference, server, lookup = spec.tools
    assert (plain.name, reference.name) == ("plain", "reference")
    assert (server.endpoint, server.capabilities) == ("http://server:80", ["read", "get_*"])
    assert lookup.inline is not None
    assert lookup.inline.api is not None
    assert (lookup.inline.api.endpoint, lookup.inline.description) == ("http://crm/{id}", "Looks it up.")


def test_a_problem_in_a_tool_written_in_place_has_the_path_as_written(load_spec: Load) -> None:
    loaded = load_spec(
        "Agent",
        """
        tools:
          - name: lookup
            type: api
            config:
              endpoint: http://crm/{id}
              method: FETCH
        """,
    )
    [problem] = loaded.problems
    assert (problem.path, problem.source.line) == ("spec.tools[0].config.method", 11)
    loaded = load_spec("Agent", "tools: [{name: lookup, type: api, config: {endpoint: 'http://crm/{id}'}}]")
    [problem] = loaded.problems
    assert (problem.reason, problem.path) == ("UndeclaredParameter", "spec.tools[0].config.endpoint")


@pytest.mark.requirement("scaling-spellings")
@pytest.mark.parametrize(
    "metrics",
    [
        "metrics: [{type: cpu, target: {type: Utilization, averageUtilization: 70}}]",
        "metrics: [{type: cpu, target: {averageUtilization: 70}}]",
        "metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}}]",
        "targetCPUUtilization: 70",
        "targetCPUUtilization: 70\n  metrics: [{type: cpu, target: {averageUtilization: 70}}]",
        "targetCPUUtilizationPercentage: 70",
    ],
)
def test_every_spelling_of_a_cpu_target_is_one_metric(load_spec: Load, metrics: str) -> None:
    spec = agent(load_spec("Agent", f"scaling:\n  {metrics}"))
    assert spec.scaling is not None
    assert [metric.model_dump(by_alias=True, exclude_none=True) for metric in spec.scaling.metrics or ()] == [
        {
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
        }
    ]


def test_a_cpu_target_and_a_metric_that_differ_are_a_problem(load_spec: Load) -> None:
    metrics = "metrics: [{type: cpu, target: {averageUtilization: 50}}]"
    [problem] = load_spec("Agent", f"scaling:\n  targetCPUUtilization: 70\n  {metrics}").problems
    assert problem.message == "metrics and targetCPUUtilization are both written, with different values"


@pytest.mark.parametrize("written", ["ttl: 3600, maxHistory: 50", "sessionTTL: 1h, maxConversationHistory: 50"])
def test_memory_written_in_place_has_both_names_of_each_bound(load_spec: Load, written: str) -> None:
    spec = agent(load_spec("Agent", f"memory: {{type: in-memory, config: {{{written}}}}}"))
    assert spec.memory is not None
    assert spec.memory.config is not None
    assert (spec.memory.config.session_ttl, spec.memory.config.max_conversation_history) == (3600, 50)


@pytest.mark.parametrize("written", ["ttl: 3600, maxHistory: 50", "sessionTTL: 1h, maxConversationHistory: 50"])
def test_a_memory_store_has_both_names_of_each_bound(load_spec: Load, written: str) -> None:
    [store] = load_spec("MemoryStore", f"type: in-memory\npolicy: {{{written}}}").resources
    assert isinstance(store, MemoryStore)
    assert store.spec.policy is not None
    assert (store.spec.policy.session_ttl, store.spec.policy.max_conversation_history) == (3600, 50)


@pytest.mark.parametrize("written", ["storeRef: shared", "storeRef: {name: shared}"])
def test_memory_names_a_store(load_spec: Load, written: str) -> None:
    spec = agent(load_spec("Agent", f"memory: {{{written}}}"))
    assert spec.memory is not None
    assert spec.memory.store_ref == "shared"


@pytest.mark.parametrize(("written", "seconds"), [("30s", 30.0), ("1h30m", 5400.0), ("90", 90.0), ("1.5", 1.5)])
def test_durations_are_seconds(load_spec: Load, written: str, seconds: float) -> None:
    assert agent(load_spec("Agent", f"timeout: {written}")).timeout == seconds


@pytest.mark.parametrize("kind", ["Agent", "AgentTemplate"])
def test_what_nobody_wrote_is_none(load_spec: Load, kind: str) -> None:
    spec: Any = load_spec(kind, "{}").resources[0].spec
    assert not {name for name in type(spec).model_fields if getattr(spec, name) is not None}
