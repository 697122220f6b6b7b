"""From a tool's plan to the toolset that does it."""

from __future__ import annotations

from kadre.engine.tools.agent import AgentToolset, Delegates
from kadre.engine.tools.allowed import Allowed
from kadre.engine.tools.mcp import McpPool
from kadre.engine.tools.port import Toolset
from kadre.plan.types import AgentTool, McpTools, ToolPlan


def build(plan: ToolPlan, pool: McpPool, delegates: Delegates, max_depth: int) -> Toolset | None:
    """The toolset, connected to when it is first used; None for a tool that is not supported yet.

    `max_depth`: agents in a delegation chain, from the limits of the agent that has the tool.
    """
    if isinstance(plan, McpTools):
        return Allowed(pool.toolset(plan), plan.capabilities, plan.granted)
    if isinstance(plan, AgentTool):
        return AgentToolset(plan, delegates, max_depth)
    return None
