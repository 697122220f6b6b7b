"""The one function: a resource and what can be looked up, to a plan or to all that is wrong with it."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext

import msgspec

from kadre.api.dialects.kaos import KaosAgent, MCPServer, ModelAPI
from kadre.api.kinds.agent import Agent
from kadre.api.kinds.tool import Tool
from kadre.api.resource import Resource
from kadre.base.problems import Problem, errors
from kadre.plan import (
    approvals,
    compression,
    delegation,
    long_term,
    memory,
    models,
    references,
    servers,
    settings,
    tools,
)
from kadre.plan.draft import AnyAgent, Draft, key_of
from kadre.plan.lookup import Lookup
from kadre.plan.merging import draft
from kadre.plan.types import AgentKey, AgentPlan, Dependency, ModelPlan, Notice, Override, ServerPlan, ToolPlan
from kadre.plan.work import Work

NOTHING = Override()


class Planned(msgspec.Struct, frozen=True):
    """What came of one resource. `plan` is None for kinds that aren't run, and where there is an error not borne."""

    plan: AgentPlan | None
    problems: tuple[Problem, ...]
    """Errors and warnings. They may be about other resources that this one refers to."""
    dependencies: tuple[Dependency, ...] = ()
    """What an agent refers to, one by one, and what is wrong with each."""
    notices: tuple[Notice, ...] = ()
    """What the resource asks for and does without."""
    server: ServerPlan | None = None
    """Of a ModelAPI or an MCPServer, where servers have pods of their own."""


class AllPlanned(msgspec.Struct, frozen=True):
    """What came of everything. An agent with an error has no plan."""

    plans: dict[AgentKey, AgentPlan]
    problems: list[Problem]
    """Each once, however many resources it was found from."""


class PlannedTool(msgspec.Struct, frozen=True):
    """What came of one Tool by itself. `plan` is None where there is an error."""

    plan: ToolPlan | None
    problems: tuple[Problem, ...]


def plan_tool(tool: Tool, lookup: Lookup) -> PlannedTool:
    """The Tool as an agent would have it that names it."""
    work = Work(lookup, NOTHING)
    made = tools.own_plan(work, tool)
    return PlannedTool(None if errors(work.problems) else made, tuple(work.problems))


def plan(resource: Resource, lookup: Lookup, override: Override = NOTHING, *, bearing: Collection[str] = ()) -> Planned:
    """Follow every reference of the resource. `bearing`: reasons of errors in spite of which there is a plan."""
    work = Work(lookup, override)
    if not isinstance(resource, Agent | KaosAgent):
        return _checked(work, resource)
    return _agent(work, resource, delegation.cycle_of(work, draft(work, resource)), bearing)


def plan_all(lookup: Lookup, override: Override = NOTHING, *, bearing: Collection[str] = ()) -> AllPlanned:
    """Follow every reference of every resource. `bearing`: reasons of errors in spite of which there are plans."""
    resources = list(lookup.all())
    shared = Work(lookup, override)
    agents: list[AnyAgent] = [resource for resource in resources if isinstance(resource, Agent | KaosAgent)]
    cycles = delegation.all_cycles(shared, agents)
    plans: dict[AgentKey, AgentPlan] = {}
    problems: dict[Problem, None] = {}
    for resource in resources:
        work = Work(lookup, override, shared.drafts)
        if isinstance(resource, Agent | KaosAgent):
            planned = _agent(work, resource, cycles.get(key_of(resource), ()), bearing)
        else:
            planned = _checked(work, resource)
        problems.update(dict.fromkeys(planned.problems))
        if planned.plan is not None:
            plans[planned.plan.key] = planned.plan
    return AllPlanned(plans, list(problems))


def _checked(work: Work, resource: Resource) -> Planned:
    references.check(work, resource)
    server = servers.server_plan(work, resource) if isinstance(resource, ModelAPI | MCPServer) else None
    return Planned(None, tuple(work.problems), notices=tuple(work.notices), server=server)


def _agent(work: Work, agent: AnyAgent, cycle: delegation.Cycle, bearing: Collection[str] = ()) -> Planned:
    made = draft(work, agent)
    _template(work, made)
    with work.following("model"):
        model = models.model_plan(work, made)
    offered = [*tools.tool_plans(work, made), *delegation.agent_tools(work, made)]
    tools.no_two_alike(work, offered)
    if cycle:
        delegation.tell_cycle(work, cycle)
    with work.following("memory") if made.spec.memory is not None else nullcontext():
        kept = compression.compressed(work, made, memory.memory_plan(work, made), model)
        kept = long_term.remembering(work, made, kept, model, [tool for _, tool in offered])
    if any(variable.value_from is not None for _, variable in made.env):
        with work.following("env"):
            work.env(made.env)
    settings.notices(work, made)
    settings.merged(work, made)
    followed = _with_model(work.dependencies, model)
    if model is None or any(problem.reason not in bearing for problem in errors(work.problems)):
        return Planned(None, tuple(work.problems), followed, tuple(work.notices))
    spec = made.spec
    made_plan = AgentPlan(
        key=made.key,
        model=model,
        display_name=spec.display_name or "",
        description=(spec.description or "").strip(),
        labels=agent.metadata.labels,
        system_prompt=(spec.system_prompt or "").strip(),
        tools=tuple(tool for _, tool in offered),
        memory=kept,
        limits=settings.limits(spec, model),
        approvals=approvals.approval_plan(made),
        notices=tuple(work.notices),
        workload=settings.workload(made, work.servers),
    )
    return Planned(made_plan, tuple(work.problems), followed, tuple(work.notices))


def _template(work: Work, made: Draft) -> None:
    """What was found wrong with its templates when they were merged."""
    work.problems.update(dict.fromkeys(made.problems))
    if len(made.levels) > 1 or not made.whole:
        name = getattr(made.resource.spec, "template_ref", None) or ""
        work.dependencies.append(Dependency(kind="template", found=name, problems=made.problems))


def _with_model(dependencies: list[Dependency], model: ModelPlan | None) -> tuple[Dependency, ...]:
    """The dependencies, the model's with what it came to; without it where nobody knows, for a template is missing."""
    if model is None:
        return tuple(each for each in dependencies if each.kind != "model" or errors(each.problems))
    found = f"{model.provider}/{model.model}"
    return tuple(msgspec.structs.replace(each, found=found) if each.kind == "model" else each for each in dependencies)
