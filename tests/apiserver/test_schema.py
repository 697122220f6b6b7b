"""Bad manifests through kubectl: the schema refuses what a schema can say, the webhook the rest, each naming the field.

The schema comes first in a cluster. So each of the webhook's rows is also applied where nobody asks the webhook, and
taken there: nothing is left to it that the schema says already.
"""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import yaml

from tests.apiserver.conftest import World
from tests.apiserver.test_webhook import asking
from tests.cluster.control_plane import ControlPlane

BY_SCHEMA = [
    # Types
    ("Agent", "{modelConfig: 5}", "spec.modelConfig", 'must be of type string: "integer"'),
    ("Agent", '{maxSteps: "ten"}', "spec.maxSteps", 'must be of type integer: "string"'),
    ("Agent", "{tools: mcp}", "spec.tools", 'must be of type array: "string"'),
    ("Agent", "{env: [{name: x, value: 5}]}", "spec.env[0].value", 'must be of type string: "integer"'),
    ("Agent", "{resources: {limits: {cpu: {}}}}", "spec.resources.limits.cpu", "must be of type integer,string"),
    ("Workflow", "{steps: first}", "spec.steps", 'must be of type array: "string"'),
    # The only words there are
    ("Agent", "{onBusy: wait}", "spec.onBusy", 'supported values: "queue", "reject", "interrupt"'),
    (
        "Agent",
        "{memory: {type: mongo}}",
        "spec.memory.type",
        '"redis", "postgres", "postgresql", "in-memory"',
    ),
    ("Agent", "{model: {provider: mistral}}", "spec.model.provider", '"openai", "anthropic", "bedrock"'),
    ("Agent", "{runtime: {mode: Shared}}", "spec.runtime.mode", '"Dedicated", "Pooled"'),
    ("Agent", "{scaling: {metrics: [{type: disk}]}}", "spec.scaling.metrics[0].type", '"cpu", "memory"'),
    ("Agent", "{observability: {tracing: {provider: x}}}", "spec.observability.tracing.provider", '"langfuse"'),
    ("Tool", "{type: shell}", "spec.type", 'supported values: "api", "retrieval", "code", "human", "mcp"'),
    ("Tool", "{type: api, api: {endpoint: 'http://x', method: FETCH}}", "spec.api.method", '"GET", "POST"'),
    ("MemoryStore", "{type: mongo}", "spec.type", '"redis", "postgres"'),
    # Bounds
    ("Agent", "{maxSteps: 0}", "spec.maxSteps", "should be greater than or equal to 1"),
    ("Agent", "{replicas: -1}", "spec.replicas", "should be greater than or equal to 0"),
    ("Agent", "{scaling: {maxReplicas: 0}}", "spec.scaling.maxReplicas", "should be greater than or equal to 1"),
    ("Agent", "{observability: {metrics: {port: 70000}}}", "spec.observability.metrics.port", "equal to 65535"),
    ("Agent", "{observability: {tracing: {sampleRate: 2}}}", "spec.observability.tracing.sampleRate", "equal to 1"),
    ("Agent", "{model: {temperature: 3}}", "spec.model.temperature", "should be less than or equal to 2"),
    ("AgentTemplate", "{maxToolCalls: -1}", "spec.maxToolCalls", "should be greater than or equal to 0"),
    ("ModelConfig", "{provider: openai, model: m, topP: 1.5}", "spec.topP", "should be less than or equal to 1"),
    # What must be written
    ("Agent", "{env: [{value: x}]}", "spec.env[0].name", "Required value"),
    ("ModelConfig", "{provider: openai}", "spec.model", "Required value"),
    ("ModelConfig", "{provider: openai, model: m, apiKeySecretRef: {name: x}}", "spec.apiKeySecretRef.key", "Required"),
    ("Tool", "{type: api, api: {}}", "spec.api.endpoint", "Required value"),
    ("Workflow", "{}", "spec.steps", "Required value"),
    ("WorkflowRun", "{}", "spec.workflowRef", "Required value"),
    # Fields there are not
    ("Agent", "{systemMesage: x}", "spec.systemMesage", "unknown field"),
    ("Agent", "{scaling: {minimum: 1}}", "spec.scaling.minimum", "unknown field"),
]
"""Kind, spec, the field that kubectl names, and words of its message."""
BY_WEBHOOK = [
    ("Agent", "{agents: [it]}", ["spec.agents[0]: it can't hand work to itself (remove it from the list)"]),
    ("AgentTemplate", "{templateRef: it}", ["spec.templateRef: it can't be its own template (name another"]),
    ("Agent", "{systemPrompt: a, systemMessage: b}", ["spec.systemPrompt: systemPrompt and systemMessage are both"]),
    ("Agent", "{scaling: {minReplicas: 3, maxReplicas: 2}}", ["spec.scaling.minReplicas: minReplicas 3 is more than"]),
    ("Agent", "{scaling: {minReplicas: 0}}", ["spec.scaling.minReplicas: only KEDA can scale to zero (write"]),
    ("Agent", "{scaling: {metrics: [{type: Pods}]}}", ["spec.scaling.metrics[0]: a metric of type Pods needs its"]),
    ("Agent", "{memory: {type: redis}}", ["spec.memory.config: memory of type redis needs the server's address (add"]),
    ("Agent", "{memory: {storeRef: s, type: redis}}", ["spec.memory.storeRef: memory names a MemoryStore and"]),
    ("Agent", "{runtime: {mode: Dedicated, pool: p}}", ["spec.runtime.pool: a Dedicated agent has no pool (write"]),
    ("Agent", "{resources: {requests: {cpu: lots}}}", ["spec.resources.requests.cpu: expected a quantity such as"]),
    ("Agent", "{timeout: soon}", ["spec.timeout: expected a duration such as 30s, 5m or 1h30m, got 'soon'"]),
    ("Agent", "{tools: [{name: 5}]}", ["spec.tools[0].name: expected a text, got a number (put it in quotes)"]),
    ("Agent", "{model: {endpoint: not a url}}", ["spec.model.endpoint: the URL has a space or a line break in it"]),
    ("Tool", "{type: api}", ["spec: a tool of type api needs the section api (add api:)"]),
    ("MemoryStore", "{type: redis}", ["spec: a store of type redis needs the section redis (add redis:)"]),
    ("Workflow", "{steps: [{name: a, agent: x, dependsOn: [c]}]}", ["spec.steps[0].dependsOn[0]: there is no step c"]),
    (
        "Agent",
        "{env: [{name: X, value: a}, {name: X, value: b}], agents: [b, b], scaling: {minReplicas: 3, maxReplicas: 2}}",
        [
            "3 things are wrong:",
            "- spec.env[1].name: the environment variable X is set twice (keep one of the two)",
            "- spec.agents[1]: the agent b is listed twice (keep one of the two)",
            "- spec.scaling.minReplicas: minReplicas 3 is more than maxReplicas 2 (exchange them, or raise",
        ],
    ),
]
"""Kind, spec, and what is told of every field: of several things that are wrong all at once."""
ASKED = 'admission webhook "validate.kagent.dev" denied the request'


def applied(kubeconfig: Path, namespace: str, kind: str, spec: str) -> tuple[bool, str]:
    """Whether `kubectl apply` succeeds, and what it prints."""
    metadata = {"name": "it", "namespace": namespace}
    obj = {"apiVersion": "kagent.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": yaml.safe_load(spec)}
    command = ["kubectl", f"--kubeconfig={kubeconfig}", "apply", "--dry-run=server", "-f", "-"]
    done = subprocess.run(command, check=False, input=yaml.dump(obj), capture_output=True, text=True, timeout=30)
    return done.returncode == 0, done.stdout + done.stderr


@pytest.mark.requirement("schema-refuses")
@pytest.mark.parametrize(("kind", "spec", "field", "words"), BY_SCHEMA, ids=[row[2] for row in BY_SCHEMA])
def test_the_schema_refuses_what_it_can_say(api: ControlPlane, kind: str, spec: str, field: str, words: str) -> None:
    taken, said = applied(api.kubeconfig, "default", kind, spec)
    assert not taken
    assert ASKED not in said
    assert field in said
    assert words in said


@pytest.mark.requirement("webhook-validates")
@pytest.mark.timeout(120)
async def test_the_webhook_refuses_the_rest_with_field_and_fix_and_everything_at_once(world: World) -> None:
    config = world.plane.kubeconfig
    async with AsyncExitStack() as stack:
        hooked = await stack.enter_async_context(asking(world))
        await hooked.serve(stack, hooked.shared())
        await hooked.asked()
        for kind, spec, words in BY_WEBHOOK:
            taken, said = await asyncio.to_thread(applied, config, world.namespace, kind, spec)
            assert not taken, (kind, spec)
            assert ASKED in said
            assert [part for part in words if part not in said] == [], said
            taken, said = await asyncio.to_thread(applied, config, "default", kind, spec)
            assert taken, said
