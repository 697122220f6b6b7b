"""Why an agent's pods do not come up: those of a Deployment that does not get on are looked at, now and then.

Following every pod of a cluster would cost memory for each of them, and one that gets on is nobody's concern.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from kadre.base.clock import Clock
from kadre.base.errors import shorten
from kadre.kube import kinds
from kadre.kube.client import Client, Scope
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Object
from kadre.operator.children.common import HTTP_PORT, MANAGED_BY, MANAGER
from kadre.operator.children.pod import CONTAINER, HEALTH_PATH, template_hash
from kadre.operator.rights import Rights
from kadre.operator.status import Rollout, Trouble

log = logging.getLogger(__name__)

FIRST = 3.0
"""Seconds in which a pod that comes up usually does; from then on the waits between two looks double."""
LONGEST = 30.0
SAID_LIMIT = 400
"""Characters of what somebody else says of a pod."""
PATIENCE = 15.0
"""Seconds in which a container that runs usually answers its probe."""
_FIX = "fix:"
"""How the line begins that follows an error of ours."""
_ROOM = "lower spec.resources or the number of pods, or give the cluster a node with room"
_IMAGE = "correct the image's name, or give the nodes access to its registry"
_WAITING = {
    "ErrImagePull": _IMAGE,
    "ImagePullBackOff": _IMAGE,
    "ErrImageNeverPull": "load the image onto the nodes, or let them pull it",
    "InvalidImageName": "correct the image's name",
    "CreateContainerConfigError": "create what is missing, or take it out of spec.env",
    "CreateContainerError": "the node's kubelet and container runtime know more",
    "RunContainerError": "the node's kubelet and container runtime know more",
}
"""Reasons of a container that waits for more than its turn, each with what to do."""
_STEADY = {"ErrImagePull": "ImagePullBackOff"}
"""Reasons that come and go with each other, as the one that is told."""


@dataclass(slots=True)
class _Look:
    generation: int
    """Of the Deployment."""
    due: float
    wait: float = FIRST
    found: Trouble | None = None


class Pods:
    """Looks at the pods of Deployments that do not get on."""

    def __init__(self, client: Client, clock: Clock, rights: Rights) -> None:
        self._client = client
        self._clock = clock
        self._looks: dict[Key, _Look] = {}
        self._rights = rights
        self._began: float | None = None

    async def explained(self, key: Key, rollout: Rollout | None) -> tuple[Rollout | None, float]:
        """The rollout with what is in the way of its pods, and the seconds to the next look; 0 where there is none.

        Raises ApiError.
        """
        allowed = self._rights.may(kinds.POD, "list", namespace=key.namespace)
        if rollout is None or rollout.settled or rollout.observed < rollout.generation or not allowed:
            self._looks.pop(key, None)
            return rollout, 0.0
        now = self._clock.monotonic()
        look = self._looks.get(key)
        if self._began is None:
            self._began = now
        if look is None or look.generation != rollout.generation:
            # What was in the way before this process began may be in the way still, and its status says so already.
            due = now if now - self._began < FIRST else now + FIRST
            look = self._looks[key] = _Look(rollout.generation, due)
        if now >= look.due:
            pods = [pod for pod in await self._pods(key) if template_hash(pod) == rollout.template]
            look.found = trouble(pods, self._clock.now())
            look.wait = min(look.wait * 2, LONGEST)
            look.due = now + look.wait
        return replace(rollout, pods=look.found), look.due - now

    async def last_words(self, key: Key, template: str, container: str) -> str:
        """What a container that runs first has said at its end, in pods of that template. Raises ApiError."""
        for pod in await self._pods(key):
            if template_hash(pod) == template:
                for each in pod.get("status", {}).get("initContainerStatuses") or ():
                    ended = each.get("state", {}).get("terminated") or {}
                    if each["name"] == container and not ended.get("exitCode", 1):
                        said: str = ended.get("message") or ""
                        return said.strip()
        return ""

    def forget(self, key: Key) -> None:
        """The Deployment is gone."""
        self._looks.pop(key, None)

    async def _pods(self, key: Key) -> list[Object]:
        scope = Scope(key.namespace, f"{MANAGED_BY}={MANAGER},app={key.name}")
        try:
            return (await self._client.list(kinds.POD, scope)).items
        except ApiError as error:
            if not error.forbidden:
                raise
            log.info("%s: no status says why its pods do not come up: %s", key, error)
            return []


def trouble(pods: Iterable[Object], now: datetime) -> Trouble | None:
    """What is in the way of the first of these pods that something is in the way of."""
    for pod in pods:
        if "deletionTimestamp" in pod["metadata"]:
            continue
        found = _unscheduled(pod) or _stopped(pod) or _silent(pod, now) or _beginning(pod)
        if found is not None:
            message = shorten(found.message, SAID_LIMIT)
            return found._replace(message=f"pod {pod['metadata']['name']}: {message}")
    return None


def _unscheduled(pod: Object) -> Trouble | None:
    for condition in pod.get("status", {}).get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Trouble(condition.get("reason") or "Unschedulable", condition.get("message") or "no node", _ROOM)
    return None


def _stopped(pod: Object) -> Trouble | None:
    status = pod.get("status", {})
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = container.get("state", {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason in _WAITING:
            return Trouble(_STEADY.get(reason, reason), waiting.get("message") or reason, _WAITING[reason])
        done = (container.get("state", {}).get("terminated") or {}).get("reason") == "Completed"
        if not container.get("ready") and not done:
            # One that ends again and again also runs for moments in between: that is no news.
            ended = container.get("lastState", {}).get("terminated") or container.get("state", {}).get("terminated")
            if ended:
                return _crashed(pod, container.get("restartCount", 0), ended)
    return None


def _crashed(pod: Object, restarts: int, ended: Object) -> Trouble:
    how = f"{ended.get('reason') or 'Error'}, exit code {ended.get('exitCode', 0)}"
    message = f"its container ended ({how}) and was started anew {restarts} times"
    named = f"-n {pod['metadata']['namespace']} {pod['metadata']['name']}"
    words, fix = _last_words(ended.get("message") or "")
    if words:
        message = f"{message}; its last words: {words}"
    fix = fix or f"look at kubectl logs {named} --previous"
    if ended.get("reason") == "OOMKilled":
        fix = "raise spec.resources.limits.memory"
    elif not ended.get("exitCode"):
        # One of ours does not end by itself: it was told to.
        fix = f"it may fail its spec.healthCheck: look at kubectl describe pod {named}"
    return Trouble("CrashLoopBackOff", message, fix)


def _last_words(said: str) -> tuple[str, str]:
    """Why a process ended, as it says itself, and the fix that it names; empty where it says nothing."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if len(lines) > 1 and lines[-1].startswith(_FIX):
        return lines[-2].removeprefix("error: "), lines[-1].removeprefix(_FIX).strip()
    return (lines[-1] if lines else ""), ""


def _beginning(pod: Object) -> Trouble | None:
    """A container that runs before the others: what it does may take a while."""
    for container in pod.get("status", {}).get("initContainerStatuses") or ():
        if "running" in container.get("state", {}):
            return Trouble("Initializing", f"its container {container['name']} runs before it", "")
    return None


def _silent(pod: Object, now: datetime) -> Trouble | None:
    """An agent that runs and does not answer its probe; another's container beside it is not told of."""
    states = pod.get("status", {}).get("containerStatuses") or ()
    status: Object = next((each for each in states if each.get("name") == CONTAINER), {})
    started = (status.get("state", {}).get("running") or {}).get("startedAt")
    asked = _probe(pod)
    if not started or status.get("ready") or asked is None:
        return None
    if (now - datetime.fromisoformat(started)).total_seconds() < PATIENCE:
        return None
    usual = f":{_usual(pod)}{HEALTH_PATH}"
    fix = f"correct spec.healthCheck, or take it out: an agent answers GET {usual}"
    if asked == usual:
        named = f"-n {pod['metadata']['namespace']} {pod['metadata']['name']}"
        fix = f"look at kubectl logs {named}: there is what it waits for"
    return Trouble("Unhealthy", f"its container runs and GET {asked} isn't answered with 200", fix)


def _usual(pod: Object) -> int:
    """The port at which an agent answers."""
    containers = [each for each in pod.get("spec", {}).get("containers") or () if each.get("name") == CONTAINER]
    ports = [port for each in containers for port in each.get("ports") or () if port.get("name") == "http"]
    found: int = ports[0]["containerPort"] if ports else HTTP_PORT
    return found


def _probe(pod: Object) -> str | None:
    """What an agent's container is asked, as `:PORT/PATH`; None where it is not."""
    containers = pod.get("spec", {}).get("containers") or ()
    container: Object = next((each for each in containers if each.get("name") == CONTAINER), {})
    asked = container.get("readinessProbe", {}).get("httpGet")
    if asked is None:
        return None
    ports = {each.get("name"): each["containerPort"] for each in container.get("ports") or ()}
    return f":{ports.get(asked['port'], asked['port'])}/{asked.get('path', '').removeprefix('/')}"
