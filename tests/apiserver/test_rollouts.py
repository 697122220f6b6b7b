"""Rolling forward and back: what a change makes new, what is kept, and what is left to others."""

from __future__ import annotations

import asyncio

import pytest

from kadre.kube import kinds
from kadre.kube.kinds import Key, Object
from kadre.operator.controller import Operator
from tests.apiserver.conftest import AGENT, SECONDS, World, is_true
from tests.apiserver.test_agents import AGENT_YAML, MODEL_YAML
from tests.apiserver.test_faults import idle

SCALING = "  scaling: {minReplicas: 2, maxReplicas: 5, targetCPUUtilization: 70}\n"


def plan_of(deployment: Object) -> str:
    name: str = deployment["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"]
    return name


async def rolled(world: World, number: int) -> Object:
    """The agent's Deployment at that revision, told in its status."""
    await world.when(AGENT, "helper", lambda obj: obj.get("status", {}).get("revision") == number)
    deployment = await world.get(kinds.DEPLOYMENT, "helper")
    assert deployment is not None
    return deployment


async def model(world: World, name: str) -> None:
    await world.apply(MODEL_YAML.replace("model: script", f"model: {name}"))


@pytest.mark.requirement("operator-rollback", "operator-rolling-update")
async def test_a_rollback_holds_until_the_agent_changes(world: World, operator: Operator) -> None:
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    first = await rolled(world, 1)
    await model(world, "second")
    second = await rolled(world, 2)
    # What `kubectl rollout undo` does: the template of the earlier revision is put back.
    await world.change(kinds.DEPLOYMENT, "helper", lambda obj: obj["spec"].update(template=first["spec"]["template"]))
    told = await world.condition(AGENT, "helper", "RolledBack", "RolloutUndone")
    assert told["status"] == "True"
    await rolled(world, 3)
    await world.when(AGENT, "helper", lambda obj: obj["status"].get("model") == "scripted/script")
    await model(world, "third")  # a change of what it refers to does not end the rollback
    await world.condition(AGENT, "helper", "RolledBack", "RolloutUndone")
    held = await world.get(kinds.DEPLOYMENT, "helper")
    assert held is not None
    assert plan_of(held) == plan_of(first)

    def restart(obj: Object) -> None:
        obj["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = "now"

    await world.change(kinds.DEPLOYMENT, "helper", restart)  # starts what runs anew, and nothing else
    held = await rolled(world, 4)
    assert plan_of(held) == plan_of(first)
    told = await world.condition(AGENT, "helper", "RolledBack", "RolloutUndone")
    assert "revision 4 runs" in told["message"]
    await idle(operator)
    assert (await world.client.get(AGENT, world.namespace, "helper"))["status"]["model"] == "scripted/script"
    await world.apply(AGENT_YAML.replace("You help.", "You help more."))
    last = await rolled(world, 5)
    assert plan_of(last) not in (plan_of(first), plan_of(second))
    agent = await world.when(AGENT, "helper", lambda obj: not is_true(obj, "RolledBack"))
    assert agent["status"]["model"] == "scripted/third"
    assert agent["status"]["observedGeneration"] == 2


async def test_a_template_that_no_revision_had_is_put_back(world: World, operator: Operator) -> None:
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    await rolled(world, 1)

    def change(obj: Object) -> None:
        obj["spec"]["template"]["spec"]["containers"][0]["image"] = "somebody/elses:1"

    await world.change(kinds.DEPLOYMENT, "helper", change)

    def ours(deployment: Object) -> bool:
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        return bool(container["image"] == "kadre:test" and deployment["metadata"]["generation"] > 2)

    await world.when(kinds.DEPLOYMENT, "helper", ours)


async def test_plans_are_kept_while_a_revision_refers_to_them(world: World, operator: Operator) -> None:
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    first = plan_of(await rolled(world, 1))
    await model(world, "second")
    second = plan_of(await rolled(world, 2))
    assert await world.get(kinds.CONFIG_MAP, first) is not None
    sets = await world.client.list(kinds.REPLICA_SET)
    (old,) = [
        each["metadata"]["name"]
        for each in sets.items
        if each["metadata"]["namespace"] == world.namespace and plan_of(each) == first
    ]
    await world.client.delete(kinds.REPLICA_SET, world.namespace, old)
    await world.gone(kinds.REPLICA_SET, old)
    await model(world, "third")
    await world.gone(kinds.CONFIG_MAP, first)
    assert await world.get(kinds.CONFIG_MAP, second) is not None


@pytest.mark.requirement("operator-scaling-behaviour")
async def test_the_number_of_pods_is_handed_to_an_autoscaler_and_taken_back(world: World, operator: Operator) -> None:
    fixed = AGENT_YAML + "  replicas: 3\n"
    await world.apply(MODEL_YAML + "---" + fixed)
    await world.when(kinds.DEPLOYMENT, "helper", lambda obj: obj["spec"]["replicas"] == 3)
    await world.apply(AGENT_YAML + SCALING)
    scaler = await world.when(kinds.AUTOSCALER, "helper", lambda _: True)
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 5)
    await world.when(kinds.DISRUPTION_BUDGET, "helper", lambda obj: obj["spec"]["maxUnavailable"] == 1)
    deployment = await world.get(kinds.DEPLOYMENT, "helper")
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 3  # not 1, which dropping our word for it would have made it
    await world.apply(AGENT_YAML + "  replicas: 1\n")
    await world.gone(kinds.AUTOSCALER, "helper")
    await world.gone(kinds.DISRUPTION_BUDGET, "helper")
    await world.when(kinds.DEPLOYMENT, "helper", lambda obj: obj["spec"]["replicas"] == 1)


@pytest.mark.requirement("operator-hpa")
async def test_a_scaled_agent_begins_with_its_fewest_pods_and_keeps_what_is_scaled_since(
    world: World, operator: Operator
) -> None:
    await world.apply(MODEL_YAML + "---" + AGENT_YAML + SCALING)
    begun = await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)
    assert begun["spec"]["replicas"] == 2
    await world.change(kinds.DEPLOYMENT, "helper", lambda obj: obj["spec"].update(replicas=4))
    await world.apply(AGENT_YAML.replace("You help.", "You help more.") + SCALING)
    template = begun["spec"]["template"]
    changed = await world.when(kinds.DEPLOYMENT, "helper", lambda obj: obj["spec"]["template"] != template)
    assert changed["spec"]["replicas"] == 4


KEYED = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: helper}
spec:
  model: {provider: openai, name: m, apiKeySecretRef: {name: openai, key: key}}
  env:
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: tokens, key: token}}}
"""


async def rotate(world: World, operator: Operator, name: str, data: dict[str, str]) -> None:
    """Put another value into a Secret, and wait until the controller has done all that it does of it."""
    secret = await world.get(kinds.SECRET, name)
    kind = {"apiVersion": "v1", "kind": "Secret", **world.named(name), "stringData": data}
    made = await (world.client.replace if secret is not None else world.client.create)(kinds.SECRET, kind)
    version = made["metadata"]["resourceVersion"]
    async with asyncio.timeout(SECONDS):
        while operator.cluster.version("Secret", Key(world.namespace, name)) != version:  # noqa: ASYNC110
            await asyncio.sleep(0)
        while not operator.controller.queue.idle:  # noqa: ASYNC110
            await asyncio.sleep(0)


@pytest.mark.requirement("key-rotation")
async def test_a_rotated_secret_rolls_the_pods_once_where_it_is_in_their_environment(
    world: World, operator: Operator
) -> None:
    await rotate(world, operator, "openai", {"key": "sk-never-shown"})
    await rotate(world, operator, "tokens", {"token": "sk-never-shown"})
    await world.apply(KEYED)
    first = await rolled(world, 1)
    await rotate(world, operator, "openai", {"key": "sk-another"})  # a file of the pod's, which is read again
    unchanged = await world.get(kinds.DEPLOYMENT, "helper")
    assert unchanged is not None
    assert unchanged["metadata"]["generation"] == first["metadata"]["generation"]
    await rotate(world, operator, "tokens", {"token": "sk-another"})
    second = await rolled(world, 2)
    assert second["metadata"]["generation"] == first["metadata"]["generation"] + 1
    assert plan_of(second) == plan_of(first)
    # What is undone is no plan: the pods are to have the value that there is.
    await world.change(kinds.DEPLOYMENT, "helper", lambda obj: obj["spec"].update(template=first["spec"]["template"]))
    third = await world.when(kinds.DEPLOYMENT, "helper", lambda obj: obj["metadata"]["generation"] == 4)
    assert third["spec"]["template"] == second["spec"]["template"]
    await world.client.delete(kinds.SECRET, world.namespace, "tokens")
    await world.condition(AGENT, "helper", "EnvironmentResolved", "MissingSecret")
    left = await world.get(kinds.DEPLOYMENT, "helper")
    assert left is not None
    assert left["spec"]["template"] == second["spec"]["template"]  # what runs goes on


async def test_a_deleted_agent_leaves_nothing(world: World, operator: Operator) -> None:
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    plan = plan_of(await rolled(world, 1))
    await world.client.delete(AGENT, world.namespace, "helper")
    for kind in (kinds.DEPLOYMENT, kinds.SERVICE, kinds.SERVICE_ACCOUNT):
        await world.gone(kind, "helper")
    await world.gone(kinds.CONFIG_MAP, plan)


@pytest.mark.requirement("operator-rollback")
async def test_a_paused_rollout_is_told_with_the_command_that_resumes_it(world: World, operator: Operator) -> None:
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    await rolled(world, 1)
    await world.change(kinds.DEPLOYMENT, "helper", lambda obj: obj["spec"].update(paused=True))
    await model(world, "second")
    told = await world.condition(AGENT, "helper", "Reconciling", "DeploymentPaused")
    assert f"kubectl rollout resume deployment/helper -n {world.namespace}" in told["message"]
    await world.change(kinds.DEPLOYMENT, "helper", lambda obj: obj["spec"].pop("paused"))
    await rolled(world, 2)


@pytest.mark.requirement("operator-scaling-behaviour")
async def test_the_number_of_pods_is_left_to_an_autoscaler_of_somebody_elses(world: World, operator: Operator) -> None:
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    await rolled(world, 1)
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "helper"}
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 3}
    scaler = {"apiVersion": "autoscaling/v2", "kind": kinds.AUTOSCALER.kind, **world.named("mine"), "spec": spec}
    await world.client.create(kinds.AUTOSCALER, scaler)  # it has no pods to look at, but fewer than its fewest it mends
    told = await world.condition(AGENT, "helper", "Scalable", "ScaledByAnother")
    assert "HorizontalPodAutoscaler mine" in told["message"]
    await idle(operator)
    deployment = await world.when(kinds.DEPLOYMENT, "helper", lambda obj: obj["spec"]["replicas"] == 2)
    await world.apply(AGENT_YAML.replace("You help.", "You help more."))
    template = deployment["spec"]["template"]
    changed = await world.when(kinds.DEPLOYMENT, "helper", lambda obj: obj["spec"]["template"] != template)
    assert changed["spec"]["replicas"] == 2
