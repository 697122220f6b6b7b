"""A pool becomes a Deployment and what its pods need, for as long as an agent is in it; what they serve is known.

Nobody declares a pool: it is there because plans have its label. What is wrong with it is told by its agents.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from kadre.base.problems import Problem
from kadre.kube import kinds
from kadre.kube.apply import Applier, NameTaken, Place
from kadre.kube.client import Client, Scope
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Object, key_of
from kadre.kube.outcome import DONE, After, Outcome
from kadre.operator.children import journal
from kadre.operator.children import pool as parts
from kadre.operator.children.common import MANAGED_BY, MANAGER, Settings
from kadre.operator.children.pool import Pool
from kadre.operator.children.pools import Served, labels
from kadre.operator.children.rooted import Member
from kadre.operator.cluster import Ref, our_kinds
from kadre.operator.owned import Owned, Pooled
from kadre.operator.reconcilers.common import name_taken, refused
from kadre.operator.reconcilers.rooted import Roots
from kadre.operator.rights import Rights, without_right
from kadre.operator.status import Rollout, Trouble

KIND = "Pool"
"""What the controller calls it; no such object is in a cluster."""
OPTIONAL = (kinds.AUTOSCALER, kinds.DISRUPTION_BUDGET, kinds.NETWORK_POLICY)
"""Children that a pool may have or not."""
NEEDED = (kinds.SERVICE_ACCOUNT, kinds.ROLE, kinds.ROLE_BINDING)
"""Children without which no pod of a pool could know its plans."""
AGAIN_SECONDS = 10.0
"""After which what was in the way is looked at again, where it tells nobody when it goes."""
NOT_SERVED = "PlanNotServed"
_API_VERSIONS = {(kind.group, kind.kind): kind.api_version for kind in our_kinds()}


@dataclass(slots=True)
class Seat:
    """What is known of a pool: its pods that are ready, what each serves, and what is in the way."""

    rollout: Rollout | None = None
    pods: frozenset[str] = frozenset()
    served: Mapping[str, Served] = field(default_factory=dict)
    problem: Problem | None = None

    def of(self, agent: str, plan: str) -> Rollout:
        """How an agent is getting on in it, as if its pods were the agent's own. `plan`: its hash."""
        told = [self.served[pod] for pod in self.pods if pod in self.served]
        any_plan = sum(1 for each in told if agent in each.plans)
        this = sum(1 for each in told if each.plans.get(agent) == plan)
        known = Rollout(
            wanted=max(1, len(self.pods)), replicas=len(self.pods), updated=this, ready=any_plan, available=any_plan
        )
        refused = [each.refused[agent] for each in told if agent in each.refused]
        why = next((said for of, said in refused if of == plan), "")
        if why:
            goes_on = "they go on with the plan before" if any_plan else "nothing answers for the agent"
            stuck = Trouble(NOT_SERVED, f"the pods of its pool cannot serve its plan: {why}", "")
            return replace(known, trouble=goes_on, pods=stuck)
        if self.rollout is not None and not self.pods:
            pool = self.rollout
            return replace(known, trouble=pool.trouble, fix=pool.fix, pods=pool.pods)
        return known


class Pools:
    """Reconciles pools. `owners`: our objects by uid; `wake` is told of an agent of which there is news."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        owned: Owned,
        applier: Applier,
        rights: Rights,
        owners: Mapping[str, Ref],
        wake: Callable[[Ref], None],
    ) -> None:
        self.owned = owned
        self.applier = applier
        self.rights = rights
        self._client = client
        self._settings = settings
        self._owners = owners
        self._wake = wake
        self._seats: dict[Key, Seat] = {}
        self._roots = Roots(client, owned, applier, rights, parts.is_root)
        self._places: dict[Key, tuple[Place, ...]] = {}
        self._meant: dict[str, frozenset[str]] = {}
        """The pools that are to serve an agent's plans, by its uid, once it has been looked at: labels may say more."""

    def seat(self, namespace: str, pool: str) -> Seat:
        """What is known of a pool."""
        return self._seats.get(Key(namespace, pool)) or Seat()

    def of_root(self, uid: str) -> Ref | None:
        """The pool to whose root that uid belongs."""
        place = self._roots.place(uid)
        return ref_of(Key(place.namespace, parts.root_of(place.name))) if place is not None else None

    async def reconcile(self, ref: Ref) -> Outcome:
        """Have the pool be as its plans say; and know what its pods serve. Raises ApiError."""
        key = Key(ref.namespace, ref.name)
        members, plans, unproven = self._members(key)
        before = self._seats.get(key)
        if not members:
            await self._remove(key)
            return DONE
        if unproven:
            role = await self._client.find(kinds.ROLE, Key(key.namespace, parts.called(key.name)))
            accepted = parts.accepted(role or {})
            plans += [plan for plan in unproven if plan.digest in accepted]
        secrets = sorted({name for plan in plans for name in plan.secrets})
        digests = sorted({plan.digest for plan in plans})
        pool = Pool(key.namespace, key.name, "", tuple(secrets), tuple(digests), self._shared(key.namespace, plans))
        problem = await self._applied(key, pool, members)
        look = 0.0
        seat = Seat(problem=problem)
        if problem is None:
            seat, look = await self._look(key)
        self._seats[key] = seat
        self._tell(key, before, seat)
        if problem is not None:
            return After(AGAIN_SECONDS)
        return After(look) if look else DONE

    def _shared(self, namespace: str, plans: Collection[Pooled]) -> bool:
        """Whether there are plans to serve, and each keeps its conversations outside of the pods."""
        given = bool(self._settings.journal_of(namespace))
        return bool(plans) and all(
            plan.memory in journal.SERVERS or (plan.memory == "default" and given) for plan in plans
        )

    def _members(self, key: Key) -> tuple[frozenset[Member], list[Pooled], list[Pooled]]:
        """The agents whose plans it is to serve, as far as they are there; and these plans.

        The first plans are those that the controller has made. The second it has not made, or not looked at since it
        began: anybody who may write ConfigMaps can give one the label. It adds nothing to what the pods may do; where
        that agent has no other, it takes nothing away either.
        """
        members: set[Member] = set()
        made: dict[str, list[Pooled]] = {}
        others: dict[str, list[Pooled]] = {}
        for name, uid, plan in self.owned.plans(key.namespace, key.name):
            ref = self._owners.get(uid)
            if ref is not None and key.name in self._meant.get(uid, (key.name,)):
                members.add(Member(ref.kind, _API_VERSIONS[ref.group, ref.kind], ref.name, uid))
                proven = self.applier.is_settled(Place(kinds.CONFIG_MAP, name))
                (made if proven else others).setdefault(uid, []).append(plan)
        unproven = [plan for uid, plans in others.items() if uid not in made for plan in plans]
        return frozenset(members), [plan for plans in made.values() for plan in plans], unproven

    async def _applied(self, key: Key, pool: Pool, members: frozenset[Member]) -> Problem | None:
        """Have its objects be as they are to be; what is wrong where they cannot. Raises ApiError."""
        lacking = [kind for kind in NEEDED if not self.rights.may_keep(kind, key.namespace)]
        if not self.rights.may(parts.PLAN, parts.SERVE, namespace=key.namespace):
            lacking.append(parts.PLAN)
        if lacking:
            fix = "give the controller the rights that docs/reference/rights.md lists"
            return Problem("MissingRights", without_right(lacking[0]), fix, path="spec.runtime")
        trying = kinds.CONFIG_MAP
        try:
            root = await self._roots.keep(Key(key.namespace, pool.called), parts.root(pool, members), members)
            without = {kind for kind in OPTIONAL if not self.rights.may_keep(kind, key.namespace)}
            wanted = parts.children(pool._replace(root=root), self._settings, without)
            places = tuple(Place(child.kind, key_of(child.manifest)) for child in wanted)
            for kind in OPTIONAL:
                place = Place(kind, Key(key.namespace, pool.called))
                if place not in places and kind not in without:
                    await self.applier.remove(place, root)
            for place, child in zip(places, wanted, strict=True):
                trying = child.kind
                await self.applier.ensure(place, child.manifest, root, child.once)
            self._places[key] = places
        except NameTaken as taken:
            return name_taken(taken, "pool")
        except ApiError as error:
            if not (error.refused or error.forbidden or error.missing):
                raise
            before = self._seats.get(key)
            known = (before.problem,) if before is not None and before.problem is not None else ()
            return refused(error, trying, known, "pool")
        return None

    async def place(self, uid: str, namespace: str, pools: Collection[str]) -> None:
        """Have these pools serve the agent's plans, and no others. Raises ApiError."""
        meant = frozenset(pools)
        if self._meant.get(uid) != meant:
            self._meant[uid] = meant
            for pool in self.owned.pools_of(uid) | meant:
                self.owned.pool_changed(Key(namespace, pool))
        live = self.owned.live(kinds.CONFIG_MAP)
        for name in self.owned.names(kinds.CONFIG_MAP, uid):
            seen = live.get(Key(namespace, name))
            pooled = seen.more.pooled if seen is not None else None
            gone = dict.fromkeys(labels(set(pooled.pools) - meant if pooled is not None else ()))
            if not gone:
                continue
            try:
                await self._client.merge(kinds.CONFIG_MAP, Key(namespace, name), {"metadata": {"labels": gone}})
            except ApiError as error:
                if not error.missing:
                    raise
            self.applier.forget([Place(kinds.CONFIG_MAP, Key(namespace, name))])  # who labels it again has not made it

    def is_placed(self, uid: str) -> bool:
        """Whether no pools are to serve the agent's plans, by their labels, but those that it was placed in."""
        return self.owned.pools_of(uid) <= self._meant.get(uid, frozenset())

    def forget(self, uid: str) -> None:
        """The agent has gone."""
        self._meant.pop(uid, None)

    async def _look(self, key: Key) -> tuple[Seat, float]:
        """What its pods serve, and the seconds to the next look; 0: we are told when there is something to see."""
        called = parts.called(key.name)
        place = Key(key.namespace, called)
        rollout, look = await self.owned.explained(place, self.owned.rollout(place))
        told = self.owned.live(kinds.CONFIG_MAP).get(Key(key.namespace, parts.told_in(key.name)))
        served: Mapping[str, Served] = (told.more.served if told is not None else None) or {}
        ready, known = await self._pods(key, rollout, served)
        if gone := served.keys() - known:
            forgotten = {"data": dict.fromkeys(gone)}
            await self._client.merge(kinds.CONFIG_MAP, Key(key.namespace, parts.told_in(key.name)), forgotten)
        return Seat(rollout, ready, served), look

    async def _pods(
        self, key: Key, rollout: Rollout | None, served: Mapping[str, Served]
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Its pods that are ready, and all that there are; as they tell of themselves where we may not look."""
        if not self.rights.may(kinds.POD, "list", namespace=key.namespace):
            return frozenset(served) if rollout is not None and rollout.ready else frozenset(), frozenset(served)
        scope = Scope(key.namespace, f"{MANAGED_BY}={MANAGER},{parts.LABEL}={key.name}")
        found = (await self._client.list(kinds.POD, scope)).items
        return frozenset(name_of(pod) for pod in found if _is_ready(pod)), frozenset(map(name_of, found))

    def _tell(self, key: Key, before: Seat | None, after: Seat) -> None:
        """Wake those agents of which something else is to be said now."""
        for _, uid, plan in self.owned.plans(key.namespace, key.name):
            ref = self._owners.get(uid)
            if ref is None:
                continue
            was = before and (before.problem, before.of(plan.agent, plan.plan))
            if was != (after.problem, after.of(plan.agent, plan.plan)):
                self._wake(ref)

    async def _remove(self, key: Key) -> None:
        """Nobody is in it any more."""
        these = (kinds.DEPLOYMENT, kinds.SERVICE, *OPTIONAL, *reversed(NEEDED))
        await self._roots.remove(Key(key.namespace, parts.called(key.name)), these, (parts.told_in(key.name),))
        self._seats.pop(key, None)
        self.applier.forget(self._places.pop(key, ()))


def ref_of(key: Key) -> Ref:
    """The pool, as the controller's queue has it."""
    return Ref("", KIND, *key)


def name_of(obj: Object) -> str:
    """The object's name."""
    name: str = obj["metadata"]["name"]
    return name


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]
