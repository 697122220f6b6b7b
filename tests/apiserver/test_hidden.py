"""Secret values stay in Secrets: no object, no Event, no status and no line of the controller's log has one."""

from __future__ import annotations

import base64
import json
import logging

import pytest

from kadre.kube import kinds
from kadre.kube.client import Scope
from kadre.kube.kinds import Kind
from kadre.operator.controller import Operator
from tests.apiserver.conftest import AGENT, OURS, World, is_true
from tests.apiserver.test_faults import idle

PLANTED = "sk-planted-"
OBJECTS = (
    *("CONFIG_MAP", "EVENT", "DEPLOYMENT", "REPLICA_SET", "SERVICE", "SERVICE_ACCOUNT", "AUTOSCALER", "POD"),
    *("DISRUPTION_BUDGET", "NETWORK_POLICY"),
)
EVERYWHERE = """
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData:
  model: sk-planted-model
  env: sk-planted-env
  header: sk-planted-header
  memory: sk-planted-memory
  tracing: sk-planted-tracing
  api: sk-planted-api
  vectors: sk-planted-vectors
  embedding: sk-planted-embedding
---
apiVersion: kagent.dev/v1alpha1
kind: ModelConfig
metadata: {name: small}
spec: {provider: openai, model: m, apiKeySecretRef: {name: keys, key: model}}
---
apiVersion: kagent.dev/v1alpha1
kind: MemoryStore
metadata: {name: store}
spec: {type: redis, redis: {host: redis, auth: {secretRef: {name: keys, passwordKey: memory}}}}
---
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {name: orders}
spec:
  type: api
  api: {endpoint: "http://orders", authentication: {type: bearer, secretRef: {name: keys, key: api}}}
---
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {name: knowledge}
spec:
  type: retrieval
  retrieval:
    vectorStore: {type: milvus, host: milvus, collection: pages, secretRef: {name: keys, key: vectors}}
    embedding: {provider: openai, model: e, apiKeySecretRef: {name: keys, key: embedding}}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: helper}
spec:
  modelConfig: small
  memory: {storeRef: store}
  tools:
    - orders
    - knowledge
    - {name: pay, endpoint: "http://pay", secretHeaders: {Authorization: {name: keys, key: header}}}
  env:
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: env}}}
  observability: {tracing: {enabled: true, provider: langfuse, secretRef: {name: keys, key: tracing}}}
  scaling: {minReplicas: 2, maxReplicas: 3}
  networkPolicy: {enabled: true}
"""
WITHOUT_A_KEY = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: helper}
spec: {modelConfig: small, env: [{name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: none}}}]}
"""


async def found(world: World, spellings: list[str]) -> list[str]:
    """Objects of the namespace, but for Secrets, that have one of these texts."""
    known: list[Kind] = [*(getattr(kinds, name) for name in OBJECTS), *OURS.values()]
    told, looked = [], 0
    for kind in known:
        for obj in (await world.client.list(kind, Scope(world.namespace))).items:
            looked += 1
            if any(spelling in json.dumps(obj) for spelling in spellings):
                told.append(f"{kind.kind} {obj['metadata']['name']}")
    assert looked > len(OURS)
    return told


@pytest.mark.requirement("secrets-hidden")
async def test_no_secret_value_is_anywhere_but_in_its_secret(
    world: World, operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    spellings = [PLANTED, base64.b64encode(PLANTED.encode()).decode().rstrip("=")[:-1]]
    await world.apply(EVERYWHERE)
    await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)
    await world.when(AGENT, "helper", lambda obj: is_true(obj, "EnvironmentResolved") and not is_true(obj, "Stalled"))
    assert await found(world, spellings) == []
    await world.apply(WITHOUT_A_KEY)
    await world.condition(AGENT, "helper", "EnvironmentResolved", "MissingSecretKey")
    await world.client.delete(kinds.SECRET, world.namespace, "keys")
    await world.condition(AGENT, "helper", "ModelResolved", "MissingSecret")
    await idle(operator)
    assert await found(world, spellings) == []
    assert [line for line in caplog.text.splitlines() if any(spelling in line for spelling in spellings)] == []
