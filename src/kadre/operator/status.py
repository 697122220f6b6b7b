"""What is said of an object: pure functions to its status, which is written only where it says something new.

Ready is for people and for `kubectl wait`; Reconciling and Stalled follow kstatus: they are there only while they are
true, so that tools that know nothing of Kadre can tell what is going on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from kadre.api.conditions import State, conditions
from kadre.base.problems import Problem, errors
from kadre.kube.kinds import Object
from kadre.operator import refusals
from kadre.operator.children.common import MANAGER
from kadre.operator.children.environment import ANNOTATION
from kadre.operator.children.pod import has_code_run, template_hash
from kadre.plan.types import Dependency, Notice

TOLD = ("Ready", "Reconciling", "Stalled", "RolledBack", "Durable", "Permitted")
"""Conditions whose changes are told as Events."""
TERMINATING = "Terminating"
PASSING = (
    *("Pending", "Starting", "RollingOut", "Scaling", TERMINATING),
    *("Valid", "JournalInPod", "OwnJournal", "InstalledJournal"),
)
"""Reasons that are on the way to another one, or that everything is as everybody expects."""


_COLLECTORS = ("foregroundDeletion", "orphan")
"""Finalizers by which the garbage collector knows what to do with an object's children."""
MAX_DIGITS = 19
NOT_YET = "NotSupportedYet"
HINDERED = "ApiServerError"
RESOLVED = {
    "model": "ModelResolved",
    "template": "TemplateResolved",
    "memory": "MemoryResolved",
    "env": "EnvironmentResolved",
}
"""Conditions of what an agent has one of. Of its tools and agents each has a condition: `tool/NAME`, `agent/NAME`."""
MAX_DEPENDENCIES = 64
"""Of which the status tells one by one: those that lack something first."""
_NO_CONDITION = re.compile(r"[^-A-Za-z0-9_.]+")


class News(NamedTuple):
    """Something to tell people. `good`: nobody has to do anything."""

    reason: str
    message: str
    good: bool


class Trouble(NamedTuple):
    """What is in the way of a pod. `reason`: in Kubernetes' own word."""

    reason: str
    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class Rollout:
    """What is known of an agent's Deployment."""

    generation: int = 0
    observed: int = 0
    wanted: int = 0
    replicas: int = 0
    updated: int = 0
    ready: int = 0
    available: int = 0
    revision: int = 0
    template: str = ""
    """The hash of its pod template; see `children.deployment`."""
    environment: str = ""
    """What its pods' environment is read from; see `children.environment`."""
    account: str = ""
    """The ServiceAccount of its pods."""
    codes: bool = False
    """Whether its pods have code run that their models write."""
    scaled: bool = False
    """Whether somebody else than us says how many pods it has."""
    resume: str = ""
    """The command that lets it go on, where somebody has paused it."""
    trouble: str = ""
    """Why it does not get on, in the Deployment's own words; empty where it does."""
    fix: str = ""
    """What to do about that."""
    pods: Trouble | None = None
    """What is in the way of its pods, where somebody has looked; see `operator.pods`."""

    @property
    def settled(self) -> bool:
        """Every pod is of the latest plan, and there are no others."""
        return self.observed >= self.generation and self.updated == self.replicas == self.available >= self.wanted

    def superseded(self, generation: int) -> Rollout:
        """The same while it is known that it has become that generation, and nothing of how that gets on."""
        return replace(self, generation=max(generation, self.observed + 1), updated=0, trouble="")


@dataclass(frozen=True, slots=True)
class Facts:
    """What reconciling an agent found, in as few words as its status has."""

    problems: tuple[Problem, ...] = ()
    notices: tuple[str, ...] = ()
    """Messages of what it does without."""
    dependencies: tuple[State, ...] = ()
    """One of each thing that it refers to; see `dependencies`."""
    limits: tuple[str, ...] = ()
    """What the controller has no right to do for it."""
    durable: State | None = None
    least: int = 0
    """The fewest pods it is content with, where their number is an autoscaler's; 0: as many as its Deployment wants."""
    held: State | None = None
    """Why its Deployment is left as it is, whatever is wanted."""
    fields: Object = field(default_factory=dict)
    """Fields of the status besides conditions: model, url, planHash."""


def revision(obj: Object) -> int:
    """The revision of a Deployment or of its ReplicaSet; 0 where it has none yet."""
    text = (obj["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < MAX_DIGITS else 0


def rollout(deployment: Object) -> Rollout:
    """What is kept of a Deployment. What is said of an older generation than it is at counts for nothing."""
    status, metadata = deployment.get("status") or {}, deployment["metadata"]
    observed, generation = status.get("observedGeneration", 0), metadata.get("generation", 0)
    known = observed >= generation
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    trouble = ""
    for kind, bad in (("ReplicaFailure", "True"), ("Progressing", "False")):
        condition = conditions.get(kind)
        if known and condition is not None and condition["status"] == bad:
            trouble = condition.get("message") or condition.get("reason") or kind
            break
    place = metadata.get("namespace", ""), metadata.get("name", "")
    return Rollout(
        generation=generation,
        observed=observed,
        wanted=deployment["spec"].get("replicas", 1),
        replicas=status.get("replicas", 0),
        updated=status.get("updatedReplicas", 0) if known else 0,
        ready=status.get("readyReplicas", 0),
        available=status.get("availableReplicas", 0),
        revision=revision(deployment),
        template=template_hash(deployment["spec"]["template"]),
        environment=(deployment["spec"]["template"]["metadata"].get("annotations") or {}).get(ANNOTATION, ""),
        account=deployment["spec"]["template"].get("spec", {}).get("serviceAccountName", ""),
        codes=has_code_run(deployment["spec"]["template"]),
        scaled=_is_scaled(deployment),
        resume=_resume(metadata) if deployment["spec"].get("paused") else "",
        trouble=trouble,
        fix=refusals.fix(trouble, *place) if trouble else "",
    )


def _resume(metadata: Object) -> str:
    return f"kubectl rollout resume deployment/{metadata['name']} -n {metadata['namespace']}"


def _is_scaled(deployment: Object) -> bool:
    """Whether the number of its pods is another's. Who has set a field last, and with which value, is its manager."""
    managers = {
        each.get("manager")
        for each in deployment["metadata"].get("managedFields") or ()
        if "f:replicas" in (each.get("fieldsV1") or {}).get("f:spec", {})
    }
    return bool(managers) and MANAGER not in managers


def of_agent(before: Object, facts: Facts, deployment: Rollout | None, generation: int, now: datetime) -> Object:
    """An Agent's status. `before`: what it is now; `deployment`: None where there is none."""
    states = _agent_states(facts, deployment, before)
    at = {"revision": deployment.revision} if deployment is not None and deployment.revision else {}
    phase = _phase(states, deployment)
    return {
        "observedGeneration": generation,
        "phase": phase,
        **facts.fields,
        **_counted(deployment),
        **at,
        "conditions": _conditions(before, states, generation, now),
    }


def hindered(
    before: Object, answer: str, why: str, deployment: Rollout | None, generation: int, now: datetime, least: int = 0
) -> Object:
    """An Agent's status while the API server does not do what the agent needs: the rest stays as it was said last.

    `answer`: its code and word for it; `why` in its own words. The first of both are kept for as long as that lasts:
    where they change with every try each would be news. What was looked at stays the generation that was acted on.
    `least`: as in Facts.
    """
    known = {each["type"]: each for each in before.get("conditions") or ()}
    said = known.get("Reconciling", {})
    message = f"the API server answers {answer}: {why}; it is tried again, ever more rarely"
    if said.get("reason") == HINDERED and said.get("message"):
        message = said["message"]
    state = State("Reconciling", "True", HINDERED, message)
    ready = State("Ready", "False", HINDERED, message)
    of = generation
    if deployment is not None:
        of = before.get("observedGeneration", generation)  # what runs is what was acted on
        ready, *_ = _rollout_states(deployment, serves=_serves(deployment, least, before))
    others = [each for kind, each in known.items() if kind not in {"Ready", "Reconciling", "Stalled"}]
    now_said = [*_conditions(before, [ready], of, now), *_conditions(before, [state], generation, now), *others]
    return {**before, "phase": _phase([ready, state], deployment), **_counted(deployment), "conditions": now_said}


def leaving(
    before: Object, finalizers: Sequence[str], deployment: Rollout | None, generation: int, now: datetime
) -> Object:
    """An Agent's status while it is being deleted: nothing is done for it any more, and the rest was said before.

    What becomes of its objects is the cluster's garbage collector's to do, as whoever deletes the agent has asked it
    to: where they are not to go before it, they are there, and its pods answer, until it has gone.
    """
    others = [name for name in finalizers if name not in _COLLECTORS]
    if "foregroundDeletion" in finalizers:
        fate = "its objects go first"
    elif "orphan" in finalizers:
        fate = "its objects stay, and are nobody's"
    else:
        answers = deployment is not None and deployment.available
        fate = f"its objects go after it{', and until then its pods answer' if answers else ''}"
    message = f"it is being deleted; {fate}"
    if others:
        message += f"; it is held by {', '.join(others)} (whoever set a finalizer takes it away when it is done)"
    gone = {"Ready", "Reconciling", "Stalled"}
    kept = [each for each in before.get("conditions") or () if each["type"] not in gone]
    rest = {key: value for key, value in before.items() if key not in {"replicas", "readyReplicas"}}
    return {
        **rest,
        "observedGeneration": generation,
        "phase": TERMINATING,
        **_counted(deployment),
        "conditions": [*_conditions(before, [State("Ready", "False", TERMINATING, message)], generation, now), *kept],
    }


def _counted(deployment: Rollout | None) -> Object:
    return {} if deployment is None else {"replicas": deployment.replicas, "readyReplicas": deployment.ready}


def of_other(before: Object, facts: Facts, unbuilt: str, generation: int, now: datetime) -> Object:
    """The status of an object that is no agent: whether it can be used. `unbuilt`: why nothing can be run of it yet."""
    wrong = errors(facts.problems)
    if wrong:
        states = [_stalled_ready(wrong), State("Stalled", "True", wrong[0].reason, told(wrong))]
    elif unbuilt:
        states = [State("Ready", "False", NOT_YET, unbuilt)]
    else:
        states = [State("Ready", "True", "Valid", told(facts.problems))]
    if unbuilt or facts.notices:
        states.append(State("Supported", "False", NOT_YET, unbuilt or "; ".join(facts.notices)))
    return {"observedGeneration": generation, "conditions": _conditions(before, states, generation, now)}


def dependencies(followed: Iterable[Dependency], ref: str) -> tuple[State, ...]:
    """What is said of each thing that the agent `ref` refers to: whether it is there and can be used."""
    states: dict[str, State] = {}
    for each in followed:
        state = _dependency(each, ref)
        before = states.get(state.type)
        if before is None or before.status == "True":  # of two that share a name the one that lacks something
            states[state.type] = state
    return tuple(sorted(states.values(), key=lambda state: state.status)[:MAX_DEPENDENCIES])


def messages(notices: Iterable[Notice]) -> tuple[str, ...]:
    """What is done without, because it is not built yet."""
    return tuple(notice.message for notice in notices if notice.reason == NOT_YET)


def _dependency(each: Dependency, ref: str) -> State:
    kind = RESOLVED.get(each.kind) or f"{each.kind}/{_NO_CONDITION.sub('-', each.name).strip('-_.') or 'unnamed'}"
    problems, lacking = own(each.problems, ref), messages(each.notices)
    if wrong := errors(problems):
        return State(kind, "False", wrong[0].reason, told(wrong))
    if lacking:
        return State(kind, "False", NOT_YET, "; ".join([*lacking, *filter(None, [told(problems)])]))
    return State(kind, "True", "Resolved", told(problems) or each.found)


def news(before: Object, after: Object) -> list[News]:
    """What a person wants to know of the change from one status to the other: how it ended, not the steps between."""
    known = {each["type"]: (each["status"], each.get("reason")) for each in before.get("conditions") or ()}
    found: list[News] = []
    for each in after["conditions"]:
        said = (each["status"], each["reason"])
        new = known.get(each["type"]) != said and each["reason"] not in PASSING
        if each["type"] in TOLD and new and all(item.reason != each["reason"] for item in found):
            good = each["status"] == "True" and each["type"] not in {"Reconciling", "Stalled"}
            found.append(News(each["reason"], each.get("message", ""), good))
    return found


def own(problems: Iterable[Problem], ref: str) -> tuple[Problem, ...]:
    """Problems as the status of the object `ref` tells them: it need not say that it is about itself."""
    return tuple(replace(each, resource="") if each.resource == ref else each for each in problems)


def told(problems: Iterable[Problem]) -> str:
    """Problems in one message, each with its field and what to do about it."""
    parts = []
    for problem in problems:
        place = ": ".join(part for part in (problem.resource, problem.path) if part)
        said = f"{place}: {problem.message}" if place else problem.message
        parts.append(f"{said} ({problem.fix})" if problem.fix else said)
    return "; ".join(parts)


def _agent_states(facts: Facts, deployment: Rollout | None, before: Object) -> list[State]:
    wrong = errors(facts.problems)
    states = []
    if wrong:
        states += [_stalled_ready(wrong), State("Stalled", "True", wrong[0].reason, told(wrong))]
    elif deployment is None:
        states.append(State("Ready", "False", "Pending", "its Deployment is being made"))
        states.append(State("Reconciling", "True", "Pending", "its Deployment is being made"))
    else:
        states += _rollout_states(deployment, serves=_serves(deployment, facts.least, before))
    states += facts.dependencies
    states += [state for state in (facts.durable, facts.held) if state is not None]
    if facts.notices:
        states.append(State("Supported", "False", NOT_YET, "; ".join(facts.notices)))
    if facts.limits:
        states.append(State("Permitted", "False", "MissingRights", "; ".join(facts.limits)))
    return states


def _serves(deployment: Rollout, least: int, before: Object) -> bool:
    """Whether enough pods answer: all that are wanted, or the fewest that an autoscaler may leave.

    One that was ready also stays so while it has lost no pod since: what it lacks is being added. The Deployment's own
    condition, Available, does not tell: of ours no pod may be away, and so it is false whenever one is added.
    """
    if deployment.available >= max(1, min(least or deployment.wanted, deployment.wanted)):
        return True
    conditions = before.get("conditions") or ()
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and deployment.available >= max(1, before.get("readyReplicas", 0))


def _rollout_states(deployment: Rollout, *, serves: bool) -> list[State]:
    counted = f"{deployment.available} of {deployment.wanted} pods are available"
    if deployment.settled:
        reason = "ScaledToZero" if deployment.wanted == 0 else "Available"
        return [State("Ready", "True", reason, counted)]
    if deployment.resume:
        paused = f"somebody has paused its Deployment, and what has changed since waits ({deployment.resume})"
        ready = State("Ready", "True" if serves else "False", "DeploymentPaused", f"{counted}: {paused}")
        return [ready, State("Reconciling", "True", "DeploymentPaused", paused)]
    # While a new plan rolls out over pods of the one before, and while pods are added, the agent goes on answering.
    going = "Scaling" if serves and deployment.updated == deployment.replicas else "RollingOut"
    stuck = deployment.pods
    if deployment.trouble:
        # It may get on by itself, once there is room or the image can be had: kstatus calls that stalled all the same.
        reason = stuck.reason if stuck is not None else "DeploymentFailed"
        own_words = Trouble(reason, deployment.trouble, deployment.fix)
        why = f"{_why(stuck)}; {deployment.trouble}" if stuck is not None else _why(own_words)
        return [_ready(serves, going, reason, f"{counted}: {why}"), State("Stalled", "True", reason, why)]
    if stuck is not None:
        # Not stalled before the Deployment's own deadline: a node or an image may be on its way.
        why = _why(stuck)
        return [
            _ready(serves, going, stuck.reason, f"{counted}: {why}"),
            State("Reconciling", "True", stuck.reason, why),
        ]
    how = f"{deployment.updated} of {deployment.wanted} pods are new" if going == "RollingOut" else counted
    return [_ready(serves, going, "Starting", counted), State("Reconciling", "True", going, how)]


def _ready(serves: bool, going: str, otherwise: str, message: str) -> State:
    """`going`: the reason where it answers; `otherwise`: where it does not. A reason says why it has that status."""
    return State("Ready", "True", going, message) if serves else State("Ready", "False", otherwise, message)


def _why(stuck: Trouble) -> str:
    return f"{stuck.message} ({stuck.fix})" if stuck.fix else stuck.message


def _stalled_ready(wrong: Sequence[Problem]) -> State:
    return State("Ready", "False", wrong[0].reason, told(wrong))


def _phase(states: Sequence[State], deployment: Rollout | None) -> str:
    by_type = {state.type: state for state in states}
    if "Stalled" in by_type:
        return "Degraded" if deployment is not None and deployment.available else "Failed"
    if by_type["Ready"].status == "True":
        return "Ready"
    return "Degraded" if deployment is not None and deployment.available else "Pending"


def _conditions(before: Object, states: Iterable[State], generation: int, now: datetime) -> list[Any]:
    """The states as conditions, with the times of those that have not moved; what is no longer said goes."""
    return conditions(before.get("conditions") or (), states, generation, now)
