"""What people have put into an object by hand, told by who the API server says has set each field.

A field that somebody else adds is theirs, as server-side apply has it, and applying ours leaves it. That is right for
controllers that work beside us. What is set with kubectl on an object that is made of another one is a slip: it is
taken over, so that the next apply, which does not want it, takes it away. Flux's kustomize-controller does the same.
"""

from __future__ import annotations

import json
from typing import Any

from kadre.kube.kinds import Object

HANDS = "kubectl"
"""How the names of people's field managers begin: kubectl, kubectl-edit, kubectl-patch, kubectl-set."""
OPERATED = (
    ("f:replicas",),
    ("f:paused",),
    ("f:template", "f:metadata", "f:annotations"),  # kubectl rollout restart
)
"""Fields of a spec by which people work an object, where they are not ours."""
_SPEC = "f:spec"


def taken_over(there: Object, wanted: Object, manager: str) -> list[Object] | None:
    """The object's managedFields where what hands have added to its spec is `manager`'s; None: they have added nothing.

    `there`: the object as it is; `wanted`: what `manager` applies.
    """
    entries: list[Object] = there["metadata"].get("managedFields") or []
    mine = next((each for each in entries if _applies(each, manager)), None)
    if mine is None:
        return None
    added: Object = {}
    others: list[Object] = []
    for entry in entries:
        if entry is mine:
            continue
        left = entry
        fields = entry.get("fieldsV1") or {}
        if _is_hand(entry) and entry.get("apiVersion") == mine.get("apiVersion") and _SPEC in fields:
            more, rest = _split(fields[_SPEC], wanted.get("spec") or {})
            if more:
                added = _merged(added, {_SPEC: more})
                said = {**fields, _SPEC: rest} if rest else {key: fields[key] for key in fields if key != _SPEC}
                left = {**entry, "fieldsV1": said}
        if left.get("fieldsV1"):
            others.append(left)
    if not added:
        return None
    return [{**mine, "fieldsV1": _merged(mine.get("fieldsV1") or {}, added)}, *others]


def _applies(entry: Object, manager: str) -> bool:
    named = entry.get("manager") == manager and entry.get("operation") == "Apply"
    return named and not entry.get("subresource")


def _is_hand(entry: Object) -> bool:
    return str(entry.get("manager", "")).startswith(HANDS) and not entry.get("subresource")


def _split(fields: Object, wanted: Any, path: tuple[str, ...] = ()) -> tuple[Object, Object]:
    """A set of fields as those that `wanted` does not have, and the others."""
    added: Object = {}
    rest: Object = {}
    for field, within in fields.items():
        at = (*path, field)
        there, value = _find(wanted, field)
        if at in OPERATED:
            rest[field] = within
        elif not there and not any(each[: len(at)] == at for each in OPERATED):
            added[field] = within
        elif within:
            more, left = _split(within, value, at)
            if more:
                added[field] = more
            if left:
                rest[field] = left
        else:
            rest[field] = within
    return added, rest


def _find(wanted: Any, field: str) -> tuple[bool, Any]:
    """Whether it has that field, as sets of fields name them, and what it is."""
    how, _, name = field.partition(":")
    if field == ".":
        return True, None
    if how == "f":
        known = wanted if isinstance(wanted, dict) else {}
        return name in known, known.get(name)
    entries = wanted if isinstance(wanted, list) else []
    if how == "k":
        keys: Object = json.loads(name)
        # A key that is not said has its default, which is what the API server then tells it apart by.
        found = [each for each in entries if all(each.get(key, value) == value for key, value in keys.items())]
        return bool(found), found[0] if found else None
    return (json.loads(name) in entries if how == "v" else True), None


def _merged(one: Object, other: Object) -> Object:
    return {**one, **{key: _merged(one.get(key) or {}, within) for key, within in other.items()}}
