"""Where an agent's conversations are kept in a cluster: its memory's server, the installation's, or its pod."""

from __future__ import annotations

from collections.abc import Callable

from kadre.api.conditions import State
from kadre.kube.kinds import Object
from kadre.operator.children import scaling
from kadre.operator.children.common import Settings
from kadre.plan.types import AgentPlan

FOLDER = "/var/run/kadre/journal"
SERVERS = ("postgres", "redis")
"""Types of memory that are kept on a server: by all replicas, and when a pod has gone."""
KEY = "url"
"""Of the installation's Secret: the address, `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`."""


def installed(plan: AgentPlan, settings: Settings) -> str:
    """The Secret of the journal that the installation gives; empty where the agent uses another, or has none."""
    return settings.journal_of(plan.key.namespace) if plan.memory.type == "default" else ""


def volume(secret: str) -> Object:
    """The pod's volume. A Secret that is not there does not keep the pod from starting: the agent waits for it."""
    items = [{"key": KEY, "path": KEY}]
    return {
        "name": "journal",
        "secret": {"secretName": secret, "items": items, "optional": True, "defaultMode": 0o440},
    }


def mount() -> Object:
    """Where the container has it."""
    return {"name": "journal", "mountPath": FOLDER, "readOnly": True}


def durable(plan: AgentPlan, settings: Settings, has_secret: Callable[[str], bool]) -> State:
    """Whether conversations outlive the pod that holds them, and are the same for every replica.

    `has_secret`: whether a Secret of that name is in the agent's namespace, as far as one may look.
    """
    if plan.memory.type == "postgres":
        return State("Durable", "True", "OwnJournal", "conversations are kept in the PostgreSQL server of its memory")
    if plan.memory.type == "redis":
        message = "conversations are kept in the Redis server of its memory, which is as durable as its appendfsync"
        return State("Durable", "True", "OwnJournal", message)
    secret = installed(plan, settings)
    if secret and not has_secret(secret):
        message = f"pods wait for the Secret {plan.key.namespace}/{secret}, which says where conversations are kept"
        create = f"kubectl create secret generic {secret} -n {settings.home} --from-literal={KEY}=postgresql://…"
        return State("Durable", "False", "MissingSecret", f"{message}; {create}")
    if secret:
        message = f"conversations are kept in the PostgreSQL server that the Secret {secret} names"
        return State("Durable", "True", "InstalledJournal", message)
    message, reason = "conversations live in the pod and end with it", "JournalInPod"
    if scaling.most(plan) > 1:
        message += f", and each of up to {scaling.most(plan)} replicas knows its own only"
        reason = "JournalNotShared"
    fix = "give the agent a memory of type postgres or redis, or the chart a journal (journal.existingSecret)"
    return State("Durable", "False", reason, f"{message}; {fix}")
