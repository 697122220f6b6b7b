"""The rights that the controller works with, and what it does without those it has not got.

`RULES` is the only list of them: the controller asks the API server for each, the reference page shows them, and a test
compares the chart's with them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from kadre.api.registry import KINDS
from kadre.base.clock import Clock, SystemClock
from kadre.kube import kinds
from kadre.kube.client import ALL, Client
from kadre.kube.errors import ApiError
from kadre.kube.informer import BACKOFF
from kadre.kube.kinds import Kind
from kadre.kube.rights import Right, granted
from kadre.operator.children import pool as parts
from kadre.operator.children import scaling
from kadre.operator.children.service_account import DEFAULT
from kadre.plan.types import KAOS_GROUP, NATIVE_GROUP, AgentPlan

log = logging.getLogger(__name__)

CHECK_SECONDS = 120.0
"""Between two looks at our own rights."""
DOUBT_SECONDS = 3.0
"""Between a look that finds a right missing for the first time and the one that decides: an API server that starts, or
one that cannot reach what it asks, says no to what it allows a moment later."""
READ = ("list", "watch")
MAKE = ("get", "list", "watch", "create", "patch")
KEEP = (*MAKE, "delete")
KEPT = "the agent's stays as it is"


@dataclass(frozen=True, slots=True)
class Rule:
    """Verbs on some resources of one API group."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str
    without: str
    """What becomes of it where this is missing."""
    namespaced: bool = True


def _plurals(group: str, part: str = "") -> tuple[str, ...]:
    found = [made.listing.plural for (api_version, _), made in KINDS.items() if api_version.split("/")[0] == group]
    return tuple(sorted(f"{plural}{part}" for plural in found))


RULES = (
    *(
        Rule(group, _plurals(group), READ, "what people declare", "these are taken not to be there")
        for group in sorted({api_version.split("/")[0] for api_version, _ in KINDS})
    ),
    *(
        Rule(group, _plurals(group, "/status"), ("patch",), "what is said of it", "nothing is said of these")
        for group in sorted({api_version.split("/")[0] for api_version, _ in KINDS})
    ),
    Rule(
        NATIVE_GROUP,
        ("agents/finalizers",),
        ("update",),
        "an Agent stays until what it owns has gone",
        "a cluster that checks owners of what is made (OpenShift does) refuses every child",
    ),
    Rule(
        KAOS_GROUP,
        _plurals(KAOS_GROUP, "/finalizers"),
        ("update",),
        "Agents, ModelAPIs and MCPServers stay until what they own has gone",
        "a cluster that checks owners of what is made (OpenShift does) refuses every child",
    ),
    Rule("", ("configmaps",), KEEP, "the plan of an agent, and what agents refer to", "no agent can be made"),
    Rule(
        "apps", ("deployments",), KEEP, "the pods of an agent, of a pool, and of a code runner", "no agent can be made"
    ),
    Rule("", ("services",), KEEP, "the address of an agent, and tools that are Services", "no agent can be made"),
    Rule(
        "",
        ("serviceaccounts",),
        KEEP,
        "an account of each agent's own",
        f"agents' pods run as the ServiceAccount `{DEFAULT}`",
    ),
    Rule(
        kinds.ROLE.group,
        ("rolebindings", "roles"),
        KEEP,
        "what the pods of a pool may do; nobody can give a right that they do not have",
        "no agent can be in a pool",
    ),
    Rule(
        parts.PLAN.group,
        (parts.PLAN.plural,),
        (parts.SERVE,),
        "what the pods of a pool may serve: the plans that the controller has made; there are no such objects",
        "no agent can be in a pool",
    ),
    Rule(
        "",
        ("secrets",),
        ("get", *READ),
        "whether a Secret that an agent refers to has the key; values are not kept",
        "without `get` its keys are taken to be there; without the others every Secret is taken to be missing",
    ),
    Rule("", ("pods",), ("list",), "why an agent does not come up", "no status says why a pod does not come up"),
    Rule(
        "apps",
        ("replicasets",),
        READ,
        "`kubectl rollout undo` is told from drift, and old plans are cleared away",
        "a rollback is put forward again, and an agent's old plans stay until it is deleted",
    ),
    Rule(
        "autoscaling",
        ("horizontalpodautoscalers",),
        KEEP,
        "agents that are scaled",
        "agents have their fewest pods and no more",
    ),
    Rule(
        "policy",
        ("poddisruptionbudgets",),
        KEEP,
        "agents of several pods lose one at a time",
        "nothing keeps a drained node from taking all pods of an agent",
    ),
    Rule(
        "keda.sh",
        ("scaledobjects",),
        KEEP,
        "agents that KEDA is to scale",
        "agents that KEDA is to scale have their fewest pods and no more",
    ),
    Rule(
        "networking.k8s.io",
        ("networkpolicies",),
        KEEP,
        "agents that ask for one, and code runners, which only agents reach",
        "no agent is kept from reaching, or being reached by, anything; code that models write is not run",
    ),
    Rule(
        "gateway.networking.k8s.io",
        ("httproutes",),
        KEEP,
        "agents that are reached through a Gateway",
        "no Gateway leads to an agent",
    ),
    Rule(
        "apiregistration.k8s.io",
        ("apiservices",),
        READ,
        "whether the cluster serves what an agent is scaled by: metrics, and KEDA",
        "KEDA is taken not to be there, and nothing is said of metrics that nobody serves",
        namespaced=False,
    ),
    Rule("events.k8s.io", ("events",), ("create",), "what a person wants to know", "only the status says it"),
)
"""In every namespace it looks after."""


class Rights:
    """What of `RULES` we have in these namespaces; an empty one stands for all. `changed`: told when that changes.

    That we lack a right is believed when two looks in a row say so.
    """

    def __init__(
        self,
        client: Client,
        changed: Callable[[], None],
        namespaces: Sequence[str] = ALL,
        clock: Clock | None = None,
    ) -> None:
        self.known = asyncio.Event()
        """The API server has been asked for all of them, and none is in doubt."""
        self.namespaces = tuple(namespaces)
        self._client = client
        self._changed = changed
        self._clock = clock or SystemClock()
        self._lacking: frozenset[Right] = frozenset()
        self._doubted: frozenset[Right] = frozenset()
        """Those that the last look, and none before it, found missing."""

    def may(self, kind: Kind, *verbs: str, namespace: str, part: str = "") -> bool:
        """Whether we may do all of this there, as far as is known."""
        resource = f"{kind.plural}/{part}" if part else kind.plural
        place = namespace if kind.namespaced and self.namespaces != ALL else ""
        return not any(Right(kind.group, resource, verb, place) in self._lacking for verb in verbs)

    def may_keep(self, kind: Kind, namespace: str) -> bool:
        """Whether we may have a child of that kind there, and take it away again."""
        return self.may(kind, *KEEP, namespace=namespace)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        failures = 0
        while True:
            try:
                await self._look()
            except ApiError as error:
                failures += 1
                log.info("our own rights could not be asked for: %s", error)
                await self._clock.sleep(BACKOFF.delay(failures) or BACKOFF.limit)
                continue
            failures = 0
            await self._clock.sleep(DOUBT_SECONDS if self._doubted else CHECK_SECONDS)

    async def _look(self) -> None:
        found = set()
        for rule in RULES:
            rights = [right for namespace in _places(rule, self.namespaces) for right in _rights(rule, namespace)]
            answers = await asyncio.gather(*[granted(self._client, right) for right in rights])
            found |= {right for right, has in zip(rights, answers, strict=True) if not has}
        before, first = self._lacking, not self.known.is_set()
        self._lacking = frozenset(found & (before | self._doubted))
        self._doubted = frozenset(found - self._lacking)
        if not self._doubted:
            self.known.set()
        for line in _told(self._lacking - before, self.namespaces):
            log.warning("%s", line)
        if before - self._lacking:
            log.info("this controller has rights that it had not before: %s", ", ".join(_verbs(before - self._lacking)))
        if before != self._lacking and not first:
            self._changed()


def within(
    plan: AgentPlan, rights: Rights, *, keda: bool, has: Container[Kind] = ()
) -> tuple[AgentPlan, tuple[str, ...]]:
    """The plan as it can be carried out with our rights, and what is left out of it. `keda`: whether that is there.

    `has`: the kinds of children that the agent has already, and keeps.
    """
    namespace, work, said = plan.key.namespace, dict(plan.workload), []
    account = kinds.SERVICE_ACCOUNT
    if not rights.may_keep(account, namespace) and account not in has and not work.get("serviceAccountName"):
        work["serviceAccountName"] = DEFAULT
        said.append(without_right(account))
    scaler = kinds.SCALED_OBJECT if keda and scaling.wants_keda(plan) else kinds.AUTOSCALER
    if not rights.may_keep(scaler, namespace) and scaler not in has and scaling.is_scaled(plan):
        work["scaling"] = {"minReplicas": scaling.fewest(plan)}
        said.append(without_right(scaler))
    return (msgspec.structs.replace(plan, workload=work) if said else plan), tuple(said)


def without_right(kind: Kind, *, kept: bool = False) -> str:
    """What becomes of it that we may not work with objects of a kind. `kept`: there is one, from when we might."""
    rule = next(rule for rule in RULES if rule.group == kind.group and kind.plural in rule.resources)
    return f"the controller may not {', '.join(rule.verbs)} {kind.plural}: {KEPT if kept else rule.without}"


def _places(rule: Rule, namespaces: Sequence[str]) -> Sequence[str]:
    return namespaces if rule.namespaced else ALL


def _rights(rule: Rule, namespace: str) -> Iterator[Right]:
    for resource in rule.resources:
        for verb in rule.verbs:
            yield Right(rule.group, resource, verb, namespace)


def _told(lacking: frozenset[Right], namespaces: Sequence[str]) -> Iterator[str]:
    """One line for each rule of which something is missing, with the rule to add."""
    for rule in RULES:
        for namespace in _places(rule, namespaces):
            missing = [right for right in _rights(rule, namespace) if right in lacking]
            if missing:
                resources = ", ".join(dict.fromkeys(right.resource for right in missing))
                verbs = ", ".join(dict.fromkeys(right.verb for right in missing))
                where = f" in {namespace}" if namespace else ""
                wanted = f'{{apiGroups: ["{rule.group}"], resources: [{resources}], verbs: [{verbs}]}}'
                yield f"this controller may not {verbs} {resources}{where}: {rule.without}; its role lacks {wanted}"


def _verbs(rights: frozenset[Right]) -> list[str]:
    return sorted(f"{right.verb} {right.resource}" for right in rights)
