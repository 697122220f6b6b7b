"""KAOS's kinds in a cluster: what each becomes, what is said of it, and how an agent waits for what it uses."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest

from kadre.kube import kinds
from kadre.kube.kinds import Object
from kadre.operator.controller import Operator
from kadre.plan.types import AgentPlan, McpTools
from tests.apiserver.conftest import OURS, World, is_true
from tests.apiserver.test_agents import MODEL_YAML
from tests.apiserver.test_faults import reported

AGENT = OURS["kaos.tools/v1alpha1", "Agent"]
MODEL_API = OURS["kaos.tools/v1alpha1", "ModelAPI"]
MCP_SERVER = OURS["kaos.tools/v1alpha1", "MCPServer"]
PROXY = """
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: {name: models}
spec:
  mode: Proxy
  proxyConfig:
    models: [openai/gpt-4o, "anthropic/*"]
    apiKey: {valueFrom: {secretKeyRef: {name: keys, key: token}}}
"""
FUNCTIONS = """
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: {name: calculator}
spec:
  type: python-runtime
  config:
    tools:
      fromString: |
        def calculate(expression: str) -> str:
            return str(eval(expression))
"""
ASSISTANT = """
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: {name: assistant}
spec:
  modelAPI: models
  mcpServers: [calculator]
  config:
    instructions: You calculate.
    env: [{name: MODEL_NAME, value: openai/gpt-4o}]
"""
KEYS = "{apiVersion: v1, kind: Secret, metadata: {name: keys}, stringData: {token: sk-never-shown}}"


async def answers(world: World, name: str, installed: str = "") -> None:
    """Have a pod be as if it were ready: there is no node here. `installed`: the last words of what ran first in it."""
    pod = await world.some(kinds.POD, lambda obj: obj["metadata"]["labels"]["app"] == name)
    status: Object = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    if installed:
        state = {"terminated": {"exitCode": 0, "reason": "Completed", "message": installed}}
        head = {"image": "i", "imageID": "i", "ready": True, "restartCount": 0}
        status["initContainerStatuses"] = [{"name": "install", "state": state, **head}]
    await world.client.apply(kinds.POD, reported(pod, status), "status")


def phase(wanted: str) -> Callable[[Object], bool]:
    """Whether an object is said to be in that phase."""
    return lambda obj: obj.get("status", {}).get("phase") == wanted


@pytest.mark.requirement("kaos-servers")
async def test_a_proxy_becomes_a_litellm_that_alone_has_the_key(world: World, operator: Operator) -> None:
    await world.apply(PROXY)
    await world.condition(MODEL_API, "models", "Stalled", "MissingSecret")
    await world.apply(KEYS)
    (api,) = await world.apply(PROXY)
    deployment = await world.when(kinds.DEPLOYMENT, "modelapi-models", lambda _: True)
    (owner,) = deployment["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("ModelAPI", api["metadata"]["uid"])
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    key = {"name": "PROXY_API_KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}}
    assert key in container["env"]
    config = await world.get(kinds.CONFIG_MAP, "modelapi-models")
    assert config is not None
    routes = json.loads(config["data"]["config.yaml"])["model_list"]
    assert routes[1] == {
        "model_name": "anthropic/*",
        "litellm_params": {"model": "anthropic/*", "api_key": "os.environ/PROXY_API_KEY"},
    }
    service = await world.get(kinds.SERVICE, "modelapi-models")
    assert service is not None
    assert [port["port"] for port in service["spec"]["ports"]] == [8000]
    await answers(world, "modelapi-models")
    found = await world.when(MODEL_API, "models", phase("Ready"))
    assert found["status"]["ready"] is True
    assert found["status"]["endpoint"] == f"http://modelapi-models.{world.namespace}.svc:8000"


@pytest.mark.requirement("kaos-waiting")
async def test_an_agent_waits_for_its_servers_and_heals(world: World, operator: Operator) -> None:
    await world.apply(ASSISTANT)
    told = await world.when(AGENT, "assistant", phase("Waiting"))
    assert "there is no ModelAPI models" in told["status"]["message"]
    await world.apply(KEYS + "\n---" + PROXY + "---" + FUNCTIONS)
    deployment = await world.when(kinds.DEPLOYMENT, "assistant", lambda _: True)

    def waits_for_both(obj: Object) -> bool:
        message = obj.get("status", {}).get("message", "")
        return "ModelAPI models" in message and "MCPServer calculator" in message and "no ModelAPI" not in message

    told = await world.when(AGENT, "assistant", waits_for_both)
    assert (told["status"]["phase"], told["status"]["ready"]) == ("Waiting", False)
    await answers(world, "modelapi-models")
    await answers(world, "mcpserver-calculator")
    await answers(world, "assistant")
    status = (await world.when(AGENT, "assistant", phase("Ready")))["status"]
    assert status["endpoint"] == f"http://assistant.{world.namespace}.svc:80"
    assert status["linkedResources"] == {"modelAPI": "models", "mcpServer/calculator": "calculator"}
    assert status["deployment"] == {"replicas": 1, "readyReplicas": 1}
    service = await world.get(kinds.SERVICE, "assistant")
    assert service is not None
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == {"http": 80, "metrics": 9090}
    template = deployment["spec"]["template"]
    assert template["metadata"]["labels"]["app"] == "assistant"
    assert {"name": "http", "containerPort": 8000, "protocol": "TCP"} in template["spec"]["containers"][0]["ports"]
    plan_map = await world.get(kinds.CONFIG_MAP, template["spec"]["volumes"][0]["configMap"]["name"])
    assert plan_map is not None
    plan = msgspec.json.decode(plan_map["data"]["plan.json"], type=AgentPlan)
    base = f"http://modelapi-models.{world.namespace}.svc:8000/v1"
    assert (plan.model.endpoint, plan.model.model, plan.model.api_key) == (base, "openai/gpt-4o", None)
    (tools,) = plan.tools
    assert isinstance(tools, McpTools)
    assert tools.url == f"http://mcpserver-calculator.{world.namespace}.svc:8000/mcp"


@pytest.mark.requirement("kaos-servers")
async def test_what_an_mcp_server_becomes_is_put_back_and_goes_with_it(world: World, operator: Operator) -> None:
    await world.apply(FUNCTIONS)
    await world.when(kinds.DEPLOYMENT, "mcpserver-calculator", lambda _: True)
    service = await world.when(kinds.SERVICE, "mcpserver-calculator", lambda _: True)
    await world.change(kinds.SERVICE, "mcpserver-calculator", lambda obj: obj["spec"]["selector"].update(x="y"))
    await world.when(kinds.SERVICE, "mcpserver-calculator", lambda obj: "x" not in obj["spec"]["selector"])
    event = await world.some(kinds.EVENT, lambda obj: obj["reason"] == "DriftCorrected")
    assert "change the MCP server instead" in event["note"]
    await world.client.delete(kinds.SERVICE, world.namespace, "mcpserver-calculator")
    uid = service["metadata"]["uid"]
    await world.when(kinds.SERVICE, "mcpserver-calculator", lambda obj: obj["metadata"]["uid"] != uid)
    await world.apply(FUNCTIONS.replace("str(eval", "repr(eval"))
    await world.when(kinds.DEPLOYMENT, "mcpserver-calculator", lambda obj: obj["metadata"]["generation"] > 1)


@pytest.mark.requirement("kaos-servers")
async def test_what_no_pod_can_run_of_an_mcp_server_is_said(world: World, operator: Operator) -> None:
    server = "{apiVersion: kaos.tools/v1alpha1, kind: MCPServer, metadata: {name: web}"
    await world.apply(server + ", spec: {type: node-runtime, config: {mcp: some-package}}}")
    told = await world.condition(MCP_SERVER, "web", "Ready", "NotSupportedYet")
    assert "npm packages are not supported on a cluster yet" in told["message"]
    assert await world.get(kinds.DEPLOYMENT, "mcpserver-web") is None


@pytest.mark.requirement("kaos-servers")
async def test_what_is_not_run_any_more_goes_with_what_was_said_of_it(world: World, operator: Operator) -> None:
    await world.apply(FUNCTIONS)
    for kind in (kinds.DEPLOYMENT, kinds.SERVICE, kinds.CONFIG_MAP):
        await world.when(kind, "mcpserver-calculator", lambda _: True)
    npm: Object = {"type": "node-runtime", "config": {"mcp": "some-package"}}
    await world.change(MCP_SERVER, "calculator", lambda obj: obj.update(spec=npm))
    await world.condition(MCP_SERVER, "calculator", "Ready", "NotSupportedYet")
    for kind in (kinds.DEPLOYMENT, kinds.SERVICE, kinds.CONFIG_MAP):
        await world.gone(kind, "mcpserver-calculator")


@pytest.mark.requirement("kaos-servers")
async def test_functions_in_a_secret_are_read_again_when_it_changes(world: World, operator: Operator) -> None:
    code = "{{apiVersion: v1, kind: Secret, metadata: {{name: code}}, stringData: {{tools.py: 'def f(): return {}'}}}}"
    source = "tools: {fromSecretKeyRef: {name: code, key: tools.py}}"
    server = "{apiVersion: kaos.tools/v1alpha1, kind: MCPServer, metadata: {name: kept}"
    server += f", spec: {{type: python-runtime, config: {{{source}}}}}}}"
    await world.apply(code.format(1) + "\n---\n" + server)
    await world.when(kinds.DEPLOYMENT, "mcpserver-kept", lambda obj: obj["metadata"]["generation"] == 1)
    await world.apply(code.format(2))
    await world.when(kinds.DEPLOYMENT, "mcpserver-kept", lambda obj: obj["metadata"]["generation"] > 1)


@pytest.mark.requirement("kaos-names")
async def test_of_two_agents_of_one_name_the_second_is_told_that_it_is_taken(world: World, operator: Operator) -> None:
    native = "{apiVersion: kagent.dev/v1alpha1, kind: Agent, metadata: {name: assistant}, spec: {modelConfig: small}}"
    await world.apply(MODEL_YAML + "---\n" + native)
    before = await world.when(kinds.DEPLOYMENT, "assistant", lambda _: True)
    await world.apply(KEYS + "\n---" + PROXY + "---" + FUNCTIONS + "---" + ASSISTANT)
    told = await world.condition(AGENT, "assistant", "Stalled", "NameTaken")
    assert "belongs to somebody else" in told["message"]
    found = await world.when(AGENT, "assistant", phase("Failed"))
    assert "rename the agent" in found["status"]["message"]
    after = await world.get(kinds.DEPLOYMENT, "assistant")
    assert after is not None
    assert after["spec"] == before["spec"]
    await world.client.delete(OURS["kagent.dev/v1alpha1", "Agent"], world.namespace, "assistant")
    # There is no garbage collector here.
    for kind in (kinds.SERVICE_ACCOUNT, kinds.SERVICE, kinds.DEPLOYMENT):
        await world.client.delete(kind, world.namespace, "assistant")
    await world.when(AGENT, "assistant", lambda obj: not is_true(obj, "Stalled"))


@pytest.mark.requirement("kaos-packages")
async def test_a_package_stays_at_the_version_that_was_resolved_first(world: World, operator: Operator) -> None:
    server = "{apiVersion: kaos.tools/v1alpha1, kind: MCPServer, metadata: {name: echo}"
    await world.apply(server + ", spec: {type: python-runtime, config: {mcp: test-mcp-echo-server}}}")
    first = await world.when(kinds.DEPLOYMENT, "mcpserver-echo", lambda _: True)
    await answers(world, "mcpserver-echo", "test-mcp-echo-server==0.3.1\n")

    def launched(package: str) -> Callable[[Object], bool]:
        return lambda obj: json.loads(obj["data"]["launch.json"])["package"] == package

    await world.when(kinds.CONFIG_MAP, "mcpserver-echo", launched("test-mcp-echo-server==0.3.1"))
    found = await world.when(MCP_SERVER, "echo", phase("Ready"))
    assert found["status"]["package"] == {"requested": "test-mcp-echo-server", "version": "test-mcp-echo-server==0.3.1"}
    after = await world.get(kinds.DEPLOYMENT, "mcpserver-echo")
    assert after is not None
    assert after["metadata"]["generation"] == first["metadata"]["generation"]
    await world.apply(server + ", spec: {type: python-runtime, config: {mcp: test-mcp-echo-server<9}}}")
    await world.when(kinds.CONFIG_MAP, "mcpserver-echo", launched("test-mcp-echo-server<9"))
    await world.when(MCP_SERVER, "echo", lambda obj: "package" not in obj["status"])


@pytest.mark.requirement("kaos-packages")
async def test_a_package_that_cannot_be_installed_is_told_of(world: World, operator: Operator) -> None:
    server = "{apiVersion: kaos.tools/v1alpha1, kind: MCPServer, metadata: {name: echo}"
    await world.apply(server + ", spec: {type: python-runtime, config: {mcp: no-such-thing}}}")
    pod = await world.some(kinds.POD, lambda obj: obj["metadata"]["labels"]["app"] == "mcpserver-echo")
    words = "error: tools: the package no-such-thing cannot be installed: not found\n  fix: correct spec.config.mcp"
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": words}}
    head = {"image": "i", "imageID": "i", "ready": False, "restartCount": 1, "lastState": ended}
    status = {"initContainerStatuses": [{"name": "install", "state": {"running": {}}, **head}]}
    await world.client.apply(kinds.POD, reported(pod, status), "status")
    told = await world.condition(MCP_SERVER, "echo", "Ready", "CrashLoopBackOff")
    assert "the package no-such-thing cannot be installed: not found" in told["message"]
    assert "correct spec.config.mcp" in told["message"]
