"""What a controller leaves when it ends, and when its release is taken away while it runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kadre.kube import kinds
from kadre.kube.kinds import Object
from kadre.operator.main import LOCK
from tests.apiserver import chart
from tests.apiserver.conftest import World
from tests.cluster.processes import Process, free_ports

LOCAL = "127.0.0.1"


@asynccontextmanager
async def at_work(world: World, *further: str) -> AsyncIterator[Process]:
    """The controller of a release, as a process that leads, with the rights and the Deployment that the chart gives."""
    release = f"kagent-{world.namespace}"
    config = await chart.controller(world, release)
    made = chart.rendered(world.namespace, release, "gateway.enabled=false")
    (deployment,) = [each for each in made if each["kind"] == "Deployment"]
    await world.client.apply(kinds.DEPLOYMENT, deployment)
    (said,) = deployment["spec"]["template"]["spec"]["containers"]
    (port,) = free_ports(1)
    flags = [each for each in said["args"] if "-bind-address=" not in each]
    flags += ["--metrics-bind-address=0", "--health-probe-bind-address=0", f"--webhook-bind-address={LOCAL}:{port}"]
    command: list[str | Path] = ["env", f"KUBECONFIG={config}", sys.executable, "-m", "kadre", "operator", *flags]
    process = Process("controller", [*command, *further], config.with_suffix(".log"))
    process.start()
    try:
        await world.when(kinds.LEASE, LOCK, lambda obj: bool(obj["spec"].get("holderIdentity")))
        yield process
    finally:
        await asyncio.to_thread(process.stop)


@pytest.mark.requirement("operator-leader")
async def test_a_controller_that_is_told_to_end_gives_its_lead_back(world: World) -> None:
    async with at_work(world) as process:
        await asyncio.to_thread(process.stop)
        spec = (await world.client.get(kinds.LEASE, world.namespace, LOCK))["spec"]
        assert (spec.get("holderIdentity") or "", spec["leaseDurationSeconds"]) == ("", 1)


@pytest.mark.requirement("chart-uninstalled")
async def test_what_a_controller_made_for_itself_goes_with_its_deployment_though_it_still_runs(world: World) -> None:
    secret = f"kagent-{world.namespace}-webhook-tls"
    async with at_work(world) as process:
        await world.when(kinds.SECRET, secret, lambda _: True)
        (deployment,) = [
            each["metadata"]["name"]
            for each in (await world.client.list(kinds.DEPLOYMENT)).items
            if each["metadata"]["namespace"] == world.namespace
        ]
        await world.client.delete(kinds.DEPLOYMENT, world.namespace, deployment)
        await world.gone(kinds.SECRET, secret)
        # It makes no other one, which nobody would take away.
        await asyncio.to_thread(process.until, lambda: "makes nothing more" in process.log.read_text())
        await world.gone(kinds.LEASE, LOCK)
    assert [each for each in await left(world) if each != "kube-root-ca.crt"] == []


async def left(world: World) -> list[str]:
    """The names of what is in the namespace, of the kinds that a controller makes something of for itself."""
    found: list[Object] = []
    for kind in (kinds.LEASE, kinds.SECRET, kinds.CONFIG_MAP):
        found += (await world.client.list(kind)).items
    return [each["metadata"]["name"] for each in found if each["metadata"]["namespace"] == world.namespace]
