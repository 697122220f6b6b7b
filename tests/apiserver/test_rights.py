"""What the controller does with fewer rights than the chart gives it: the rest, and it says what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from kadre.kube import kinds
from kadre.kube.kinds import Object
from tests.apiserver.chart import RIGHTS
from tests.apiserver.conftest import AGENT, World, made, operating
from tests.apiserver.test_agents import AGENT_YAML, MODEL_YAML

EVERYTHING: Object = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}


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
    return world.plane.user(name, user, ["system:serviceaccounts", "system:authenticated"])


@pytest.mark.requirement("operator-namespaced")
async def test_a_controller_of_some_namespaces_needs_rights_in_those_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    another, outside = [await made(world.client, world.plane) for _ in range(2)]
    for each in (world, another, outside):
        await each.apply(MODEL_YAML + "---" + AGENT_YAML)
    namespaces = (world.namespace, another.namespace)
    config = await account(world, [EVERYTHING], namespaces)
    async with operating(config, namespaces=namespaces) as operator:
        for each in (world, another):
            await each.when(kinds.DEPLOYMENT, "helper", lambda _: True)
            await each.when(AGENT, "helper", lambda obj: "url" in obj.get("status", {}))
        assert not any(informer.absent for informer in operator.cluster.informers())
        assert not operator.cluster.follows(outside.namespace)
        await another.client.delete(AGENT, another.namespace, "helper")
        await another.gone(kinds.DEPLOYMENT, "helper")
    assert "forbidden" not in caplog.text
    assert "status" not in await outside.client.get(AGENT, outside.namespace, "helper")
    assert await outside.get(kinds.DEPLOYMENT, "helper") is None
