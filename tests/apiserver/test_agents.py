"""What an Agent becomes in a cluster, and what is said of it there."""

from __future__ import annotations

import json

import msgspec
import pytest

from kadre.kube import kinds
from kadre.kube.client import Scope
from kadre.kube.kinds import Object
from kadre.operator.children.common import MANAGED_BY, MANAGER
from kadre.operator.controller import Operator
from kadre.plan.types import AgentPlan, McpTools
from tests.apiserver.conftest import AGENT, MODEL_CONFIG, OURS, World, is_true

TOOL = OURS["kagent.dev/v1alpha1", "Tool"]
AGENT_YAML = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata:
  name: helper
  labels: {team: support}
spec:
  modelConfig: small
  systemMessage: You help.
"""
MODEL_YAML = """
apiVersion: kagent.dev/v1alpha1
kind: ModelConfig
metadata: {name: small}
spec: {provider: scripted, model: script}
"""


@pytest.mark.requirement("operator-children", "operator-status")
async def test_an_agent_becomes_its_objects_all_of_which_it_owns(world: World, operator: Operator) -> None:
    await world.apply(MODEL_YAML)
    (agent,) = await world.apply(AGENT_YAML)
    deployment = await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)
    status = (await world.when(AGENT, "helper", lambda obj: "url" in obj.get("status", {})))["status"]
    template = deployment["spec"]["template"]
    plan_name = template["spec"]["volumes"][0]["configMap"]["name"]
    assert template["metadata"]["annotations"]["kagent.dev/template-hash"] == status["planHash"]
    service = await world.get(kinds.SERVICE, "helper")
    account = await world.get(kinds.SERVICE_ACCOUNT, "helper")
    plan_map = await world.get(kinds.CONFIG_MAP, plan_name)
    assert service is not None
    assert account is not None
    assert plan_map is not None
    for child in (deployment, service, account, plan_map):
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("Agent", agent["metadata"]["uid"], True)
        assert child["metadata"]["labels"]["team"] == "support"
    assert plan_map["immutable"] is True
    plan = msgspec.json.decode(plan_map["data"]["plan.json"], type=AgentPlan)
    assert (plan.system_prompt, plan.model.provider) == ("You help.", "scripted")
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == {"http": 8080, "metrics": 9090}
    assert deployment["spec"]["template"]["metadata"]["labels"]["app"] == "helper"
    assert status["url"] == f"http://helper.{world.namespace}.svc:8080"


async def test_what_is_missing_is_said_at_once_and_heals_when_it_appears(world: World, operator: Operator) -> None:
    await world.apply(AGENT_YAML)
    told = await world.condition(AGENT, "helper", "Ready", "MissingModelConfig")
    assert "there is no ModelConfig small" in told["message"]
    await world.condition(AGENT, "helper", "ModelResolved", "MissingModelConfig")
    assert await world.get(kinds.DEPLOYMENT, "helper") is None
    event = await world.some(kinds.EVENT, lambda obj: obj["regarding"]["name"] == "helper")
    assert (event["type"], event["reason"]) == ("Warning", "MissingModelConfig")
    assert "create a ModelConfig named small" in event["note"]
    await world.apply(MODEL_YAML)
    await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)
    agent = await world.when(AGENT, "helper", lambda obj: not is_true(obj, "Stalled"))
    assert agent["status"]["observedGeneration"] == agent["metadata"]["generation"]


async def test_an_agent_whose_secret_is_missing_has_its_pods_and_says_what_it_lacks(
    world: World, operator: Operator
) -> None:
    keyed = "spec: {provider: openai, model: m, apiKeySecretRef: {name: openai, key: key}}"
    await world.apply(MODEL_YAML.replace("spec: {provider: scripted, model: script}", keyed) + "---" + AGENT_YAML)
    told = await world.condition(AGENT, "helper", "Ready", "MissingSecret")
    assert f"kubectl create secret generic openai -n {world.namespace}" in told["message"]
    before = await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)
    secret = {"metadata": {"name": "openai", "namespace": world.namespace}, "stringData": {"other": "sk-never-shown"}}
    await world.client.create(kinds.SECRET, secret)
    await world.condition(AGENT, "helper", "Ready", "MissingSecretKey")
    await world.change(kinds.SECRET, "openai", lambda obj: obj.update(stringData={"key": "sk-never-shown"}))
    await world.when(AGENT, "helper", lambda obj: not is_true(obj, "Stalled"))
    after = await world.get(kinds.DEPLOYMENT, "helper")
    assert after is not None
    assert after["spec"]["template"] == before["spec"]["template"]  # its pods read the Secret where it is mounted
    everything = [
        *(await world.client.list(kinds.CONFIG_MAP, Scope(world.namespace))).items,
        *(await world.client.list(kinds.EVENT, Scope(world.namespace))).items,
        *(await world.client.list(AGENT, Scope(world.namespace))).items,
    ]
    assert "sk-never-shown" not in json.dumps(everything)


async def test_a_changed_model_rolls_the_agent_to_another_plan(world: World, operator: Operator) -> None:
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    first = await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)
    await world.apply(MODEL_YAML.replace("model: script", "model: other"))

    def changed(obj: Object) -> bool:
        return bool(obj["spec"]["template"] != first["spec"]["template"])

    second = await world.when(kinds.DEPLOYMENT, "helper", changed)
    assert second["metadata"]["uid"] == first["metadata"]["uid"]


async def test_a_service_of_somebody_else_is_never_taken(world: World, operator: Operator) -> None:
    taken = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "helper", "namespace": world.namespace},
        "spec": {"ports": [{"port": 80}]},
    }
    await world.client.create(kinds.SERVICE, taken)
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    told = await world.condition(AGENT, "helper", "Stalled", "NameTaken")
    assert "Service" in told["message"]
    found = await world.get(kinds.SERVICE, "helper")
    assert found is not None
    assert "ownerReferences" not in found["metadata"]
    await world.client.delete(kinds.SERVICE, world.namespace, "helper")
    await world.when(AGENT, "helper", lambda obj: not is_true(obj, "Stalled"))


async def test_pods_of_somebody_elses_deployment_are_not_counted_as_its_own(world: World, operator: Operator) -> None:
    labels = {"app": "helper", MANAGED_BY: MANAGER}  # as where somebody copied one of ours
    container = {"name": "web", "image": "web"}
    taken = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "helper", "namespace": world.namespace, "labels": labels},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
    made = await world.client.create(kinds.DEPLOYMENT, taken)
    head = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": world.named("helper")["metadata"]}
    counts = {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}
    status = {**counts, "observedGeneration": made["metadata"]["generation"]}
    await world.client.apply(kinds.DEPLOYMENT, {**head, "status": status}, "status")
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    await world.condition(AGENT, "helper", "Stalled", "NameTaken")
    agent = await world.client.get(AGENT, world.namespace, "helper")
    assert agent["status"].keys().isdisjoint({"replicas", "readyReplicas", "revision"})
    assert agent["status"]["phase"] == "Failed"


async def test_an_agent_that_a_finalizer_holds_is_not_ready_any_more(world: World, operator: Operator) -> None:
    held = AGENT_YAML.replace("  name: helper\n", "  name: helper\n  finalizers: [acme.io/audit]\n")
    await world.apply(MODEL_YAML + "---" + held)
    await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)
    await world.client.delete(AGENT, world.namespace, "helper")
    told = await world.condition(AGENT, "helper", "Ready", "Terminating")
    assert (told["status"], "held by acme.io/audit" in told["message"]) == ("False", True)
    # Nothing of it goes before it does.
    assert await world.get(kinds.DEPLOYMENT, "helper") is not None
    await world.change(AGENT, "helper", lambda obj: obj["metadata"].pop("finalizers"))
    await world.gone(AGENT, "helper")


async def test_what_its_author_takes_away_goes_from_the_children_too(world: World, operator: Operator) -> None:
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    await world.when(kinds.SERVICE, "helper", lambda obj: len(obj["spec"]["ports"]) == 2)
    await world.apply(AGENT_YAML + "  observability: {metrics: {enabled: false}}\n")
    service = await world.when(kinds.SERVICE, "helper", lambda obj: len(obj["spec"]["ports"]) == 1)
    assert "kagent.dev/monitored" not in service["metadata"]["labels"]


async def test_what_the_api_server_refuses_is_said_of_the_agent(world: World, operator: Operator) -> None:
    await world.apply(MODEL_YAML + "---" + AGENT_YAML + "  env: [{name: 'A=B', value: x}]\n")
    told = await world.condition(AGENT, "helper", "Stalled", "Refused")
    assert "A=B" in told["message"]
    await world.apply(AGENT_YAML)
    await world.when(AGENT, "helper", lambda obj: not is_true(obj, "Stalled"))


async def test_a_model_config_says_whether_it_can_be_used(world: World, operator: Operator) -> None:
    await world.apply(json.dumps({**_model("good"), "spec": {"provider": "scripted", "model": "m"}}))
    await world.condition(MODEL_CONFIG, "good", "Ready", "Valid")
    await world.apply(
        json.dumps(
            {
                **_model("bad"),
                "spec": {"provider": "openai", "model": "m", "apiKeySecretRef": {"name": "none", "key": "k"}},
            }
        )
    )
    told = await world.condition(MODEL_CONFIG, "bad", "Stalled", "MissingSecret")
    assert "kubectl create secret generic none" in told["message"]
    await world.client.create(
        kinds.SECRET, {"metadata": {"name": "none", "namespace": world.namespace}, "stringData": {"k": "v"}}
    )
    await world.condition(MODEL_CONFIG, "bad", "Ready", "Valid")


async def test_each_tool_has_a_condition_and_heals_by_itself(world: World, operator: Operator) -> None:
    await world.apply(MODEL_YAML + "---" + AGENT_YAML + "  tools: [search, pay]\n")
    told = await world.condition(AGENT, "helper", "tool/search", "MissingTool")
    assert "create a Tool" in told["message"]
    search = "{apiVersion: kagent.dev/v1alpha1, kind: Tool, metadata: {name: search}"
    await world.apply(search + ", spec: {type: mcp, mcp: {endpoint: http://search}}}")
    await world.condition(AGENT, "helper", "tool/search", "Resolved")
    await world.condition(AGENT, "helper", "Ready", "MissingTool")  # of the other one
    store = "{type: retrieval, retrieval: {vectorStore: {type: qdrant, collection: bills}}}"
    await world.apply(f"{{apiVersion: kagent.dev/v1alpha1, kind: Tool, metadata: {{name: pay}}, spec: {store}}}")
    await world.condition(AGENT, "helper", "tool/pay", "NotSupportedYet")
    agent = await world.when(AGENT, "helper", lambda obj: not is_true(obj, "Stalled"))
    assert {each["type"]: each["status"] for each in agent["status"]["conditions"]}["ModelResolved"] == "True"
    await world.condition(TOOL, "search", "Ready", "Valid")
    told = await world.condition(TOOL, "pay", "Supported", "NotSupportedYet")
    assert "searches in qdrant are not supported yet" in told["message"]


@pytest.mark.requirement("mcp-services")
async def test_servers_that_labels_choose_come_and_go_with_their_services(world: World, operator: Operator) -> None:
    tool = "{apiVersion: kagent.dev/v1alpha1, kind: Tool, metadata: {name: desk}"
    await world.apply(tool + ", spec: {type: mcp, mcp: {selector: {matchLabels: {team: a}}}}}")
    await world.apply(MODEL_YAML + "---" + AGENT_YAML + "  tools: [desk]\n")
    without = await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "orders",
            "namespace": world.namespace,
            "labels": {"kagent.dev/mcp": "true", "team": "a"},
            "annotations": {"kagent.dev/mcp-path": "/mcp"},
        },
        "spec": {"ports": [{"name": "metrics", "port": 9090}, {"name": "mcp", "port": 8080}]},
    }
    await world.client.create(kinds.SERVICE, service)
    url = f"http://orders.{world.namespace}:8080/mcp"
    planned = await world.some(kinds.CONFIG_MAP, lambda obj: url in obj.get("data", {}).get("plan.json", ""))
    (found,) = msgspec.json.decode(planned["data"]["plan.json"], type=AgentPlan).tools
    assert found == McpTools(name="desk/orders", url=url)

    def unmarked(obj: Object) -> None:
        del obj["metadata"]["labels"]["kagent.dev/mcp"]

    await world.change(kinds.SERVICE, "orders", unmarked)
    template = without["spec"]["template"]
    await world.when(kinds.DEPLOYMENT, "helper", lambda obj: bool(obj["spec"]["template"] == template))


async def test_a_tool_that_would_be_started_beside_an_agent_is_told_of(world: World, operator: Operator) -> None:
    tool = "{apiVersion: kagent.dev/v1alpha1, kind: Tool, metadata: {name: echo}"
    await world.apply(tool + ", spec: {type: mcp, mcp: {command: [echo-server]}}}")
    await world.apply(MODEL_YAML + "---" + AGENT_YAML + "  tools: [echo]\n")
    told = await world.condition(AGENT, "helper", "tool/echo", "NotSupportedYet")
    assert "runs without echo" in told["message"]
    await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)


def _model(name: str) -> Object:
    return {"apiVersion": "kagent.dev/v1alpha1", "kind": "ModelConfig", "metadata": {"name": name}}
