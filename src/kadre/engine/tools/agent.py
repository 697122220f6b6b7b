"""Another agent offered as a tool.

The call's idempotency key names the child run, so that asking again after a restart finds the run that is there
instead of starting a second one: delegation is the one tool that is idempotent by nature.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from kadre.base.errors import ToolError
from kadre.engine.messages import ToolSpec
from kadre.engine.tools.port import CallContext, ToolOutput
from kadre.plan.types import AgentKey, AgentTool

PARAMETERS = {
    "type": "object",
    "properties": {
        "message": {
            "type": "string",
            "description": "What the agent is asked, complete in itself: it sees nothing else of this conversation.",
        }
    },
    "required": ["message"],
}


class Delegates(Protocol):
    """Who can have another agent answer; knows runs, which this toolset does not."""

    async def delegate(self, agent: AgentKey, message: str, context: CallContext) -> ToolOutput:
        """The other agent's answer. Raises ToolError where it cannot be asked."""
        ...


class AgentToolset:
    """One agent as one tool."""

    def __init__(self, plan: AgentTool, delegates: Delegates, max_depth: int) -> None:
        self._plan = plan
        self._delegates = delegates
        self._max_depth = max_depth
        about = plan.description or "no description given"
        self._specs = (
            ToolSpec(
                name=plan.name,
                description=f"Ask the agent {plan.agent.name}: {about}",
                parameters=PARAMETERS,
                idempotent=True,
                read_by_model=True,
                trusted=True,  # its answer says itself what has entered its run
                server=plan.agent.name,
            ),
        )

    notice = ""
    """See Toolset."""

    @property
    def ready(self) -> bool:
        """See Toolset."""
        return True

    async def specs(self) -> Sequence[ToolSpec]:
        """See Toolset."""
        return self._specs

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:
        """See Toolset."""
        message = arguments.get("message")
        if not isinstance(message, str) or not message.strip():
            raise ToolError(f"{name} needs an argument `message`: what the agent is asked, as text")
        target = str(self._plan.agent)
        if target in context.chain:
            path = " → ".join((*context.chain, target))
            raise ToolError(f"{target} is already part of this delegation ({path}); answer without it")
        if context.depth >= self._max_depth:
            raise ToolError(f"the delegation is {context.depth} agents deep, which is the limit; answer without it")
        return await self._delegates.delegate(self._plan.agent, message, context)

    async def aclose(self) -> None:
        """See Toolset."""
