"""An autoscaler that really scales: more pods under load, fewer after it."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.conftest import Terminal
from tests.e2e.test_agents import MANIFEST

# A quarter of what a pod has for certain: it is above it though all of the machine is wanted by others.
SCALING = """  resources:
    requests: {cpu: 100m, memory: 96Mi}
  healthCheck: {enabled: true, periodSeconds: 60}
  scaling: {minReplicas: 1, maxReplicas: 3, targetCPUUtilization: 25}
"""
pytestmark = pytest.mark.timeout(400)


@contextmanager
def load(address: str) -> Iterator[None]:
    """Requests one after the other, over one connection, until the end."""
    stop = threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection(address, 8080, timeout=5)
        while not stop.is_set():
            try:
                connection.request("GET", "/health")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()
        connection.close()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        stop.set()
        asking.join()


@pytest.mark.requirement("operator-hpa")
def test_an_agent_has_more_pods_under_load_and_fewer_after_it(terminal: Terminal) -> None:
    terminal.kubectl("apply", "-f", "-", stdin=MANIFEST + SCALING)
    terminal.kubectl("wait", "--for=condition=Ready", "agent/my-agent", "--timeout=60s")
    address = terminal.get("service", "my-agent")["spec"]["clusterIP"]
    with load(address):
        terminal.kubectl("wait", "--for=jsonpath={.status.replicas}=3", "agent/my-agent", "--timeout=120s")
    terminal.kubectl("wait", "--for=jsonpath={.status.replicas}=1", "agent/my-agent", "--timeout=180s")
    terminal.kubectl("wait", "--for=condition=Ready", "agent/my-agent", "--timeout=60s")
