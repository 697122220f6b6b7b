"""Every manifest the documents show loads as written."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kadre.api import crd
from kadre.api.kinds.workflow_run import WorkflowRun
from kadre.api.manifest import Loaded, load
from kadre.api.registry import GROUPS
from kadre.base.problems import errors

pytestmark = pytest.mark.requirement("documents-load")

FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
HEREDOC = re.compile(r"<<EOF[^\n]*\n(.*?)^EOF", re.DOTALL | re.MULTILINE)
WRAPPER = "apiVersion: kagent.dev/v1alpha1\nkind: Agent\nmetadata:\n  name: fragment\n"

FLATTENED = """\
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata:
  name: customer-support-agent
  namespace: ai-agents
spec:
  # Agent basic info
  displayName: "Customer Support Agent"
  description: "AI agent that responds to customer inquiries and creates tickets"

  # Model configuration
  model:
    provider: openai # openai, anthropic, bedrock, vllm
    name: gpt-4-turbo
    endpoint: "" # Custom endpoint (vLLM, etc.)
    temperature: 0.7
    maxTokens: 4096
    apiKeySecretRef:
      name: openai-api-key
      key: api-key

  # System prompt
  systemPrompt: |
    You are a friendly and professional customer support agent.

  # Tool list
  tools:
    - name: search-knowledge-base
    - name: create-ticket

  # Memory configuration
  memory:
    type: redis
    config:
      host: redis-master.ai-data.svc.cluster.local
      ttl: 3600
      maxHistory: 50

  # Scaling configuration
  scaling:
    minReplicas: 2
    maxReplicas: 10
    metrics:
      - type: cpu
        target:
          averageUtilization: 70
    keda:
      enabled: true
      triggers:
        - type: prometheus
          metadata:
            metricName: agent_active_sessions
            threshold: "50"

  # Resource limits
  resources:
    requests:
      memory: "512Mi"
      cpu: "250m"
    limits:
      memory: "1Gi"
      cpu: "500m"

  # Observability configuration
  observability:
    tracing:
      enabled: true
      provider: langfuse # langfuse, langsmith, cloudwatch \
(details: ../operations-mlops/observability/llmops-observability.md)
    metrics:
      enabled: true
      port: 9090
"""
"""The block of document 003, which lost its indentation, with it."""

EXPECTED = {
    "000": [
        "Agent kagent/my-agent",
        "ModelConfig kagent/openai-gpt4",
        *["Agent default/fragment"] * 3,
        "AgentTemplate default/base-k8s-agent",
        "Agent default/fragment",
    ],
    "001": [
        "Agent ai-agents/customer-support-agent",
        "Tool ai-agents/search-knowledge-base",
        "Tool ai-agents/create-ticket",
        "Tool ai-agents/get-customer-info",
        "MemoryStore ai-agents/agent-memory-redis",
        "Agent default/fragment",
        "Agent ai-agents/customer-support-agent-canary",
        "Workflow ai-agents/research-report-workflow",
        "WorkflowRun ai-agents/research-run-001",
    ],
    "002": [],
    "003": ["Agent ai-agents/customer-support-agent"],
    "004": [
        "ModelAPI default/ollama",
        "MCPServer default/echo-tools",
        "Agent default/assistant",
        "ModelAPI default/ollama",
        "MCPServer default/search-tools",
        "MCPServer default/calculator",
        "Agent default/coordinator",
        "Agent default/researcher",
        "Agent default/analyst",
    ],
}
"""Every object of ours in each document, in order: what is found is neither less nor more."""


def document(seeds: Path, number: str) -> str:
    [path] = seeds.glob(f"{number}_*")
    return path.read_text(encoding="utf-8")


def manifests(text: str) -> Iterator[str]:
    """The manifests in one document: YAML blocks, and what bash blocks feed to kubectl."""
    for language, block in FENCE.findall(text):
        if language == "yaml":
            yield from wrapped(block)
        elif language == "bash":
            yield from HEREDOC.findall(block)


def wrapped(block: str) -> Iterator[str]:
    """A block as a manifest; a bare `spec:` or `scaling:` as part of an Agent; nothing where it is neither."""
    values = [value for value in yaml.safe_load_all(block) if value is not None]
    if all(set(value) == {"spec"} for value in values):
        yield WRAPPER + block
    elif all(set(value) == {"scaling"} for value in values):
        yield f"{WRAPPER}spec:\n{textwrap.indent(block, '  ')}"
    elif all("kind" in value and not is_status(value) for value in values):
        yield block


def is_status(value: dict[str, Any]) -> bool:
    """Whether a block shows what `kubectl get -o yaml` answers and nobody writes."""
    return "status" in value and "spec" not in value


def ours(loaded: Loaded) -> list[str]:
    return [resource.ref for resource in loaded.resources]


def blocks(seeds: Path, number: str) -> list[Loaded]:
    texts = [FLATTENED] if number == "003" else list(manifests(document(seeds, number)))
    return [load(text, f"{number}.yaml") for text in texts]


@pytest.mark.requirement("agent-env", "tool-fields")
@pytest.mark.parametrize("number", EXPECTED)
def test_every_manifest_of_a_document_loads_as_written(seeds: Path, number: str) -> None:
    found: list[str] = []
    for loaded in blocks(seeds, number):
        assert errors(loaded.problems) == []
        assert not loaded.rejected
        assert not any(named.api_version.partition("/")[0] in GROUPS for named in loaded.ignored)
        found += ours(loaded)
    assert found == EXPECTED[number]


def test_the_flattened_block_is_kept_here_with_nothing_but_its_indentation_added(seeds: Path) -> None:
    text = document(seeds, "003")
    start = text.index("apiVersion: kagent.dev/v1alpha1")
    end = text.index("port: 9090", start) + len("port: 9090\n")
    assert [line.strip() for line in FLATTENED.splitlines()] == [line.strip() for line in text[start:end].splitlines()]


def test_the_status_the_document_shows_is_the_status_we_serve(seeds: Path) -> None:
    shown = [
        value
        for language, block in FENCE.findall(document(seeds, "001"))
        if language == "yaml"
        for value in yaml.safe_load_all(block)
        if isinstance(value, dict) and value.get("kind") == "WorkflowRun" and is_status(value)
    ]
    assert len(shown) == 1
    status = shown[0]["status"]
    assert violations(crd.root_schema(WorkflowRun)["properties"]["status"], status, "status") == []
    WorkflowRun.status_model.model_validate(status, by_alias=True, by_name=False)


TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}


def violations(schema: dict[str, Any], value: Any, path: str) -> list[str]:
    """How a value breaks a structural schema; a field the schema doesn't know would be dropped by a cluster."""
    if "type" in schema and not isinstance(value, TYPES[schema["type"]]):
        return [f"{path} is not of type {schema['type']}"]
    found = [f"{path} is not one of {schema['enum']}"] if value not in schema.get("enum", [value]) else []
    if isinstance(value, list):
        for number, item in enumerate(value):
            found += violations(schema["items"], item, f"{path}[{number}]")
    if isinstance(value, dict) and "properties" in schema:
        found += [f"{path}.{name} is missing" for name in schema.get("required", ()) if name not in value]
        for name, part in value.items():
            known = schema["properties"].get(name)
            found += [f"{path}.{name} is unknown"] if known is None else violations(known, part, f"{path}.{name}")
    return found


def test_the_schema_would_have_seen_a_wrong_status() -> None:
    schema = crd.root_schema(WorkflowRun)["properties"]["status"]
    wrong = {"phase": "Done", "steps": [{"name": "a"}], "extra": 1}
    assert violations(schema, wrong, "status") == [
        "status.phase is not one of ['Pending', 'Running', 'Succeeded', 'Failed']",
        "status.steps[0].phase is missing",
        "status.extra is unknown",
    ]
