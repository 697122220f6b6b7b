"""What a cluster cannot do yet, said where people look, instead of being left out in silence."""

from __future__ import annotations

import msgspec

from kadre.operator.children.secrets import without_variables
from kadre.plan.build import Planned
from kadre.plan.types import McpTools, Notice, ToolPlan, UnsupportedTool

_KAOS = "do not run on a cluster yet"
UNBUILT = {
    ("kaos.tools", "Agent"): f"agents of kaos.tools {_KAOS}: write an Agent of kagent.dev",
    ("kaos.tools", "ModelAPI"): f"model servers of kaos.tools {_KAOS}: write a ModelConfig of kagent.dev",
    (
        "kaos.tools",
        "MCPServer",
    ): f"MCP servers of kaos.tools {_KAOS}: deploy it, and name its Service as a tool's endpoint",
    ("kagent.dev", "WorkflowRun"): "workflows are not supported yet: nothing is run",
}
"""Kinds, by API group, of which nothing runs."""


def for_cluster(planned: Planned) -> Planned:
    """What was planned, as a pod can run it: without a laptop's places of secrets, and without what nothing starts."""
    if planned.plan is None:
        return planned
    plan = without_variables(planned.plan)
    left = {
        tool.name: _unstarted(tool) for tool in plan.tools if isinstance(tool, McpTools) and tool.launch is not None
    }
    if not left:
        return msgspec.structs.replace(planned, plan=plan)
    notices = {name: Notice(reason="NotSupportedYet", message=tool.message) for name, tool in left.items()}
    tools: tuple[ToolPlan, ...] = tuple(left.get(tool.name, tool) for tool in plan.tools)
    dependencies = tuple(
        msgspec.structs.replace(each, notices=(*each.notices, notices[each.name]))
        if each.kind == "tool" and each.name in notices
        else each
        for each in planned.dependencies
    )
    plan = msgspec.structs.replace(plan, tools=tools, notices=(*plan.notices, *notices.values()))
    return msgspec.structs.replace(planned, plan=plan, dependencies=dependencies)


def _unstarted(tool: McpTools) -> UnsupportedTool:
    message = (
        f"MCP servers that are started beside an agent are not supported on a cluster yet: the agent runs without"
        f" {tool.name}; deploy it, and name its address as the tool's endpoint"
    )
    return UnsupportedTool(name=tool.name, type="mcp", message=message)
