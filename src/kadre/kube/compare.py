"""Whether an object already is as it is to be: what the API server fills in does not count as a difference."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from kadre.base.quantities import quantity
from kadre.kube.kinds import Object

_QUANTITIES = frozenset({"requests", "limits", "target"})
"""Fields in which values are quantities, of which one has many spellings."""
_EXACT = frozenset({"selector", "matchLabels", "nodeSelector"})
"""Fields in which one entry more is another meaning."""
_NAMES = ("name", "mountPath", "type", "key")
"""Fields by which entries of a list are told apart, where others may put entries of their own between ours."""
# Written by others with every change of theirs, or with any write at all.
_VOLATILE = frozenset({"resourceVersion", "managedFields", "generation", "uid", "creationTimestamp", "selfLink"})
_FOREIGN = "deployment.kubernetes.io/"


def covers(live: Any, wanted: Any, field: str = "") -> bool:
    """Whether `live` has everything that `wanted` says; `field`: what it is the value of."""
    if isinstance(wanted, dict):
        if not isinstance(live, dict):
            return False
        if field in _EXACT and live.keys() != wanted.keys():
            return False
        within = field if field in _QUANTITIES else ""
        return all(key in live and covers(live[key], value, within or key) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(live, list) and _covers_list(live, wanted)
    if live == wanted:
        return True
    return field in _QUANTITIES and _same_quantity(live, wanted)


def _covers_list(live: list[Any], wanted: list[Any]) -> bool:
    if len(live) == len(wanted):
        return all(covers(there, entry) for there, entry in zip(live, wanted, strict=True))
    name = next((name for name in _NAMES if all(isinstance(entry, dict) and name in entry for entry in wanted)), None)
    if name is None or not wanted:
        return False
    known = {entry.get(name): entry for entry in live if isinstance(entry, dict)}
    return all(entry[name] in known and covers(known[entry[name]], entry) for entry in wanted)


def _same_quantity(live: Any, wanted: Any) -> bool:
    try:
        return quantity(live) == quantity(wanted)
    except ValueError:
        return False


def digest(obj: Object) -> bytes:
    """Names what an object says, without its status and what changes with every write of anybody."""
    metadata = {key: value for key, value in obj["metadata"].items() if key not in _VOLATILE}
    annotations = metadata.get("annotations")
    if annotations:
        metadata["annotations"] = {key: text for key, text in annotations.items() if not key.startswith(_FOREIGN)}
    said = {key: value for key, value in obj.items() if key not in ("metadata", "status", "kind", "apiVersion")}
    return hashlib.blake2b(msgspec.json.encode((metadata, said), order="sorted"), digest_size=12).digest()
