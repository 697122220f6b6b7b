"""What every server of models or tools becomes: a Deployment and the Service by which agents reach it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from kadre.kube.kinds import CONFIG_MAP, DEPLOYMENT, SERVICE, Object
from kadre.operator.children.common import MANAGED_BY, MANAGER, PART_OF, Child, Settings, of_author
from kadre.operator.children.environment import ANNOTATION
from kadre.operator.children.pod import HASH_LENGTH, TEMPLATE_HASH, USER
from kadre.plan.types import KAOS_GROUP, ServerPlan

CONFIG_VOLUME = "config"
CONFIG_FOLDER = "/etc/kadre"
FILE_FOLDER = "/var/run/kadre/file"
"""Where a Secret is mounted that holds what the server runs."""
HOME = "/var/lib/kadre"


class ServerOwner(NamedTuple):
    """The ModelAPI or MCPServer that children belong to, and are deleted with."""

    plan: ServerPlan
    kind: str
    api_version: str
    uid: str
    environment: str = ""
    """What its environment is read from, and what it runs; see `children.environment`."""

    def metadata(self) -> Object:
        """Metadata of its children, which all have one name."""
        return {
            "name": self.plan.service,
            "namespace": self.plan.namespace,
            "labels": labels(self),
            "ownerReferences": [
                {
                    "apiVersion": self.api_version,
                    "kind": self.kind,
                    "name": self.plan.name,
                    "uid": self.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        }


@dataclass(frozen=True, slots=True)
class Pod:
    """What differs between the pods of servers."""

    name: str
    """The container's."""
    image: str
    port: int
    resources: Object
    args: Sequence[str] = ()
    command: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    probe: Object = field(default_factory=lambda: {"tcpSocket": {"port": "http"}})
    starts: int = 300
    """Seconds it may take to answer for the first time."""
    volumes: Sequence[Object] = ()
    mounts: Sequence[Object] = ()
    before: Sequence[Object] = ()
    """Containers that run before it."""


def selector(plan: ServerPlan) -> dict[str, str]:
    """The labels by which a server's pods are found, which never change."""
    return {"app": plan.service}


def labels(owner: ServerOwner) -> dict[str, str]:
    """The labels of its objects: its author's, and ours over them."""
    return {
        **of_author(owner.plan.labels),
        **selector(owner.plan),
        "app.kubernetes.io/name": f"kadre-{owner.plan.type}",
        "app.kubernetes.io/instance": owner.plan.name,
        "app.kubernetes.io/component": owner.kind.lower(),
        MANAGED_BY: MANAGER,
        PART_OF: KAOS_GROUP,
    }


def service(owner: ServerOwner, port: int) -> Child:
    """Its address."""
    ports = [{"name": "http", "port": port, "targetPort": "http", "protocol": "TCP"}]
    spec = {"type": "ClusterIP", "selector": selector(owner.plan), "ports": ports}
    manifest = {
        "apiVersion": SERVICE.api_version,
        "kind": SERVICE.kind,
        "metadata": owner.metadata(),
        "spec": spec,
    }
    return Child(SERVICE, manifest)


def config_map(owner: ServerOwner, data: Mapping[str, str]) -> Child:
    """What its container reads at its start."""
    manifest = {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.kind,
        "metadata": owner.metadata(),
        "data": dict(data),
    }
    return Child(CONFIG_MAP, manifest)


def deployment(owner: ServerOwner, settings: Settings, pod: Pod, reads: object = None) -> Child:
    """The Deployment. `reads`: what its container reads at its start and is rolled for when it changes."""
    made, known = _pod(owner, settings, pod), labels(owner)
    said = hashlib.sha256(msgspec.json.encode([known, made, reads], order="deterministic")).hexdigest()
    annotations = {TEMPLATE_HASH: said[:HASH_LENGTH]}
    if owner.environment:
        annotations[ANNOTATION] = owner.environment
    template = {"metadata": {"labels": known, "annotations": annotations}, "spec": made}
    spec = {
        "replicas": owner.plan.workload.get("replicas", 1),
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": selector(owner.plan)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": template,
    }
    manifest = {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.kind,
        "metadata": owner.metadata(),
        "spec": spec,
    }
    return Child(DEPLOYMENT, manifest)


def restricted(*, read_only: bool = True) -> Object:
    """A container's security context. Others' images may need to write beside what is mounted."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": read_only,
        "capabilities": {"drop": ["ALL"]},
    }


def environment(owner: ServerOwner, ours: Mapping[str, str]) -> list[Object]:
    """The container's variables: ours, those of providers' keys, and its author's over them."""
    plan = owner.plan
    made: dict[str, Object] = {name: {"name": name, "value": value} for name, value in ours.items()}
    for name, ref in plan.secret_env.items():
        made[name] = {"name": name, "valueFrom": {"secretKeyRef": {"name": ref.name, "key": ref.key}}}
    made |= {each["name"]: each for each in plan.workload.get("env") or ()}
    return list(made.values())


def sources(owner: ServerOwner) -> list[Object]:
    """What its container reads at its start and not again: its variables, and the Secret of what it runs."""
    file = owner.plan.file
    read = [{"valueFrom": {"secretKeyRef": {"name": file.name, "key": file.key}}}] if file is not None else []
    return [*environment(owner, {}), *read]


def _pod(owner: ServerOwner, settings: Settings, pod: Pod) -> Object:
    plan, work = owner.plan, owner.plan.workload
    ours = pod.image == settings.image
    container: Object = {
        "name": pod.name,
        "image": pod.image,
        "imagePullPolicy": settings.pull_policy,
        "ports": [{"name": "http", "containerPort": pod.port}],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": work.get("resources") or pod.resources,
        "securityContext": restricted(read_only=ours),
        "env": environment(owner, {"HOME": HOME, **pod.env}),
        "volumeMounts": [
            {"name": "home", "mountPath": HOME},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
            *pod.mounts,
        ],
        "readinessProbe": {**pod.probe, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3},
        "startupProbe": {**pod.probe, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": pod.starts},
        "livenessProbe": {**pod.probe, "periodSeconds": 30, "timeoutSeconds": 10, "failureThreshold": 3},
    }
    for name, own in (("command", pod.command), ("args", pod.args)):
        if said := work.get(name) or own:
            container[name] = list(said)
    made: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "home", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}, *pod.volumes],
    }
    if pod.before:
        made["initContainers"] = list(pod.before)
    if plan.file is not None:
        items = [{"key": plan.file.key, "path": plan.file.key}]
        secret = {"secretName": plan.file.name, "items": items, "defaultMode": 0o440}
        made["volumes"].append({"name": "file", "secret": secret})
        container["volumeMounts"].append({"name": "file", "mountPath": FILE_FOLDER, "readOnly": True})
    if settings.pull_secrets:
        made["imagePullSecrets"] = [{"name": name} for name in settings.pull_secrets]
    if settings.node_selector:
        made["nodeSelector"] = dict(settings.node_selector)
    return made
