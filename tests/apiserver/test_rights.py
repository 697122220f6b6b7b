"""What the controller does with fewer rights than the chart gives it: the rest, and it says what is missing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from kadre.base.clock import FakeClock
from kadre.base.tasks import Tasks
from kadre.kube import access, kinds
from kadre.kube.client import Client
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Object
from kadre.kube.leader import ANNOTATION
from kadre.operator import rights
from kadre.operator.children.common import MANAGER, Settings
from kadre.operator.children.pool import accepted
from kadre.operator.controller import Operator
from kadre.operator.main import LOCK
from tests.apiserver.chart import RIGHTS
from tests.apiserver.conftest import AGENT, SECONDS, World, made, operating
from tests.apiserver.test_agents import AGENT_YAML, MODEL_YAML
from tests.apiserver.test_faults import asleep
from tests.apiserver.test_rollouts import plan_of
from tests.apiserver.test_webhook import replica
from tests.cluster.processes import free_ports
from tests.support.between import Between, between

# Of document 001, as written there.
HAND_WRITTEN = """
  - apiGroups: ["kagent.dev"]
    resources: ["agents", "tools", "workflows", "memorystores"]
    verbs: ["*"]
  - apiGroups: ["kagent.dev"]
    resources: ["agents/status", "workflows/status"]
    verbs: ["get", "update", "patch"]
  - apiGroups: ["apps"]
    resources: ["deployments"]
    verbs: ["*"]
  - apiGroups: [""]
    resources: ["services", "configmaps", "secrets", "pods"]
    verbs: ["*"]
  - apiGroups: ["autoscaling"]
    resources: ["horizontalpodautoscalers"]
    verbs: ["*"]
  - apiGroups: ["keda.sh"]
    resources: ["scaledobjects"]
    verbs: ["*"]
"""
INLINE_YAML = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: helper}
spec:
  model: {provider: scripted, name: script}
  systemPrompt: You help.
  scaling: {minReplicas: 2, maxReplicas: 5, targetCPUUtilization: 70}
"""
POOLED_YAML = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: helper}
spec:
  model: {provider: scripted, name: script}
  systemPrompt: You help.
  runtime: {mode: Pooled}
"""
ALL_OF_THEM: list[Object] = [
    {"apiGroups": [rule.group], "resources": list(rule.resources), "verbs": list(rule.verbs)} for rule in rights.RULES
]
"""What the reference page says, and no more."""
EVERY_CHILD = (
    AGENT_YAML
    + """\
  scaling: {minReplicas: 2, maxReplicas: 5, targetCPUUtilization: 70}
  networkPolicy: {enabled: true}
"""
)


async def account(world: World, rules: Sequence[Object], namespaces: Sequence[str] = ()) -> Path:
    """The kubeconfig of an account with these rights, in these namespaces; without any: in the whole cluster."""
    name = f"{world.namespace}-controller"
    user = f"system:serviceaccount:{world.namespace}:{name}"
    for namespace in namespaces or ("",):
        role = "Role" if namespace else "ClusterRole"
        metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
        given = {"apiVersion": RIGHTS[role].api_version, "kind": role, "metadata": metadata, "rules": list(rules)}
        bound = {
            "apiVersion": RIGHTS[role].api_version,
            "kind": f"{role}Binding",
            "metadata": metadata,
            "roleRef": {"apiGroup": RIGHTS[role].group, "kind": role, "name": name},
            "subjects": [{"apiGroup": RIGHTS[role].group, "kind": "User", "name": user}],
        }
        await world.client.apply(RIGHTS[role], given)
        await world.client.apply(RIGHTS[f"{role}Binding"], bound)
    config = world.plane.user(name, user, ["system:serviceaccounts", "system:authenticated"])
    told = json.loads(config.read_text())
    told["contexts"][0]["context"]["namespace"] = world.namespace  # in a pod it is the pod's
    config.write_text(json.dumps(told))
    return config


@pytest.mark.requirement("operator-namespaced")
async def test_a_controller_of_some_namespaces_needs_rights_in_those_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    another, outside = [await made(world.client, world.plane) for _ in range(2)]
    for each in (world, another, outside):
        await each.apply(MODEL_YAML + "---" + EVERY_CHILD)
    namespaces = (world.namespace, another.namespace)
    config = await account(world, ALL_OF_THEM, namespaces)
    async with operating(config, namespaces=namespaces) as operator:
        for each in (world, another):
            await each.when(kinds.DEPLOYMENT, "helper", lambda _: True)
            await each.when(AGENT, "helper", lambda obj: "url" in obj.get("status", {}))
        await world.when(kinds.NETWORK_POLICY, "helper", lambda _: True)
        await world.apply(AGENT_YAML)
        await world.gone(kinds.NETWORK_POLICY, "helper")
        await world.gone(kinds.AUTOSCALER, "helper")
        await world.gone(kinds.DISRUPTION_BUDGET, "helper")
        assert operator.controller.failed == 0
        # Of no namespace, and so nothing that a Role can show.
        absent = [informer.kind for informer in operator.cluster.informers() if informer.absent]
        assert absent == [kinds.API_SERVICE]
        assert not operator.cluster.follows(outside.namespace)
        await another.client.delete(AGENT, another.namespace, "helper")
        await another.gone(kinds.DEPLOYMENT, "helper")
    (told,) = [each.message for each in caplog.records if "this controller may not" in each.message]
    assert "apiservices" in told
    assert "forbidden" not in caplog.text
    assert "status" not in await outside.client.get(AGENT, outside.namespace, "helper")
    assert await outside.get(kinds.DEPLOYMENT, "helper") is None


@pytest.mark.requirement("controller-role", "pool-serves-what-is-made")
async def test_who_may_not_serve_plans_can_give_no_pool_the_right_to(world: World) -> None:
    config = await account(world, [rule for rule in ALL_OF_THEM if rule["resources"] != ["plans"]], [world.namespace])
    async with operating(config, namespaces=[world.namespace]):
        await world.apply(POOLED_YAML)
        told = await world.condition(AGENT, "helper", "Ready", "MissingRights")
        assert "the controller may not serve plans: no agent can be in a pool" in told["message"]
        assert await world.get(kinds.ROLE, "kadre-pool-default") is None
    mine = {"apiVersion": kinds.ROLE.api_version, "kind": kinds.ROLE.kind, **world.named("kadre-pool-default")}
    rule = {"apiGroups": ["kagent.dev"], "resources": ["plans"], "verbs": ["serve"], "resourceNames": ["0123456789"]}
    async with Client(access.by_kubeconfig(config), MANAGER) as client:
        with pytest.raises(ApiError) as refused:
            await client.create(kinds.ROLE, {**mine, "rules": [rule]})
    assert refused.value.forbidden
    await account(world, ALL_OF_THEM, [world.namespace])
    async with operating(config, namespaces=[world.namespace]):
        await world.when(kinds.ROLE, "kadre-pool-default", lambda obj: bool(accepted(obj)))


def said(obj: Object, condition: str) -> str:
    """The message of a condition; empty where there is none."""
    conditions = obj.get("status", {}).get("conditions") or ()
    return next((str(each["message"]) for each in conditions if each["type"] == condition), "")


@pytest.mark.requirement("controller-role")
async def test_the_role_that_the_document_writes_by_hand_is_enough_for_an_agent(world: World) -> None:
    config = await account(world, yaml.safe_load(HAND_WRITTEN))
    (port,) = free_ports(1)
    controller = replica(config, port, [f"--namespace={world.namespace}"])
    controller.start()
    try:
        await world.apply(INLINE_YAML)
        agent = await world.when(AGENT, "helper", lambda obj: "Permitted" in str(obj.get("status")))
        deployment = await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)
        assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == "default"
        assert await world.get(kinds.SERVICE, "helper") is not None
        assert await world.get(kinds.AUTOSCALER, "helper") is not None
        assert await world.get(kinds.CONFIG_MAP, plan_of(deployment)) is not None
        assert await world.get(kinds.SERVICE_ACCOUNT, "helper") is None
        assert "pods run as the ServiceAccount `default`" in said(agent, "Permitted")
        assert "poddisruptionbudgets" in said(agent, "Permitted")
        lock = await world.get(kinds.CONFIG_MAP, LOCK)
        assert lock is not None
        assert '"holderIdentity":"' in lock["metadata"]["annotations"][ANNOTATION]
        await world.apply(MODEL_YAML + "---" + AGENT_YAML.replace("name: helper", "name: reader"))
        other = await world.when(AGENT, "reader", lambda obj: "Permitted" in str(obj.get("status")))
        assert "may not list, watch modelconfigs" in said(other, "Permitted")
    finally:
        await asyncio.to_thread(controller.stop)
    told = [line for line in controller.log.read_text().splitlines() if "this controller may not" in line]
    assert len(told) == len(set(told))
    for missing in ("serviceaccounts", "replicasets", "events", "poddisruptionbudgets", "modelconfigs"):
        assert sum(f"resources: [{missing}]" in line or f"{missing}," in line for line in told) == 1, missing


async def settled(operator: Operator, clock: FakeClock) -> None:
    """Have its rights looked at until it knows which it has."""
    async with asyncio.timeout(SECONDS):
        while not operator.rights.known.is_set():
            await clock.advance(rights.DOUBT_SECONDS)


async def test_rights_that_are_given_later_are_taken_up_without_a_restart(world: World) -> None:
    narrow = yaml.safe_load(HAND_WRITTEN)
    config = await account(world, narrow)
    clock = FakeClock()
    tasks = Tasks("test")
    async with Client(access.by_kubeconfig(config), MANAGER) as client:
        operator = Operator(client, Settings(image="kadre:test"), clock, namespaces=[world.namespace])
        tasks.spawn("operator", operator.run())
        await world.apply(INLINE_YAML)
        await settled(operator, clock)
        await world.when(AGENT, "helper", lambda obj: "pods run as" in said(obj, "Permitted"))
        await account(world, [*narrow, {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["*"]}])
        while operator.rights.may(kinds.SERVICE_ACCOUNT, "create", namespace=world.namespace) is False:
            await clock.advance(rights.CHECK_SECONDS)  # the API server takes a moment to know of a role
        await world.when(kinds.SERVICE_ACCOUNT, "helper", lambda _: True)
        await world.when(AGENT, "helper", lambda obj: "pods run as" not in said(obj, "Permitted"))
        await tasks.aclose()


NOT_GIVEN = {"serviceaccounts", "horizontalpodautoscalers"}


@asynccontextmanager
async def doubting(
    world: World, clock: FakeClock, denied: set[str], hidden: str = ""
) -> AsyncIterator[tuple[Operator, Between]]:
    """A controller, and what stands between it and an API server that denies these. `hidden`: what it lists none of."""
    tasks = Tasks("test")
    async with (
        between(access.by_kubeconfig(world.plane.kubeconfig)) as (bad, way),
        Client(way, MANAGER) as client,
    ):
        bad.denied |= denied
        if hidden:
            bad.refused["GET", f"/{hidden}"] = 403
        operator = Operator(client, Settings(image="kadre:test"), clock, namespaces=[world.namespace])
        tasks.spawn("operator", operator.run())
        await asleep(clock)  # it has looked
        yield operator, bad
        await tasks.aclose()


def account_of(deployment: Object) -> str:
    name: str = deployment["spec"]["template"]["spec"]["serviceAccountName"]
    return name


@pytest.mark.requirement("operator-faults")
async def test_a_right_that_is_denied_once_is_not_taken_for_lost(world: World) -> None:
    clock = FakeClock()
    async with doubting(world, clock, NOT_GIVEN) as (operator, bad):
        assert not operator.rights.known.is_set()
        bad.denied.clear()
        await clock.advance(rights.DOUBT_SECONDS)
        await world.apply(INLINE_YAML)
        assert account_of(await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)) == "helper"
        await asleep(clock)
        bad.denied |= NOT_GIVEN
        await clock.advance(rights.CHECK_SECONDS)
        await asleep(clock)
        bad.denied.clear()
        await clock.advance(rights.DOUBT_SECONDS)
        await asleep(clock)
        assert operator.rights.may_keep(kinds.SERVICE_ACCOUNT, world.namespace)


@pytest.mark.requirement("controller-role")
async def test_an_agent_keeps_what_it_has_when_the_right_to_it_is_lost(world: World) -> None:
    clock = FakeClock()
    async with doubting(world, clock, set()) as (operator, bad):
        await world.apply(INLINE_YAML)
        before = await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)
        await world.when(kinds.AUTOSCALER, "helper", lambda _: True)
        bad.denied |= NOT_GIVEN
        for seconds in (rights.CHECK_SECONDS, rights.DOUBT_SECONDS):
            assert operator.rights.may_keep(kinds.SERVICE_ACCOUNT, world.namespace)
            await clock.advance(seconds)
            await asleep(clock)
        await world.when(AGENT, "helper", lambda obj: said(obj, "Permitted").count("stays as it is") == 2)
        after = await world.get(kinds.DEPLOYMENT, "helper")
        assert after is not None
        assert after["spec"] == before["spec"]
        await world.apply(INLINE_YAML.replace("name: helper", "name: late"))
        late = await world.when(kinds.DEPLOYMENT, "late", lambda _: True)
        assert (account_of(late), late["spec"]["replicas"]) == ("default", 2)


@pytest.mark.requirement("controller-role")
async def test_a_controller_that_starts_without_the_right_to_autoscalers_leaves_the_number_of_pods_to_them(
    world: World,
) -> None:
    async with operating(world.plane.kubeconfig):
        await world.apply(INLINE_YAML)
        await world.when(kinds.AUTOSCALER, "helper", lambda _: True)
        await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)
    await world.change(kinds.DEPLOYMENT, "helper", lambda obj: obj["spec"].update(replicas=4))  # as the autoscaler does
    clock = FakeClock()
    async with doubting(world, clock, NOT_GIVEN, "horizontalpodautoscalers") as (operator, _):
        await settled(operator, clock)
        await world.when(AGENT, "helper", lambda obj: said(obj, "Permitted").count("stays as it is") == 2)
        await world.apply(INLINE_YAML.replace("You help.", "You help more."))
        await world.when(AGENT, "helper", lambda obj: obj["status"].get("observedGeneration") == 2)
        deployment = await world.client.get(kinds.DEPLOYMENT, world.namespace, "helper")
        assert deployment["spec"]["replicas"] == 4
