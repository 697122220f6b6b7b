"""From a tool's plan to the toolset that does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from kadre.engine.secrets import SecretReader
from kadre.engine.tools.a2a import A2aToolset
from kadre.engine.tools.agent import AgentToolset, Delegates
from kadre.engine.tools.allowed import Allowed
from kadre.engine.tools.mcp import McpPool
from kadre.engine.tools.port import Toolset
from kadre.plan.types import A2aTool, AgentTool, ApiTool, CodeTool, HumanTool, McpTools, RetrievalTool, ToolPlan

if TYPE_CHECKING:
    from kadre.engine.tools.code import Sandbox
    from kadre.engine.tools.retrieval import Retrieval


class Means(NamedTuple):
    """What the tools of a process are made with.

    `searches`: asked for a tool that searches. `sandbox`: where code runs that models write; without one there is no
    such tool.
    """

    pool: McpPool
    delegates: Delegates
    secrets: SecretReader
    searches: Callable[[], Retrieval]
    sandbox: Sandbox | None = None


def build(plan: ToolPlan, means: Means, max_depth: int) -> Toolset | None:
    """The toolset, connected to when it is first used; None for a tool that is not supported yet.

    `max_depth`: agents in a delegation chain, from the limits of the agent that has the tool.
    """
    # What only some agents have is loaded where there is one.
    match plan:
        case McpTools():
            return Allowed(means.pool.toolset(plan), plan.capabilities, plan.granted, trusted=plan.trusted)
        case AgentTool():
            return AgentToolset(plan, means.delegates, max_depth)
        case A2aTool():
            return A2aToolset(plan, means.secrets)
        case ApiTool():
            from kadre.engine.tools.api import ApiToolset

            return Allowed(ApiToolset(plan, means.secrets), plan.capabilities, granted=True, trusted=plan.trusted)
        case RetrievalTool():
            return Allowed(means.searches().toolset(plan), (), granted=True, trusted=plan.trusted)
        case HumanTool():
            from kadre.engine.tools.human import HumanToolset

            return HumanToolset(plan)
        case CodeTool() if means.sandbox is not None:
            from kadre.engine.tools.code import CodeToolset

            return CodeToolset(plan, means.sandbox)
    return None
