"""Who may reach an agent's pods, and what they may reach: only where the agent or the installation asks for it.

Without further words nothing that works without it stops working: what the pods serve stays open to everybody, and
they reach whatever they did. Whether it is heeded is the cluster's network's business.
"""

from __future__ import annotations

from kadre.kube.kinds import NETWORK_POLICY, Object
from kadre.operator.children import pod
from kadre.operator.children.common import (
    HTTP_PORT,
    Child,
    Owner,
    Settings,
    delegates,
    has_metrics,
    http_port,
    metrics_port,
    runs_code,
    selector,
)

DNS_PORT = 53


def network_policy(owner: Owner, settings: Settings) -> Child | None:
    """The NetworkPolicy; None where nobody asks for one."""
    plan = owner.plan
    asked: Object = plan.workload.get("networkPolicy", {})
    if not asked.get("enabled", settings.network_policy):
        return None
    doors: Object = {"ports": [port(http_port(plan))]}
    gateway = _gateway(settings)
    if "allowFrom" in asked:
        doors["from"] = [*asked["allowFrom"], *gateway]
    ingress = [doors]
    if has_metrics(plan) and metrics_port(plan) != http_port(plan):
        ingress.append({"ports": [port(metrics_port(plan))]})
    spec: Object = {"podSelector": {"matchLabels": selector(plan)}, "policyTypes": ["Ingress"], "ingress": ingress}
    if "egress" in asked:
        names = {"ports": [port(DNS_PORT, "UDP"), port(DNS_PORT)]}
        others = [{"to": gateway, "ports": [port(HTTP_PORT)]}] if gateway and delegates(plan) else []
        if runs_code(plan):
            others.append({"to": [{"podSelector": pod.code_selector()}], "ports": [port(HTTP_PORT)]})
        spec |= {"policyTypes": ["Ingress", "Egress"], "egress": [*asked["egress"], *others, names]}
    manifest = {
        "apiVersion": NETWORK_POLICY.api_version,
        "kind": NETWORK_POLICY.kind,
        "metadata": owner.metadata(plan.key.name),
        "spec": spec,
    }
    return Child(NETWORK_POLICY, manifest)


def _gateway(settings: Settings) -> list[Object]:
    """The gateway's pods, through which everybody comes and agents ask each other; none where there is none."""
    if not settings.gateway_service:
        return []
    home = {"matchLabels": {"kubernetes.io/metadata.name": settings.home}}
    return [{"namespaceSelector": home, "podSelector": {"matchLabels": {"app.kubernetes.io/component": "gateway"}}}]


def port(number: int, protocol: str = "TCP") -> Object:
    """One port of a rule."""
    return {"port": number, "protocol": protocol}
