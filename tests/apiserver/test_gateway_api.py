"""Routes of the Kubernetes Gateway API: one an agent, to our gateway, as long as the cluster knows of routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import yaml

from kadre.kube import kinds
from kadre.kube.kinds import Key, Object
from kadre.operator.children.common import Settings
from kadre.operator.gateway.granting import Granting
from tests.apiserver import chart
from tests.apiserver.conftest import AGENT, World, operating, when
from tests.apiserver.test_agents import AGENT_YAML, MODEL_YAML
from tests.apiserver.test_chart import of
from tests.cluster import modules

pytestmark = pytest.mark.requirement("gateway-api-routes")
WANTED = ("httproutes.yaml", "referencegrants.yaml")
ENABLED = ("gatewayAPI.enabled=true", "gatewayAPI.createGateway=true", "gatewayAPI.gatewayClassName=traefik")


@asynccontextmanager
async def gateway_api(world: World) -> AsyncIterator[None]:
    """The definitions that the Gateway API's own project publishes."""
    made = [
        yaml.safe_load(path.read_text())
        for path in modules.crds("gateway-api")
        if any(path.name.endswith(name) for name in WANTED)
    ]
    assert len(made) == len(WANTED)

    def established(obj: Object) -> bool:
        conditions = obj.get("status", {}).get("conditions") or ()
        return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)

    try:
        for definition in made:
            await world.client.create(kinds.CRD, definition)
            await when(world.client, kinds.CRD, definition, established)
        yield
    finally:
        for definition in made:
            await world.client.delete(kinds.CRD, "", definition["metadata"]["name"])


def settings(world: World) -> Settings:
    return Settings(
        image="kadre:test", home="kagent", gateway_service="kagent", gateway_api=Key("infra", world.namespace)
    )


async def test_an_agent_has_a_route_to_the_gateway_while_there_are_routes(world: World) -> None:
    async with operating(world.plane.kubeconfig, settings(world), [world.namespace]):
        await world.apply(MODEL_YAML + "---" + AGENT_YAML)
        # Without the definitions it is as any other agent.
        await world.condition(AGENT, "helper", "Ready", "Starting")
        async with gateway_api(world):
            await world.change(AGENT, "helper", lambda obj: obj["spec"].update(description="Helps."))
            route = await world.when(kinds.HTTP_ROUTE, "helper", lambda _: True)
            (parent,) = route["spec"]["parentRefs"]
            assert (parent["namespace"], parent["name"]) == ("infra", world.namespace)
            (rule,) = route["spec"]["rules"]
            assert {match["path"]["value"] for match in rule["matches"]} == {
                "/helper/v1",
                f"/{world.namespace}/helper/v1",
                f"/agents/{world.namespace}/helper",
                "/agents/helper",
            }
            (backend,) = rule["backendRefs"]
            assert (backend["namespace"], backend["name"], backend["port"]) == ("kagent", "kagent", 80)
            # What is changed by hand is put back, and what is deleted is made again.
            await world.change(kinds.HTTP_ROUTE, "helper", lambda obj: obj["spec"].pop("rules"))
            await world.when(kinds.HTTP_ROUTE, "helper", lambda obj: obj["spec"].get("rules") == route["spec"]["rules"])
            await world.client.delete(kinds.HTTP_ROUTE, world.namespace, "helper")
            uid = route["metadata"]["uid"]
            await world.when(kinds.HTTP_ROUTE, "helper", lambda obj: obj["metadata"]["uid"] != uid)


async def test_an_agent_keeps_its_route_when_it_moves_to_a_pool_and_a_pooled_one_has_one(world: World) -> None:
    async with gateway_api(world), operating(world.plane.kubeconfig, settings(world), [world.namespace]):
        await world.apply(MODEL_YAML + "---" + AGENT_YAML)
        uid = (await world.when(kinds.HTTP_ROUTE, "helper", lambda _: True))["metadata"]["uid"]
        pooled = {"mode": "Pooled"}
        await world.change(AGENT, "helper", lambda obj: obj["spec"].update(runtime=pooled))
        new = AGENT_YAML.replace("name: helper", "name: other", 1) + "  runtime: {mode: Pooled}\n"
        await world.apply(new)
        route = await world.when(kinds.HTTP_ROUTE, "other", lambda _: True)
        assert route["spec"]["rules"][0]["timeouts"] == {"request": "0s"}
        await world.condition(AGENT, "helper", "Reconciling", "RollingOut")
        kept = await world.get(kinds.HTTP_ROUTE, "helper")
        assert kept is not None
        assert kept["metadata"]["uid"] == uid


async def test_an_installation_without_a_gateway_takes_routes_away(world: World) -> None:
    async with gateway_api(world):
        async with operating(world.plane.kubeconfig, settings(world), [world.namespace]):
            await world.apply(MODEL_YAML + "---" + AGENT_YAML)
            await world.when(kinds.HTTP_ROUTE, "helper", lambda _: True)
        async with operating(world.plane.kubeconfig, Settings(image="kadre:test"), [world.namespace]):
            await world.gone(kinds.HTTP_ROUTE, "helper")


async def test_routes_of_namespaces_that_have_agents_may_lead_to_the_gateway(world: World) -> None:
    async with gateway_api(world):
        granting, place = Granting(world.client, Key(world.namespace, "kagent")), (world.namespace, "kagent")
        await granting.keep({"team", world.namespace, "other"}, None)
        made = await world.client.get(kinds.REFERENCE_GRANT, *place)
        assert [each["namespace"] for each in made["spec"]["from"]] == ["other", "team"]
        assert made["spec"]["to"] == [{"group": "", "kind": "Service", "name": "kagent"}]
        await granting.keep({"team", "other"}, None)
        assert (await world.client.get(kinds.REFERENCE_GRANT, *place))["metadata"] == made["metadata"]
        await granting.keep({"team"}, None)
        changed = await world.client.get(kinds.REFERENCE_GRANT, *place)
        assert [each["namespace"] for each in changed["spec"]["from"]] == ["team"]
        await granting.keep(set(), None)
        await world.gone(kinds.REFERENCE_GRANT, "kagent")
        foreign = {
            "apiVersion": kinds.REFERENCE_GRANT.api_version,
            "kind": "ReferenceGrant",
            **world.named("kagent"),
            "spec": made["spec"],
        }
        await world.client.create(kinds.REFERENCE_GRANT, foreign)
        with pytest.raises(Exception, match="somebody else's"):
            await granting.keep({"team"}, None)


def test_the_chart_makes_a_gateway_where_it_is_told_of_which_class() -> None:
    made = chart.rendered("kagent", "kagent", *ENABLED)
    gateway = of(made, "Gateway")
    assert (gateway["metadata"]["name"], gateway["spec"]["gatewayClassName"]) == ("kagent", "traefik")
    route = of(made, "HTTPRoute")
    assert {"namespace": "kagent", "name": "kagent"} in route["spec"]["parentRefs"]
    assert route["spec"]["rules"][0]["timeouts"] == {"request": "0s"}
    (container,) = of(made, "Deployment", "kagent-controller")["spec"]["template"]["spec"]["containers"]
    assert "--gateway-api=kagent/kagent" in container["args"]


def test_where_rights_are_given_by_hand_the_chart_gives_none_for_routes_either() -> None:
    made = chart.rendered("kagent", "kagent", *ENABLED, "rbac.create=false")
    assert [each["metadata"]["name"] for each in made if each["kind"] in {"Role", "RoleBinding"}] == []
    names = [
        each["metadata"]["name"] for each in chart.rendered("kagent", "kagent", *ENABLED) if each["kind"] == "Role"
    ]
    assert "kagent-controller-routes" in names
