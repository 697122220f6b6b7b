"""Everything a dedicated agent becomes, in the order in which it is applied."""

from __future__ import annotations

from kadre.operator.children import plan_map, scaling, service, service_account
from kadre.operator.children.common import Child, Owner, Settings
from kadre.operator.children.deployment import deployment


def children(owner: Owner, settings: Settings) -> list[Child]:
    """What a pod needs comes before the Deployment that makes pods."""
    replicas = None if scaling.is_scaled(owner.plan) else scaling.fewest(owner.plan)
    made = [
        service_account.service_account(owner),
        plan_map.plan_map(owner),
        service.service(owner),
        deployment(owner, settings, replicas=replicas),
        scaling.autoscaler(owner),
        scaling.disruption_budget(owner),
    ]
    return [child for child in made if child is not None]
