"""Which versions of Secrets and ConfigMaps an agent's environment is read from: a process reads it once, at its start.

The pod template says them, so that a rotated value rolls the pods. They are no part of its hash: a rollback past a
rotation would otherwise look like another plan, and no rollback brings an old value back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from kadre.kube.kinds import Object
from kadre.plan.types import AgentPlan

ANNOTATION = "kagent.dev/environment"
_KINDS = {"secretKeyRef": "Secret", "configMapKeyRef": "ConfigMap"}


def environment(plan: AgentPlan, version: Callable[[str, str], str], live: str) -> str:
    """What an agent's environment is read from; see `read_from`."""
    return read_from(plan.workload.get("env") or (), version, live)


def read_from(variables: Iterable[Object], version: Callable[[str, str], str], live: str) -> str:
    """As in `Secret/openai@81, ConfigMap/urls@7`, sorted; empty where nothing is read from anywhere.

    `version`: the resource version of what has that kind and name; empty where it is not there. What is not there keeps
    the version that the `live` template says: to roll pods that run to ones that cannot start would help nobody.
    """
    known = dict(entry.rpartition("@")[::2] for entry in live.split(", ") if entry)
    read = {f"{kind}/{name}": version(kind, name) for kind, name in set(_sources(variables))}
    said = {source: found or known.get(source, "") for source, found in read.items()}
    return ", ".join(f"{source}@{said[source]}" for source in sorted(said) if said[source])


def _sources(variables: Iterable[Object]) -> Iterator[tuple[str, str]]:
    for variable in variables:
        for field, reference in (variable.get("valueFrom") or {}).items():
            if field in _KINDS:
                yield _KINDS[field], reference["name"]
