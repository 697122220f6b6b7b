"""The address of an agent inside the cluster."""

from __future__ import annotations

from kadre.kube.kinds import SERVICE, Object
from kadre.operator.children.common import (
    METRICS_PORT,
    Child,
    Owner,
    has_metrics,
    http_port,
    metrics_port,
    selector,
    service_port,
)
from kadre.plan.types import AgentPlan

MONITORED = "kagent.dev/monitored"
"""The label by which the documents' ServiceMonitor finds agents."""


def url(plan: AgentPlan) -> str:
    """Where the agent is reached from within the cluster."""
    return f"http://{plan.key.name}.{plan.key.namespace}.svc:{service_port(plan)}"


def service(owner: Owner) -> Child:
    """The Service."""
    plan = owner.plan
    ports: list[Object] = [{"name": "http", "port": service_port(plan), "targetPort": "http", "protocol": "TCP"}]
    labels = {}
    if has_metrics(plan):
        target = "metrics" if metrics_port(plan) != http_port(plan) else "http"
        ports.append({"name": "metrics", "port": METRICS_PORT, "targetPort": target, "protocol": "TCP"})
        labels[MONITORED] = "true"
    manifest = {
        "apiVersion": SERVICE.api_version,
        "kind": SERVICE.kind,
        "metadata": owner.metadata(plan.key.name, labels),
        "spec": {"type": "ClusterIP", "selector": selector(plan), "ports": ports},
    }
    return Child(SERVICE, manifest)
