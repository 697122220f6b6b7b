"""What a cluster usually has besides Kubernetes, as pods of the test cluster."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.cluster import images, modules, programs
from tests.cluster.cluster import Cluster
from tests.cluster.node import Node

MANIFESTS = Path(__file__).parent / "manifests"
PROGRAMS = ("coredns", "metrics-server")
CERT_MANAGER = {"controller": "", "webhook": "webhook.", "cainjector": "cainjector."}
"""Its programs, and what their values in its chart begin with."""


def usual(node: Node) -> None:
    """Kadre's image, and what every cluster has: CoreDNS for Services by name, metrics-server for autoscalers."""
    for name in PROGRAMS:
        _apply(node, name)
    node.load(images.kadre())
    _available(node, *(f"deployment/{name}" for name in PROGRAMS), "apiservice/v1beta1.metrics.k8s.io")


def names(node: Node) -> None:
    """CoreDNS alone."""
    _apply(node, "coredns")
    _available(node, "deployment/coredns")


def certificates(node: Node) -> None:
    """cert-manager: makes and renews certificates, and tells the API server whom to trust."""
    values = ["startupapicheck.enabled=false", "global.leaderElection.namespace=cert-manager"]
    for part, prefix in CERT_MANAGER.items():
        node.load(images.cert_manager(part))
        repository, _, tag = images.CERT_MANAGER.format(part).rpartition(":")
        values += [f"{prefix}image.repository={repository}", f"{prefix}image.tag={tag}"]
    command = [str(programs.published("helm")), f"--kubeconfig={node.kubeconfig}", "install", "cert-manager"]
    command += [str(modules.cert_manager_chart()), "-n", "cert-manager", "--create-namespace", "--wait"]
    done = subprocess.run(
        [*command, *(f"--set={value}" for value in values)], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"cert-manager: {done.stderr}")


def crds(cluster: Cluster, name: str, *plurals: str) -> None:
    """The kinds of `prometheus-operator`, `external-secrets` or `gateway-api`, or those of them that are named
    (`servicemonitors`): reading all takes seconds. Nobody acts on their objects."""
    wanted = [path for path in modules.crds(name) if not plurals or path.stem.rpartition("_")[2] in plurals]
    files = [f"--filename={path}" for path in wanted]
    # Server-side: some are larger than the annotation that kubectl would write otherwise.
    cluster.kubectl("apply", "--server-side", *files)
    # By path: --for=condition gives up on one that has no conditions yet.
    established = '--for=jsonpath={.status.conditions[?(@.type=="Established")].status}=True'
    cluster.kubectl("wait", established, "--timeout=30s", *files)


def _apply(node: Node, name: str) -> None:
    node.load(images.of_program(name))
    node.kubectl("apply", "-f", str(MANIFESTS / f"{name}.yaml"))


def _available(node: Node, *objects: str) -> None:
    node.kubectl("wait", "-n", "kube-system", "--for=condition=Available", *objects, "--timeout=90s")
