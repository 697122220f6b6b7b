"""What the chart would install, and who its controller is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import yaml

from kadre.kube.kinds import Kind, Object
from tests.apiserver.conftest import World
from tests.cluster import programs

CHART = Path(__file__).parents[2] / "charts" / "kadre"
_RBAC = "rbac.authorization.k8s.io"
RIGHTS = {
    kind.kind: kind
    for kind in (
        Kind(_RBAC, "v1", "ClusterRole", "clusterroles", namespaced=False),
        Kind(_RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False),
        Kind(_RBAC, "v1", "Role", "roles"),
        Kind(_RBAC, "v1", "RoleBinding", "rolebindings"),
    )
}


APIS = (
    "cert-manager.io/v1",
    "monitoring.coreos.com/v1",
    "external-secrets.io/v1",
    "gateway.networking.k8s.io/v1",
)
"""What others bring to a cluster, and the chart uses where it is asked to."""


def helm(*words: str) -> subprocess.CompletedProcess[str]:
    """What helm makes of that."""
    command = [str(programs.published("helm")), *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def templated(namespace: str, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """`helm template` of the chart for a cluster of our version, with further `words`."""
    return helm("template", name, str(CHART), "-n", namespace, "--kube-version", programs.KUBERNETES, *words)


def rendered(namespace: str, name: str, *settings: str, hooks: bool = False, values: str = "") -> list[Object]:
    """The chart's objects. `name`: of the release; `settings`: as `key=value`; `values`: a file of them."""
    words = [f"--set={each}" for each in settings] + [f"--api-versions={each}" for each in APIS]
    words += [f"--values={values}"] if values else []
    done = templated(namespace, name, *words, *([] if hooks else ["--no-hooks"]))
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each is not None]


async def controller(world: World, name: str, *settings: str) -> Path:
    """A kubeconfig of the controller's account, with the rights that the chart gives it and no others."""
    for each in rendered(world.namespace, name, *settings):
        if each["kind"] in RIGHTS:
            await world.client.apply(RIGHTS[each["kind"]], each)
    user = f"system:serviceaccount:{world.namespace}:{name}-controller"
    config = world.plane.user(f"{name}-controller", user, ["system:serviceaccounts", "system:authenticated"])
    # In a pod the namespace is the pod's.
    told = json.loads(config.read_text())
    told["contexts"][0]["context"]["namespace"] = world.namespace
    config.write_text(json.dumps(told))
    return config
