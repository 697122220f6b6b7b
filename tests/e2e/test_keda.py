"""KEDA scales agents: from none for a message that waits, by what Prometheus counts, and no more once it is gone."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cluster import addons
from tests.cluster.cluster import Cluster
from tests.e2e.calling import gateways
from tests.e2e.conftest import Terminal, post
from tests.e2e.test_agents import MANIFEST
from tests.e2e.test_gateway import AGENT, COUNTING

pytestmark = pytest.mark.timeout(400)
ASLEEP = """  scaling:
    minReplicas: 0
    maxReplicas: 2
    metrics: [{type: cpu, target: {averageUtilization: 70}}]
    keda: {enabled: true, pollingInterval: 2, cooldownPeriod: 1}
"""
# As document 003 has it, at a threshold of its own: neither where Prometheus is, nor what to ask it.
COUNTED = """  scaling:
    minReplicas: 0
    maxReplicas: 3
    metrics: [{type: cpu, target: {averageUtilization: 70}}]
    behavior: {scaleDown: {stabilizationWindowSeconds: 0}}
    keda:
      enabled: true
      pollingInterval: 2
      cooldownPeriod: 5
      triggers: [{type: prometheus, metadata: {metricName: agent_active_sessions, threshold: "1"}}]
"""


BY_THE_CLOCK = """  scaling:
    minReplicas: 0
    maxReplicas: 2
    keda:
      enabled: true
      pollingInterval: 2
      cooldownPeriod: 1
      triggers: [{type: cron, metadata: {timezone: UTC, start: "START", end: "END", desiredReplicas: "2"}}]
"""
COUNTERS = """
---
apiVersion: v1
kind: Service
metadata: {name: counters}
spec: {clusterIP: None, selector: {app: counter}}
"""


@pytest.fixture(scope="module")
def scaled(running_keda: Cluster, installed: Terminal) -> Terminal:
    """Where Kadre is installed beside KEDA. The gateway has seen that it is there."""
    for name in gateways(installed):
        installed.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    return installed


def replicas(terminal: Terminal, agent: str, count: int) -> None:
    """Wait until the agent's Deployment is to have so many pods."""
    at = f"--for=jsonpath={{.spec.replicas}}={count}"
    terminal.kubectl("wait", at, f"deployment/{agent}", "--timeout=90s")


def asleep(terminal: Terminal, agent: str) -> None:
    """Wait until it has none, and says so."""
    replicas(terminal, agent, 0)
    zero = '--for=jsonpath={.status.conditions[?(@.type=="Ready")].reason}=ScaledToZero'
    terminal.kubectl("wait", zero, f"agent/{agent}", "--timeout=60s")


def answered(installed: Terminal, pod: str, agent: str, message: str) -> Any:
    """What the agent answers by way of that pod of the gateway."""
    with installed.forwarded(f"pod/{pod}", 8080) as url:
        return post(f"{url}/agents/{agent}/chat", {"message": message}, seconds=130)["response"]


@pytest.mark.requirement("scale-from-zero", "operator-keda")
def test_a_message_for_an_agent_without_pods_is_answered_whichever_replica_holds_it(
    scaled: Terminal, terminal: Terminal
) -> None:
    terminal.kubectl("apply", "-f", "-", stdin=MANIFEST + ASLEEP)
    assert len(gateways(scaled)) == 2
    for pod in gateways(scaled):
        asleep(terminal, "my-agent")
        assert answered(scaled, pod, f"{terminal.namespace}/my-agent", "Hello")
    asleep(terminal, "my-agent")
    triggers = terminal.get("scaledobject", "my-agent")["spec"]["triggers"]
    assert [each["type"] for each in triggers] == ["cpu", "external-push"]


@pytest.mark.requirement("scale-from-zero")
def test_a_message_for_which_no_pod_comes_is_refused_after_two_minutes(scaled: Terminal, terminal: Terminal) -> None:
    terminal.kubectl("apply", "-f", "-", stdin=MANIFEST + ASLEEP)
    asleep(terminal, "my-agent")
    terminal.kubectl("annotate", "scaledobject", "my-agent", "autoscaling.keda.sh/paused=true")
    (pod, *_) = gateways(scaled)
    began = time.monotonic()
    with scaled.forwarded(f"pod/{pod}", 8080) as url:
        request = urllib.request.Request(
            f"{url}/agents/{terminal.namespace}/my-agent/chat",
            b'{"message": "Hello"}',
            {"Content-Type": "application/json"},
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=150)
    with refused.value as answer:
        assert (answer.code, answer.headers["Retry-After"]) == (503, "5")
    assert 110 < time.monotonic() - began < 140


@pytest.mark.requirement("operator-keda", "scaling-strategies")
def test_sessions_that_prometheus_counts_scale_an_agent_up_and_back_to_none(
    scaled: Terminal, terminal: Terminal, testbed: Cluster
) -> None:
    addons.prometheus(testbed, f"counters.{terminal.namespace}.svc.cluster.local")
    terminal.kubectl("apply", "-f", "-", stdin=COUNTING + COUNTERS)
    terminal.kubectl("wait", "--for=condition=Ready", "pod/counting", "--timeout=60s")
    terminal.kubectl("apply", "-f", "-", stdin=AGENT.format(message="Count.") + COUNTED)
    asleep(terminal, "counter")
    (pod, *_) = gateways(scaled)
    agent = f"{terminal.namespace}/counter"
    with ThreadPoolExecutor(3) as people:
        asking = [people.submit(answered, scaled, pod, agent, "count 400") for _ in range(3)]
        replicas(terminal, "counter", 3)
        assert all(each.result().startswith("1 2 3 ") for each in asking)
    asleep(terminal, "counter")


def between(start: int, end: int) -> str:
    """Two pods from so many minutes from now to so many, every day."""
    now = datetime.now(UTC)
    first, last = (now + timedelta(minutes=each) for each in (start, end))
    return BY_THE_CLOCK.replace("START", f"{first:%M %H * * *}").replace("END", f"{last:%M %H * * *}")


@pytest.mark.requirement("operator-keda")
def test_an_agent_has_pods_by_the_clock_and_none_at_other_times(scaled: Terminal, terminal: Terminal) -> None:
    terminal.kubectl("apply", "-f", "-", stdin=MANIFEST + between(-5, 60))
    replicas(terminal, "my-agent", 2)
    terminal.kubectl("apply", "-f", "-", stdin=MANIFEST + between(60, 90))
    asleep(terminal, "my-agent")


@pytest.mark.needs("own-cluster")
@pytest.mark.requirement("operator-keda")
def test_without_keda_an_autoscaler_follows_the_rest_and_it_is_said(
    scaled: Terminal, terminal: Terminal, testbed: Cluster
) -> None:
    terminal.kubectl("apply", "-f", "-", stdin=MANIFEST + ASLEEP)
    asleep(terminal, "my-agent")
    addons.stop_keda(testbed)
    told = '--for=jsonpath={.status.conditions[?(@.type=="Scalable")].reason}=MissingKeda'
    terminal.kubectl("wait", told, "agent/my-agent", "--timeout=90s")
    terminal.kubectl("wait", "--for=condition=Ready", "agent/my-agent", "--timeout=60s")
    assert terminal.get("hpa", "my-agent")["spec"]["minReplicas"] == 1
