"""Whom an agent may hand work to, and the circles that must not come of it."""

from __future__ import annotations

from collections.abc import Iterator

from kadre.api.dialects.kaos import KaosAgent
from kadre.api.kinds.agent import Agent
from kadre.plan.draft import AnyAgent, Draft, Entry, Place, key_of
from kadre.plan.graph import cycle_through, cycles
from kadre.plan.lookup import find
from kadre.plan.merging import agent_named, draft
from kadre.plan.names import tool_name
from kadre.plan.types import NATIVE_GROUP, AgentKey, AgentTool, ToolPlan
from kadre.plan.work import Work

Cycle = tuple[AgentKey, ...]
"""Agents that hand work to each other, the first one again at the end."""


def agent_tools(work: Work, made: Draft) -> list[Entry[ToolPlan]]:
    """Other agents as tools, described by themselves."""
    plans: list[Entry[ToolPlan]] = []
    for place, name in made.agents:
        with work.following("agent", name):
            tool = _agent_tool(work, made, place, name)
        if tool is not None:
            plans.append(Entry(place, tool))
    return plans


def _agent_tool(work: Work, made: Draft, place: Place, name: str) -> AgentTool | None:
    target = agent_named(work, made.resource.namespace, name, made.resource)
    if target is None:
        fix = f"create an Agent named {name}, or take it off the list"
        work.missing(Agent, place, name, fix)
        return None
    other = draft(work, target)
    network = other.spec.agent_network
    if network is not None and network.expose is False:
        message = f"agent {name} does not let other agents call it"
        work.problem(place, "AgentNotExposed", message, f"write agentNetwork.expose: true in {name}, or remove it")
        return None
    about = other.spec.description or other.spec.display_name or ""
    return AgentTool(name=tool_name(name), agent=key_of(target), description=about.strip())


def cycle_of(work: Work, made: Draft) -> Cycle:
    """The circle that the agent is in; empty where it is in none."""
    return cycle_through(made.key, lambda key: _targets(work, key))


def all_cycles(work: Work, agents: list[AnyAgent]) -> dict[AgentKey, Cycle]:
    """Every agent that is in a circle, with one it is in."""
    return cycles([key_of(agent) for agent in agents], lambda key: _targets(work, key))


def tell_cycle(work: Work, cycle: Cycle) -> None:
    """The Problem: the same one whichever agent of the circle is planned."""
    first = _agent(work, cycle[0])
    if first is None:
        return
    for place, name in draft(work, first).agents:
        target = agent_named(work, first.namespace, name, first)
        if target is not None and key_of(target) == cycle[1]:
            path = " → ".join(key.name for key in cycle)
            fix = f"take {name} off the list here, or break the circle at another place"
            work.problem(place, "DelegationCycle", f"agents hand work to each other in a circle: {path}", fix)


def _targets(work: Work, key: AgentKey) -> Iterator[AgentKey]:
    agent = _agent(work, key)
    if agent is None:
        return
    for _, name in draft(work, agent).agents:
        target = agent_named(work, key.namespace, name, agent)
        if target is not None:
            yield key_of(target)


def _agent(work: Work, key: AgentKey) -> AnyAgent | None:
    kind: type[AnyAgent] = Agent if key.group == NATIVE_GROUP else KaosAgent
    return find(work.lookup, kind, key.namespace, key.name)


def check_step_agent(work: Work, place: Place, name: str) -> None:
    """An agent that a workflow's step names."""
    if agent_named(work, place.resource.namespace, name) is None:
        work.missing(Agent, place, name, f"create an Agent named {name}, or name another one")
