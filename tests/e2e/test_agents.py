"""The way of the documents: install, apply, wait, ask."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Terminal, post

MANIFEST = """
apiVersion: kagent.dev/v1alpha1
kind: ModelConfig
metadata: {name: script}
spec: {provider: scripted, model: script}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: my-agent}
spec:
  description: My custom AI agent
  modelConfig: script
  systemMessage: You are a helpful assistant.
"""
pytestmark = pytest.mark.timeout(300)


WRONG = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: wrong}
spec:
  model: {provider: scripted, name: script}
  agents: [wrong]
  scaling: {minReplicas: 3, maxReplicas: 2}
"""


@pytest.mark.requirement("webhook-validates")
def test_what_can_never_become_right_is_refused_with_field_and_fix(terminal: Terminal) -> None:
    with pytest.raises(AssertionError) as refused:
        terminal.kubectl("apply", "-f", "-", stdin=WRONG)
    said = str(refused.value)
    assert "spec.scaling.minReplicas" in said
    assert "minReplicas 3 is more than maxReplicas 2" in said
    assert "spec.agents[0]" in said
    missing = terminal.run("kubectl", "-n", terminal.namespace, "apply", "-f", "-", stdin=MANIFEST, warnings=True)
    assert "Warning" not in missing
    lonely = MANIFEST.replace("name: my-agent", "name: lonely").replace("modelConfig: script", "modelConfig: none")
    told = terminal.run("kubectl", "-n", terminal.namespace, "apply", "-f", "-", stdin=lonely, warnings=True)
    assert "there is no ModelConfig none" in told


@pytest.mark.requirement(
    "agents-as-resources", "agents-listed", "agent-logs-by-label", "operator-app-label", "chart-install"
)
def test_an_agent_is_applied_becomes_ready_and_answers(terminal: Terminal) -> None:
    terminal.kubectl("apply", "-f", "-", stdin=MANIFEST)
    terminal.kubectl("wait", "--for=condition=Ready", "agent/my-agent", "--timeout=60s")
    assert "scripted/script" in terminal.kubectl("get", "agents")
    with terminal.forwarded("svc/my-agent", 8080) as url:
        answer = post(f"{url}/chat", {"message": "Hello"})
    assert answer["response"]
    # By the name of its Service, from a pod; the node learns of a Service a moment after its pods are ready.
    curl = f"curl -sf --retry 15 --retry-delay 1 --retry-connrefused my-agent.{terminal.namespace}.svc:8080/health"
    assert '"ok"' in terminal.kubectl("exec", "deployment/my-agent", "--", "/bin/sh", "-c", curl)
    assert "my-agent" in terminal.kubectl("get", "pods", "-l", "app=my-agent")
    assert "is served on port 8080" in terminal.kubectl("logs", "-l", "agent=my-agent")
    terminal.kubectl("delete", "agent", "my-agent")
    terminal.kubectl("wait", "--for=delete", "deployment/my-agent", "--timeout=30s")
