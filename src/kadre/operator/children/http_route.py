"""The way to an agent from outside the cluster, where the installation names a Gateway: it leads to our own gateway."""

from __future__ import annotations

from kadre.kube.kinds import HTTP_ROUTE, Object
from kadre.operator.children.common import Child, Owner, Settings
from kadre.plan.names import RESERVED

GATEWAY_PORT = 80
"""Of the gateway's Service."""


def http_route(owner: Owner, settings: Settings) -> Child | None:
    """The HTTPRoute; None where there is nothing that it could lead from or to.

    Every field is written, those too that the API has defaults for: what stands there is then what we wrote.
    """
    place, service = settings.gateway_api, settings.gateway_service
    if place is None or not service:
        return None
    namespace, name = owner.plan.key.namespace, owner.plan.key.name
    paths = [f"/{namespace}/{name}/v1", f"/agents/{namespace}/{name}", f"/agents/{name}"]
    if name not in RESERVED:
        paths.append(f"/{name}/v1")
    rule: Object = {
        "matches": [{"path": {"type": "PathPrefix", "value": path}} for path in paths],
        "backendRefs": [
            {
                "group": "",
                "kind": "Service",
                "namespace": settings.home,
                "name": service,
                "port": GATEWAY_PORT,
                "weight": 1,
            }
        ],
    }
    # 0s: none. Without a word a Gateway may take a limit of its own: Envoy's has 15 s.
    seconds = owner.plan.workload.get("gatewayRoute", {}).get("timeout") or 0
    rule["timeouts"] = {"request": _duration(seconds) or "0s"}
    parent = {"group": HTTP_ROUTE.group, "kind": "Gateway", "namespace": place.namespace, "name": place.name}
    manifest = {
        "apiVersion": HTTP_ROUTE.api_version,
        "kind": HTTP_ROUTE.kind,
        "metadata": owner.metadata(name),
        "spec": {"parentRefs": [parent], "rules": [rule]},
    }
    return Child(HTTP_ROUTE, manifest)


def _duration(seconds: float) -> str:
    """As the Gateway API writes it: no fractions, and no more than five digits of a unit."""
    milliseconds = round(seconds * 1000)
    whole, rest = divmod(milliseconds, 1000)
    minutes, left = divmod(whole, 60)
    parts = [(minutes, "m"), (left, "s"), (rest, "ms")]
    return "".join(f"{number}{unit}" for number, unit in parts if number)
