"""A real cluster with Kadre in it, installed by its chart, and what a person at a terminal does there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import addons, images, programs
from tests.cluster.cluster import Cluster
from tests.cluster.node import Node
from tests.cluster.processes import Process, free_ports

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "kadre"
INSTALLED = "kagent"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
THERE = os.environ.get("KADRE_TEST_KUBECONFIG")
"""A cluster to use in place of a node of our own; its nodes have, or can pull, KADRE_TEST_IMAGE."""
IMAGE = os.environ.get("KADRE_TEST_IMAGE") or images.KADRE
REPOSITORY, _, TAG = IMAGE.rpartition(":")

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
    values = (f"image.repository={REPOSITORY}", f"image.tag={TAG}", *settings)
    chosen = [f"--set={each}" for each in values]
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


@pytest.fixture(scope="session")
def installed(testbed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """Kadre, installed as its chart does."""
    terminal = Terminal(testbed.kubeconfig, INSTALLED, tmp_path_factory.mktemp("terminal"))
    install(terminal)
    yield terminal
    if THERE:
        terminal.helm("uninstall", "kagent", "--wait")
        terminal.run("kubectl", "delete", "namespace", INSTALLED)


@pytest.fixture
def terminal(installed: Terminal, testbed: Cluster, tmp_path: Path) -> Iterator[Terminal]:
    """A namespace in which the restricted Pod Security Standard holds."""
    made = Terminal(testbed.kubeconfig, f"team-{uuid.uuid4().hex[:8]}", tmp_path)
    made.run("kubectl", "create", "namespace", made.namespace)
    made.run("kubectl", "label", "namespace", made.namespace, RESTRICTED)
    yield made
    made.run("kubectl", "delete", "namespace", made.namespace, "--wait=false")
