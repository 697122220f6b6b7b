"""Agents of a pool: what they become, what their pods may do, and what becomes of a pool that nobody is in any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kadre.base.clock import SystemClock
from kadre.base.tasks import Tasks
from kadre.engine.models import keys
from kadre.kube import access, informer, kinds
from kadre.kube.client import Scope
from kadre.kube.kinds import Key, Object, key_of
from kadre.local import api_secrets
from kadre.local import pool as process
from kadre.local.pool import PoolSettings
from kadre.operator import moves
from kadre.operator.children import plan_map, pools
from kadre.operator.children import pool as parts
from kadre.operator.children.common import PoolSettings as Sizes
from kadre.operator.children.common import Settings
from kadre.operator.children.pool import Pool
from kadre.operator.controller import Operator
from tests.apiserver.conftest import AGAIN, AGENT, SECONDS, World, has, is_true, operating
from tests.cluster.processes import free_ports

pytestmark = pytest.mark.requirement("pooled-agents")
CALLED = parts.called("default")
MADE = (*(kinds.DEPLOYMENT, kinds.SERVICE, kinds.SERVICE_ACCOUNT), *(kinds.ROLE, kinds.ROLE_BINDING, kinds.CONFIG_MAP))
AGENT_YAML = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: {name}}}
spec:
  model: {{provider: scripted, name: {model}}}
  systemMessage: {prompt}
  runtime: {{mode: Pooled, pool: {pool}}}
"""
KEYED_YAML = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: {name}}}
spec:
  model: {{provider: openai, name: m, endpoint: "http://127.0.0.1:1/v1", apiKeySecretRef: {{name: {secret}, key: key}}}}
  runtime: {{mode: Pooled}}
"""


def pooled(name: str, pool: str = "default", prompt: str = "You help.", model: str = "script") -> str:
    return AGENT_YAML.format(name=name, pool=pool, prompt=prompt, model=model)


def dedicated(name: str, prompt: str = "You help.") -> str:
    return pooled(name, prompt=prompt).replace("mode: Pooled, pool: default", "mode: Dedicated")


class Pod:
    """A pool's pod, which no node runs: the test does."""

    def __init__(self, world: World, name: str, url: str) -> None:
        self.name = name
        self.url = url
        self._world = world

    async def ready(self, ready: bool = True) -> None:
        """As a kubelet says it."""
        await set_ready(self._world, self.name, ready=ready)

    async def chat(self, agent: str, message: str = "hello", session: str = "s") -> tuple[int, dict[str, Any]]:
        """What the agent answers, asked from the pod itself."""
        body = {"message": message, "session_id": session}
        async with aiohttp.ClientSession() as http, http.post(f"{self.url}/agents/{agent}/chat", json=body) as answer:
            return answer.status, await answer.json()

    async def until(self, agent: str, holds: Callable[[int, dict[str, Any]], bool]) -> None:
        """Ask until that holds of the answer."""
        async with asyncio.timeout(SECONDS):
            while not holds(*await self.chat(agent)):
                await SystemClock().sleep(AGAIN)


async def set_ready(world: World, name: str, *, ready: bool = True) -> None:
    conditions = [{"type": each, "status": str(ready)} for each in ("Ready", "ContainersReady")]
    obj = {"apiVersion": "v1", "kind": "Pod", **world.named(name)}
    await world.client.apply(kinds.POD, {**obj, "status": {"phase": "Running", "conditions": conditions}}, "status")


@asynccontextmanager
async def running(world: World, folder: Path, pool: str = "default", number: int = 0) -> AsyncIterator[Pod]:
    """The process of a pool's pod, with the rights of its account and no others."""
    called = parts.called(pool)
    await world.when(kinds.ROLE_BINDING, called, lambda _: True)
    labels = {"kagent.dev/pool": pool}
    made = await world.some(kinds.POD, lambda obj: labels.items() <= (obj["metadata"].get("labels") or {}).items())
    name = made["metadata"]["name"]
    user = f"system:serviceaccount:{world.namespace}:{called}"
    kubeconfig = world.plane.user(f"{world.namespace}-{called}-{number}", user, [])
    found = replace(access.by_kubeconfig(kubeconfig), namespace=world.namespace)
    (port,) = free_ports(1)
    settings = PoolSettings(pool=pool, pod=name, host="127.0.0.1", port=port, data_dir=folder, linger=0)
    tasks = Tasks("pool")
    tasks.spawn("serve", process.serve(settings, found))
    try:
        pod = Pod(world, name, f"http://127.0.0.1:{port}")
        async with asyncio.timeout(SECONDS), aiohttp.ClientSession() as http:
            while True:
                try:
                    async with http.get(f"{pod.url}/health") as answer:
                        if answer.status == 200:
                            break
                except aiohttp.ClientError:
                    await SystemClock().sleep(AGAIN)
        await pod.ready()
        yield pod
    finally:
        await tasks.aclose()


async def objects(world: World) -> set[tuple[str, str]]:
    """Every object of ours, of the kinds that agents and pools become."""
    found = set()
    for kind in MADE:
        for each in (await world.client.list(kind, Scope(world.namespace))).items:
            if each["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "kadre":
                found.add((kind.kind, each["metadata"]["name"]))
    return found


async def plan_of(world: World, name: str) -> str:
    """The hash of an agent's plan, as its status says it."""
    found: str = (await world.client.get(AGENT, world.namespace, name))["status"]["planHash"]
    return found


def as_before(role: Object) -> None:
    """Have a pool's Role be as a controller had it that said nothing of plans."""
    role["rules"] = [rule for rule in role["rules"] if rule["resources"] in (["configmaps"], ["secrets"])]


def names(role: Object) -> list[str]:
    """The Secrets that a Role lets read."""
    found: list[list[str]] = [rule["resourceNames"] for rule in role["rules"] if rule["resources"] == ["secrets"]]
    return found[0] if found else []


async def made_plan(world: World, agent: str) -> Object:
    """The ConfigMap of an agent's plan."""
    await world.when(AGENT, agent, lambda obj: "planHash" in obj.get("status", {}))
    return await world.client.get(kinds.CONFIG_MAP, world.namespace, f"{agent}-{await plan_of(world, agent)}")


async def forge(world: World, made: Object, name: str, secret: str, owners: list[Object]) -> None:
    """A plan with the labels of one that was made, as whoever may write ConfigMaps can add it: another agent's."""
    of = made["metadata"]["labels"]["agent"]
    text = made["data"][plan_map.KEY].replace(f'"name":"{of}"', f'"name":"{name}"').replace("key-of-one", secret)
    metadata = {**world.named(f"{name}-0123456789")["metadata"], "labels": made["metadata"]["labels"]}
    metadata["ownerReferences"] = owners
    await world.client.create(kinds.CONFIG_MAP, {**made, "metadata": metadata, "data": {plan_map.KEY: text}})


async def tell(world: World, pod: str, plans: dict[str, str]) -> None:
    """What a pod of the pool says of itself."""
    said = {"data": {pod: json.dumps({"plans": plans})}}
    await world.client.merge(kinds.CONFIG_MAP, Key(world.namespace, parts.told_in("default")), said)


async def own_pods(world: World, agent: str) -> None:
    """Have the agent's own pods be ready."""

    def is_new(obj: Object) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return labels.get("agent") == agent and "deletionTimestamp" not in obj["metadata"]

    made = await world.some(kinds.POD, is_new)
    await set_ready(world, made["metadata"]["name"])


async def test_agents_of_a_pool_have_their_plans_and_one_deployment(
    world: World, operator: Operator, tmp_path: Path
) -> None:
    await world.apply(pooled("first") + "---" + pooled("second"))
    async with running(world, tmp_path) as pod:
        for name in ("first", "second"):
            agent = await world.when(AGENT, name, lambda obj: is_true(obj, "Ready"))
            status = agent["status"]
            assert (status["pool"], status["readyReplicas"], status["phase"]) == ("default", 1, "Ready")
            assert "url" not in status
            assert (await pod.chat(name))[0] == 200
        plans = {("ConfigMap", f"{name}-{await plan_of(world, name)}") for name in ("first", "second")}
        told = ("ConfigMap", parts.told_in("default"))
        assert await objects(world) == {(kind.kind, CALLED) for kind in MADE} | {told} | plans


async def test_the_account_of_a_pool_may_read_the_secrets_of_its_plans_and_no_others(
    world: World, operator: Operator
) -> None:
    await world.apply("---".join(KEYED_YAML.format(name=each, secret=f"key-of-{each}") for each in ("one", "two")))

    role = await world.when(kinds.ROLE, CALLED, lambda obj: names(obj) == ["key-of-one", "key-of-two"])
    plans = tuple(parts.accepted(role))
    assert role["rules"] == parts.rules(Pool(world.namespace, "default", "", ("key-of-one", "key-of-two"), plans))
    assert [(rule["resources"], rule["verbs"]) for rule in role["rules"]] == [
        (["configmaps"], ["list", "watch"]),
        (["configmaps"], ["patch"]),
        (["roles"], ["list", "watch"]),
        (["plans"], ["serve"]),
        (["secrets"], ["get"]),
    ]
    await world.change(kinds.ROLE, CALLED, lambda obj: obj["rules"].append(role["rules"][4] | {"resourceNames": ["x"]}))
    await world.when(kinds.ROLE, CALLED, lambda obj: obj["rules"] == role["rules"])
    await world.client.delete(AGENT, world.namespace, "one")
    await world.when(kinds.ROLE, CALLED, lambda obj: names(obj) == ["key-of-two"])
    await world.apply(pooled("two"))
    await world.when(kinds.ROLE, CALLED, lambda obj: names(obj) == [])


@pytest.mark.requirement("pool-serves-what-is-made")
async def test_a_plan_that_somebody_else_made_adds_nothing_to_what_a_pool_may_do(
    world: World, operator: Operator
) -> None:
    await world.apply(KEYED_YAML.format(name="one", secret="key-of-one"))
    before = await world.when(kinds.ROLE, CALLED, lambda obj: names(obj) == ["key-of-one"])
    made = await made_plan(world, "one")
    assert parts.accepted(before) == {plan_map.digest_of(made)}
    await forge(world, made, "two", "key-of-admin", made["metadata"]["ownerReferences"])
    await forge(world, made, "nobodys", "key-of-admin", [])
    await world.apply(KEYED_YAML.format(name="three", secret="key-of-three"))
    role = await world.when(kinds.ROLE, CALLED, lambda obj: "key-of-three" in names(obj))
    assert names(role) == ["key-of-one", "key-of-three"]
    assert parts.accepted(role) == {plan_map.digest_of(await made_plan(world, each)) for each in ("one", "three")}


@pytest.mark.requirement("pool-serves-what-is-made")
async def test_a_pod_serves_no_plan_that_somebody_else_made_and_no_agents_plan_of_before(
    world: World, operator: Operator, tmp_path: Path
) -> None:
    await world.apply(pooled("good"))
    async with running(world, tmp_path) as pod:
        await world.when(AGENT, "good", lambda obj: is_true(obj, "Ready"))
        before = await made_plan(world, "good")
        await forge(world, before, "forged", "", [])
        await forge(world, before, "owned", "", before["metadata"]["ownerReferences"])
        await world.apply(pooled("good", prompt="Better.") + "---" + pooled("sign"))
        await pod.until("sign", lambda status, _: status == 200)
        await world.when(kinds.ROLE, CALLED, lambda obj: plan_map.digest_of(before) not in parts.accepted(obj))
        # What was good once is there again: as it was, and as a later one.
        await forge(world, before, "good", "", before["metadata"]["ownerReferences"])
        await world.apply(pooled("another"))
        await pod.until("another", lambda status, _: status == 200)
        assert [(await pod.chat(each))[0] for each in ("forged", "owned", "good")] == [404, 404, 200]
        told = await world.client.get(kinds.CONFIG_MAP, world.namespace, parts.told_in("default"))
        plans = json.loads(told["data"][pod.name])["plans"]
        assert plans == {each: await plan_of(world, each) for each in ("good", "sign", "another")}


@pytest.mark.requirement("pool-serves-what-is-made")
@pytest.mark.parametrize("one", [dedicated("one"), pooled("one", pool="other")])
async def test_a_plan_that_somebody_gives_a_pools_label_is_not_let_into_it(
    world: World, operator: Operator, one: str
) -> None:
    await world.apply(one + "---" + pooled("two"))
    made = await world.some(kinds.CONFIG_MAP, lambda obj: key_of(obj).name.startswith("one-"))
    before = await world.when(kinds.ROLE, CALLED, lambda obj: len(parts.accepted(obj)) == 1)
    seen: list[frozenset[str]] = []

    def notes(obj: Object) -> bool:
        """Every Role there is until the next agent is in it."""
        seen.append(parts.accepted(obj))
        return names(obj) == ["key-of-sign"]

    noting = asyncio.create_task(world.when(kinds.ROLE, CALLED, notes))
    for _ in range(3):
        labelled = {"metadata": {"labels": pools.labels(["default"])}}
        await world.client.merge(kinds.CONFIG_MAP, key_of(made), labelled)
        await world.when(kinds.CONFIG_MAP, key_of(made).name, lambda obj: "default" not in pools.pools_of(obj))
    await world.apply(KEYED_YAML.format(name="sign", secret="key-of-sign"))
    await noting
    assert not any(plan_map.digest_of(made) in each for each in seen)
    assert parts.accepted(before) <= seen[-1]


@pytest.mark.requirement("pool-serves-what-is-made")
async def test_a_plan_that_is_taken_from_the_role_is_served_no_longer_and_pods_go_on_without_a_controller(
    world: World, tmp_path: Path
) -> None:
    settings = Settings(image="kadre:test")
    async with operating(world.plane.kubeconfig, settings, [world.namespace]):
        await world.apply(pooled("one") + "---" + pooled("two"))
        role = await world.when(kinds.ROLE, CALLED, lambda obj: len(parts.accepted(obj)) == 2)
        await world.when(kinds.DEPLOYMENT, CALLED, lambda _: True)
    async with running(world, tmp_path) as pod:
        assert [(await pod.chat(each))[0] for each in ("one", "two")] == [200, 200]
        gone = plan_map.digest_of(await made_plan(world, "one"))
        await world.change(kinds.ROLE, CALLED, lambda obj: obj["rules"][3]["resourceNames"].remove(gone))
        await pod.until("one", lambda status, _: status == 404)
        assert (await pod.chat("two"))[0] == 200
        # That the Role itself has gone says nothing of a plan: whoever keeps it makes it anew.
        await world.client.delete(kinds.ROLE, world.namespace, CALLED)
        async with operating(world.plane.kubeconfig, settings, [world.namespace]):
            await pod.until("one", lambda status, _: status == 200)
            again = await world.when(kinds.ROLE, CALLED, lambda obj: len(parts.accepted(obj)) == 2)
        assert again["rules"] == role["rules"]


@pytest.mark.requirement("pool-serves-what-is-made")
async def test_a_controller_that_starts_keeps_what_was_allowed_until_it_has_looked_at_it(world: World) -> None:
    settings = Settings(image="kadre:test")
    async with operating(world.plane.kubeconfig, settings, [world.namespace]):
        await world.apply(KEYED_YAML.format(name="one", secret="key-of-one") + "---" + pooled("two"))
        role = await world.when(kinds.ROLE, CALLED, lambda obj: len(parts.accepted(obj)) == 2)
    one, two = [await made_plan(world, each) for each in ("one", "two")]
    await forge(world, one, "forged", "key-of-admin", two["metadata"]["ownerReferences"])
    # Nothing can be said of an agent that names a model that is not there: its plan stays as it was.
    await world.apply(pooled("one").replace("model: {provider: scripted, name: script}", "modelConfig: nowhere"))
    async with operating(world.plane.kubeconfig, settings, [world.namespace]):
        await world.apply(pooled("three"))
        after = await world.when(kinds.ROLE, CALLED, lambda obj: len(parts.accepted(obj)) == 3)
    three = await made_plan(world, "three")
    assert parts.accepted(after) == parts.accepted(role) | {plan_map.digest_of(three)}
    assert names(after) == names(role) == ["key-of-one"]


async def test_a_pod_that_may_not_know_yet_what_it_may_serve_waits_for_the_controller(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("DOUBT_SECONDS", "ABSENT_SECONDS"):
        monkeypatch.setattr(informer, name, AGAIN)
    settings = Settings(image="kadre:test")
    async with operating(world.plane.kubeconfig, settings, [world.namespace]):
        await world.apply(pooled("one"))
        await world.when(kinds.DEPLOYMENT, CALLED, lambda _: True)
    await world.change(kinds.ROLE, CALLED, as_before)
    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(stack.enter_async_context(running(world, tmp_path)))
        async with asyncio.timeout(SECONDS):
            while "waiting for the controller" not in caplog.text:
                await SystemClock().sleep(AGAIN)
        assert not starting.done()
        async with operating(world.plane.kubeconfig, settings, [world.namespace]):
            pod = await starting
            await pod.until("one", lambda status, _: status == 200)


async def test_a_pool_goes_with_the_last_of_its_agents_and_no_sooner(world: World, operator: Operator) -> None:
    await world.apply(pooled("first") + "---" + pooled("second") + "---" + pooled("other", pool="other"))
    both = await world.when(kinds.CONFIG_MAP, CALLED, lambda obj: len(obj["metadata"]["ownerReferences"]) == 2)
    assert {each["name"] for each in both["metadata"]["ownerReferences"]} == {"first", "second"}
    deployment = await world.when(kinds.DEPLOYMENT, CALLED, lambda _: True)
    await world.when(kinds.DEPLOYMENT, parts.called("other"), lambda _: True)
    (owner,) = deployment["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("ConfigMap", both["metadata"]["uid"])
    await world.client.delete(AGENT, world.namespace, "first")
    await world.when(kinds.CONFIG_MAP, CALLED, lambda obj: len(obj["metadata"]["ownerReferences"]) == 1)
    await world.client.delete(AGENT, world.namespace, "second")
    for kind in MADE:
        await world.gone(kind, CALLED)
    await world.gone(kinds.CONFIG_MAP, parts.told_in("default"))
    assert await world.get(kinds.DEPLOYMENT, parts.called("other")) is not None


async def test_a_pool_whose_last_agent_went_while_nobody_was_at_work_leaves_nothing(world: World) -> None:
    settings = Settings(image="kadre:test")
    async with operating(world.plane.kubeconfig, settings, [world.namespace]):
        await world.apply(pooled("first") + "---" + pooled("second"))
        await world.when(kinds.CONFIG_MAP, CALLED, lambda obj: len(obj["metadata"]["ownerReferences"]) == 2)
        await world.when(kinds.DEPLOYMENT, CALLED, lambda _: True)
    await world.client.delete(AGENT, world.namespace, "first")
    await world.client.delete(AGENT, world.namespace, "second")
    for kind in MADE:  # by Kubernetes
        await world.gone(kind, CALLED)
    await world.apply(pooled("first"))
    async with operating(world.plane.kubeconfig, settings, [world.namespace]):
        await world.when(kinds.DEPLOYMENT, CALLED, lambda _: True)


async def test_what_is_somebody_elses_is_not_taken(world: World, operator: Operator) -> None:
    mine = {"apiVersion": "v1", "kind": "ConfigMap", **world.named(CALLED), "data": {"mine": "yes"}}
    await world.client.create(kinds.CONFIG_MAP, mine)
    await world.apply(pooled("first"))
    told = await world.condition(AGENT, "first", "Ready", "NameTaken")
    assert f"ConfigMap {world.namespace}/{CALLED} is there already" in told["message"]
    assert (await world.client.get(kinds.CONFIG_MAP, world.namespace, CALLED))["data"] == {"mine": "yes"}
    assert await world.get(kinds.DEPLOYMENT, CALLED) is None


async def test_a_change_is_served_without_a_restart_and_what_cannot_be_served_is_its_own_agents_matter(
    world: World, operator: Operator, tmp_path: Path
) -> None:
    await world.apply(pooled("good") + "---" + pooled("late"))
    async with running(world, tmp_path) as pod:
        await world.when(AGENT, "good", lambda obj: is_true(obj, "Ready"))
        before = await plan_of(world, "good")
        broken = "  memory: {type: postgres, config: {host: 127.0.0.1, port: 1}}\n"
        await world.apply(pooled("broken") + broken + "---" + pooled("good", prompt="Help more."))
        told = await world.condition(AGENT, "broken", "Ready", "PlanNotServed")
        assert "the pods of its pool cannot serve its plan" in told["message"]
        await world.when(AGENT, "good", lambda obj: is_true(obj, "Ready") and obj["status"]["planHash"] != before)
        assert (await pod.chat("good"))[0] == 200
        assert (await pod.chat("broken"))[0] == 404
        # One that is served goes on with the plan before, and says so.
        await world.apply(pooled("late") + broken)
        late = await world.when(AGENT, "late", has("Stalled", "PlanNotServed"))
        assert is_true(late, "Ready")
        assert (await pod.chat("late"))[0] == 200
        await world.apply(pooled("late", prompt="Mended.").replace("spec:", "spec:\n  memory: {type: in-memory}"))
        await world.when(AGENT, "late", lambda obj: is_true(obj, "Ready") and not is_true(obj, "Stalled"))
        await world.client.delete(AGENT, world.namespace, "good")
        await pod.until("good", lambda status, _: status == 404)


async def test_an_agent_is_ready_when_every_pod_serves_its_plan(world: World) -> None:
    settings = Settings(image="kadre:test", pools=Sizes(least=2, most=2))
    async with operating(world.plane.kubeconfig, settings, [world.namespace]):
        await world.apply(pooled("first") + "  memory: {type: postgres, config: {host: 127.0.0.1}}\n")
        await world.when(kinds.DEPLOYMENT, CALLED, lambda obj: obj.get("status", {}).get("replicas") == 2)
        pods = (await world.client.list(kinds.POD, Scope(world.namespace, f"{parts.LABEL}=default"))).items
        one, two = [each["metadata"]["name"] for each in pods]
        plan = await plan_of(world, "first")
        for name in (one, two):
            await set_ready(world, name)
        await tell(world, "long-gone", {"first": "another"})
        await tell(world, one, {"first": plan})

        def half(obj: Object) -> bool:
            found = obj["status"].get("conditions") or ()
            return any(each.get("message") == "1 of 2 pods are new" for each in found)

        assert "pool" not in (await world.when(AGENT, "first", half))["status"]
        await tell(world, two, {"first": plan})
        await world.when(AGENT, "first", lambda obj: is_true(obj, "Ready") and obj["status"].get("pool") == "default")
        await world.when(kinds.CONFIG_MAP, parts.told_in("default"), lambda obj: set(obj["data"]) == {one, two})


async def test_an_agent_moves_into_a_pool_and_out_of_it_and_is_served_all_the_while(
    world: World, operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves, "HEARD_SECONDS", 0.3)
    await world.apply(dedicated("mover") + "---" + pooled("stays"))
    await own_pods(world, "mover")
    await world.when(AGENT, "mover", lambda obj: is_true(obj, "Ready"))
    async with running(world, tmp_path) as pod:
        await pod.ready(ready=False)
        await world.apply(pooled("mover"))
        moving = await world.when(AGENT, "mover", has("Reconciling", "RollingOut"))
        assert is_true(moving, "Ready")
        assert "pool" not in moving["status"]
        assert await world.get(kinds.DEPLOYMENT, "mover") is not None
        await pod.ready()
        await world.when(AGENT, "mover", lambda obj: is_true(obj, "Ready") and obj["status"].get("pool") == "default")
        for kind in (kinds.DEPLOYMENT, kinds.SERVICE, kinds.SERVICE_ACCOUNT):
            await world.gone(kind, "mover")
        assert (await pod.chat("mover"))[0] == 200
        await world.apply(dedicated("mover", prompt="Help alone."))
        moving = await world.when(AGENT, "mover", has("Reconciling", "RollingOut"))
        assert (is_true(moving, "Ready"), moving["status"]["pool"]) == (True, "default")
        assert (await pod.chat("mover"))[0] == 200
        await own_pods(world, "mover")
        await world.when(AGENT, "mover", lambda obj: is_true(obj, "Ready") and "pool" not in obj["status"])
        await pod.until("mover", lambda status, _: status == 404)
        assert (await pod.chat("stays"))[0] == 200


async def test_a_rotated_key_is_read_again(
    world: World, operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_secrets, "LOOK_SECONDS", 0.1)
    read: list[str] = []

    def told(_: object, key: str | None) -> str:
        read.append(key or "")
        return ""

    monkeypatch.setattr(keys, "told", told)  # what a request is made with
    await world.apply(KEYED_YAML.format(name="keyed", secret="key"))
    secret = {"apiVersion": "v1", "kind": "Secret", **world.named("key")}
    await world.client.create(kinds.SECRET, {**secret, "stringData": {"key": "sk-one", "other": "never"}})
    async with running(world, tmp_path) as pod:
        await world.when(AGENT, "keyed", lambda obj: is_true(obj, "Ready"))
        await pod.chat("keyed")
        assert read[-1] == "sk-one"
        await world.client.apply(kinds.SECRET, {**secret, "stringData": {"key": "sk-two"}})
        await pod.until("keyed", lambda *_: read[-1] == "sk-two")
