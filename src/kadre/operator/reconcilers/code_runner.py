"""The code runner of a namespace: there for as long as an agent of it has code run that its model writes.

Nobody declares it. What is wrong with it is told by the agents that need it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kadre.api.conditions import State
from kadre.base.problems import Problem
from kadre.kube import kinds
from kadre.kube.apply import Applier, NameTaken, Place
from kadre.kube.client import Client
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, key_of
from kadre.kube.outcome import DONE, After, Outcome
from kadre.operator.children import code_runner as parts
from kadre.operator.children.common import Settings
from kadre.operator.children.rooted import Member
from kadre.operator.cluster import Ref, our_kinds
from kadre.operator.owned import Owned
from kadre.operator.reconcilers.common import TAKEN, refused
from kadre.operator.reconcilers.rooted import Roots
from kadre.operator.rights import Rights, without_right
from kadre.operator.status import Rollout

KIND = "CodeRunner"
"""What the controller calls it, and the condition by which agents tell of it; no such object is in a cluster."""
WHAT = "code runner"
NEEDED = (kinds.DEPLOYMENT, kinds.SERVICE, kinds.CONFIG_MAP, kinds.NETWORK_POLICY)
"""What it is made of: without what keeps others out there is none."""
LOOK_SECONDS = 300.0
"""Between two looks at the keys by which the cluster signs tokens. They change once in years, and tokens of before hold
for an hour."""
AGAIN_SECONDS = 10.0
"""After which what was in the way is looked at again, where it tells nobody when it goes."""
_API_VERSIONS = {(kind.group, kind.kind): kind.api_version for kind in our_kinds()}


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of one: how its Deployment is getting on, and what is in the way."""

    rollout: Rollout | None = None
    problem: Problem | None = None

    @property
    def state(self) -> State:
        """The same as agents tell it."""
        if self.problem is not None:
            message = f"{self.problem.message} ({self.problem.fix})"
            return State(KIND, "False", self.problem.reason, f"code of models is not run: {message}")
        if self.rollout is not None and self.rollout.available:
            return State(KIND, "True", "Available", "")
        pods = self.rollout.pods if self.rollout is not None else None
        if pods is not None:
            fix = f" ({pods.fix})" if pods.fix else ""
            return State(KIND, "False", pods.reason, f"code of models is not run: {pods.message}{fix}")
        trouble = self.rollout.trouble if self.rollout is not None else ""
        return State(KIND, "False", "Starting", trouble or "code of models is not run yet: the code runner is starting")


class CodeRunners:
    """Reconciles them. `owners`: our objects by uid; `wake` is told of an agent of which there is news."""

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
        self._client = client
        self._settings = settings
        self._owned = owned
        self._applier = applier
        self._rights = rights
        self._owners = owners
        self._wake = wake
        self._roots = Roots(client, owned, applier, rights, parts.is_root)
        self._needs: dict[str, bool] = {}
        """Whether an agent needs one, by its uid, once it has been looked at."""
        self._seen: dict[str, Seen] = {}
        """By namespace."""
        self._places: dict[str, tuple[Place, ...]] = {}

    def place(self, uid: str, namespace: str, *, needed: bool) -> None:
        """An agent has been looked at."""
        if self._needs.get(uid) != needed:
            self._needs[uid] = needed
            if needed or namespace in self.namespaces():
                self._wake(ref_of(namespace))

    def needed(self, uid: str) -> bool:
        """Whether an agent needs one, as far as is known."""
        return self._needs.get(uid, False)

    def forget(self, uid: str, namespace: str) -> None:
        """An agent has gone."""
        if self._needs.pop(uid, False):
            self._wake(ref_of(namespace))

    def state(self, uid: str, namespace: str) -> State | None:
        """What an agent tells of it; None where it needs none."""
        return (self._seen.get(namespace) or Seen()).state if self._needs.get(uid) else None

    def namespaces(self) -> set[str]:
        """Where there is one, as far as is known."""
        roots = self._owned.live(kinds.CONFIG_MAP)
        return {key.namespace for key, each in roots.items() if key.name == parts.NAME and each.more.root} | {
            *self._places
        }

    def of_root(self, uid: str) -> Ref | None:
        """The one to whose root that uid belongs."""
        place = self._roots.place(uid)
        return ref_of(place.namespace) if place is not None else None

    async def reconcile(self, ref: Ref) -> Outcome:
        """Have it be there where an agent needs it, and nowhere else. Raises ApiError."""
        namespace = ref.namespace
        members = await self._members(namespace) if self._settings.code_runner.enabled else frozenset()
        if not members:
            these = (kinds.DEPLOYMENT, kinds.SERVICE, kinds.NETWORK_POLICY)
            await self._roots.remove(Key(namespace, parts.NAME), these, (parts.KEYS,))
            self._seen.pop(namespace, None)
            self._applier.forget(self._places.pop(namespace, ()))
            return DONE
        problem, look = await self._applied(namespace, members), LOOK_SECONDS
        seen = Seen(problem=problem)
        if problem is None:
            place = Key(namespace, parts.NAME)
            rollout, soon = await self._owned.explained(place, self._owned.rollout(place))
            seen, look = Seen(rollout), min(soon or look, look)
        before, self._seen[namespace] = self._seen.get(namespace), seen
        if before is None or before.state != seen.state:
            for member in members:
                if (agent := self._owners.get(member.uid)) is not None:
                    self._wake(agent)
        return After(AGAIN_SECONDS if problem is not None else look)

    async def _members(self, namespace: str) -> frozenset[Member]:
        """The agents that need it. One that has not been looked at yet does where it did before."""
        found = {uid for uid, needed in self._needs.items() if needed}
        root = await self._client.find(kinds.CONFIG_MAP, Key(namespace, parts.NAME))
        if root is not None and parts.is_root(root):
            owners = root["metadata"].get("ownerReferences") or ()
            found |= {each["uid"] for each in owners if each["uid"] not in self._needs}
        refs = [(uid, self._owners[uid]) for uid in found if uid in self._owners]
        return frozenset(
            Member(ref.kind, _API_VERSIONS[ref.group, ref.kind], ref.name, uid)
            for uid, ref in refs
            if ref.namespace == namespace
        )

    async def _applied(self, namespace: str, members: frozenset[Member]) -> Problem | None:
        """Have its objects be as they are to be; what is wrong where they cannot. Raises ApiError."""
        lacking = [kind for kind in NEEDED if not self._rights.may_keep(kind, namespace)]
        if lacking:
            fix = "give the controller the rights that docs/reference/rights.md lists"
            return Problem("MissingRights", without_right(lacking[0]), fix)
        try:
            keys = await self._client.token_keys()
        except ApiError as error:
            if not (error.forbidden or error.missing):
                raise
            message = f"the API server does not show the keys by which it signs tokens: {error}"
            fix = "bind the ClusterRole system:service-account-issuer-discovery to the controller's ServiceAccount"
            return Problem("NoTokenKeys", message, fix)
        trying = kinds.CONFIG_MAP
        try:
            root = await self._roots.keep(Key(namespace, parts.NAME), parts.root(namespace, members), members)
            wanted = parts.children(namespace, root, keys, self._settings)
            places = tuple(Place(child.kind, key_of(child.manifest)) for child in wanted)
            for place, child in zip(places, wanted, strict=True):
                trying = child.kind
                await self._applier.ensure(place, child.manifest, root)
            self._places[namespace] = places
        except NameTaken as taken:
            name = f"{taken.place.kind.kind} {taken.place.key.name}"
            return Problem(TAKEN, str(taken), f"delete the {name}, or give it another name: code runners need this one")
        except ApiError as error:
            if not (error.refused or error.forbidden or error.missing):
                raise
            before = self._seen.get(namespace)
            known = (before.problem,) if before is not None and before.problem is not None else ()
            return refused(error, trying, known, WHAT)
        return None


def ref_of(namespace: str) -> Ref:
    """The code runner of a namespace, as the controller's queue has it."""
    return Ref("", KIND, namespace, parts.NAME)
