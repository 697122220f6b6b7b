"""Labels: an author's are kept, but for those by which we find what is ours."""

from __future__ import annotations

from kadre.kube.kinds import Key
from kadre.operator.children import http_route, server
from kadre.operator.children.common import Owner, Settings, labels_of
from kadre.operator.children.server import ServerOwner
from kadre.plan.types import AgentKey, AgentPlan, ModelPlan, ServerPlan

OURS = {"kagent.dev/pool": "default", "pool.kagent.dev/default": "member", "kaos.tools/agent": "other"}
THEIRS = {"team": "blue", "kagent.dev/pools": "many"}
PLAN = AgentPlan(
    key=AgentKey("team", "helper"), model=ModelPlan(provider="scripted", model="m"), labels={**OURS, **THEIRS}
)


def test_nobody_puts_their_objects_among_those_of_a_pool() -> None:
    made = labels_of(PLAN)
    assert made.keys().isdisjoint(OURS)
    assert made.items() >= THEIRS.items()
    plan = ServerPlan(type="image", service="s", namespace="team", name="s", url="http://s", labels=PLAN.labels)
    of_server = server.labels(ServerOwner(plan, "MCPServer", "kaos.tools/v1alpha1", "uid"))
    assert of_server.keys().isdisjoint(OURS)
    assert of_server.items() >= THEIRS.items()


def test_a_route_without_a_word_has_no_limit_rather_than_the_gateways_own() -> None:
    settings = Settings(home="kagent", gateway_service="kagent", gateway_api=Key("infra", "gateway"))
    made = http_route.http_route(Owner(PLAN, "Agent", "kagent.dev/v1alpha1", "uid"), settings)
    assert made is not None
    assert made.manifest["spec"]["rules"][0]["timeouts"] == {"request": "0s"}
