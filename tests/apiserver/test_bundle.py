"""Agents that come with an installation: applied out of a ConfigMap, and gone with it."""

from __future__ import annotations

import pytest

from kadre.api import manifest
from kadre.base.errors import KadreError
from kadre.base.problems import errors
from kadre.kube import access, kinds
from kadre.kube.kinds import Key, Object
from kadre.operator import bundle
from tests.apiserver import chart
from tests.apiserver.conftest import AGENT, MODEL_CONFIG, World

pytestmark = pytest.mark.requirement("chart-example-agents")

NAME = "kagent-agents"
EXAMPLES = ("k8s-operator", "deepseek-r1-coder", "qwen3-8b")


def held(namespace: str, *agents: str) -> Object:
    """The chart's ConfigMap with these agents switched on."""
    made = chart.rendered(namespace, "kagent", *(f"agents.{name}.enabled=true" for name in agents))
    (found,) = [each for each in made if each["kind"] == "ConfigMap"]
    return found


async def apply(world: World, *agents: str) -> list[str]:
    await world.client.apply(kinds.CONFIG_MAP, held(world.namespace, *agents))
    return await bundle.apply_bundle(Key(world.namespace, NAME), access.by_kubeconfig(world.plane.kubeconfig))


def test_the_documents_example_agents_are_right_as_they_are() -> None:
    loaded = [manifest.load(text, name) for name, text in held("kagent", *EXAMPLES)["data"].items()]
    assert [problem for each in loaded for problem in errors(each.problems)] == []
    named = [resource.name for each in loaded for resource in each.resources if resource.kind == "Agent"]
    assert sorted(named) == sorted(EXAMPLES)


def test_without_them_the_chart_has_none_of_it() -> None:
    assert [each for each in chart.rendered("kagent", "kagent") if NAME in each["metadata"]["name"]] == []


async def test_what_is_switched_off_goes_and_all_goes_with_the_release(world: World) -> None:
    applied = await apply(world, "qwen3-8b", "deepseek-r1-coder")
    assert "agents.kagent.dev/qwen3-8b" in applied
    agent = await world.client.get(AGENT, world.namespace, "qwen3-8b")
    await apply(world, "qwen3-8b")
    await world.gone(AGENT, "deepseek-r1-coder")
    await world.gone(MODEL_CONFIG, "deepseek-r1")
    kept = await world.client.get(AGENT, world.namespace, "qwen3-8b")
    assert kept["metadata"]["resourceVersion"] == agent["metadata"]["resourceVersion"]
    await world.client.delete(kinds.CONFIG_MAP, world.namespace, NAME)
    await world.gone(AGENT, "qwen3-8b")
    await world.gone(MODEL_CONFIG, "qwen3-8b")


async def test_an_agent_of_somebody_elses_is_left_alone_and_named(world: World) -> None:
    spec = {"model": {"provider": "scripted", "name": "script"}}
    metadata = {"name": "qwen3-8b", "namespace": world.namespace}
    mine = {"apiVersion": AGENT.api_version, "kind": AGENT.kind, "metadata": metadata, "spec": spec}
    await world.client.apply(AGENT, mine)
    with pytest.raises(KadreError, match=f"Agent {world.namespace}/qwen3-8b is somebody else's"):
        await apply(world, "qwen3-8b")
    assert await world.get(MODEL_CONFIG, "qwen3-8b") is None
    assert (await world.client.get(AGENT, world.namespace, "qwen3-8b"))["spec"] == spec
