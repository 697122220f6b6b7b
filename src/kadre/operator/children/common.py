"""What every child has: who it belongs to and the labels it is found by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kadre.kube.kinds import Key, Kind, Object
from kadre.plan.types import KAOS_GROUP, NATIVE_GROUP, AgentKey, AgentPlan, AgentTool, CodeTool, Provider

MANAGER = "kadre"
"""Field manager of everything the controller writes, and the value of the label that marks it."""
MANAGED_BY = "app.kubernetes.io/managed-by"
PART_OF = "app.kubernetes.io/part-of"
HTTP_PORT = 8080
METRICS_PORT = 9090
GATEWAY_AUDIENCE = "kagent-gateway"
"""For whom the token is by which the gateway knows an agent's pod: the API server takes it for nothing else."""
CODE_AUDIENCE = "kagent-code-runner"
"""The same for the code runner of the pod's namespace."""
KAOS_PORT = 8000
KAOS_SERVICE_PORT = 80
GROUP = "kaos.tools/agent"
"""Label of what belongs to a KAOS agent, and to no other of that name."""
POOL = "kagent.dev/pool"
"""The label of a pool's objects and pods: its name."""
IN_POOL = "pool.kagent.dev/"
"""Of a plan's label, before the name of a pool that is to serve it."""


class KeySecret(NamedTuple):
    """The Secret that has a provider's key, and which of its keys."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Images:
    """Those of servers that are not ours."""

    ollama: str = "ollama/ollama:0.17.4"
    litellm: str = "litellm/litellm-non_root:v1.85.0"


@dataclass(frozen=True, slots=True)
class Packages:
    """Where MCP servers that are packages come from."""

    index_url: str = ""
    """Empty: PyPI."""
    ca: str = ""
    """Whom to trust, as PEM; empty: the usual authorities."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How the pods of every pool are."""

    least: int = 1
    most: int = 3
    """The most pods there may be, of a pool none of whose agents keeps its conversations in the pod."""
    resources: Object = field(
        default_factory=lambda: {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
    )


@dataclass(frozen=True, slots=True)
class CodeRunnerSettings:
    """How the pods are that run the code of models."""

    enabled: bool = True
    """Whether there are any."""
    unfenced: bool = False
    """Whether code is run also where the kernel has no Landlock, by which it is kept from files."""
    resources: Object = field(
        default_factory=lambda: {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"cpu": "2", "memory": "2560Mi"},
        }
    )
    """The memory is for as much code as runs at once, and for what it writes."""


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
    gateway_service: str = ""
    """Name of the gateway's Service, at home; empty: there is no gateway."""
    gateway_api: Key | None = None
    """The Gateway of the Kubernetes Gateway API through which agents are reached from outside; None: they are not."""
    webhook_networks: tuple[str, ...] = ()
    """Where webhooks of runs may be besides public addresses, as CIDR."""
    scaler: str = ""
    """Where the gateway tells KEDA which agents somebody waits for, `host:port`; empty: nowhere."""
    prometheus: str = ""
    """Where Prometheus is for an author who lets KEDA scale by it and does not say."""
    network_policy: bool = False
    """Whether an agent has a NetworkPolicy where its author does not say."""
    home: str = ""
    """The namespace the controller is installed in: its Secrets serve the agents there, and where they are shared."""
    provider_secrets: Mapping[Provider, KeySecret] = field(default_factory=dict)
    """Where a provider's key is for an author who names none."""
    provider_endpoints: Mapping[Provider, str] = field(default_factory=dict)
    """Where a provider is for an author who names no address; its key may be sent there."""
    pools: PoolSettings = field(default_factory=PoolSettings)
    code_runner: CodeRunnerSettings = field(default_factory=CodeRunnerSettings)
    journal_secret: str = ""
    """Name of the Secret that says where conversations are kept; empty: nobody gives one."""
    images: Images = field(default_factory=Images)
    packages: Packages = field(default_factory=Packages)
    share_with: tuple[str, ...] = ()
    """Namespaces that have copies of the installation's Secrets, under the same names."""

    @property
    def gateway_url(self) -> str:
        """Where agents reach the gateway, through which they ask other agents; empty: there is none."""
        return f"http://{self.gateway_service}.{self.home}.svc" if self.gateway_service else ""

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
    pools: tuple[str, ...] = ()
    """The pools that are to serve its plan."""

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


def delegates(plan: AgentPlan) -> list[AgentKey]:
    """The agents that it may ask."""
    return [tool.agent for tool in plan.tools if isinstance(tool, AgentTool)]


def runs_code(plan: AgentPlan) -> bool:
    """Whether it has code run that its model writes."""
    return any(isinstance(tool, CodeTool) for tool in plan.tools)


def http_port(plan: AgentPlan) -> int:
    """Where an agent's container answers: KAOS's at another port."""
    return KAOS_PORT if plan.key.group == KAOS_GROUP else HTTP_PORT


def service_port(plan: AgentPlan) -> int:
    """Where its Service answers."""
    return KAOS_SERVICE_PORT if plan.key.group == KAOS_GROUP else HTTP_PORT


def selector(plan: AgentPlan) -> dict[str, str]:
    """The labels by which an agent's pods are found, which never change."""
    return {"app": plan.key.name, "agent": plan.key.name}


def of_author(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels of a resource without those by which we find objects: who wrote them would have them found for it."""
    return {
        label: value for label, value in labels.items() if label not in {GROUP, POOL} and not label.startswith(IN_POOL)
    }


def labels_of(plan: AgentPlan) -> dict[str, str]:
    """The labels of an agent's objects: its author's, and ours over them.

    Pods are found by `app`, the agent's name, so the author's own `app` becomes the standard label for what a part
    belongs to: a Service that chooses by it sends messages to a stable agent and to its canary.
    """
    group = "" if plan.key.group == NATIVE_GROUP else plan.key.group
    whole = group or plan.labels.get(PART_OF) or plan.labels.get("app", "")
    return {
        **of_author(plan.labels),
        **selector(plan),
        **({GROUP: plan.key.name} if plan.key.group == KAOS_GROUP else {}),
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
