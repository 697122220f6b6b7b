"""Agents made from templates: the agent's own words win, lists are joined, templates may have templates."""

from __future__ import annotations

from typing import Any

from kadre.api.kinds.agent import Agent, AgentSpec
from kadre.api.kinds.agent_template import AgentTemplate
from kadre.plan.findings import Findings


def merged(agent: Agent | AgentTemplate, findings: Findings) -> AgentSpec:
    """The agent's spec over its templates'. One that is missing, or part of a cycle, is a problem and left out."""
    spec = agent.spec
    chain = [agent.name] if isinstance(agent, AgentTemplate) else []
    while spec.template_ref is not None:
        name = spec.template_ref
        if name in chain:
            path = " → ".join((*chain[chain.index(name) :], name))
            fix = "remove one templateRef of the cycle"
            findings.add("TemplateCycle", f"templates refer to each other in a cycle: {path}", fix, "spec.templateRef")
            break
        template = findings.find("AgentTemplate", name)
        if not isinstance(template, AgentTemplate):
            findings.missing("AgentTemplate", name, "spec.templateRef")
            break
        chain.append(name)
        spec = _over(spec, template.spec)
    return spec


def _over(own: AgentSpec, base: AgentSpec) -> AgentSpec:
    """`own` where it says something, else `base`. The result refers to the base's own template."""
    values: dict[str, Any] = {}
    for name in AgentSpec.model_fields:
        mine, theirs = getattr(own, name), getattr(base, name)
        if isinstance(mine, list) and isinstance(theirs, list):
            values[name] = _joined(theirs, mine)
        else:
            values[name] = theirs if mine is None else mine
    values["template_ref"] = base.template_ref
    return AgentSpec.model_construct(**values)


def _joined(first: list[Any], then: list[Any]) -> list[Any]:
    """Both lists; of two entries with one name the later stands, where the earlier stood."""
    entries = {_name(entry): entry for entry in first}
    entries.update((_name(entry), entry) for entry in then)
    return list(entries.values())


def _name(entry: Any) -> str:
    return entry if isinstance(entry, str) else str(entry.name)
