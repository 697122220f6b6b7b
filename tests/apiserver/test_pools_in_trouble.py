"""What a pool serves stays so when something goes wrong: a forged plan, a rollback, a child that is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kadre.base.clock import SystemClock
from kadre.kube import access, kinds
from kadre.kube.apply import seen
from kadre.kube.kinds import key_of
from kadre.operator.children import plan_map
from kadre.operator.children import pool as parts
from kadre.operator.children.common import PoolSettings as Sizes
from kadre.operator.children.common import Settings
from tests.apiserver.conftest import AGAIN, AGENT, SECONDS, World, operating
from tests.apiserver.test_gateway_api import gateway_api
from tests.apiserver.test_gateway_api import settings as with_routes
from tests.apiserver.test_pools import CALLED, as_before, forge, made_plan, pooled, running, set_ready
from tests.support.between import between

pytestmark = pytest.mark.requirement("pool-serves-what-is-made")


async def test_a_role_that_a_controller_of_before_has_written_takes_no_plan_away(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with operating(world.plane.kubeconfig, Settings(image="kadre:test"), [world.namespace]):
        await world.apply(pooled("one"))
        await world.when(kinds.ROLE, CALLED, lambda obj: len(parts.accepted(obj)) == 1)
        await world.when(kinds.DEPLOYMENT, CALLED, lambda _: True)
    async with running(world, tmp_path) as pod:
        await world.change(kinds.ROLE, CALLED, as_before)
        async with asyncio.timeout(SECONDS):
            while "says no more which plans may be served" not in caplog.text:
                await SystemClock().sleep(AGAIN)
                assert (await pod.chat("one"))[0] == 200
        assert (await pod.chat("one"))[0] == 200


async def test_a_pool_hears_of_a_plan_though_another_child_of_its_agent_cannot_be_made(world: World) -> None:
    settings = with_routes(world)
    async with operating(world.plane.kubeconfig, settings, [world.namespace]):
        await world.apply(pooled("one") + "---" + pooled("two"))
        pod = await world.some(kinds.POD, lambda obj: "kagent.dev/pool" in (obj["metadata"].get("labels") or {}))
        await set_ready(world, key_of(pod).name)  # a pool with which something is wrong is looked at again unasked
        await world.when(kinds.DEPLOYMENT, CALLED, lambda obj: obj.get("status", {}).get("readyReplicas") == 1)
        one, two = [await made_plan(world, each) for each in ("one", "two")]
        await world.client.delete(AGENT, world.namespace, "two")
        await world.gone(kinds.CONFIG_MAP, key_of(two).name)
        await world.when(kinds.ROLE, CALLED, lambda obj: parts.accepted(obj) == {plan_map.digest_of(one)})
    async with (
        gateway_api(world),
        between(access.by_kubeconfig(world.plane.kubeconfig)) as (bad, way),
        operating(way, settings, [world.namespace]) as operator,
    ):

        async def looked() -> None:
            """The pool has heard of the plan, and does not know yet who made it."""
            root = await world.when(kinds.CONFIG_MAP, CALLED, lambda obj: len(obj["metadata"]["ownerReferences"]) == 2)
            live = operator.owned.live(kinds.CONFIG_MAP)
            async with asyncio.timeout(SECONDS):
                # But for the agent, which is at it, everybody has looked at all that there is.
                while live[key_of(root)].digest != seen(root).digest or len(operator.controller.queue) > 1:
                    await SystemClock().sleep(AGAIN)

        bad.refused["PATCH", "/httproutes/two"] = 500
        bad.before_answer["PATCH", f"/configmaps/{key_of(two).name}"] = looked
        await world.apply(pooled("two"))
        both = {plan_map.digest_of(each) for each in (one, two)}
        await world.when(kinds.ROLE, CALLED, lambda obj: parts.accepted(obj) == both)
        assert await world.get(kinds.HTTP_ROUTE, "two") is None


async def test_a_plan_that_somebody_else_made_takes_no_pods_away(world: World) -> None:
    settings = Settings(image="kadre:test", pools=Sizes(least=2, most=3))
    memory = "  memory: {type: postgres, config: {host: 127.0.0.1}}\n"
    async with operating(world.plane.kubeconfig, settings, [world.namespace]):
        await world.apply(pooled("one") + memory)
        before = await world.when(kinds.AUTOSCALER, CALLED, lambda _: True)
        made = await made_plan(world, "one")
        text = made["data"][plan_map.KEY].replace('"type":"postgres"', '"type":"in-memory"')
        assert text != made["data"][plan_map.KEY]
        await forge(world, {**made, "data": {plan_map.KEY: text}}, "one", "", made["metadata"]["ownerReferences"])
        await world.apply(pooled("sign") + memory)
        await world.when(kinds.ROLE, CALLED, lambda obj: len(parts.accepted(obj)) == 2)
        after = await world.client.get(kinds.AUTOSCALER, world.namespace, CALLED)
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        # One that it has made does.
        await world.apply(pooled("alone") + "  memory: {type: in-memory}\n")
        await world.gone(kinds.AUTOSCALER, CALLED)
        await world.when(kinds.DEPLOYMENT, CALLED, lambda obj: obj["spec"]["replicas"] == 1)
