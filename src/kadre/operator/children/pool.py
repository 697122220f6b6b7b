"""A pool's objects: the Deployment whose pods serve many agents, and what lets them do that and nothing else.

All of them belong to one ConfigMap, the pool's root, which belongs to every agent that is in the pool: when the last
of them has gone, Kubernetes takes the rest away, whoever is at work by then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from kadre.kube import kinds
from kadre.kube.kinds import Kind, Object
from kadre.operator.children import journal, network_policy, pod, rooted, scaling
from kadre.operator.children.common import (
    HTTP_PORT,
    MANAGED_BY,
    MANAGER,
    METRICS_PORT,
    PART_OF,
    POOL,
    Child,
    Settings,
)
from kadre.operator.children.rooted import Member
from kadre.operator.children.service import MONITORED
from kadre.plan.types import NATIVE_GROUP

NAME = "kadre-pool-"
"""How the names of a pool's objects begin."""
LABEL = POOL
"""The label of a pool's objects and pods: its name."""
GRACE = 330
"""Seconds that a pod is given to end: as long as a run may take unless its author says more, and a bit."""
ENDING = 15
"""Of these, what it has left once its runs have been given theirs: to record how they end, and to close everything."""
POD_NAME = "POD_NAME"
PLAN = Kind(NATIVE_GROUP, "v1alpha1", "Plan", "plans")
"""What a Role names by its SHA-256. There are no such objects: it is a right, and who has not got it cannot give it."""
SERVE = "serve"
_SERVING = {"apiGroups": [PLAN.group], "resources": [PLAN.plural], "verbs": [SERVE]}
_HEEDING = {"apiGroups": [kinds.ROLE.group], "resources": [kinds.ROLE.plural], "verbs": ["list", "watch"]}


class Pool(NamedTuple):
    """One pool. `root`: uid of what its objects belong to; empty before that is made."""

    namespace: str
    name: str
    root: str = ""
    secrets: tuple[str, ...] = ()
    """Names of the Secrets that its plans use."""
    plans: tuple[str, ...] = ()
    """The SHA-256 of each plan that its pods may serve."""
    shared: bool = False
    """Whether all its agents keep their conversations outside its pods."""

    @property
    def called(self) -> str:
        """The name of its objects."""
        return called(self.name)

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its objects."""
        return {
            **self.selector,
            "app.kubernetes.io/name": "kadre-pool",
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/component": "pool",
            MANAGED_BY: MANAGER,
            PART_OF: self.called,
        }

    @property
    def selector(self) -> dict[str, str]:
        """The labels by which its pods are found, which never change."""
        return {"app": self.called, LABEL: self.name}

    def metadata(self, name: str = "", labels: Mapping[str, str] | None = None) -> Object:
        """Metadata of an object of the pool."""
        return {
            "name": name or self.called,
            "namespace": self.namespace,
            "labels": {**self.labels, **(labels or {})},
            "ownerReferences": rooted.belonging(self.called, self.root),
        }


def called(pool: str) -> str:
    """The name of a pool's objects."""
    return f"{NAME}{pool}"


def told_in(pool: str) -> str:
    """The name of the ConfigMap in which a pool's pods tell what they serve. No agent has a name with a dot."""
    return f"{called(pool)}.served"


def root_of(name: str) -> str:
    """The pool of which the ConfigMap of that name is the root, or what its pods tell; empty where it is neither."""
    return name.removeprefix(NAME).partition(".")[0] if name.startswith(NAME) else ""


def root(pool: Pool, members: Iterable[Member]) -> Object:
    """What the pool's objects belong to, and whose it is: everybody's in the pool."""
    return rooted.root(pool.metadata(), members)


def is_root(obj: Object) -> bool:
    """Whether that is the root of a pool of ours, and not an object of somebody else's."""
    return rooted.is_root(obj) and bool(obj["metadata"]["labels"].get(LABEL))


def children(pool: Pool, settings: Settings, without: Collection[Kind] = ()) -> list[Child]:
    """What a pod needs comes before the Deployment that makes pods. `without`: kinds that we may not have."""
    made = [
        _child(pool, kinds.SERVICE_ACCOUNT, automountServiceAccountToken=False),
        _child(pool, kinds.CONFIG_MAP, name=told_in(pool.name)),
        _child(pool, kinds.ROLE, rules=rules(pool)),
        _binding(pool),
        _service(pool),
        _deployment(pool, settings, scaled=scaled(pool, settings) and kinds.AUTOSCALER not in without),
        _autoscaler(pool, settings) if scaled(pool, settings) else None,
        _budget(pool) if settings.pools.least > 1 else None,
        _policy(pool) if settings.network_policy else None,
    ]
    return [child for child in made if child is not None and child.kind not in without]


def scaled(pool: Pool, settings: Settings) -> bool:
    """Whether its pods may become more: only where none of them has a part of a conversation for itself."""
    return pool.shared and settings.pools.most > settings.pools.least


def rules(pool: Pool) -> list[Object]:
    """What its pods may do. No rule can choose by label: they may see every ConfigMap of the namespace."""
    follow = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}
    tell = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"], "resourceNames": [told_in(pool.name)]}
    # A rule that names nothing is one for everything.
    serve = [{**_SERVING, "resourceNames": sorted(pool.plans)}] if pool.plans else []
    names = sorted(pool.secrets)
    read = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": names}] if names else []
    return [follow, tell, {**_HEEDING, "resourceNames": [pool.called]}, *serve, *read]


def accepted(role: Object) -> frozenset[str]:
    """The SHA-256 of each plan that a pool's pods may serve by its Role.

    In that very rule alone: others may be written by who has not got the right.
    """
    rules = [rule for rule in role.get("rules") or () if {**rule, **_SERVING} == rule]
    return frozenset(name for rule in rules for name in rule.get("resourceNames") or ())


def told_to_serve(role: Object) -> frozenset[str] | None:
    """The same, as its pods are to follow it; None where it does not let them.

    A controller before this one writes such a Role, and says nothing of plans with it: not that none may be served.
    """
    heeded = any({**rule, **_HEEDING} == rule for rule in role.get("rules") or ())
    return accepted(role) if heeded else None


def _child(pool: Pool, kind: Kind, name: str = "", **fields: object) -> Child:
    manifest = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": pool.metadata(name),
        **fields,
    }
    return Child(kind, manifest)


def _binding(pool: Pool) -> Child:
    role = {"apiGroup": kinds.ROLE.group, "kind": kinds.ROLE.kind, "name": pool.called}
    account = {"kind": kinds.SERVICE_ACCOUNT.kind, "name": pool.called, "namespace": pool.namespace}
    return _child(pool, kinds.ROLE_BINDING, roleRef=role, subjects=[account])


def _service(pool: Pool) -> Child:
    """By which the gateway finds the pods; nobody else is answered there."""
    ports: Sequence[Object] = [
        {"name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP"},
        {"name": "metrics", "port": METRICS_PORT, "targetPort": "metrics", "protocol": "TCP"},
    ]
    spec = {"type": "ClusterIP", "selector": pool.selector, "ports": ports}
    made = _child(pool, kinds.SERVICE, spec=spec)
    made.manifest["metadata"]["labels"][MONITORED] = "true"
    return made


def _deployment(pool: Pool, settings: Settings, *, scaled: bool) -> Child:
    least = max(1, settings.pools.least)
    spec: Object = {
        "selector": {"matchLabels": pool.selector},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": pod.template(pool.labels, _pod(pool, settings)),
    }
    if not scaled:
        spec["replicas"] = least if pool.shared else 1
    manifest = _child(pool, kinds.DEPLOYMENT, spec=spec).manifest
    return Child(kinds.DEPLOYMENT, manifest, {"replicas": least} if scaled else None)


def _pod(pool: Pool, settings: Settings) -> Object:
    given = settings.journal_of(pool.namespace)
    asks = bool(settings.gateway_url)  # whether an agent of it does today or not: the pods of a pool are not restarted
    runs = settings.code_runner.enabled  # the same
    volumes = [*pod.VOLUMES, *([journal.volume(given)] if given else []), *([pod.TOKEN] if asks else [])]
    volumes += [pod.CODE_TOKEN] if runs else []
    mounts = [*pod.MOUNTS, *([journal.mount()] if given else []), *([pod.TOKEN_MOUNT] if asks else [])]
    mounts += [pod.CODE_TOKEN_MOUNT] if runs else []
    arguments = ["pool", f"--pool={pool.name}", *pod.arguments(settings), f"--metrics-port={METRICS_PORT}"]
    arguments += [f"--journal={journal.FOLDER}"] if given else []
    arguments += pod.to_ask(settings) if asks else []
    arguments += pod.to_run_code(pool.namespace) if runs else []
    ports = [
        {"name": "http", "containerPort": HTTP_PORT},
        {"name": "metrics", "containerPort": METRICS_PORT},
    ]
    container = pod.container(settings, arguments, ports, mounts, settings.pools.resources) | pod.probes({})
    container["env"] = [{"name": POD_NAME, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    made = pod.pod(settings, pool.called, GRACE, container, volumes)
    return {**made, "automountServiceAccountToken": True}


def _autoscaler(pool: Pool, settings: Settings) -> Child:
    target = {"apiVersion": kinds.DEPLOYMENT.api_version, "kind": kinds.DEPLOYMENT.kind, "name": pool.called}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": scaling.CPU_TARGET}}
    spec: Object = {
        "scaleTargetRef": target,
        "minReplicas": max(1, settings.pools.least),
        "maxReplicas": settings.pools.most,
        "metrics": [{"type": "Resource", "resource": cpu}],
    }
    return _child(pool, kinds.AUTOSCALER, spec=spec)


def _budget(pool: Pool) -> Child:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": pool.selector}}
    return _child(pool, kinds.DISRUPTION_BUDGET, spec=spec)


def _policy(pool: Pool) -> Child:
    ports = [network_policy.port(number) for number in (HTTP_PORT, METRICS_PORT)]
    spec = {"podSelector": {"matchLabels": pool.selector}, "policyTypes": ["Ingress"], "ingress": [{"ports": ports}]}
    return _child(pool, kinds.NETWORK_POLICY, spec=spec)
