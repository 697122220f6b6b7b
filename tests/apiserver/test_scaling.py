"""What an agent is scaled by, and what is said where the cluster does not serve it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import pytest

from kadre.kube import kinds
from kadre.kube.client import Client, Scope
from kadre.kube.kinds import Object, key_of
from kadre.operator.controller import Operator
from tests.apiserver.conftest import AGENT, SECONDS, World, is_true, when
from tests.apiserver.test_agents import AGENT_YAML, MODEL_YAML

EXTERNAL = "external.metrics.k8s.io"
PODS = """
  scaling:
    minReplicas: 2
    maxReplicas: 5
    metrics:
      - type: Pods
        pods: {metric: {name: agent_active_sessions}, target: {type: AverageValue, averageValue: "50"}}
"""
KEDA = """
  scaling:
    minReplicas: 0
    maxReplicas: 5
    metrics: [{type: cpu, target: {averageUtilization: 70}}]
    keda:
      enabled: true
      triggers: [{type: prometheus, metadata: {serverAddress: "http://prometheus:9090", threshold: "50", query: up}}]
"""


@asynccontextmanager
async def served(client: Client, group: str, whose: str = "prometheus-adapter") -> AsyncIterator[Object]:
    """An API group as an adapter brings it: one that has no Service is the API server's own, and so is available."""
    api: Object = {
        "apiVersion": kinds.API_SERVICE.api_version,
        "kind": kinds.API_SERVICE.kind,
        "metadata": {"name": f"v1beta1.{group}", "labels": {"app.kubernetes.io/part-of": whose}},
        "spec": {"group": group, "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100},
    }
    await client.create(kinds.API_SERVICE, api)
    try:
        yield api
    finally:
        await client.delete(kinds.API_SERVICE, "", f"v1beta1.{group}")


@asynccontextmanager
async def keda(client: Client) -> AsyncIterator[None]:
    """KEDA as far as an API server knows it: its kind, and the API it serves."""
    async with keda_kind(client), served(client, EXTERNAL, "keda-operator"):
        yield


@asynccontextmanager
async def keda_kind(client: Client) -> AsyncIterator[None]:
    """What there is of KEDA while its adapter restarts."""
    version = {"name": "v1alpha1", "served": True, "storage": True}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition: Object = {
        "apiVersion": kinds.CRD.api_version,
        "kind": kinds.CRD.kind,
        "metadata": {"name": "scaledobjects.keda.sh"},
        "spec": {
            "group": "keda.sh",
            "scope": "Namespaced",
            "names": {"plural": "scaledobjects", "singular": "scaledobject", "kind": "ScaledObject"},
            "versions": [{**version, "schema": schema}],
        },
    }
    await client.create(kinds.CRD, definition)

    def established(obj: Object) -> bool:
        conditions = obj.get("status", {}).get("conditions") or ()
        return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)

    try:
        await when(client, kinds.CRD, definition, established)
        yield
    finally:
        await client.delete(kinds.CRD, "", "scaledobjects.keda.sh")
        await gone(client, definition)


async def gone(client: Client, definition: Object) -> None:
    """Wait until the API server has forgotten a kind: the next test brings it anew."""
    wanted = key_of(definition)
    page = await client.list(kinds.CRD)
    if all(key_of(each) != wanted for each in page.items):
        return
    async with asyncio.timeout(SECONDS), aclosing(client.watch(kinds.CRD, page.version)) as events:
        async for event in events:
            if event.type == "DELETED" and key_of(event.object) == wanted:
                return


@pytest.mark.requirement("operator-hpa")
async def test_a_metric_that_nothing_serves_is_said_until_something_does(world: World, operator: Operator) -> None:
    await world.apply(MODEL_YAML + "---" + AGENT_YAML + PODS)
    told = await world.condition(AGENT, "helper", "Scalable", "MetricsUnavailable")
    assert "Pods metrics come from custom.metrics.k8s.io" in told["message"]
    scaler = await world.when(kinds.AUTOSCALER, "helper", lambda _: True)
    assert scaler["spec"]["metrics"][0]["pods"]["metric"]["name"] == "agent_active_sessions"
    async with served(world.client, "custom.metrics.k8s.io"):
        await world.condition(AGENT, "helper", "Scalable", "Scaled")
    await world.condition(AGENT, "helper", "Scalable", "MetricsUnavailable")


@pytest.mark.requirement("operator-keda")
async def test_keda_scales_where_there_is_one_and_else_an_autoscaler_by_the_rest(
    world: World, operator: Operator
) -> None:
    await world.apply(MODEL_YAML + "---" + AGENT_YAML + KEDA)
    await world.condition(AGENT, "helper", "Scalable", "MissingKeda")
    scaler = await world.when(kinds.AUTOSCALER, "helper", lambda _: True)
    assert (scaler["spec"]["minReplicas"], len(scaler["spec"]["metrics"])) == (1, 1)
    async with keda(world.client):
        await world.condition(AGENT, "helper", "Scalable", "Scaled")
        await world.gone(kinds.AUTOSCALER, "helper")
        scaled = await world.when(kinds.SCALED_OBJECT, "helper", lambda _: True)
        assert (scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]) == (0, 5)
        assert [trigger["type"] for trigger in scaled["spec"]["triggers"]] == ["prometheus", "cpu"]
        await world.apply(AGENT_YAML)
        await world.gone(kinds.SCALED_OBJECT, "helper")


@pytest.mark.requirement("operator-keda")
async def test_another_adapter_that_serves_external_metrics_is_not_taken_for_keda(
    world: World, operator: Operator
) -> None:
    async with served(world.client, EXTERNAL):
        await world.apply(MODEL_YAML + "---" + AGENT_YAML + KEDA)
        await world.condition(AGENT, "helper", "Scalable", "MissingKeda")
        await world.when(kinds.AUTOSCALER, "helper", lambda _: True)
        assert not is_true(await world.client.get(AGENT, world.namespace, "helper"), "Stalled")


@pytest.mark.requirement("operator-keda")
async def test_an_agent_stays_kedas_while_the_adapter_restarts_and_not_once_it_is_uninstalled(
    world: World, operator: Operator
) -> None:
    async with keda_kind(world.client):  # which an uninstallation may leave
        async with served(world.client, EXTERNAL, "keda-operator") as api:
            await world.apply(MODEL_YAML + "---" + AGENT_YAML + KEDA)
            before = await world.when(kinds.SCALED_OBJECT, "helper", lambda _: True)
            await world.condition(AGENT, "helper", "Scalable", "Scaled")
            away = {"service": {"name": "keda-metrics", "namespace": world.namespace}, "insecureSkipTLSVerify": True}
            await world.client.apply(kinds.API_SERVICE, api | {"spec": api["spec"] | away})
            await world.condition(AGENT, "helper", "Scalable", "KedaUnavailable")
            assert await world.get(kinds.AUTOSCALER, "helper") is None

            def back(obj: Object) -> None:
                del obj["spec"]["service"], obj["spec"]["insecureSkipTLSVerify"]

            await world.change(kinds.API_SERVICE, api["metadata"]["name"], back)
            await world.condition(AGENT, "helper", "Scalable", "Scaled")
            after = await world.client.get(kinds.SCALED_OBJECT, world.namespace, "helper")
            assert after["metadata"]["uid"] == before["metadata"]["uid"]
            await world.change(kinds.DEPLOYMENT, "helper", lambda obj: obj["spec"].update(replicas=0))
        await world.condition(AGENT, "helper", "Scalable", "MissingKeda")
        await world.when(kinds.AUTOSCALER, "helper", lambda _: True)
        await world.gone(kinds.SCALED_OBJECT, "helper")
        # No autoscaler brings an agent back that KEDA has left without pods.
        await world.when(kinds.DEPLOYMENT, "helper", lambda obj: obj["spec"]["replicas"] == 1)
        async with served(world.client, EXTERNAL):
            await world.apply((MODEL_YAML + "---" + AGENT_YAML + KEDA).replace("name: helper", "name: another"))
            await world.condition(AGENT, "another", "Scalable", "MissingKeda")
            await world.when(kinds.AUTOSCALER, "another", lambda _: True)


async def say(world: World, pod: Object, status: str) -> None:
    """What a kubelet says of a pod."""
    named = {key: pod["metadata"][key] for key in ("name", "namespace", "uid")}
    said = {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}
    await world.client.apply(
        kinds.POD, {"apiVersion": "v1", "kind": "Pod", "metadata": named, "status": said}, "status"
    )


def available(number: int) -> Callable[[Object], bool]:
    """Whether an agent has so many pods that answer."""
    return lambda obj: bool(obj.get("status", {}).get("readyReplicas") == number)


@pytest.mark.requirement("operator-keda")
async def test_an_agent_that_keda_may_scale_to_none_is_ready_while_one_of_its_pods_answers(
    world: World, operator: Operator
) -> None:
    async with keda(world.client):
        await world.apply(MODEL_YAML + "---" + AGENT_YAML + KEDA)
        await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)
        await world.change(kinds.DEPLOYMENT, "helper", lambda obj: obj["spec"].update(replicas=2))
        await world.when(kinds.DEPLOYMENT, "helper", lambda obj: obj["status"].get("replicas") == 2)
        one, two = (await world.client.list(kinds.POD, Scope(world.namespace))).items
        for pod in (one, two):
            await say(world, pod, "True")
        await world.condition(AGENT, "helper", "Ready", "Available")
        await say(world, two, "False")
        assert is_true(await world.when(AGENT, "helper", available(1)), "Ready")
        await say(world, one, "False")
        assert not is_true(await world.when(AGENT, "helper", available(0)), "Ready")


@pytest.mark.requirement("network-policies")
async def test_an_agent_has_a_network_policy_only_where_it_asks_for_one(world: World, operator: Operator) -> None:
    asked = '  networkPolicy: {enabled: true, egress: [{to: [{ipBlock: {cidr: "10.0.0.0/8"}}]}]}\n'
    await world.apply(MODEL_YAML + "---" + AGENT_YAML + asked)
    policy = await world.when(kinds.NETWORK_POLICY, "helper", lambda _: True)
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert policy["spec"]["podSelector"]["matchLabels"] == {"app": "helper", "agent": "helper"}
    await world.apply(AGENT_YAML)
    await world.gone(kinds.NETWORK_POLICY, "helper")
