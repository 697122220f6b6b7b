"""Who an agent's pod is in the cluster: nobody with a right to anything, unless its author names an account."""

from __future__ import annotations

from kadre.kube.kinds import SERVICE_ACCOUNT
from kadre.operator.children.common import Child, Owner
from kadre.plan.types import AgentPlan

DEFAULT = "default"
"""The account that every namespace has."""


def account_name(plan: AgentPlan) -> str:
    """The account of the agent's pod."""
    name: str = plan.workload.get("serviceAccountName") or plan.key.name
    return name


def service_account(owner: Owner) -> Child | None:
    """An account of the agent's own; None where its author names another one, which is theirs to make."""
    if owner.plan.workload.get("serviceAccountName"):
        return None
    metadata = owner.metadata(owner.name)
    if annotations := owner.plan.workload.get("serviceAccountAnnotations"):
        metadata["annotations"] = annotations
    manifest = {
        "apiVersion": SERVICE_ACCOUNT.api_version,
        "kind": SERVICE_ACCOUNT.kind,
        "metadata": metadata,
        "automountServiceAccountToken": False,
    }
    return Child(SERVICE_ACCOUNT, manifest)
