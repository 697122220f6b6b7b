"""The one function: a resource and what can be looked up, to a plan or to all that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from kadre.api.dialects.kaos import KaosAgent, agent_spec
from kadre.api.kinds.agent import Agent, AgentSpec
from kadre.api.resource import Resource
from kadre.base.problems import Problem, errors
from kadre.plan import memory, models, references, templates, tools
from kadre.plan.findings import Findings
from kadre.plan.graph import cycle_through
from kadre.plan.lookup import AnyAgent, Lookup
from kadre.plan.types import AgentKey, AgentPlan, Limits, ModelPlan, Override, ToolPlan

WORKLOAD = (
    *("scaling", "replicas", "resources", "env", "health_check", "observability"),
    *("runtime", "service_account_name"),
)
"""Fields of an agent that only a cluster uses."""
NOTHING = Override()


class Planned(msgspec.Struct, frozen=True):
    """What came of one resource. `plan` is None for kinds that aren't run, and where there is an error."""

    plan: AgentPlan | None
    problems: tuple[Problem, ...]


class AllPlanned(msgspec.Struct, frozen=True):
    """What came of everything."""

    plans: dict[AgentKey, AgentPlan]
    problems: list[Problem]


def plan(resource: Resource, lookup: Lookup, override: Override = NOTHING) -> Planned:
    """Follow every reference of the resource. Problems are all of them, warnings included."""
    findings = Findings(resource, lookup)
    if not isinstance(resource, Agent | KaosAgent):
        references.check(resource, findings)
        return Planned(None, tuple(findings.problems))
    made = _agent(resource, findings, override)
    failed = bool(errors(findings.problems))
    return Planned(None if failed else made, tuple(findings.problems))


def plan_all(lookup: Lookup, override: Override = NOTHING) -> AllPlanned:
    """Every resource; a cycle is told once, not by each of its members."""
    plans: dict[AgentKey, AgentPlan] = {}
    problems: list[Problem] = []
    cycles: set[str] = set()
    for resource in lookup.all():
        planned = plan(resource, lookup, override)
        for problem in planned.problems:
            if problem.reason.endswith("Cycle"):
                if problem.message in cycles:
                    continue
                cycles.add(problem.message)
            problems.append(problem)
        if planned.plan is not None:
            plans[planned.plan.key] = planned.plan
    problems.sort(key=lambda problem: (problem.source.file, problem.source.line))
    return AllPlanned(plans, problems)


def _agent(agent: AnyAgent, findings: Findings, override: Override) -> AgentPlan | None:
    if isinstance(agent, KaosAgent):
        spec = agent_spec(agent.spec)
        model = override.model or models.kaos(agent.spec, spec.env, findings)
        model = _tool_calls(agent, model)
        offered = tools.of_servers(agent.spec.mcp_servers or (), findings)
        _kaos_notices(agent, findings)
    else:
        spec = templates.merged(agent, findings)
        model = override.model or models.native(spec, findings)
        offered = tools.referenced(spec.tools or (), findings)
    offered += tools.delegates(tools.delegate_names(spec), findings)
    _same_names(offered, findings)
    _cycle(agent, findings)
    _notices(spec, findings)
    kept = memory.planned(spec.memory, findings)
    if model is None:
        return None
    return AgentPlan(
        key=tools.key_of(agent),
        model=model,
        display_name=spec.display_name or "",
        description=spec.description or "",
        labels=agent.metadata.labels,
        system_prompt=(spec.system_prompt or "").strip(),
        tools=tuple(offered),
        memory=kept,
        limits=_limits(spec),
        notices=tuple(findings.notices),
        workload=_workload(agent, spec),
    )


def _tool_calls(agent: KaosAgent, model: ModelPlan | None) -> ModelPlan | None:
    """KAOS `toolCallMode: string` puts tools in the prompt, which is what the shim does."""
    mode = agent.spec.config.tool_call_mode if agent.spec.config else None
    if model is None or mode in (None, "auto"):
        return model
    return msgspec.structs.replace(model, tool_calls="shim" if mode == "string" else "native")


def _kaos_notices(agent: KaosAgent, findings: Findings) -> None:
    config = agent.spec.config
    if config is not None and config.autonomous is not None:
        findings.not_yet("autonomous work is not supported yet; the agent answers when it is asked")


def _notices(spec: AgentSpec, findings: Findings) -> None:
    tracing = spec.observability.tracing if spec.observability else None
    if tracing is not None and tracing.enabled:
        findings.not_yet(f"tracing to {tracing.provider or 'otlp'} is not supported yet; runs are not traced")


def _same_names(offered: Iterable[ToolPlan], findings: Findings) -> None:
    seen: set[str] = set()
    for tool in offered:
        if tool.name in seen:
            fix = "rename one of the two, or remove it"
            findings.add("DuplicateTool", f"two tools of the agent are named {tool.name!r}", fix, "spec.tools")
        seen.add(tool.name)


def _cycle(agent: AnyAgent, findings: Findings) -> None:
    """A delegation that leads back to this agent."""
    lookup = findings.lookup
    known: dict[AgentKey, AnyAgent] = {tools.key_of(agent): agent}

    def edges(key: AgentKey) -> list[AgentKey]:
        start = known[key]
        spec = start.spec if isinstance(start, Agent) else agent_spec(start.spec)
        reached = []
        for name, _ in tools.delegate_names(spec):
            target = tools.find_agent(lookup, key.namespace, name, key.group)
            if target is not None:
                known[tools.key_of(target)] = target
                reached.append(tools.key_of(target))
        return reached

    path = cycle_through(tools.key_of(agent), edges)
    if path:
        shown = " → ".join(key.name for key in path)
        fix = "remove one of the names from agents or agentNetwork.access"
        where = "spec.agents" if isinstance(agent, Agent) and agent.spec.agents else "spec.agentNetwork.access"
        findings.add("DelegationCycle", f"agents hand work to each other in a cycle: {shown}", fix, where)


def _limits(spec: AgentSpec) -> Limits:
    rates = spec.rate_limits
    written = {
        "max_steps": spec.max_steps,
        "max_tool_calls": spec.max_tool_calls,
        "deadline": spec.timeout,
        "max_output_bytes": spec.max_output_bytes,
        "on_busy": spec.on_busy,
        "queue_limit": spec.queue_limit,
        "requests_per_minute": rates.requests_per_minute if rates else None,
        "tokens_per_minute": rates.tokens_per_minute if rates else None,
    }
    return msgspec.convert({name: value for name, value in written.items() if value is not None}, Limits)


def _workload(agent: AnyAgent, spec: AgentSpec) -> dict[str, Any]:
    """The cluster's part as plain JSON, by the names it has in YAML."""
    plain: dict[str, Any] = {}
    for name in WORKLOAD:
        value = getattr(spec, name)
        if value is not None:
            field = AgentSpec.model_fields[name]
            plain[field.alias or name] = _json(value)
    if isinstance(agent, KaosAgent) and agent.spec.gateway_route is not None:
        plain["gatewayRoute"] = _json(agent.spec.gateway_route)
    return plain


def _json(value: Any) -> Any:
    if isinstance(value, list):
        return [_json(item) for item in value]
    dump = getattr(value, "model_dump", None)
    return dump(by_alias=True, exclude_none=True, mode="json") if dump is not None else value
