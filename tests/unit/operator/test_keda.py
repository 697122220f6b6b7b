"""What KEDA is told to scale an agent by."""

from __future__ import annotations

from kadre.kube.kinds import Object
from kadre.operator.children.common import Owner, Settings
from kadre.operator.children.scaling import autoscaler
from kadre.plan.types import AgentKey, AgentPlan, ModelPlan

SETTINGS = Settings(scaler="kagent-scaler.kagent.svc:9095", prometheus="http://prometheus:9090")


def triggers(metadata: dict[str, str], least: int = 1, settings: Settings = SETTINGS) -> list[Object]:
    """Those of an agent whose author writes one for Prometheus."""
    keda = {"enabled": True, "triggers": [{"type": "prometheus", "metadata": metadata}]}
    scaling = {"minReplicas": least, "maxReplicas": 5, "keda": keda}
    plan = AgentPlan(AgentKey("team", "a"), ModelPlan("scripted", "m"), workload={"scaling": scaling})
    made = autoscaler(Owner(plan, "Agent", "kagent.dev/v1alpha1", "uid"), settings, keda=True)
    assert made is not None
    found: list[Object] = made.manifest["spec"]["triggers"]
    return found


def test_a_trigger_that_names_a_metric_alone_is_of_the_agents_own_pods() -> None:
    (trigger,) = triggers({"metricName": "agent_requests_per_second", "threshold": "100"})
    assert trigger["metadata"] == {
        "serverAddress": "http://prometheus:9090",
        "query": 'sum(agent_requests_per_second{agent_name="a",namespace=~"team|"})',
        "metricName": "agent_requests_per_second",
        "threshold": "100",
    }


def test_what_its_author_writes_is_left_as_it_is() -> None:
    written = {"serverAddress": "http://mine:9090", "query": "up", "threshold": "1"}
    assert triggers(written)[0]["metadata"] == written


def test_only_an_agent_that_may_have_no_pods_is_scaled_by_who_waits_at_the_gateway() -> None:
    pushed = {"type": "external-push", "metadata": {"scalerAddress": "kagent-scaler.kagent.svc:9095"}}
    assert triggers({"threshold": "1"}, least=0)[1:] == [pushed]
    assert triggers({"threshold": "1"}, least=1)[1:] == []
    assert triggers({"threshold": "1"}, least=0, settings=Settings())[1:] == []
