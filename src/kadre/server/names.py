"""From a name in a URL or a body to an agent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

from kadre.base.errors import Conflict, NotFound
from kadre.base.problems import did_you_mean
from kadre.plan.types import AgentKey

CANDIDATES = 100
"""Agents that an answer lists where a name is that of several."""
LISTED = 10
"""Names that an answer lists where none is close to the one that was asked for."""


class Directory(Protocol):
    """Who is served here. On a laptop the host's own agents, in a cluster everything the gateway sees."""

    def all(self) -> Iterable[AgentKey]:
        """Every agent that can be asked."""
        ...

    def named(self, name: str) -> Sequence[AgentKey]:
        """Those of that bare name, one a namespace and group; asked for by every request, so no search."""
        ...


class Some:
    """A Directory of some agents."""

    def __init__(self, agents: Iterable[AgentKey]) -> None:
        self._agents = tuple(agents)

    def all(self) -> Iterable[AgentKey]:
        """See Directory."""
        return self._agents

    def named(self, name: str) -> Sequence[AgentKey]:
        """See Directory."""
        return [key for key in self._agents if key.name == name]


def resolve(directory: Directory, name: str, namespace: str = "", home: str = "") -> AgentKey:
    """The agent of that name (`ns/name` too). Raises NotFound, or Conflict with the candidates.

    `home`: the namespace whose agent is meant by a bare name that several have. Where a namespace has one of each
    group, `name.group` says which, as the candidates do.
    """
    if not namespace and "/" in name:
        namespace, _, name = name.partition("/")
    found = [key for key in _named(directory, name) if not namespace or key.namespace == namespace]
    if len(found) > 1 and not namespace:
        found = [key for key in found if key.namespace == home] or found
    if len(found) == 1:
        return found[0]
    if not found:
        shown = f"{namespace}/{name}" if namespace else name
        known = sorted({key.name for key in directory.all()})
        raise NotFound(f"there is no agent {shown!r}{_hint(name, known)}", reason="NoSuchAgent")
    raise _ambiguous(f"several agents are named {name!r}", found)


def _named(directory: Directory, name: str) -> Sequence[AgentKey]:
    bare, dot, group = name.partition(".")  # no agent that is served has a dot in its name
    with_group = [key for key in directory.all() if key.name == bare and key.group == group] if dot else []
    return with_group or directory.named(name)


def _hint(name: str, known: Sequence[str]) -> str:
    close = did_you_mean(name, known)
    if close or not known:
        return close
    rest = len(known) - LISTED
    return f"; there is {', '.join(known[:LISTED])}" + (f" and {rest} more" if rest > 0 else "")


def only(directory: Directory) -> AgentKey:
    """The one agent there is. Raises Conflict with the candidates where there are several."""
    found = list(directory.all())
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFound("no agent is loaded", reason="NoSuchAgent")
    raise _ambiguous("several agents are loaded", found)


def _ambiguous(message: str, found: list[AgentKey]) -> Conflict:
    times = Counter(key.short for key in found)
    candidates = sorted(key.short if times[key.short] == 1 else f"{key.short}.{key.group}" for key in found)
    message = f"{message}; say which, as in /agents/{candidates[0]}/chat"
    return Conflict(message, reason="AmbiguousAgent", details={"candidates": candidates[:CANDIDATES]})
