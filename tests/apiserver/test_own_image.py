"""Agents run in the controller's own image where nobody names another."""

from __future__ import annotations

import pytest

from kadre.kube import kinds
from kadre.operator import own_image
from tests.apiserver.conftest import World


async def test_the_image_is_the_controllers_container_of_its_own_pod(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    containers = [{"name": name, "image": f"registry.example/{name}:1"} for name in ("sidecar", "controller")]
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": containers}}
    await world.client.apply(kinds.POD, pod | {"metadata": {"name": "kagent-0", "namespace": world.namespace}})
    monkeypatch.setenv("POD_NAME", "kagent-0")
    assert await own_image.find(world.client, world.namespace) == "registry.example/controller:1"
    monkeypatch.setenv("POD_NAME", "none")
    assert await own_image.find(world.client, world.namespace) == "kadre:latest"
