"""Faults caused on a real cluster: status tells of each, nothing is stuck or lost, and what can heal does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.conftest import IMAGE, Terminal, post
from tests.e2e.test_agents import MANIFEST, WRONG

CONTROLLER = "deployment/kagent-controller"
WEBHOOK = "service/kagent-webhook"
WEBHOOK_SECONDS = 5
"""That the API server waits for a webhook, of which there are two."""
pytestmark = [pytest.mark.timeout(300), pytest.mark.requirement("operator-faults")]

SILENT = f"""
apiVersion: v1
kind: Pod
metadata: {{name: silent, labels: {{app: silent}}}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  securityContext: {{runAsNonRoot: true, runAsUser: 10001, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: silent
      image: {IMAGE}
      imagePullPolicy: IfNotPresent
      command: [python3, -c, "import socket, time; s = socket.create_server(('', 9443)); time.sleep(600)"]
      readinessProbe: {{tcpSocket: {{port: 9443}}, periodSeconds: 1}}
      securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
"""
KEYED = """
apiVersion: kagent.dev/v1alpha1
kind: ModelConfig
metadata: {name: keyed}
spec: {provider: openai, model: m, endpoint: http://127.0.0.1:9, apiKeySecretRef: {name: the-key, key: token}}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: my-agent}
spec: {modelConfig: keyed, systemMessage: You help.}
"""


def says(terminal: Terminal, condition: str, reason: str, name: str = "my-agent", seconds: int = 60) -> str:
    """Wait until an agent's condition has that reason; its message."""
    path = f'{{.status.conditions[?(@.type=="{condition}")].reason}}'
    terminal.kubectl("wait", f"--for=jsonpath={path}={reason}", f"agent/{name}", f"--timeout={seconds}s")
    found = terminal.get("agent", name)["status"]["conditions"]
    return str(next(each["message"] for each in found if each["type"] == condition))


def ready(terminal: Terminal, name: str = "my-agent", seconds: int = 90) -> None:
    """Wait until an agent is ready and nothing more is on its way."""
    says(terminal, "Ready", "Available", name, seconds)


def pods(terminal: Terminal, name: str = "my-agent") -> dict[str, int]:
    """The pods of an agent by uid, with how often each was started anew."""
    found = terminal.get("pods", "-l", f"agent={name}")["items"]
    return {each["metadata"]["uid"]: each["status"]["containerStatuses"][0]["restartCount"] for each in found}


@contextmanager
def controllers(installed: Terminal, number: int) -> Iterator[None]:
    """So many replicas of the controller, and in the end one."""
    installed.kubectl("scale", CONTROLLER, f"--replicas={number}")
    try:
        if number:
            installed.kubectl("rollout", "status", CONTROLLER, "--timeout=90s")
        else:
            selector = "app.kubernetes.io/component=controller"
            installed.kubectl("wait", "--for=delete", "pod", "-l", selector, "--timeout=60s")
        yield
    finally:
        installed.kubectl("scale", CONTROLLER, "--replicas=1")
        installed.kubectl("rollout", "status", CONTROLLER, "--timeout=90s")


def test_while_the_webhook_is_down_objects_are_taken_and_every_check_is_made_later(
    installed: Terminal, terminal: Terminal
) -> None:
    with controllers(installed, 0):
        began = time.monotonic()
        terminal.kubectl("apply", "-f", "-", stdin=f"{MANIFEST}---{WRONG}")
        assert time.monotonic() - began < 3 * 2 * WEBHOOK_SECONDS  # three objects, two webhooks
    message = says(terminal, "Stalled", "InvalidRange", "wrong")
    assert "minReplicas 3 is more than maxReplicas 2" in message
    assert "spec.agents[0]" in message
    ready(terminal)


def test_a_webhook_that_hangs_holds_nobody_up_for_longer_than_its_time(installed: Terminal, terminal: Terminal) -> None:
    installed.kubectl("apply", "-f", "-", stdin=SILENT)
    installed.kubectl("wait", "--for=condition=Ready", "pod/silent", "--timeout=60s")
    service = installed.get(WEBHOOK)["spec"]
    # A merge patch: what is None goes.
    elsewhere = dict.fromkeys(service["selector"]) | {"app": "silent"}
    hanging = {"spec": {"selector": elsewhere, "ports": [{"port": 443, "targetPort": 9443, "name": "webhook"}]}}
    before = {"spec": {"selector": {"app": None} | service["selector"], "ports": service["ports"]}}
    took = 0.0
    with controllers(installed, 0):  # or a connection to a replica would be used again
        installed.kubectl("patch", WEBHOOK, "--type=merge", "-p", json.dumps(hanging))
        try:
            for number in range(10):  # until the node knows, nobody is there and nothing hangs
                began = time.monotonic()
                terminal.kubectl("apply", "-f", "-", stdin=WRONG.replace("wrong", f"wrong-{number}"))
                took = time.monotonic() - began
                if took > WEBHOOK_SECONDS:
                    break
        finally:
            installed.kubectl("patch", WEBHOOK, "--type=merge", "-p", json.dumps(before))
            installed.kubectl("delete", "pod", "silent")
    assert WEBHOOK_SECONDS < took < 3 * WEBHOOK_SECONDS
    says(terminal, "Stalled", "InvalidRange", "wrong-0")


def test_an_agent_that_no_node_has_room_for_says_so_and_comes_up_when_it_asks_for_less(terminal: Terminal) -> None:
    terminal.kubectl("apply", "-f", "-", stdin=MANIFEST + "  resources: {requests: {cpu: 1000}}\n")
    message = says(terminal, "Ready", "Unschedulable", seconds=30)
    assert "Insufficient cpu" in message
    assert "lower spec.resources" in message
    assert "Unschedulable" in terminal.kubectl("get", "agents", "-o", "wide")
    assert "Insufficient cpu" in terminal.kubectl("describe", "agent", "my-agent").rpartition("Events:")[2]
    terminal.kubectl("apply", "-f", "-", stdin=MANIFEST + "  resources: {requests: {cpu: 10m}}\n")
    ready(terminal)
    terminal.kubectl("rollout", "status", "deployment/my-agent", "--timeout=60s")


def test_an_agent_whose_container_ends_again_and_again_says_its_last_words(terminal: Terminal) -> None:
    terminal.kubectl("apply", "-f", "-", stdin=MANIFEST + "  env: [{name: PYTHONHOME, value: /nowhere}]\n")
    message = says(terminal, "Ready", "CrashLoopBackOff")
    assert "exit code 1" in message
    assert "its last words: " in message
    assert f"kubectl logs -n {terminal.namespace} my-agent-" in message
    terminal.kubectl("apply", "-f", "-", stdin=MANIFEST + "  env: []\n")
    ready(terminal)


def test_agents_go_on_though_the_new_image_cannot_be_pulled(installed: Terminal, terminal: Terminal) -> None:
    terminal.kubectl("apply", "-f", "-", stdin=MANIFEST)
    ready(terminal)
    before = pods(terminal)
    container = installed.get(CONTROLLER)["spec"]["template"]["spec"]["containers"][0]
    nowhere = [f"--agent-image={absent()}" if "--agent-image=" in each else each for each in container["args"]]
    patch = [{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": nowhere}]
    installed.kubectl("patch", CONTROLLER, "--type=json", "-p", json.dumps(patch))
    try:
        message = says(terminal, "Reconciling", "ImagePullBackOff", seconds=120)
        assert absent() in message
        assert "give the nodes access to its registry" in message
        terminal.kubectl("wait", "--for=condition=Ready", "agent/my-agent", "--timeout=1s")
        assert before.items() <= pods(terminal).items()
    finally:
        patch[0]["value"] = container["args"]
        installed.kubectl("patch", CONTROLLER, "--type=json", "-p", json.dumps(patch))
        installed.kubectl("rollout", "status", CONTROLLER, "--timeout=90s")
    ready(terminal)
    terminal.kubectl("rollout", "status", "deployment/my-agent", "--timeout=60s")
    assert before.items() <= pods(terminal).items()  # the pod that never came up may be on its way out still


def absent() -> str:
    """An image of a registry that nobody serves."""
    return "127.0.0.1:9/kadre:absent"


def test_a_secret_that_is_deleted_is_told_of_and_comes_back_without_a_new_pod(terminal: Terminal) -> None:
    secret = ["create", "secret", "generic", "the-key", "--from-literal=token=xyz"]
    terminal.kubectl(*secret)
    terminal.kubectl("apply", "-f", "-", stdin=KEYED)
    ready(terminal)
    before = pods(terminal)
    terminal.kubectl("delete", "secret", "the-key")
    message = says(terminal, "ModelResolved", "MissingSecret", seconds=15)
    assert "the-key" in message
    assert "kubectl create secret generic the-key" in message
    terminal.kubectl("wait", "--for=condition=Ready=False", "agent/my-agent", "--timeout=15s")
    terminal.kubectl(*secret)
    says(terminal, "ModelResolved", "Resolved", seconds=15)
    ready(terminal, seconds=15)
    assert pods(terminal) == before


def test_an_agent_whose_pod_is_killed_is_back_soon(terminal: Terminal) -> None:
    terminal.kubectl("apply", "-f", "-", stdin=MANIFEST)
    ready(terminal)
    before = pods(terminal)
    terminal.kubectl("delete", "pod", "-l", "agent=my-agent", "--force", "--grace-period=0")
    terminal.kubectl("rollout", "status", "deployment/my-agent", "--timeout=60s")
    ready(terminal)
    assert not before.keys() & pods(terminal).keys()
    with terminal.forwarded("svc/my-agent", 8080) as url:
        assert post(f"{url}/chat", {"message": "Hello"})["response"]


def test_a_standby_takes_over_from_a_leader_that_is_killed_at_its_work(installed: Terminal, terminal: Terminal) -> None:
    with controllers(installed, 2):
        lease = installed.get("lease", "kadre-controller")["spec"]
        leader = lease["holderIdentity"].rpartition("_")[0]
        replicas = {each["metadata"]["name"] for each in of_controller(installed)}
        (standby,) = replicas - {leader}
        agents = [MANIFEST.replace("my-agent", f"agent-{number}") for number in range(8)]
        terminal.kubectl("apply", "-f", "-", stdin="\n---\n".join(agents))
        installed.kubectl("delete", "pod", leader, "--force", "--grace-period=0")
        terminal.kubectl("wait", "--for=condition=Ready", "agents.kagent.dev", "--all", "--timeout=180s")
        after = installed.get("lease", "kadre-controller")["spec"]
        assert after["holderIdentity"].rpartition("_")[0] == standby
        assert after["leaseTransitions"] == lease["leaseTransitions"] + 1
        assert [each["status"]["readyReplicas"] for each in terminal.get("deployments")["items"]] == [1] * 8


def of_controller(installed: Terminal) -> list[dict[str, dict[str, str]]]:
    """The controller's pods."""
    found: list[dict[str, dict[str, str]]] = installed.get("pods", "-l", "app.kubernetes.io/component=controller")[
        "items"
    ]
    return found
