"""Document 003, the kagent pattern, on a cluster. It shows no command: its Agent and its strategies are tried."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.docs.test_documents import manifests
from tests.docs.test_seeds import FLATTENED
from tests.e2e.conftest import Terminal, post

pytestmark = pytest.mark.timeout(600)

SECRET = "openai-api-key"
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: support}
spec: {selector: {agent: support-blue}, ports: [{port: 8080}]}
"""


@pytest.mark.requirement("flattened-agent", "operator-children")
def test_the_agent_of_the_document_becomes_what_its_controller_manages(
    seeds: Path, terminal: Terminal, outside: str, redis: None
) -> None:
    terminal.kubectl(
        "apply", "-f", "-", stdin=manifests(seeds, "001", "^kind: Tool").replace("ai-agents", terminal.namespace)
    )
    agent = FLATTENED.replace('endpoint: ""', f"endpoint: {outside}").replace("ai-agents", terminal.namespace)
    terminal.kubectl("create", "secret", "generic", SECRET, "--from-literal=api-key=sk-your-api-key-here")
    terminal.kubectl("apply", "-f", "-", stdin=agent)
    terminal.kubectl("wait", "--for=condition=Ready", "agent/customer-support-agent", "--timeout=60s")
    for kind in ("deployment", "service", "hpa"):
        terminal.kubectl("get", kind, "customer-support-agent")
    maps = terminal.kubectl("get", "configmaps", "-l", "agent=customer-support-agent", "-o", "yaml")
    assert SECRET in maps
    assert "sk-your" not in maps
    with terminal.forwarded("svc/customer-support-agent", 8080) as url:
        assert post(f"{url}/chat", {"message": "Hello"})["response"] == "gpt-4-turbo heard: Hello"


@pytest.mark.requirement("blue-green")
def test_traffic_switches_from_one_version_to_the_other(terminal: Terminal, outside: str) -> None:
    terminal.kubectl("create", "secret", "generic", SECRET, "--from-literal=api-key=sk-your-api-key-here")
    for name, model in (("support-blue", "gpt-4"), ("support-green", "gpt-4o")):
        agent = yaml.safe_load(FLATTENED)
        agent["metadata"] = {"name": name}
        key = {"name": SECRET, "key": "api-key"}
        agent["spec"] = {"model": {"provider": "openai", "name": model, "endpoint": outside, "apiKeySecretRef": key}}
        terminal.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(agent))
    terminal.kubectl("apply", "-f", "-", stdin=SERVICE)
    terminal.kubectl("wait", "--for=condition=Ready", "agents.kagent.dev", "--all", "--timeout=60s")
    for name, model in (("support-blue", "gpt-4"), ("support-green", "gpt-4o")):
        terminal.kubectl("patch", "service", "support", "-p", f'{{"spec": {{"selector": {{"agent": "{name}"}}}}}}')
        with terminal.forwarded("svc/support", 8080) as url:
            assert post(f"{url}/chat", {"message": "Hello"})["response"] == f"{model} heard: Hello"
