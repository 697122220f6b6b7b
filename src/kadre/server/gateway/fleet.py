"""Every agent that can be asked, and where its hosts are: a port. In a cluster it is what the API server tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from kadre.plan.types import AgentKey
from kadre.server import names


class Shown(msgspec.Struct, frozen=True, gc=False):
    """An agent as lists show it, of what is known without asking its host."""

    name: str
    namespace: str
    group: str
    display_name: str
    description: str
    model: str
    """As in `provider/model`; empty where nothing has run of it yet."""
    status: str
    """In one word, as `kubectl get agents` has it."""
    hosts: int = 0
    """How many of its hosts answer now."""


class Fleet(names.Directory, Protocol):
    """Who is served, and where. It is asked by every request: nothing here waits."""

    def hosts(self, key: AgentKey) -> Sequence[str]:
        """Addresses of the agent's hosts that take requests now, as `10.0.0.7:8080`; none while it has none."""
        ...

    def shown(self, key: AgentKey) -> Shown:
        """The agent as lists show it."""
        ...
