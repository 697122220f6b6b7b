"""What the documents take for granted: the world outside the cluster, and a repository that offers the chart."""

from __future__ import annotations

import functools
import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import addons, programs
from tests.cluster.cluster import Cluster
from tests.cluster.node import Node
from tests.e2e.conftest import CHART, IMAGE
from tests.support.redis import RedisServer

OPENAI = "http://openai.outside.svc:8080/v1"
"""Where OpenAI is in the test cluster."""
PLACE = """
---
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{ports: [{{port: {port}, targetPort: {here}}}]}}
---
apiVersion: v1
kind: Endpoints
metadata: {{name: {name}, namespace: {namespace}}}
subsets: [{{addresses: [{{ip: {address}}}], ports: [{{port: {here}}}]}}]
"""
"""A server beside the cluster, by a name in it: there at `port`, at this machine's `address` at port `here`."""
SCRIPT = Path(__file__).parent / "openai.py"


def models(testbed: Cluster, namespace: str, name: str, port: int) -> None:
    """Have a model's API in the cluster."""
    manifest = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}, namespace: {namespace}}}
data: {{openai.py: {json.dumps(SCRIPT.read_text())}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: api
      image: {IMAGE}
      command: [python3, /script/openai.py, "{port}"]
      readinessProbe: {{tcpSocket: {{port: {port}}}, periodSeconds: 1}}
      volumeMounts: [{{name: script, mountPath: /script}}]
  volumes: [{{name: script, configMap: {{name: {name}}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{app: {name}}}, ports: [{{port: {port}}}]}}
"""
    testbed.kubectl("apply", "-f", "-", stdin=manifest)
    testbed.kubectl("wait", "-n", namespace, "--for=condition=Ready", f"pod/{name}", "--timeout=60s")


@pytest.fixture(scope="session")
def outside(testbed: Cluster) -> str:
    """The address of OpenAI's API in the cluster."""
    models(testbed, "outside", "openai", 8080)
    return OPENAI


@pytest.fixture(scope="session")
def redis(testbed: Cluster, node: Node) -> Iterator[None]:
    """The Redis server that documents 001 and 003 name, beside the cluster: it takes any password, and none."""
    with RedisServer(address=node.address) as server:
        place = {"name": "redis-master", "namespace": "ai-data", "address": node.address}
        testbed.kubectl("apply", "-f", "-", stdin=PLACE.format(**place, port=6379, here=server.port))
        yield


@pytest.fixture(scope="session")
def neighbours(testbed: Cluster) -> None:
    """The kinds of the Prometheus operator, External Secrets and the Gateway API: nobody acts on their objects."""
    addons.crds(testbed, "prometheus-operator")
    addons.crds(testbed, "external-secrets")
    addons.crds(testbed, "gateway-api")


@contextmanager
def repository(folder: Path) -> Iterator[str]:
    """A repository of charts with ours in it, while it is served: its address."""
    helm = programs.published("helm")
    subprocess.run([helm, "package", CHART, "--destination", folder], check=True, capture_output=True)
    subprocess.run([helm, "repo", "index", folder], check=True, capture_output=True)
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""
