"""KAOS's kinds on a real node: a LiteLLM, a package and an author's functions, and the agent that uses them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Terminal, post, scripted

pytestmark = pytest.mark.timeout(400)
SCRIPT = (Path(__file__).parent / "tool_model.py").read_text()
MODEL = scripted("outside", SCRIPT, 8080)
KEYS = """
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: sk-secret, master: sk-master-of-the-proxy-000000000000}
"""
PROXY = """
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: {name: models}
spec:
  mode: Proxy
  proxyConfig:
    models: ["*"]
    apiBase: http://outside:8080/v1
    apiKey: {valueFrom: {secretKeyRef: {name: keys, key: token}}}
    env: [{name: LITELLM_MASTER_KEY, valueFrom: {secretKeyRef: {name: keys, key: master}}}]
"""
# Of document 004, as written there.
ECHO = """
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata:
  name: echo-tools
spec:
  type: python-runtime
  config:
    mcp: "test-mcp-echo-server"
"""
CALCULATOR = '''
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata:
  name: calculator
spec:
  type: python-runtime
  config:
    tools:
      fromString: |
        def calculate(expression: str) -> str:
            """Evaluate a mathematical expression."""
            return str(eval(expression))
'''
ASSISTANT = """
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata:
  name: assistant
spec:
  modelAPI: models
  mcpServers:
    - {servers}
  config:
    description: "AI assistant with echo tools"
    instructions: "You are a helpful assistant. Use the echo tool when asked to repeat something."
    env:
      - name: MODEL_NAME
        value: "tooly"
"""


def asked(terminal: Terminal, text: str) -> str:
    """What the agent answers at the address of the document."""
    body: dict[str, Any] = {"model": "assistant", "messages": [{"role": "user", "content": text}]}
    with terminal.forwarded("svc/assistant", 80) as url:
        answer = post(f"{url}/v1/chat/completions", body)
    said: str = answer["choices"][0]["message"]["content"]
    return said


def ready(terminal: Terminal) -> None:
    """As the document has it, once there is a pod."""
    terminal.kubectl("wait", "--for=create", "deployment/assistant", "--timeout=60s")
    terminal.kubectl("wait", "--for=jsonpath={.status.replicas}=1", "deployment/assistant", "--timeout=60s")
    terminal.kubectl("wait", "--for=condition=ready", "pod", "-l", "app=assistant", "--timeout=115s")


@pytest.mark.requirement("kaos-litellm", "kaos-cluster", "kaos-ready-label", "kaos-servers", "kaos-waiting")
def test_an_agent_waits_for_a_litellm_and_its_functions_and_calculates(terminal: Terminal, litellm: None) -> None:
    terminal.kubectl("apply", "-f", "-", stdin=ASSISTANT.replace("{servers}", "calculator"))
    terminal.kubectl("wait", "--for=jsonpath={.status.phase}=Waiting", "agents.kaos.tools/assistant", "--timeout=30s")
    terminal.kubectl("apply", "-f", "-", stdin=MODEL + "---" + KEYS + "---" + PROXY + "---" + CALCULATOR)
    ready(terminal)
    for server in ("modelapi/models", "mcpserver/calculator", "agents.kaos.tools/assistant"):
        terminal.kubectl("wait", "--for=jsonpath={.status.ready}=true", server, "--timeout=60s")
    assert "tooly says Hello!" in asked(terminal, "Hello!")
    assert "says 42" in asked(terminal, 'use calculate with {"expression": "6*7"}')
    # The key of what is behind the proxy is in no pod but the proxy's.
    pod = terminal.get("deployment", "assistant")["spec"]["template"]["spec"]
    assert "token" not in [
        item["key"] for volume in pod["volumes"] for item in volume.get("secret", {}).get("items", ())
    ]
    terminal.kubectl("delete", "agents.kaos.tools/assistant", "mcpserver/calculator", "modelapi/models")
    for name in ("assistant", "mcpserver-calculator", "modelapi-models"):
        terminal.kubectl("wait", "--for=delete", f"deployment/{name}", "--timeout=30s")


@pytest.mark.requirement("kaos-packages")
def test_the_documents_package_is_installed_pinned_and_used(terminal: Terminal, litellm: None) -> None:
    terminal.kubectl("apply", "-f", "-", stdin=MODEL + "---" + KEYS + "---" + PROXY + "---" + ECHO)
    terminal.kubectl("apply", "-f", "-", stdin=ASSISTANT.replace("{servers}", "echo-tools"))
    terminal.kubectl("wait", "--for=jsonpath={.status.ready}=true", "mcpserver/echo-tools", "--timeout=115s")
    ready(terminal)
    package = terminal.get("mcpserver", "echo-tools")["status"]["package"]
    assert package["requested"] == "test-mcp-echo-server"
    name, _, version = package["version"].partition("==")
    assert (name, bool(version)) == ("test-mcp-echo-server", True)
    launch = terminal.get("configmap", "mcpserver-echo-tools")["data"]["launch.json"]
    assert json.loads(launch)["package"] == package["version"]
    assert "hello" in asked(terminal, 'use echo with {"text": "hello"}')


@pytest.mark.requirement("kaos-packages")
def test_a_package_that_no_index_has_is_told_of(terminal: Terminal) -> None:
    missing = ECHO.replace('"test-mcp-echo-server"', '"kadre-has-no-such-package==9"')
    terminal.kubectl("apply", "-f", "-", stdin=missing)
    said = "--for=jsonpath={.status.conditions[?(@.type=='Ready')].reason}=CrashLoopBackOff"
    terminal.kubectl("wait", said, "mcpserver/echo-tools", "--timeout=120s")
    message = terminal.get("mcpserver", "echo-tools")["status"]["message"]
    assert "kadre-has-no-such-package==9 cannot be installed" in message


HOSTED = """
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata:
  name: models
spec:
  mode: Hosted
  hostedConfig:
    model: "{model}"
"""


@pytest.mark.requirement("kaos-servers")
def test_a_model_that_the_image_has_is_served_and_not_pulled(terminal: Terminal, running_ollama: str) -> None:
    hosted = HOSTED.replace("{model}", "smollm2:135m")
    terminal.kubectl("apply", "-f", "-", stdin=hosted + "---" + CALCULATOR)
    assistant = ASSISTANT.replace("{servers}", "calculator").replace("tooly", "ollama/smollm2:135m")
    terminal.kubectl("apply", "-f", "-", stdin=assistant)
    ready(terminal)
    assert asked(terminal, "What is the capital of France?")
    words = "jsonpath={.items[0].status.initContainerStatuses[0].state.terminated.exitCode}"
    assert terminal.kubectl("get", "pods", "-l", "app=modelapi-models", "-o", words) == "0"
