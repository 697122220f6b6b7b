"""The Secrets a plan refers to, as files in the agent's pod: never in its environment, and never in the plan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from operator import is_
from typing import Any, TypeVar, cast

import msgspec

from kadre.kube.kinds import Object
from kadre.plan.types import AgentPlan, SecretRef

T = TypeVar("T")
_PLAIN = frozenset({str, int, float, bool, type(None)})
FOLDER = "/var/run/kadre/secrets"
"""One folder a Secret in it, one file a key."""


def references(plan: AgentPlan) -> dict[str, list[str]]:
    """The keys the plan refers to, by the name of their Secret, both sorted."""
    found: dict[str, set[str]] = defaultdict(set)
    for ref in _walk(plan):
        if ref.name and ref.namespace == plan.key.namespace:
            found[ref.name].add(ref.key)
    return {name: sorted(found[name]) for name in sorted(found)}


def volumes(plan: AgentPlan) -> tuple[list[Object], list[Object]]:
    """The pod's volumes and their mounts. A Secret that is not there does not keep the pod from starting."""
    made, mounts = [], []
    for number, (name, keys) in enumerate(references(plan).items()):
        items = [{"key": key, "path": key} for key in keys]
        secret = {"secretName": name, "items": items, "optional": True, "defaultMode": 0o440}
        made.append({"name": f"secret-{number}", "secret": secret})
        mounts.append({"name": f"secret-{number}", "mountPath": f"{FOLDER}/{name}", "readOnly": True})
    return made, mounts


def without_variables(value: T) -> T:
    """The same plan with Secrets alone as places of secrets: a laptop's `.env` and variables are none in a cluster.

    Which of a laptop's places a reference names depends on what is there just then; a plan must not.
    """
    if not any(ref.name and (ref.env or ref.exported) for ref in _walk(value)):
        return value
    return _without_variables(value)


def _without_variables(value: T) -> T:
    if isinstance(value, SecretRef):
        named = value.name and (value.env or value.exported)
        return msgspec.structs.replace(value, env="", exported=False) if named else value
    if isinstance(value, msgspec.Struct):
        fields = {field: getattr(value, field) for field in value.__struct_fields__}
        changed = {field: made for field, part in fields.items() if (made := _without_variables(part)) is not part}
        return msgspec.structs.replace(value, **changed) if changed else value
    if isinstance(value, dict):
        made_dict = {key: _without_variables(part) for key, part in value.items()}
        return cast("T", made_dict) if any(made_dict[key] is not value[key] for key in value) else value
    if isinstance(value, tuple):
        made_tuple = tuple(_without_variables(part) for part in value)
        return value if all(map(is_, made_tuple, value)) else cast("T", made_tuple)
    return value


def _walk(plan: Any) -> Iterator[SecretRef]:
    """Every reference in it, in no order. Its types are looked at first: of hundreds of values few are references."""
    left = [plan]
    while left:
        value = left.pop()
        kind = type(value)
        if kind in _PLAIN:
            continue
        if kind is SecretRef:
            yield value
        elif isinstance(value, msgspec.Struct):
            left += [getattr(value, field) for field in value.__struct_fields__]
        elif kind is dict:
            left += value.values()
        elif kind is tuple or kind is list:
            left += value
