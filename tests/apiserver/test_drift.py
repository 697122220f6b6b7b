"""What somebody else changes on an agent's objects: what is put back, what stays, and what is told of it."""

from __future__ import annotations

import pytest

from kadre.kube import access, kinds
from kadre.kube.client import Client
from kadre.kube.kinds import Object
from kadre.operator.controller import Operator
from tests.apiserver.conftest import World
from tests.apiserver.test_agents import AGENT_YAML, MODEL_YAML


@pytest.mark.requirement("operator-drift")
async def test_a_drifted_child_is_put_back(world: World, operator: Operator) -> None:
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    service = await world.when(kinds.SERVICE, "helper", lambda _: True)

    def cut(obj: Object) -> None:
        del obj["spec"]["ports"][1]

    await world.change(kinds.SERVICE, "helper", cut)
    await world.when(kinds.SERVICE, "helper", lambda obj: len(obj["spec"]["ports"]) == 2)
    uid = service["metadata"]["uid"]
    await world.client.delete(kinds.SERVICE, world.namespace, "helper")
    await world.when(kinds.SERVICE, "helper", lambda obj: obj["metadata"]["uid"] != uid)


@pytest.mark.requirement("operator-drift")
async def test_what_is_added_by_hand_is_taken_away_and_told(world: World, operator: Operator) -> None:
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    before = await world.when(
        kinds.DEPLOYMENT, "helper", lambda obj: obj.get("status", {}).get("observedGeneration") == 1
    )

    def edit(obj: Object) -> None:
        pod = obj["spec"]["template"]["spec"]
        pod |= {"hostNetwork": True, "nodeSelector": {"disk": "fast"}, "priorityClassName": "system-node-critical"}
        pod["tolerations"] = [{"operator": "Exists"}]
        pod["containers"][0]["env"] = [{"name": "ADDED", "value": "1"}]
        pod["containers"].append({"name": "sidecar", "image": "somebody/elses:1"})

    async with Client(access.by_kubeconfig(world.plane.kubeconfig), "kubectl-edit") as person:
        by_hand = World(person, world.namespace, world.plane)
        await by_hand.change(kinds.DEPLOYMENT, "helper", edit)
        await by_hand.change(kinds.SERVICE, "helper", lambda obj: obj["spec"]["selector"].update(x="y"))
        await by_hand.change(kinds.SERVICE, "helper", lambda obj: obj["spec"].update(externalIPs=["192.0.2.1"]))
    template = before["spec"]["template"]
    await world.when(
        kinds.DEPLOYMENT,
        "helper",
        lambda obj: obj["metadata"]["generation"] > 2 and obj["spec"]["template"] == template,
    )
    await world.when(
        kinds.SERVICE, "helper", lambda obj: "x" not in obj["spec"]["selector"] and "externalIPs" not in obj["spec"]
    )
    told = await world.some(kinds.EVENT, lambda obj: obj["reason"] == "DriftCorrected")
    assert "change the agent instead" in told["note"]


async def test_what_another_controller_adds_beside_us_stays(world: World, operator: Operator) -> None:
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)

    def note(obj: Object) -> None:
        obj["spec"]["template"]["metadata"]["annotations"]["reloader/last"] = "now"

    await world.change(kinds.DEPLOYMENT, "helper", note)
    await world.apply(AGENT_YAML.replace("You help.", "You help more."))
    changed = await world.when(kinds.DEPLOYMENT, "helper", lambda obj: obj["metadata"]["generation"] == 3)
    assert changed["spec"]["template"]["metadata"]["annotations"]["reloader/last"] == "now"
