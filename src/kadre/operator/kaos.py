"""Status in KAOS's own shape: pure functions between it and the native one, in which what is said is worked out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from kadre.api.conditions import State
from kadre.kube.kinds import Object
from kadre.plan.types import KAOS_GROUP

DEPENDENCIES = "DependenciesReady"
"""The condition of an agent that uses servers: whether each of them answers."""
_COUNTS = ("replicas", "readyReplicas")
_WAITS = ("Missing", "BrokenReference")
"""How the reasons begin of what is not there yet."""
_PHASES = {"Ready": "Ready", "Pending": "Pending", "Terminating": "Pending"}


def is_kaos(group: str) -> bool:
    """Whether objects of that API group have KAOS's status."""
    return group == KAOS_GROUP


def native(status: Object) -> Object:
    """KAOS's status in the native kind's words, as far as what is said next depends on it."""
    counted = status.get("deployment") or {}
    return {**status, **{name: counted[name] for name in _COUNTS if name in counted}}


def shaped(status: Object, more: Mapping[str, object]) -> Object:
    """The native status in KAOS's words. `more`: fields that only KAOS's kinds have; empty ones are left out."""
    conditions = {each["type"]: each for each in status["conditions"]}
    ready = conditions["Ready"]
    waits = conditions.get(DEPENDENCIES, {})
    message = ready["message"]
    phase = "Ready" if ready["status"] == "True" else _PHASES.get(status.get("phase", ""), "Failed")
    if phase != "Ready" and waits.get("status") == "False":
        phase, message = "Waiting", waits["message"]
    elif phase == "Failed" and ready["reason"].startswith(_WAITS):
        phase = "Waiting"
    counted = {name: status[name] for name in _COUNTS if name in status}
    fields = {
        "phase": phase,
        "ready": ready["status"] == "True",
        "endpoint": status.get("url", ""),
        "message": message,
        "model": status.get("model", ""),
        "planHash": status.get("planHash", ""),
        "delegates": status.get("delegates", []),
        "deployment": counted,
        **more,
    }
    said = {name: value for name, value in fields.items() if value not in ("", {}, [], None)}
    return {"observedGeneration": status["observedGeneration"], **said, "conditions": status["conditions"]}


def linked(servers: Iterable[Object]) -> dict[str, str]:
    """What an agent uses, as its status tells: `modelAPI: ollama`, `mcpServer/echo: echo`."""
    made = {}
    for each in servers:
        field = "modelAPI" if each["kind"] == "ModelAPI" else f"mcpServer/{each['name']}"
        made[field] = each["name"]
    return made


def waiting(servers: Iterable[Object], status_of: Callable[[str, str], Object | None]) -> State | None:
    """Whether the servers that an agent uses answer; None where it uses none. `status_of`: of a kind and a name."""
    lacking, known = [], False
    for each in servers:
        known = True
        status = status_of(each["kind"], each["name"])
        if status is None or not status.get("ready"):
            why = (status or {}).get("message") or "nothing is said of it yet"
            lacking.append(f"{each['kind']} {each['name']}: {why}")
    if not known:
        return None
    if lacking:
        return State(DEPENDENCIES, "False", "Waiting", f"waits for {'; '.join(lacking)}")
    return State(DEPENDENCIES, "True", "Available", "")
