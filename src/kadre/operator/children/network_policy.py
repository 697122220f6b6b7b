"""Who may reach an agent's pods, and what they may reach: only where the agent or the installation asks for it.

Without further words nothing that works without it stops working: what the pods serve stays open to everybody, and
they reach whatever they did. Whether it is heeded is the cluster's network's business.
"""

from __future__ import annotations

from kadre.kube.kinds import NETWORK_POLICY, Object
from kadre.operator.children.common import HTTP_PORT, Child, Owner, Settings, has_metrics, metrics_port, selector

DNS_PORT = 53


def network_policy(owner: Owner, settings: Settings) -> Child | None:
    """The NetworkPolicy; None where nobody asks for one."""
    plan = owner.plan
    asked: Object = plan.workload.get("networkPolicy", {})
    if not asked.get("enabled", settings.network_policy):
        return None
    doors: Object = {"ports": [_port(HTTP_PORT)]}
    if "allowFrom" in asked:
        doors["from"] = asked["allowFrom"]
    ingress = [doors]
    if has_metrics(plan) and metrics_port(plan) != HTTP_PORT:
        ingress.append({"ports": [_port(metrics_port(plan))]})
    spec: Object = {"podSelector": {"matchLabels": selector(plan)}, "policyTypes": ["Ingress"], "ingress": ingress}
    if "egress" in asked:
        names = {"ports": [_port(DNS_PORT, "UDP"), _port(DNS_PORT)]}
        spec |= {"policyTypes": ["Ingress", "Egress"], "egress": [*asked["egress"], names]}
    manifest = {
        "apiVersion": NETWORK_POLICY.api_version,
        "kind": NETWORK_POLICY.kind,
        "metadata": owner.metadata(plan.key.name),
        "spec": spec,
    }
    return Child(NETWORK_POLICY, manifest)


def _port(number: int, protocol: str = "TCP") -> Object:
    return {"port": number, "protocol": protocol}
