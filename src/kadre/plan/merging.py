"""An agent in one form, whichever dialect it was written in, with its templates merged.

What the agent writes wins, lists are joined with the agent's own entries last, and an entry of the same name is the
agent's. Two things are taken whole from the level that names them, because half of each would be neither: a store
for memory, and a model (which is put together later, from all levels).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from kadre.api.dialects.kaos import KaosAgent, agent_spec
from kadre.api.kinds.agent import Agent, AgentSpec
from kadre.api.kinds.agent_template import AgentTemplate
from kadre.api.kinds.scaling import Metric
from kadre.api.resource import Spec
from kadre.plan.draft import AnyAgent, Draft, Entry, Place, key_of
from kadre.plan.lookup import find
from kadre.plan.work import Work

T = TypeVar("T")
S = TypeVar("S", bound=Spec)


def draft(work: Work, agent: AnyAgent) -> Draft:
    """The agent, merged; made once for all plans that are made at the same time."""
    key = key_of(agent)
    known = work.drafts.get(key)
    if known is None:
        made = _kaos(agent) if isinstance(agent, KaosAgent) else _native(work, agent)
        known = work.drafts[key] = made
    return known


def templates(work: Work, start: Agent | AgentTemplate) -> tuple[tuple[Agent | AgentTemplate, ...], bool]:
    """`start` and its templates, nearest first, and whether all are there. Problems: MissingTemplate, TemplateCycle."""
    levels: list[Agent | AgentTemplate] = [start]
    while (name := levels[-1].spec.template_ref) is not None:
        place = Place(levels[-1], "spec.templateRef")
        template = work.reference(
            AgentTemplate, place, name, f"create an AgentTemplate named {name}, or take templateRef out"
        )
        if template is None:
            return tuple(levels), False
        loop = [level for level in levels if isinstance(level, AgentTemplate)]
        while loop and loop[0].name != template.name:
            del loop[0]
        if loop:
            _cycle(work, loop)
            return tuple(levels), False
        levels.append(template)
    return tuple(levels), True


def _cycle(work: Work, loop: list[AgentTemplate]) -> None:
    least = min(range(len(loop)), key=lambda number: loop[number].name)
    loop = loop[least:] + loop[:least]
    path = " → ".join([*(template.name for template in loop), loop[0].name])
    follower = loop[1 % len(loop)].name
    place = Place(loop[0], "spec.templateRef")
    message = f"these templates are each other's: {path}"
    work.problem(place, "TemplateCycle", message, f"take templateRef: {follower} out of {loop[0].name}, or another one")


def _native(work: Work, agent: Agent) -> Draft:
    mine = Work(work.lookup, work.override)
    levels, whole = templates(mine, agent)
    spec: AgentSpec = agent.spec
    for level in levels[1:]:
        spec = _merged(spec, level.spec)
    return Draft(
        resource=agent,
        spec=spec,
        levels=levels,
        tools=_entries(levels, "spec.tools", lambda spec: spec.tools, lambda tool: tool.name),
        servers=(),
        agents=_unique(
            [
                *_entries(levels, "spec.agents", lambda spec: spec.agents, str),
                *_entries(levels, "spec.agentNetwork.access", _access, str),
            ]
        ),
        env=_entries(levels, "spec.env", lambda spec: spec.env, lambda variable: variable.name),
        problems=tuple(mine.problems),
        whole=whole,
    )


def _kaos(agent: KaosAgent) -> Draft:
    spec = agent_spec(agent.spec)
    config, container = agent.spec.config, agent.spec.container
    loop = config.agentic_loop if config else None
    written = [  # of two of one name the container's: a pod may have only one
        *_items(Place(agent, "spec.config.env"), config.env if config else None),
        *_items(Place(agent, "spec.container.env"), container.env if container else None),
    ]
    servers = agent.spec.mcp_servers if loop is None or loop.enable_tools is not False else None
    return Draft(
        resource=agent,
        spec=spec,
        levels=(agent,),
        tools=(),
        servers=_items(Place(agent, "spec.mcpServers"), servers),
        agents=_items(Place(agent, "spec.agentNetwork.access"), _access(spec)),
        env=list({entry.value.name: entry for entry in written}.values()),
    )


def _access(spec: AgentSpec) -> list[str] | None:
    return spec.agent_network.access if spec.agent_network else None


def _items(place: Place, values: Sequence[T] | None) -> list[Entry[T]]:
    return [Entry(place.item(number), value) for number, value in enumerate(values or ())]


def _entries(
    levels: Sequence[Agent | AgentTemplate],
    path: str,
    read: Callable[[AgentSpec], Sequence[T] | None],
    name: Callable[[T], str],
) -> list[Entry[T]]:
    joined: list[Entry[T]] = []
    for level in reversed(levels):
        entries = _items(Place(level, path), read(level.spec))
        mine = {name(entry.value) for entry in entries}
        joined = [*(entry for entry in joined if name(entry.value) not in mine), *entries]
    return joined


def _unique(entries: Iterable[Entry[str]]) -> list[Entry[str]]:
    """An agent named in `agents` and in `agentNetwork.access` is one agent."""
    return list({entry.value: entry for entry in reversed(list(entries))}.values())[::-1]


def _merged(child: S, parent: Spec) -> S:
    """What the child writes, and the parent's where it writes nothing."""
    update: dict[str, Any] = {}
    for field in parent.model_fields_set:
        theirs = getattr(parent, field)
        mine = getattr(child, field) if field in child.model_fields_set else None
        if theirs is None or (field == "memory" and _names_a_store(mine)):
            continue
        update[field] = _joined(mine, theirs)
    return child.model_copy(update=update)


def _joined(mine: Any, theirs: Any) -> Any:
    if mine is None:
        return theirs
    if isinstance(mine, Spec) and isinstance(theirs, Spec):
        return _merged(mine, theirs)
    if isinstance(mine, list) and isinstance(theirs, list):
        names = [_name(item) for item in mine]
        return [*(item for item in theirs if _name(item) not in names), *mine]
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        return {**theirs, **mine}
    return mine


def _names_a_store(memory: Any) -> bool:
    return memory is not None and (memory.store_ref is not None or memory.type is not None)


def _name(item: Any) -> Any:
    if isinstance(item, Metric):
        return (item.type, item.resource.name) if item.resource is not None else (item.type, item)
    return getattr(item, "name", item)


def agent_named(work: Work, namespace: str, name: str, near: AnyAgent | None = None) -> AnyAgent | None:
    """The agent of that name: of the same kind as `near` if there is one, else of the other."""
    kinds: tuple[type[AnyAgent], ...] = (KaosAgent, Agent) if isinstance(near, KaosAgent) else (Agent, KaosAgent)
    for kind in kinds:
        found = find(work.lookup, kind, namespace, name)
        if found is not None:
            return found
    return None
