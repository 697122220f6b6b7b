"""Faults caused: leaders that die, an API server that goes away, many agents at once with wrong ones among them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kadre.base.clock import FakeClock
from kadre.base.tasks import Tasks
from kadre.kube import access, kinds, leader
from kadre.kube.client import Client, Scope
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Object
from kadre.kube.leader import BothLocks, ConfigMapLock, Leader, LeaseLock
from kadre.operator.controller import Operator
from tests.apiserver.conftest import AGENT, World, has, is_true, operating
from tests.apiserver.test_agents import AGENT_YAML, MODEL_YAML
from tests.cluster.control_plane import ControlPlane
from tests.support.between import between


class Work:
    """What a leader does: it tells that it is at it, and goes on until it is told to end."""

    def __init__(self) -> None:
        self.at_it = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self) -> None:
        self.at_it.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


@asynccontextmanager
async def replicas(world: World) -> AsyncIterator[Client]:
    async with Client(access.by_kubeconfig(world.plane.kubeconfig), "kadre") as client:
        yield client


@pytest.mark.requirement("operator-leader")
@pytest.mark.parametrize("kind", [LeaseLock, ConfigMapLock])
async def test_a_replica_that_ends_hands_the_lead_over_at_once(
    world: World, kind: type[LeaseLock | ConfigMapLock]
) -> None:
    async with replicas(world) as client:
        lock, tasks = kind(client, Key(world.namespace, "lead")), Tasks("test")
        first, second = Work(), Work()
        leading = tasks.spawn("first", Leader(lock, "first").lead(first))
        await asyncio.wait_for(first.at_it.wait(), 10)
        tasks.spawn("second", Leader(lock, "second").lead(second))
        leading.cancel()
        await asyncio.wait_for(second.at_it.wait(), 10)
        assert first.ended.is_set()
        found = await lock.read()
        assert found is not None
        assert (found.holder, found.transitions) == ("second", 1)
        await tasks.aclose()


async def test_the_lead_of_one_that_is_gone_is_taken_when_its_record_has_not_moved_for_as_long_as_it_holds(
    world: World,
) -> None:
    async with replicas(world) as client:
        lock, clock, tasks = LeaseLock(client, Key(world.namespace, "lead")), FakeClock(), Tasks("test")
        assert await Leader(lock, "dead", clock)._try()
        heir = Leader(lock, "heir", clock)
        assert not await heir._try()
        await clock.advance(leader.HOLDS - 1)
        assert not await heir._try()
        await clock.advance(2)
        assert await heir._try()
        assert not await Leader(lock, "dead", clock)._try()
        await tasks.aclose()


async def test_a_replica_that_may_use_leases_and_one_that_may_not_never_lead_at_once(world: World) -> None:
    async with replicas(world) as client:
        key, clock = Key(world.namespace, "lead"), FakeClock()
        by_config_map = ConfigMapLock(client, key)
        poor, other = Leader(by_config_map, "poor", clock), Leader(by_config_map, "other", clock)
        rich = Leader(BothLocks(LeaseLock(client, key), ConfigMapLock(client, key)), "rich", clock)
        assert await poor._try()
        assert not await rich._try()
        await clock.advance(leader.HOLDS - 1)
        assert await poor._try()  # renewed
        assert not await rich._try()
        await clock.advance(leader.HOLDS + 1)
        assert await rich._try()
        for _ in range(3):
            assert not await other._try()
            await clock.advance(leader.HOLDS / 2)
            assert await rich._try()  # renewed, in the ConfigMap too
        await rich._release()
        assert await other._try()
        assert not await rich._try()


async def test_that_leases_are_forbidden_is_believed_when_nobody_can_lead_by_one_any_more(world: World) -> None:
    async with between(access.by_kubeconfig(world.plane.kubeconfig)) as (bad, way), Client(way, "kadre") as client:
        key, clock, tasks = Key(world.namespace, "lead"), FakeClock(), Tasks("test")
        bad.denied.add("leases")
        choosing = tasks.spawn("choose", leader.lock(client, key, clock))
        await asleep(clock)
        bad.denied.clear()
        await clock.advance(leader.EVERY)
        assert isinstance(await choosing, BothLocks)
        bad.denied.add("leases")
        choosing = tasks.spawn("choose", leader.lock(client, key, clock))
        began = clock.monotonic()
        while not choosing.done():
            await clock.advance(leader.EVERY)
        assert isinstance(await choosing, ConfigMapLock)
        assert clock.monotonic() - began >= leader.RENEW_WITHIN


async def test_one_that_stands_by_and_is_refused_the_lease_for_good_ends(world: World) -> None:
    async with between(access.by_kubeconfig(world.plane.kubeconfig)) as (bad, way), Client(way, "kadre") as client:
        clock, tasks = FakeClock(), Tasks("test")
        bad.refused["GET", "/leases/lead"] = 403
        waiting = tasks.spawn("wait", Leader(LeaseLock(client, Key(world.namespace, "lead")), "me", clock).lead(Work()))
        began = clock.monotonic()
        while not waiting.done():
            await clock.advance(leader.EVERY)
        with pytest.raises(ApiError):
            await waiting
        assert clock.monotonic() - began >= leader.KNOWN_WITHIN / 2


async def asleep(clock: FakeClock) -> None:
    """Wait until somebody waits for the clock."""
    async with asyncio.timeout(20):
        while not clock._sleepers:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)


@pytest.mark.requirement("operator-faults")
async def test_an_api_server_that_restarts_is_followed_again(world: World, operator: Operator) -> None:
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    first = await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)
    await asyncio.to_thread(world.plane.restart)
    await world.apply(AGENT_YAML.replace("You help.", "You help again."))

    def changed(obj: Object) -> bool:
        return bool(obj["spec"]["template"] != first["spec"]["template"])

    await world.when(kinds.DEPLOYMENT, "helper", changed)


async def test_a_controller_that_starts_over_a_cluster_that_is_right_writes_nothing(
    world: World, api: ControlPlane
) -> None:
    # In this namespace alone: what an earlier test has left may be on its way out still.
    async with operating(api.kubeconfig, namespaces=[world.namespace]) as first:
        await world.apply(MODEL_YAML + "---" + AGENT_YAML)
        await world.when(AGENT, "helper", rolled_out)
        await idle(first)
    async with operating(api.kubeconfig, namespaces=[world.namespace]) as second:
        await second.acting.wait()
        await idle(second)
        assert second.controller.reconciled > 0
        assert (second.applier.writes, second.reporter.writes) == (0, 0)


@pytest.mark.timeout(240)
async def test_two_hundred_agents_with_twenty_wrong_ones_come_right(world: World, operator: Operator) -> None:
    await world.apply(MODEL_YAML)
    names = [f"helper-{number}" for number in range(200)]
    texts = [
        AGENT_YAML.replace("name: helper", f"name: {name}").replace(
            "modelConfig: small", "modelConfig: none" if number % 10 == 0 else "modelConfig: small"
        )
        for number, name in enumerate(names)
    ]
    await asyncio.gather(*[world.apply(text) for text in texts])
    await world.every(AGENT, dict.fromkeys(names[::10], has("Stalled", "MissingModelConfig")))
    right = sorted(set(names) - set(names[::10]))
    await world.every(kinds.DEPLOYMENT, dict.fromkeys(right, lambda _: True))
    await idle(operator)
    agents = (await world.client.list(AGENT, Scope(world.namespace))).items
    assert sum(is_true(agent, "Stalled") for agent in agents) == 20
    assert operator.controller.failed == 0
    await asyncio.gather(*[world.client.delete(AGENT, world.namespace, name) for name in names])
    await world.gone(kinds.DEPLOYMENT, *right)


@pytest.mark.requirement("operator-faults")
async def test_a_pod_that_no_node_takes_is_told_in_the_agents_status_until_one_does(
    world: World, api: ControlPlane
) -> None:
    async with operating(api.kubeconfig, namespaces=[world.namespace]) as first:
        await world.apply(MODEL_YAML + "---" + AGENT_YAML)
        pod = await world.some(kinds.POD, lambda _: True)
        said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "1 Insufficient cpu."}
        await world.client.apply(kinds.POD, reported(pod, {"conditions": [said]}), "status")
        found = await world.condition(AGENT, "helper", "Ready", "Unschedulable")
        assert f"pod {pod['metadata']['name']}: 1 Insufficient cpu. (lower spec.resources" in found["message"]
        await world.when(AGENT, "helper", lambda obj: obj["status"].get("replicas") == 1)
        await idle(first)
    async with operating(api.kubeconfig, namespaces=[world.namespace]) as second:
        await second.acting.wait()
        await idle(second)
        assert second.controller.reconciled > 0
        assert second.reporter.writes == 0
        runs = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        await world.client.apply(kinds.POD, reported(pod, runs), "status")
        await world.condition(AGENT, "helper", "Ready", "Available")
        assert not is_true(await world.client.get(AGENT, world.namespace, "helper"), "Reconciling")


def reported(pod: Object, status: Object) -> Object:
    """A pod with what a scheduler or a kubelet would say of it."""
    named = {key: pod["metadata"][key] for key in ("name", "namespace", "uid")}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": named, "status": status}


def rolled_out(agent: Object) -> bool:
    """Whether its status says the last that Kubernetes says of a Deployment whose pods no node runs."""
    conditions = agent.get("status", {}).get("conditions") or ()
    return any(each.get("message") == "1 of 1 pods are new" for each in conditions)


async def idle(operator: Operator) -> None:
    """Wait until there is nothing to look at: every change that was seen has been acted on."""
    async with asyncio.timeout(20):
        while not operator.controller.queue.idle:  # noqa: ASYNC110 - the queue tells nobody
            await asyncio.sleep(0)
