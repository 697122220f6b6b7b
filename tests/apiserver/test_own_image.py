"""Agents run in the controller's own image where nobody names another."""

from __future__ import annotations

import pytest

from kadre.base.errors import KadreError
from kadre.kube import access, kinds
from kadre.kube.client import Client
from kadre.operator import own_image
from tests.apiserver.conftest import World
from tests.support.between import between


async def test_the_image_is_the_controllers_container_of_its_own_pod(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    containers = [{"name": name, "image": f"registry.example/{name}:1"} for name in ("sidecar", "controller")]
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": containers}}
    await world.client.apply(kinds.POD, pod | {"metadata": {"name": "kagent-0", "namespace": world.namespace}})
    monkeypatch.setenv("POD_NAME", "kagent-0")
    assert await own_image.find(world.client, world.namespace) == "registry.example/controller:1"
    monkeypatch.delenv("POD_NAME")
    assert await own_image.find(world.client, world.namespace) == "kadre:latest"


@pytest.mark.requirement("operator-upgrade")
async def test_a_controller_that_cannot_see_its_own_pod_ends_rather_than_take_another_image(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POD_NAME", "kagent-0")
    async with between(access.by_kubeconfig(world.plane.kubeconfig)) as (bad, way), Client(way, "kadre") as client:
        with pytest.raises(KadreError, match="name it with --agent-image"):
            await own_image.find(client, world.namespace)
        bad.refused["GET", "/pods/kagent-0"] = 403
        with pytest.raises(KadreError, match="name it with --agent-image"):
            await own_image.find(client, world.namespace)
