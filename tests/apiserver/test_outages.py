"""The API goes away in the middle of work: its store stands still, or it ends under two hundred changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from kadre.base.tasks import Tasks
from kadre.kube import kinds
from kadre.kube.client import Scope
from kadre.kube.errors import ApiError
from kadre.operator.controller import Operator
from tests.apiserver import chart
from tests.apiserver.conftest import AGENT, SECONDS, World, has, is_true
from tests.apiserver.test_agents import AGENT_YAML, MODEL_YAML
from tests.apiserver.test_faults import idle
from tests.apiserver.test_late import looked_at, until
from tests.apiserver.test_webhook import figures, replica
from tests.cluster.processes import Process, free_ports

pytestmark = [pytest.mark.requirement("operator-faults"), pytest.mark.timeout(240)]
STILL = 20.0
"""Seconds without the store: longer than any leader goes on without renewing."""
LOOK_AGAIN = 0.1


async def kept(replicas: Sequence[Process]) -> None:
    """Start what ends anew, as a kubelet does, until cancelled."""
    while True:
        for each in replicas:
            if each.ended:
                each.start()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), LOOK_AGAIN)


@asynccontextmanager
async def two_replicas(config: Path) -> AsyncIterator[list[int]]:
    """Two controllers that elect a leader; the ports of their metrics."""
    ports, tasks = free_ports(2), Tasks("test")
    replicas = [replica(config, port, []) for port in ports]
    tasks.spawn("kubelet", kept(replicas))
    try:
        yield ports
    finally:
        await tasks.aclose()
        for each in replicas:
            await asyncio.to_thread(each.stop)


def leaders(ports: Sequence[int]) -> int:
    """How many of the controllers act."""
    count = 0
    for port in ports:
        with suppress(OSError):
            count += "kadre_leader 1.0" in figures(port)
    return count


async def come_to(ports: Sequence[int], number: int) -> None:
    """Wait until so many of them act."""
    async with asyncio.timeout(60):
        while await asyncio.to_thread(leaders, ports) != number:
            pass


async def test_a_store_that_stands_still_is_outlived(world: World) -> None:
    names = [f"helper-{number}" for number in range(5)]
    config = await chart.controller(world, f"kagent-{world.namespace}")
    async with two_replicas(config) as ports:
        await world.apply(MODEL_YAML)
        for name in names[:4]:
            await world.apply(AGENT_YAML.replace("name: helper", f"name: {name}"))
        for name in names[:4]:
            await world.when(AGENT, name, lambda obj: "url" in obj.get("status", {}))
        await come_to(ports, 1)
        await world.client.delete(kinds.SERVICE, world.namespace, names[0])
        world.plane.etcd.pause()
        began = time.monotonic()
        try:
            while time.monotonic() - began < STILL:
                assert not await asyncio.to_thread(serves, world)
            assert await asyncio.to_thread(leaders, ports) == 0
        finally:
            world.plane.etcd.resume()
        await asyncio.to_thread(world.plane.api.until, world.plane.serves)
        for name in names:
            text = AGENT_YAML.replace("name: helper", f"name: {name}").replace("You help.", "You help again.")
            await persistently(world, text)
        await come_to(ports, 1)
        for name in names:
            generation = (await world.client.get(AGENT, world.namespace, name))["metadata"]["generation"]
            await world.when(AGENT, name, looked_at(generation))
            for kind in (kinds.SERVICE, kinds.DEPLOYMENT, kinds.SERVICE_ACCOUNT):
                await world.when(kind, name, lambda _: True)


def serves(world: World) -> bool:
    """Whether the API answers within a few seconds."""
    try:
        return world.plane.serves()
    except OSError:
        return False


async def persistently(world: World, text: str) -> None:
    """Apply as somebody does who tries again where the API does not answer."""
    async with asyncio.timeout(60 + SECONDS):
        while True:
            try:
                await world.apply(text)
            except ApiError as error:
                if 0 < error.status < 500:
                    raise
                await asyncio.sleep(0)
            else:
                return


async def test_an_api_server_that_ends_under_two_hundred_changes_loses_none(world: World, operator: Operator) -> None:
    await world.apply(MODEL_YAML)
    names = [f"helper-{number}" for number in range(200)]
    wrong = set(names[::10])
    tasks = Tasks("test")
    texts = {name: AGENT_YAML.replace("name: helper", f"name: {name}") for name in names}
    texts |= {name: texts[name].replace("modelConfig: small", "modelConfig: none") for name in wrong}
    before = operator.applier.writes
    applying = [tasks.spawn(name, persistently(world, text)) for name, text in texts.items()]
    await until(lambda: operator.applier.writes - before > 100)
    await asyncio.to_thread(world.plane.restart)
    await asyncio.gather(*applying)
    await world.every(AGENT, dict.fromkeys(wrong, has("Stalled", "MissingModelConfig")))
    await world.every(AGENT, dict.fromkeys(set(names) - wrong, lambda obj: "url" in obj.get("status", {})))
    scope = Scope(world.namespace)
    agents = (await world.client.list(AGENT, scope)).items
    assert {each["metadata"]["name"] for each in agents if is_true(each, "Stalled")} == wrong
    for kind in (kinds.DEPLOYMENT, kinds.SERVICE, kinds.SERVICE_ACCOUNT):
        found = {each["metadata"]["name"] for each in (await world.client.list(kind, scope)).items}
        assert found - {"default"} == set(names) - wrong
    await idle(operator)
    await asyncio.gather(*[world.client.delete(AGENT, world.namespace, name) for name in names])
    await world.gone(kinds.DEPLOYMENT, *(set(names) - wrong))
