"""A ModelAPI or an MCPServer becomes a Deployment and a Service, which agents reach by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from kadre.base.clock import Clock
from kadre.base.problems import Problem, errors
from kadre.kube import kinds
from kadre.kube.apply import Applier, NameTaken, Place
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Object, key_of
from kadre.kube.outcome import DONE, After, Outcome, Stop
from kadre.operator import kaos
from kadre.operator.children import mcp_server, model_api
from kadre.operator.children.common import Child
from kadre.operator.children.environment import read_from
from kadre.operator.children.mcp_server import INSTALL
from kadre.operator.children.pod import template_hash
from kadre.operator.children.server import ServerOwner, sources
from kadre.operator.cluster import BORNE, Cluster, Declared, Ref
from kadre.operator.dependents import Dependents
from kadre.operator.owned import Owned
from kadre.operator.reconcilers.common import REFUSED_SECONDS, TAKEN, TAKEN_SECONDS, Corrections, name_taken, refused
from kadre.operator.reporter import Reporter
from kadre.operator.status import Facts, Rollout, leaving, messages, of_agent, of_other, own
from kadre.operator.upgrades import Upgrades
from kadre.plan.names import server_name
from kadre.plan.types import KAOS_GROUP, ServerPlan

SERVERS = frozenset({(KAOS_GROUP, "ModelAPI"), (KAOS_GROUP, "MCPServer")})
_WHAT = {"ModelAPI": "model server", "MCPServer": "MCP server"}


class Servers:
    """Reconciles ModelAPIs and MCPServers."""

    def __init__(
        self, cluster: Cluster, owned: Owned, applier: Applier, reporter: Reporter, upgrades: Upgrades, clock: Clock
    ) -> None:
        self._cluster = cluster
        self._owned = owned
        self._applier = applier
        self._reporter = reporter
        self._upgrades = upgrades
        self._clock = clock
        self._corrections = Corrections(reporter, clock)
        self._problems: dict[Ref, tuple[Problem, ...]] = {}
        """What was told last."""
        self._places: dict[Ref, tuple[Place, ...]] = {}
        self.dependents = Dependents()

    async def reconcile(self, ref: Ref) -> Outcome:
        """Have the cluster be as the object says, and the object say how the cluster is. Raises ApiError."""
        found = self._cluster.find(ref)
        if found is None or found.deleting:
            await self._leave(ref, found)
            return DONE
        problems, again, plan = found.problems, 0.0, None
        notices: tuple[str, ...] = ()
        if found.resource is not None and not errors(problems):
            planned, hidden = await self._cluster.plan(found.resource, partial(self.dependents.note, ref))
            problems, notices, plan = planned.problems, messages(planned.notices), planned.server
            again = REFUSED_SECONDS if hidden else 0.0
        problems = own(problems, str(ref))
        package: Object = {}
        if found.resource and plan and all(problem.reason in BORNE for problem in errors(problems)):
            owner = ServerOwner(plan, found.resource.kind, found.resource.api_version, found.uid)
            owner = owner._replace(environment=self._environment(owner))
            package = await self._pinned(found, owner)
            wrong = await self._apply(ref, found, owner, package)
            if wrong is not None:
                problems, again = (*problems, wrong), TAKEN_SECONDS if wrong.reason == TAKEN else REFUSED_SECONDS
        elif plan is None and notices and not errors(problems):
            await self._clear(found, ref)
        self._problems[ref] = problems
        look = await self._report(ref, found, plan, Facts(problems, notices), package)
        waits = [seconds for seconds in (again, look) if seconds]
        if waits:
            return After(min(waits))
        stuck = errors(problems)
        return Stop(stuck[0].reason) if stuck else DONE

    async def _leave(self, ref: Ref, found: Declared | None) -> None:
        self.dependents.forget(ref)
        self._corrections.forget(ref)
        self._problems.pop(ref, None)
        self._applier.forget(self._places.pop(ref, ()))
        if found is not None:
            before = kaos.native(found.status)
            status = leaving(before, found.finalizers, None, found.generation, self._clock.now())
            await self._reporter.report(ref, found, kaos.shaped(status, {}))

    async def _apply(self, ref: Ref, found: Declared, owner: ServerOwner, package: Object) -> Problem | None:
        """Have the children be; what is wrong where one is not taken. Raises ApiError."""
        what = _WHAT[ref.kind]
        wanted = self._children(owner, package)
        places = tuple(Place(child.kind, key_of(child.manifest)) for child in wanted)
        trying = kinds.DEPLOYMENT
        try:
            for place, child in zip(places, wanted, strict=True):
                trying = child.kind
                await self._applier.ensure(place, child.manifest, found.uid, child.once)
                if self._applier.was_corrected(place):
                    await self._corrections.tell(ref, found, place, what)
        except NameTaken as taken:
            return name_taken(taken, what)
        except ApiError as error:
            if not (error.refused or error.forbidden or error.missing):
                raise
            return refused(error, trying, self._problems.get(ref, ()), what)
        self._places[ref] = places
        unwanted = Place(kinds.CONFIG_MAP, Key(owner.plan.namespace, owner.plan.service))
        if unwanted not in places:
            await self._applier.remove(unwanted, found.uid)
        return None

    async def _clear(self, found: Declared, ref: Ref) -> None:
        """Take away what it had when there was something to be run. Raises ApiError."""
        key = Key(ref.namespace, server_name(ref.kind, ref.name))
        for kind in (kinds.DEPLOYMENT, kinds.SERVICE, kinds.CONFIG_MAP):
            await self._applier.remove(Place(kind, key), found.uid)
        self._applier.forget(self._places.pop(ref, ()))

    def _children(self, owner: ServerOwner, package: Object) -> Sequence[Child]:
        settings = self._cluster.settings
        if owner.kind == "ModelAPI":
            return model_api.children(owner, settings)
        return mcp_server.children(owner, settings, package.get("version", ""))

    def _environment(self, owner: ServerOwner) -> str:
        plan = owner.plan
        live = self._owned.rollout(Key(plan.namespace, plan.service))
        return read_from(
            sources(owner),
            lambda kind, name: self._cluster.version(kind, Key(plan.namespace, name)),
            live.environment if live is not None else "",
        )

    async def _pinned(self, found: Declared, owner: ServerOwner) -> Object:
        """The package as it was resolved first, for as long as its author asks for the same. Raises ApiError."""
        plan = owner.plan
        known: Object = found.status.get("package") or {}
        asked = plan.launch.package if plan.launch is not None else ""
        if not asked or known.get("requested") == asked:
            return known if asked else {}
        rollout = self._rollout(found, plan)
        (wanted,) = [child for child in self._children(owner, {}) if child.kind is kinds.DEPLOYMENT]
        template = template_hash(wanted.manifest["spec"]["template"])
        if rollout is None or not rollout.settled or rollout.template != template:
            return {}  # what runs is what was asked for before
        said = await self._owned.last_words(Key(plan.namespace, plan.service), INSTALL)
        return {"requested": asked, "version": said} if said else {}

    async def _report(self, ref: Ref, found: Declared, plan: ServerPlan | None, facts: Facts, package: Object) -> float:
        """Say how it is; the seconds after which to look again, 0 for never. Raises ApiError."""
        look = 0.0
        before, now = kaos.native(found.status), self._clock.now()
        if plan is None:
            unbuilt = "" if errors(facts.problems) else "; ".join(facts.notices)
            status = of_other(before, facts, unbuilt, found.generation, now)
        else:
            key = Key(plan.namespace, plan.service)
            rollout, look = await self._owned.explained(key, self._rollout(found, plan))
            facts = replace(facts, fields={"url": plan.url})
            status = of_agent(before, facts, rollout, found.generation, now)
            self._upgrades.look(key)  # one that rolls when the controller begins takes an agent's turn
        await self._reporter.report(ref, found, kaos.shaped(status, {"package": package}))
        return look

    def _rollout(self, found: Declared, plan: ServerPlan) -> Rollout | None:
        """How its Deployment is getting on. What somebody else has in its place is none."""
        key = Key(plan.namespace, plan.service)
        live = self._owned.live(kinds.DEPLOYMENT).get(key)
        return self._owned.rollout(key) if live is not None and live.owner == found.uid else None
