"""What a cluster usually has besides Kubernetes, as pods of the test cluster."""

from __future__ import annotations

from pathlib import Path

from tests.cluster import images
from tests.cluster.node import Node

MANIFESTS = Path(__file__).parent / "manifests"
PROGRAMS = ("coredns", "metrics-server")


def names(node: Node) -> None:
    """CoreDNS: Services by name."""
    _install(node, "coredns", "deployment/coredns")


def metrics(node: Node) -> None:
    """metrics-server: what autoscalers scale by."""
    _install(node, "metrics-server", "deployment/metrics-server", "apiservice/v1beta1.metrics.k8s.io")


def _install(node: Node, name: str, *ready: str) -> None:
    node.load(images.of_program(name))
    node.kubectl("apply", "-f", str(MANIFESTS / f"{name}.yaml"))
    for each in ready:
        node.kubectl("wait", "-n", "kube-system", "--for=condition=Available", each, "--timeout=90s")
