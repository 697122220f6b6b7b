"""An agent with its templates merged, and where each of its values was written."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from pydantic.alias_generators import to_camel

from kadre.api.dialects.kaos import KaosAgent
from kadre.api.kinds.agent import Agent, AgentSpec, ToolReference
from kadre.api.kinds.agent_template import AgentTemplate
from kadre.api.parts import EnvVar
from kadre.api.resource import Resource
from kadre.base.problems import Problem
from kadre.plan.lookup import identity
from kadre.plan.types import AgentKey

T = TypeVar("T")
AnyAgent = Agent | KaosAgent

# Paths of a KAOS agent's fields that have another place than the native kind's.
_KAOS_PATHS = {
    "memory": "spec.config.memory",
    "env": "spec.config.env",
    "description": "spec.config.description",
    "timeout": "spec.gatewayRoute.timeout",
    "observability": "spec.config.telemetry",
    "runtime": "spec.container.image",
}


class Place(NamedTuple):
    """A field of an object: the object, and the path as YAML spells it."""

    resource: Resource
    path: str

    def below(self, field_name: str) -> Place:
        """A field of this field."""
        return Place(self.resource, f"{self.path}.{field_name}")

    def item(self, number: int) -> Place:
        """An item of this list."""
        return Place(self.resource, f"{self.path}[{number}]")


class Entry(NamedTuple, Generic[T]):
    """An item of a list, and where it was written."""

    place: Place
    value: T


@dataclass(frozen=True, slots=True)
class Draft:
    """One agent, merged. `levels`: the agent, its template, that one's template, and so on."""

    resource: AnyAgent
    spec: AgentSpec
    levels: tuple[AnyAgent | AgentTemplate, ...]
    tools: Sequence[Entry[ToolReference]]
    servers: Sequence[Entry[str]]
    """KAOS: names of MCPServers."""
    agents: Sequence[Entry[str]]
    """Names of agents it may hand work to."""
    env: Sequence[Entry[EnvVar]]
    problems: tuple[Problem, ...] = ()
    whole: bool = True
    """False where a template is missing: what seems to be missing besides may be in it."""

    @property
    def key(self) -> AgentKey:
        """Which agent."""
        return key_of(self.resource)

    def place(self, field: str) -> Place:
        """Where a field of the spec was written: at the first level that has it."""
        if isinstance(self.resource, KaosAgent):
            return Place(self.resource, _KAOS_PATHS.get(field, f"spec.{to_camel(field)}"))
        for level in self.levels:
            if getattr(level.spec, field, None) is not None:
                return Place(level, f"spec.{_yaml_name(field)}")
        return Place(self.resource, "spec")


def key_of(agent: AnyAgent) -> AgentKey:
    """Which agent."""
    group, _, namespace, name = identity(agent)
    return AgentKey(namespace, name, group)


def _yaml_name(field: str) -> str:
    return AgentSpec.model_fields[field].alias or field


def beside(resource: Resource, path: str) -> str:
    """The path of a file that a manifest names, which it takes from its own folder."""
    return posixpath.join(posixpath.dirname(resource.source.file), path)
