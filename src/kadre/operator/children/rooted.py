"""Objects that serve several agents: they belong to one ConfigMap, the root, which belongs to each of these agents.

When the last of the agents has gone, Kubernetes takes the root away and the rest after it, whoever is at work by then.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kadre.kube import kinds
from kadre.kube.kinds import Object
from kadre.operator.children.common import MANAGED_BY, MANAGER


class Member(NamedTuple):
    """One of the agents, as an owner is named."""

    kind: str
    api_version: str
    name: str
    uid: str


def root(metadata: Object, members: Iterable[Member]) -> Object:
    """The root, which is everybody's."""
    owners = [
        {"apiVersion": each.api_version, "kind": each.kind, "name": each.name, "uid": each.uid}
        for each in sorted(members)
    ]
    metadata = {**metadata, "ownerReferences": owners}
    return {"apiVersion": "v1", "kind": kinds.CONFIG_MAP.kind, "metadata": metadata}


def belonging(name: str, uid: str) -> list[Object]:
    """The owner of what belongs to a root of that name and uid."""
    owner = {"apiVersion": "v1", "kind": kinds.CONFIG_MAP.kind, "name": name, "uid": uid}
    return [{**owner, "controller": True}]


def is_root(obj: Object) -> bool:
    """Whether that is a root of ours, and not an object of somebody else's."""
    labels = obj["metadata"].get("labels") or {}
    controlled = any(each.get("controller") for each in obj["metadata"].get("ownerReferences") or ())
    return labels.get(MANAGED_BY) == MANAGER and not controlled
