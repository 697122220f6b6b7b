"""What a cluster usually has besides Kubernetes, as pods of the test cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import images, modules, ollama, programs
from tests.cluster.cluster import Cluster
from tests.cluster.node import Node, load, running

MANIFESTS = Path(__file__).parent / "manifests"
PROGRAMS = ("coredns", "metrics-server")
CERT_MANAGER = {"controller": "", "webhook": "webhook.", "cainjector": "cainjector."}
"""Its programs, and what their values in its chart begin with."""

KEDA = {
    "keda-operator": "keda-operator",
    "keda-metrics-apiserver": "keda-adapter",
    "keda-admission-webhooks": "keda-webhooks",
}
"""Its programs, by the containers that its manifests have them in."""
LOOKS = 100
"""Each takes the time of a kubectl: half a minute in all."""
KEPT = {"Namespace", "CustomResourceDefinition"}
NAMES = 'jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name}{"\\n"}{end}'
OPTIONAL: Mapping[str, Mapping[str, Callable[[], Path]]] = {
    "keda": {name: partial(images.of_built, name) for name in KEDA.values()},
    "ollama": {"ollama": ollama.image},
    "traefik": {"traefik": partial(images.of_built, "traefik")},
}
"""What only some tests need, and takes minutes to build: the image of each of its programs."""


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
    for _ in range(LOOKS):
        try:
            cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", *files)
        except OSError as error:
            if "<nil>" not in str(error):  # so kubectl says of one that has no conditions yet
                raise
        else:
            return
    raise RuntimeError(f"the kinds of {name} are not served after {LOOKS} looks")


def built(name: str) -> bool:
    """Whether one of `OPTIONAL` need not be built before a test uses it."""
    return all(programs.has(program) for program in OPTIONAL[name])


def keda(cluster: Cluster) -> None:
    """KEDA: scales by what happens elsewhere, to none and back, and serves that to autoscalers as external metrics."""
    _load(cluster, "keda")
    manifests = "---\n".join(yaml.safe_dump(each) for each in _keda())
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifests)
    deployed = [f"deployment/{name}" for name in ("keda-operator", "keda-metrics-apiserver", "keda-admission")]
    served = "apiservice/v1beta1.external.metrics.k8s.io"
    cluster.kubectl("wait", "-n", "keda", "--for=condition=Available", *deployed, served, "--timeout=120s")


def stop_keda(cluster: Cluster) -> None:
    """Take KEDA away and leave its kinds, as its uninstallation does where somebody keeps what they declared."""
    _delete(cluster, [each for each in _keda() if each["kind"] not in KEPT])


def without_keda(cluster: Cluster) -> None:
    """Leave nothing of KEDA."""
    stop_keda(cluster)
    if cluster.kubectl("get", "crd", "scaledobjects.keda.sh", "--ignore-not-found"):
        # It waits to see them go, and is not there any more.
        left = cluster.kubectl("get", "scaledobjects", "-A", "-o", NAMES).splitlines()
        for namespace, name in (each.split("/") for each in left):
            words = ["-n", namespace, name, "--type=merge", '-p={"metadata":{"finalizers":null}}']
            cluster.kubectl("patch", "scaledobject", *words)
    _delete(cluster, [each for each in _keda() if each["kind"] in KEPT])


def _delete(cluster: Cluster, objects: list[Any]) -> None:
    manifests = "---\n".join(yaml.safe_dump(each) for each in objects)
    cluster.kubectl("delete", "--ignore-not-found", "--timeout=60s", "-f", "-", stdin=manifests)


def ollamas(cluster: Cluster) -> None:
    """A model server that is real: `ollama.ollama:11434`."""
    _load(cluster, "ollama")
    cluster.kubectl("apply", "-f", str(MANIFESTS / "ollama.yaml"))
    cluster.kubectl("wait", "-n", "ollama", "--for=condition=Available", "deployment/ollama", "--timeout=90s")


def traefik(cluster: Cluster) -> None:
    """Traefik, as an implementation of the Gateway API."""
    _load(cluster, "traefik")
    crds(cluster, "gateway-api")
    cluster.kubectl("apply", "-f", str(MANIFESTS / "traefik.yaml"))
    cluster.kubectl("wait", "-n", "traefik", "--for=condition=Available", "deployment/traefik", "--timeout=90s")


def prometheus(cluster: Cluster, pods: str) -> None:
    """Prometheus, where documents have it: `prometheus.observability:9090`. It looks at the pods behind that name."""
    _give(cluster, images.prometheus())
    manifest = (MANIFESTS / "prometheus.yaml").read_text().replace("PODS", pods)
    cluster.kubectl("apply", "-f", "-", stdin=manifest)
    cluster.kubectl("rollout", "status", "-n", "observability", "deployment/prometheus", "--timeout=60s")


def _keda() -> Iterator[Any]:
    """Its own manifests, with our images."""
    config = modules.source("keda") / "config" / "default"
    done = subprocess.run(["kubectl", "kustomize", str(config)], check=True, capture_output=True, text=True)
    for made in yaml.safe_load_all(done.stdout):
        if made["kind"] == "Deployment":
            (container,) = made["spec"]["template"]["spec"]["containers"]
            container |= {"image": f"kadre.test/{KEDA[container['name']]}:1", "imagePullPolicy": "IfNotPresent"}
            container["command"] = ["/program"]
            container["readinessProbe"] |= {"initialDelaySeconds": 1, "periodSeconds": 1}
        yield made


def is_ours(cluster: Cluster) -> bool:
    """Whether it is the node of this machine; another cluster has what its tests want."""
    folder = running()
    return folder is not None and cluster.kubeconfig.is_relative_to(folder)


def _load(cluster: Cluster, name: str) -> None:
    for image in OPTIONAL[name].values():
        _give(cluster, image())


def _give(cluster: Cluster, image: Path) -> None:
    """Give the machine's node an image; another cluster can pull it."""
    folder = running()
    if folder is not None and is_ours(cluster):
        load(folder, image)


def _apply(node: Node, name: str) -> None:
    node.load(images.of_program(name))
    node.kubectl("apply", "-f", str(MANIFESTS / f"{name}.yaml"))


def _available(node: Node, *objects: str) -> None:
    node.kubectl("wait", "-n", "kube-system", "--for=condition=Available", *objects, "--timeout=90s")
