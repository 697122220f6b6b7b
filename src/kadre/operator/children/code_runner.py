"""What runs the code of models in a namespace: one Deployment, which only its agents reach, and which reaches nobody.

All of it belongs to a root, which belongs to every agent there that has such code run.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kadre.kube import kinds
from kadre.kube.kinds import Kind, Object
from kadre.operator.children import network_policy, pod, rooted
from kadre.operator.children.common import HTTP_PORT, MANAGED_BY, MANAGER, PART_OF, Child, Settings
from kadre.operator.children.pod import CODE_RUNNER
from kadre.operator.children.rooted import Member
from kadre.operator.children.service_account import DEFAULT

NAME = CODE_RUNNER
COMPONENT = "kadre-code-runner"
CALLERS = ("kadre-agent", "kadre-pool")
"""Whose pods have code run: those of agents, and of pools, by their label."""
KEYS = f"{NAME}.keys"
"""The ConfigMap of the cluster's keys, by which tokens are known. No agent has a name with a dot."""
KEYS_FILE = "jwks.json"
KEYS_FOLDER = "/etc/kadre"
WORK_FOLDER = "/work"
SPACE = "256Mi"
"""What all code that runs at once may write: memory, of which a file system knows its end."""
GRACE = 30
"""Seconds that a pod is given to end."""
_SELECTOR = {"app": NAME}
_LABELS = {
    **_SELECTOR,
    "app.kubernetes.io/name": COMPONENT,
    "app.kubernetes.io/instance": NAME,
    "app.kubernetes.io/component": "code-runner",
    MANAGED_BY: MANAGER,
    PART_OF: NAME,
}


def root(namespace: str, members: Iterable[Member]) -> Object:
    """What its objects belong to, and whose it is."""
    return rooted.root(_metadata(namespace, NAME), members)


def is_root(obj: Object) -> bool:
    """Whether that is the root of a code runner, and not an object of somebody else's."""
    return rooted.is_root(obj) and obj["metadata"]["name"] == NAME


def children(namespace: str, root: str, keys: Object, settings: Settings) -> list[Child]:
    """What a pod needs comes before the Deployment. `root`: its uid; `keys`: the cluster's, as a JSON Web Key Set."""
    owner = rooted.belonging(NAME, root)
    text = msgspec.json.encode(keys, order="deterministic").decode()
    return [
        _child(kinds.NETWORK_POLICY, namespace, owner, spec=_policy()),
        _child(kinds.CONFIG_MAP, namespace, owner, KEYS, data={KEYS_FILE: text}),
        _child(kinds.SERVICE, namespace, owner, spec=_service()),
        _child(kinds.DEPLOYMENT, namespace, owner, spec=_deployment(namespace, settings)),
    ]


def _metadata(namespace: str, name: str) -> Object:
    return {"name": name, "namespace": namespace, "labels": dict(_LABELS)}


def _child(kind: Kind, namespace: str, owner: list[Object], name: str = NAME, **fields: object) -> Child:
    metadata = {**_metadata(namespace, name), "ownerReferences": owner}
    return Child(kind, {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **fields})


def _service() -> Object:
    ports = [{"name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP"}]
    return {"type": "ClusterIP", "selector": _SELECTOR, "ports": ports}


def _policy() -> Object:
    """Agents' pods of the namespace come in, and nothing goes out."""
    callers = {"matchExpressions": [{"key": "app.kubernetes.io/name", "operator": "In", "values": list(CALLERS)}]}
    ingress = [{"from": [{"podSelector": callers}], "ports": [network_policy.port(HTTP_PORT)]}]
    return {
        "podSelector": pod.code_selector(),
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress,
        "egress": [],
    }


def _deployment(namespace: str, settings: Settings) -> Object:
    sizes = settings.code_runner
    arguments = ["code-runner", f"--namespace={namespace}", f"--keys={KEYS_FOLDER}", f"--folder={WORK_FOLDER}"]
    arguments += [f"--port={HTTP_PORT}", *(["--without-landlock"] if sizes.unfenced else [])]
    ports = [{"name": "http", "containerPort": HTTP_PORT}]
    mounts: list[Object] = [
        {"name": "work", "mountPath": WORK_FOLDER},
        {"name": "keys", "mountPath": KEYS_FOLDER, "readOnly": True},
    ]
    volumes = [
        {"name": "work", "emptyDir": {"medium": "Memory", "sizeLimit": SPACE}},
        {"name": "keys", "configMap": {"name": KEYS}},
    ]
    container = pod.container(settings, arguments, ports, mounts, sizes.resources) | pod.probes({})
    return {
        "replicas": 1,
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": _SELECTOR},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": pod.template(_LABELS, pod.pod(settings, DEFAULT, GRACE, container, volumes)),
    }
