"""Installing, uninstalling, and installing anew somewhere else; what a second controller meets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.e2e.conftest import CHART, REPOSITORY, TAG, Terminal, install

IMAGE = ("--set", f"image.repository={REPOSITORY}", "--set", f"image.tag={TAG}")
AGENT = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: moved}
spec: {model: {provider: scripted, name: script}}
"""
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def elsewhere(installed: Terminal, testbed: Cluster, tmp_path: Path) -> Iterator[Terminal]:
    """Another namespace; afterwards the installation is where all tests expect it."""
    made = Terminal(testbed.kubeconfig, "kaos-system", tmp_path)
    yield made
    made.helm("uninstall", "kaos-operator", "--wait", "--ignore-not-found")
    made.run("kubectl", "delete", "namespace", made.namespace, "--ignore-not-found", "--wait=false")
    install(installed)


@pytest.mark.requirement("chart-install", "operator-health")
def test_the_installation_is_tested_by_helm(installed: Terminal) -> None:
    assert "Phase:          Succeeded" in installed.helm("test", "kagent")


@pytest.mark.requirement("kaos-operator-chart", "one-controller", "chart-example-agents")
def test_a_second_controller_is_refused_until_the_first_has_gone(
    installed: Terminal, elsewhere: Terminal, terminal: Terminal
) -> None:
    ours = ("install", "kaos-operator", str(CHART), "--create-namespace", "--wait", *IMAGE)
    with pytest.raises(AssertionError, match="a controller is at work in namespace kagent"):
        elsewhere.helm(*ours)
    elsewhere.helm("uninstall", "kaos-operator", "--wait")
    terminal.kubectl("apply", "-f", "-", stdin=AGENT)
    terminal.kubectl("wait", "--for=condition=Ready", "agent/moved", "--timeout=60s")
    before = terminal.get("deployment/moved")["metadata"]["uid"]
    installed.helm("uninstall", "kagent", "--wait")
    assert "agents.kagent.dev" in terminal.run("kubectl", "get", "crds")
    assert terminal.get("agent/moved")["metadata"]["name"] == "moved"
    elsewhere.helm(*ours, "--set", "agents.qwen3-8b.enabled=true")
    elsewhere.kubectl("wait", "--for=condition=Ready", "agent/qwen3-8b", "--timeout=60s")
    terminal.kubectl("delete", "service/moved")
    terminal.kubectl("wait", "--for=create", "service/moved", "--timeout=60s")  # by the new controller
    assert terminal.get("deployment/moved")["metadata"]["uid"] == before
    elsewhere.helm("uninstall", "kaos-operator", "--wait")
    elsewhere.kubectl("wait", "--for=delete", "deployment/qwen3-8b", "--timeout=60s")  # its agent came with the release


@pytest.mark.requirement("plain-manifests")
def test_the_plain_manifests_install_the_same_without_helm(
    installed: Terminal, elsewhere: Terminal, terminal: Terminal
) -> None:
    installed.helm("uninstall", "kagent", "--wait")
    command = (sys.executable, "-m", "kadre", "manifests", "--namespace", elsewhere.namespace)
    plain = elsewhere.run(*command, "--image", f"{REPOSITORY}:{TAG}")
    elsewhere.run("kubectl", "apply", "-f", "-", stdin=plain)
    try:
        elsewhere.kubectl("rollout", "status", "deployment/kagent-controller", "--timeout=90s")
        terminal.kubectl("apply", "-f", "-", stdin=AGENT)
        terminal.kubectl("wait", "--for=condition=Ready", "agent/moved", "--timeout=90s")
    finally:
        elsewhere.run("kubectl", "delete", "-f", "-", stdin=plain)


@pytest.mark.requirement("kaos-install")
def test_kaos_installs_and_takes_away_what_it_has_installed(
    installed: Terminal, elsewhere: Terminal, terminal: Terminal
) -> None:
    kaos = (sys.executable, "-c", "from kadre.cli.kaos import main; main()")
    with pytest.raises(AssertionError, match="a controller is at work in namespace kagent"):
        elsewhere.run(*kaos, "install", "--image", f"{REPOSITORY}:{TAG}")
    with pytest.raises(AssertionError, match="Helm has installed this in namespace kagent"):
        elsewhere.run(*kaos, "install", "-n", "kagent")
    installed.helm("uninstall", "kagent", "--wait")
    done = elsewhere.run(*kaos, "install", "--image", f"{REPOSITORY}:{TAG}", seconds=240, warnings=True)
    assert "waiting for deployment/kagent-controller" in done
    terminal.kubectl("apply", "-f", "-", stdin=AGENT)
    terminal.kubectl("wait", "--for=condition=Ready", "agent/moved", "--timeout=60s")
    elsewhere.run(*kaos, "install", "--image", f"{REPOSITORY}:{TAG}", seconds=240)  # once more: as it is
    with pytest.raises(AssertionError, match="no web page"):
        elsewhere.run(*kaos, "ui")
    elsewhere.run(*kaos, "uninstall")
    elsewhere.kubectl("wait", "--for=delete", "deployment/kagent-controller", "--timeout=60s")
    assert terminal.get("agent/moved")["metadata"]["name"] == "moved"
    assert elsewhere.kubectl("get", "deployments,services,roles", "-o", "name") == ""
