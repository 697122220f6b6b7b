"""A real cluster with Kadre in it, installed by its chart, and what a person at a terminal does there."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.cluster import addons, images, programs
from tests.cluster import node as nodes
from tests.cluster import ollama as ollamas
from tests.cluster.cluster import Cluster
from tests.cluster.node import Node
from tests.cluster.processes import Process, free_ports
from tests.support import postgres

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "kadre"
INSTALLED = "kagent"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
THERE = os.environ.get("KADRE_TEST_KUBECONFIG")
"""A cluster to use in place of a node of our own; its nodes have, or can pull, KADRE_TEST_IMAGE."""
IMAGE = os.environ.get("KADRE_TEST_IMAGE") or images.KADRE
REPOSITORY, _, TAG = IMAGE.rpartition(":")

_BUNDLE = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
TRUST = f"configmap packages-ca --from-file=ca.crt={_BUNDLE}"
"""Package servers trust whom this machine does: a company's proxy signs for the index."""
VALUES = (
    *(f"image.repository={REPOSITORY}", f"image.tag={TAG}", "kaos.packages.caConfigMap=packages-ca"),
    *(f"kaos.images.litellm={images.LITELLM}", f"kaos.images.ollama={ollamas.IMAGE}"),
)
"""Of the chart, as `key=value`: what is elsewhere here than where people have it."""
LOOKS = 100
"""Each takes the time of a kubectl: half a minute in all."""
NEVER_RIGHT = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: itself}
spec: {model: {provider: scripted, name: script}, agents: [itself]}
"""


class Terminal:
    """A person's commands against the cluster, in a namespace of their own."""

    def __init__(self, kubeconfig: Path, namespace: str, folder: Path) -> None:
        self.namespace = namespace
        self._folder = folder
        self._env = os.environ | {"KUBECONFIG": str(kubeconfig)}

    def run(self, *words: str, stdin: str = "", seconds: float = 120, warnings: bool = False) -> str:
        """What a command prints, with its `warnings` too. Raises AssertionError with what it complains of."""
        done = subprocess.run(
            words, check=False, input=stdin, capture_output=True, text=True, timeout=seconds, env=self._env
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr.strip()}\n{done.stdout.strip()}"
        return done.stdout + done.stderr if warnings else done.stdout

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """`kubectl` in the namespace."""
        return self.run("kubectl", "-n", self.namespace, *words, stdin=stdin)

    def helm(self, *words: str) -> str:
        """`helm` in the namespace."""
        return self.run(str(programs.published("helm")), "-n", self.namespace, *words)

    def get(self, *words: str) -> dict[str, Any]:
        """`kubectl get … -o json`."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *words, "-o", "json"))
        return found

    @contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[str]:
        """`kubectl port-forward`: the address on this machine."""
        (local,) = free_ports(1)
        command = ["env", f"KUBECONFIG={self._env['KUBECONFIG']}", "kubectl", "-n", self.namespace]
        command += ["port-forward", target, f"{local}:{port}"]
        process = Process("port-forward", command, self._folder / f"port-forward-{local}.log")
        process.start()

        def listens() -> bool:
            socket.create_connection(("127.0.0.1", local), 1).close()
            return True

        try:
            process.until(listens, 20)
            yield f"http://127.0.0.1:{local}"
        finally:
            process.stop()


def scripted(name: str, script: str, port: int) -> str:
    """A model's API in the cluster, at a Service of that name: a program of Python alone."""
    return f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}}}
data: {{model.py: {json.dumps(script)}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  securityContext: {{runAsNonRoot: true, runAsUser: 10001, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: model
      image: {IMAGE}
      imagePullPolicy: IfNotPresent
      command: [python3, /script/model.py]
      readinessProbe: {{tcpSocket: {{port: {port}}}, periodSeconds: 1}}
      securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
      volumeMounts: [{{name: script, mountPath: /script}}]
  volumes: [{{name: script, configMap: {{name: {name}}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{port: {port}}}]}}
"""


def post(url: str, body: dict[str, Any], seconds: float = 60) -> dict[str, Any]:
    """What a door answers to JSON."""
    data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{url}: HTTP {error.code}: {error.read().decode()}") from error
    return found


def install(terminal: Terminal, *settings: str) -> None:
    """Install Kadre by its chart, in the terminal's namespace, or change what is installed. `settings`: `key=value`."""
    if not terminal.run("kubectl", "get", "namespace", terminal.namespace, "--ignore-not-found"):
        terminal.run("kubectl", "create", "namespace", terminal.namespace)
        terminal.run("kubectl", "label", "namespace", terminal.namespace, RESTRICTED)
    made = terminal.kubectl(*f"create {TRUST} --dry-run=client -o yaml".split())
    terminal.kubectl("apply", "--server-side", "-f", "-", stdin=made)
    chosen = [f"--set={each}" for each in (*VALUES, *settings)]
    terminal.helm("upgrade", "kagent", str(CHART), "--install", "--wait", *chosen)
    _until_admission(terminal)


def _until_admission(terminal: Terminal) -> None:
    """Wait until what can never become right is refused: the node learns of a Service after its pods are ready."""
    for _ in range(LOOKS):
        try:
            terminal.kubectl("create", "--dry-run=server", "-f", "-", stdin=NEVER_RIGHT)
        except AssertionError as refused:
            if "spec.agents[0]" in str(refused):
                return
            raise
    raise AssertionError(f"the webhook is not asked after {LOOKS} objects")


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node of our own, for what no other cluster lets us do."""
    started = Node(tmp_path_factory.mktemp("node"))
    try:
        started.start()
        addons.usual(started)
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="session")
def testbed(request: pytest.FixtureRequest) -> Cluster:
    """Where the tests happen."""
    if THERE:
        return Cluster(Path(THERE))
    found: Node = request.getfixturevalue("node")
    return found


@pytest.fixture(scope="session")
def cert_manager(request: pytest.FixtureRequest) -> None:
    """cert-manager; a cluster that is given to the tests has it."""
    if not THERE:
        addons.certificates(request.getfixturevalue("node"))


@pytest.fixture(scope="module")
def running_keda(testbed: Cluster) -> Iterator[Cluster]:
    """A cluster with KEDA in it, which the other tests' has not."""
    ours = addons.is_ours(testbed)
    if ours:
        addons.keda(testbed)
    yield testbed
    if ours:
        addons.without_keda(testbed)


@pytest.fixture(scope="session")
def running_ollama(testbed: Cluster) -> str:
    """Where Ollama is in the cluster; see `tests.cluster.ollama` for its image and its models."""
    if addons.is_ours(testbed):
        addons.ollamas(testbed)
    return "http://ollama.ollama:11434"


@pytest.fixture(scope="session")
def running_traefik(testbed: Cluster) -> Cluster:
    """A cluster with Traefik as its Gateway API, at the Service `traefik` of the namespace `traefik`."""
    if addons.is_ours(testbed):
        addons.traefik(testbed)
    return testbed


@pytest.fixture(scope="session")
def installed(testbed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """Kadre, installed as its chart does."""
    terminal = Terminal(testbed.kubeconfig, INSTALLED, tmp_path_factory.mktemp("terminal"))
    install(terminal)
    yield terminal
    if THERE:
        terminal.helm("uninstall", "kagent", "--wait")
        terminal.run("kubectl", "delete", "namespace", INSTALLED)


def _given(archive: Path) -> None:
    """Have the node of this machine have an image; a cluster that is given to the tests has it."""
    folder = nodes.running()
    if folder is not None:
        nodes.load(folder, archive)


@pytest.fixture(scope="session")
def litellm(testbed: Cluster) -> None:
    """LiteLLM's image."""
    _given(images.litellm())


@pytest.fixture
def beside(testbed: Cluster, request: pytest.FixtureRequest) -> str:
    """The address at which pods find what runs beside the cluster, on this machine."""
    if THERE and nodes.running() is None:
        request.getfixturevalue("node")  # which says why there is none
    server = yaml.safe_load(testbed.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    return urlsplit(server).hostname or ""


@pytest.fixture
def journal(beside: str) -> Iterator[str]:
    """Where a PostgreSQL server beside the cluster is."""
    with postgres.Cluster(beside) as cluster:
        yield cluster.dsn()


@pytest.fixture
def terminal(installed: Terminal, testbed: Cluster, tmp_path: Path) -> Iterator[Terminal]:
    """A namespace in which the restricted Pod Security Standard holds."""
    with a_team(testbed, tmp_path) as made:
        yield made


@pytest.fixture
def neighbour(installed: Terminal, testbed: Cluster, tmp_path: Path) -> Iterator[Terminal]:
    """Another one."""
    with a_team(testbed, tmp_path) as made:
        yield made


@contextmanager
def a_team(testbed: Cluster, folder: Path) -> Iterator[Terminal]:
    """A namespace of a team's, for as long as it is wanted."""
    made = Terminal(testbed.kubeconfig, f"team-{uuid.uuid4().hex[:8]}", folder)
    made.run("kubectl", "create", "namespace", made.namespace)
    made.run("kubectl", "label", "namespace", made.namespace, RESTRICTED)
    yield made
    made.run("kubectl", "delete", "namespace", made.namespace, "--wait=false")
