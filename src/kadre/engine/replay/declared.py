"""What a tool offers that its plan alone says, as it does in earnest: nothing is connected to, no key is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kadre.base.errors import ToolError
from kadre.engine.messages import ToolSpec
from kadre.engine.tools.a2a import A2aToolset
from kadre.engine.tools.agent import AgentToolset
from kadre.engine.tools.allowed import Allowed
from kadre.engine.tools.human import HumanToolset
from kadre.engine.tools.port import CallContext, ToolOutput, Toolset
from kadre.engine.tools.recorded import Outcome, RecordedTools
from kadre.plan.types import (
    A2aTool,
    AgentKey,
    AgentTool,
    ApiTool,
    CodeTool,
    HumanTool,
    McpTools,
    RetrievalTool,
    SecretRef,
    ToolPlan,
    UnsupportedTool,
)

Declared = AgentTool | A2aTool | ApiTool | RetrievalTool | HumanTool | CodeTool
"""Tools that are one tool, of the plan's name. What an MCP server offers only it can say."""


def is_declared(tool: ToolPlan) -> bool:
    """Whether its plan says what it offers."""
    return not isinstance(tool, McpTools | UnsupportedTool)


async def toolset(
    tool: Declared,
    max_depth: int,
    before: ToolSpec | None,
    outcomes: Mapping[str, Outcome],
    always: Mapping[str, str],
) -> Toolset:
    """Offers what the tool offers now, and answers what was recorded; `before`: as it was offered then, if it was."""
    match tool:
        case HumanTool():
            return HumanToolset(tool)
        case AgentTool():
            return RecordedTools(await AgentToolset(tool, _Nobody(), max_depth).specs(), outcomes, always)
        case A2aTool():
            return RecordedTools(await _remote(tool, before), outcomes, always)
        case CodeTool():
            from kadre.engine.tools.code import CodeToolset

            return RecordedTools(await CodeToolset(tool, _Nowhere()).specs(), outcomes, always)
        case ApiTool():
            from kadre.engine.tools.api import ApiToolset

            specs = await ApiToolset(tool, NoSecrets()).specs()
            recorded = RecordedTools(specs, outcomes, always)
            return Allowed(recorded, tool.capabilities, granted=True, trusted=tool.trusted)
        case RetrievalTool():
            from kadre.engine.tools.retrieval import spec_of

            recorded = RecordedTools([spec_of(tool)], outcomes, always)
            return Allowed(recorded, (), granted=True, trusted=tool.trusted)


async def _remote(tool: A2aTool, before: ToolSpec | None) -> Sequence[ToolSpec]:
    """Where its author says nothing of the agent, what its card said then: it is not asked again."""
    known = tool if tool.description else msgspec.structs.replace(tool, description="no description given")
    specs = await A2aToolset(known, NoSecrets()).specs()
    if tool.description or before is None or not before.description:
        return specs
    return [msgspec.structs.replace(spec, description=before.description) for spec in specs]


class _Nobody:
    """No other agent is asked: what they answered is recorded."""

    async def delegate(self, agent: AgentKey, message: str, context: CallContext) -> ToolOutput:  # noqa: ARG002
        """See Delegates."""
        raise ToolError(f"{agent} is not asked")


class NoSecrets:
    """No key is needed."""

    def read(self, ref: SecretRef) -> str | None:  # noqa: ARG002
        """See SecretReader."""
        return None


class _Nowhere:
    """No code is run: what it printed is recorded."""

    async def check(self) -> None:
        """See Sandbox."""

    async def run(self, code: str, seconds: float) -> Any:  # noqa: ARG002
        """See Sandbox."""
        raise ToolError("no code is run")
