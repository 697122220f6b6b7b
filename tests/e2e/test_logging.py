"""How an agent's pod logs: as its namespace says, and as loudly as the agent itself says."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import Terminal

pytestmark = pytest.mark.timeout(180)
CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: agent-logging-config}
data:
  logging.yaml: |
    version: 1
    disable_existing_loggers: false
    formatters:
      json:
        class: pythonjsonlogger.jsonlogger.JsonFormatter
        format: "%(asctime)s %(name)s %(levelname)s %(message)s"
    handlers:
      console: {class: logging.StreamHandler, formatter: json, stream: ext://sys.stdout}
    loggers:
      kagent: {level: INFO, handlers: [console], propagate: false}
    root: {level: INFO, handlers: [console]}
"""
AGENT = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: {name}}}
spec:
  model: {{provider: scripted, name: script}}
  env: [{{name: LOG_LEVEL, value: {level}}}]
"""


@pytest.mark.requirement("logging-config", "env-log-level")
def test_a_namespace_says_how_its_agents_log_and_an_agent_how_much(terminal: Terminal) -> None:
    terminal.kubectl("apply", "-f", "-", stdin=CONFIG)
    agents = [AGENT.format(name="talks", level="info"), AGENT.format(name="silent", level="error")]
    terminal.kubectl("apply", "-f", "-", stdin="---".join(agents))
    terminal.kubectl("wait", "--for=condition=Ready", "agent/talks", "agent/silent", "--timeout=90s")
    lines = [json.loads(line) for line in terminal.kubectl("logs", "-l", "app=talks", "--tail=100").splitlines()]
    (served,) = [line for line in lines if "is served on port" in line.get("message", "")]
    assert list(served) == ["asctime", "name", "levelname", "message"]
    assert served["levelname"] == "INFO"
    assert "is served on port" not in terminal.kubectl("logs", "-l", "app=silent", "--tail=100")
