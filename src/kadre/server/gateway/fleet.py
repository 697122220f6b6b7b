"""Every agent that can be asked, and where its hosts are: a port. In a cluster it is what the API server tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from kadre.plan.types import AgentKey
from kadre.server import names


class Fleet(names.Directory, Protocol):
    """Who is served, and where. It is asked by every request: nothing waits here but who waits for a host."""

    def hosts(self, key: AgentKey) -> Sequence[str]:
        """Addresses of the agent's hosts that take requests now, as `10.0.0.7:8080`; none while it has none."""
        ...

    def comes(self, key: AgentKey) -> bool:
        """Whether an agent that has no host now is about to have one: it starts, or it was scaled to none."""
        ...

    async def arrives(self, key: AgentKey) -> None:
        """Come back when the agent has a host, or may have one: it is to be looked again."""
        ...

    def seconds(self, key: AgentKey) -> float | None:
        """As long as a request to the agent may take, where its author says; None: as long as any."""
        ...

    def durable(self, key: AgentKey) -> bool:
        """Whether the agent's runs outlive the pod that does them, as far as that is known."""
        ...

    def shown(self, key: AgentKey) -> Mapping[str, Any]:
        """The agent as lists show it, of what is known without asking its host: as JSON."""
        ...
