"""What other tests stand on, and takes minutes to build: KEDA, Ollama and Traefik, each as it is and at work."""

from __future__ import annotations

import contextlib
import http.client
import json

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.ollama import MODELS
from tests.e2e.conftest import IMAGE, LOOKS, Terminal, post

pytestmark = [pytest.mark.timeout(300), pytest.mark.requirement("tests-on-real-parts")]
ROUTED = f"""
apiVersion: v1
kind: Pod
metadata: {{name: page, labels: {{app: page}}}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  securityContext: {{runAsNonRoot: true, runAsUser: 10001, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: page
      image: {IMAGE}
      command: [python3, -m, http.server, "8000"]
      workingDir: /tmp
      readinessProbe: {{tcpSocket: {{port: 8000}}, periodSeconds: 1}}
      securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: page}}
spec: {{selector: {{app: page}}, ports: [{{port: 8000}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: entry}}
spec:
  gatewayClassName: traefik
  listeners: [{{name: http, protocol: HTTP, port: 80}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: page}}
spec:
  parentRefs: [{{name: entry}}]
  hostnames: [page.example]
  rules: [{{backendRefs: [{{name: page, port: 8000}}]}}]
"""


def test_keda_serves_external_metrics(running_keda: Cluster) -> None:
    served: set[str] = set()
    for _ in range(4 * LOOKS):  # its server starts anew once it has its certificate
        with contextlib.suppress(OSError):
            told = running_keda.kubectl("get", "--raw", "/apis/external.metrics.k8s.io/v1beta1")
            served = {each["name"] for each in json.loads(told)["resources"]}
        if "externalmetrics" in served:
            break
        with contextlib.suppress(OSError):
            available = "--for=condition=Available"
            running_keda.kubectl("wait", "-n", "keda", available, "deployment/keda-metrics-apiserver", "--timeout=5s")
    assert "externalmetrics" in served


def test_ollama_completes_a_chat_with_either_name_of_its_model(running_ollama: str, terminal: Terminal) -> None:
    address = terminal.run("kubectl", "get", "service", "-n", "ollama", "ollama", "-o", "jsonpath={.spec.clusterIP}")
    for model in MODELS:
        question = {"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16}
        answer = post(f"http://{address}:11434/v1/chat/completions", question)
        assert answer["choices"][0]["message"]["content"]


def test_traefik_routes_as_an_httproute_says(running_traefik: Cluster, terminal: Terminal) -> None:
    terminal.kubectl("apply", "-f", "-", stdin=ROUTED)
    terminal.kubectl("wait", "--for=condition=Ready", "pod/page", "--timeout=60s")
    terminal.kubectl("wait", "--for=condition=Programmed", "gateway/entry", "--timeout=60s")
    accepted = '--for=jsonpath={.status.parents[0].conditions[?(@.type=="Accepted")].status}=True'
    terminal.kubectl("wait", accepted, "httproute/page", "--timeout=60s")
    address = terminal.run("kubectl", "get", "service", "-n", "traefik", "traefik", "-o", "jsonpath={.spec.clusterIP}")

    def status(host: str) -> int:
        connection = http.client.HTTPConnection(address, 80, timeout=10)
        connection.request("GET", "/", headers={"Host": host})
        try:
            return connection.getresponse().status
        finally:
            connection.close()

    # What is accepted is heeded a moment later.
    patient = ["curl", "--silent", "--fail", "--retry", "30", "--retry-delay", "1", "--retry-all-errors"]
    terminal.run(*patient, "--header", "Host: page.example", f"http://{address}/")
    assert (status("page.example"), status("other.example")) == (200, 404)
