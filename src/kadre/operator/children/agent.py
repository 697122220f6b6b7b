"""Everything a dedicated agent becomes, in the order in which it is applied."""

from __future__ import annotations

from kadre.operator.children import http_route, network_policy, plan_map, scaling, service, service_account
from kadre.operator.children.common import Child, Owner, Settings
from kadre.operator.children.deployment import deployment


def children(owner: Owner, settings: Settings, *, keda: bool = False, scaled: bool = False) -> list[Child]:
    """What a pod needs comes before the Deployment that makes pods.

    `keda`: whether the cluster has KEDA; `scaled`: whether an autoscaler that is not ours says how many pods there are.
    """
    replicas, scaled = scaling.fewest(owner.plan), scaled or scaling.is_scaled(owner.plan)
    made = [
        service_account.service_account(owner),
        plan_map.plan_map(owner),
        service.service(owner),
        deployment(owner, settings, replicas=replicas, scaled=scaled),
        scaling.autoscaler(owner, settings, keda=keda),
        scaling.disruption_budget(owner),
        network_policy.network_policy(owner, settings),
        http_route.http_route(owner, settings),
    ]
    return [child for child in made if child is not None]
