"""What every child has: who it belongs to and the labels it is found by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kadre.kube.kinds import Kind, Object
from kadre.plan.types import NATIVE_GROUP, AgentPlan, Provider

MANAGER = "kadre"
"""Field manager of everything the controller writes, and the value of the label that marks it."""
MANAGED_BY = "app.kubernetes.io/managed-by"
PART_OF = "app.kubernetes.io/part-of"
HTTP_PORT = 8080
METRICS_PORT = 9090


class KeySecret(NamedTuple):
    """The Secret that has a provider's key, and which of its keys."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What the installation decides for every agent."""

    image: str = "kadre:latest"
    """The container image of agents."""
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    resources: Object = field(
        default_factory=lambda: {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
    )
    """Of an agent whose author writes none."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    gateway_secret: str = ""
    """Name of the Secret, at home, of the key that the gateway signs with; empty: there is no gateway."""
    network_policy: bool = False
    """Whether an agent has a NetworkPolicy where its author does not say."""
    home: str = ""
    """The namespace the controller is installed in: its Secrets serve the agents there, and where they are shared."""
    provider_secrets: Mapping[Provider, KeySecret] = field(default_factory=dict)
    """Where a provider's key is for an author who names none."""
    provider_endpoints: Mapping[Provider, str] = field(default_factory=dict)
    """Where a provider is for an author who names no address; its key may be sent there."""
    journal_secret: str = ""
    """Name of the Secret that says where conversations are kept; empty: nobody gives one."""
    share_with: tuple[str, ...] = ()
    """Namespaces that have copies of the installation's Secrets, under the same names."""

    @property
    def shared(self) -> frozenset[str]:
        """Names of the Secrets that agents may use without naming them."""
        named = {secret.name for secret in self.provider_secrets.values()} | {self.journal_secret}
        return frozenset(named - {""})

    def made_in(self, namespace: str) -> str:
        """Where people put a Secret that the agents of that namespace are to use: there, or where it is copied from."""
        return self.home if namespace in self.share_with else namespace

    def journal_of(self, namespace: str) -> str:
        """Name of the Secret, in that namespace, of the journal its agents share; empty where they have none."""
        return self.journal_secret if namespace == self.home or namespace in self.share_with else ""


class Child(NamedTuple):
    """An object to be there, as it is applied."""

    kind: Kind
    manifest: Object
    once: Object | None = None
    """Fields of its spec that it begins with, where it is new: from then on they are somebody else's to change."""

    @property
    def name(self) -> str:
        """The object's name."""
        name: str = self.manifest["metadata"]["name"]
        return name


class Owner(NamedTuple):
    """The resource that children belong to, and are deleted with."""

    plan: AgentPlan
    kind: str
    api_version: str
    uid: str
    environment: str = ""
    """What its environment is read from; see `children.environment`."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.plan.key.name

    def metadata(self, name: str, labels: Mapping[str, str] | None = None) -> Object:
        """Metadata of a child of that name."""
        return {
            "name": name,
            "namespace": self.plan.key.namespace,
            "labels": {**labels_of(self.plan), **(labels or {})},
            "ownerReferences": [
                {
                    "apiVersion": self.api_version,
                    "kind": self.kind,
                    "name": self.name,
                    "uid": self.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        }


def selector(plan: AgentPlan) -> dict[str, str]:
    """The labels by which an agent's pods are found, which never change."""
    return {"app": plan.key.name, "agent": plan.key.name}


def labels_of(plan: AgentPlan) -> dict[str, str]:
    """The labels of an agent's objects: its author's, and ours over them.

    Pods are found by `app`, the agent's name, so the author's own `app` becomes the standard label for what a part
    belongs to: a Service that chooses by it sends messages to a stable agent and to its canary.
    """
    group = "" if plan.key.group == NATIVE_GROUP else plan.key.group
    whole = group or plan.labels.get(PART_OF) or plan.labels.get("app", "")
    return {
        **plan.labels,
        **selector(plan),
        "app.kubernetes.io/name": "kadre-agent",
        "app.kubernetes.io/instance": plan.key.name,
        "app.kubernetes.io/component": "agent",
        MANAGED_BY: MANAGER,
        **({PART_OF: whole} if whole else {}),
    }


def has_metrics(plan: AgentPlan) -> bool:
    """Whether the agent serves metrics: where its author does not say otherwise."""
    metrics = plan.workload.get("observability", {}).get("metrics", {})
    return bool(metrics.get("enabled", True))


def metrics_port(plan: AgentPlan) -> int:
    """Where it serves them; at the agent's own port they are, whatever this is."""
    port: int = plan.workload.get("observability", {}).get("metrics", {}).get("port", METRICS_PORT)
    return port
