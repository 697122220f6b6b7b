"""What a cluster cannot do yet, said where people look, instead of being left out in silence."""

from __future__ import annotations

import msgspec

from kadre.operator.children.secrets import without_variables
from kadre.plan.build import Planned
from kadre.plan.names import tool_name
from kadre.plan.types import AgentTool, CodeTool, Dependency, McpTools, Notice, ToolPlan, UnsupportedTool

UNBUILT = {
    ("kagent.dev", "WorkflowRun"): "workflows are not supported yet: nothing is run",
}
"""Kinds, by API group, of which nothing runs."""


def for_cluster(planned: Planned, *, gateway: bool = True, code: bool = True) -> Planned:
    """What was planned, as a pod can run it: without a laptop's places of secrets, and without what nothing starts.

    `gateway`: whether there is one, through which agents ask each other; `code`: whether code that models write is run.
    """
    if planned.plan is None:
        return planned
    plan = without_variables(planned.plan)
    tools = tuple(_runnable(tool, gateway=gateway, code=code) for tool in plan.tools)
    notices = {
        _dependency(before): Notice(reason="NotSupportedYet", message=after.message)
        for before, after in zip(plan.tools, tools, strict=True)
        if before is not after and isinstance(after, UnsupportedTool)
    }
    if not notices:
        return msgspec.structs.replace(planned, plan=plan)
    dependencies = tuple(
        _noticed(each, notices.get((each.kind, tool_name(each.name)))) for each in planned.dependencies
    )
    plan = msgspec.structs.replace(plan, tools=tools, notices=(*plan.notices, *notices.values()))
    return msgspec.structs.replace(planned, plan=plan, dependencies=dependencies)


def _dependency(tool: ToolPlan) -> tuple[str, str]:
    """The kind and the name by which the reference to it is known again: as a model sees names, others being longer."""
    return ("agent" if isinstance(tool, AgentTool) else "tool", tool_name(tool.name))


def _noticed(dependency: Dependency, notice: Notice | None) -> Dependency:
    if notice is None:
        return dependency
    return msgspec.structs.replace(dependency, notices=(*dependency.notices, notice))


def _runnable(tool: ToolPlan, *, gateway: bool, code: bool) -> ToolPlan:
    """The tool, or what stands in its place where a pod cannot have it."""
    if isinstance(tool, McpTools) and tool.launch is not None:
        message = (
            f"MCP servers that are started beside an agent are not supported on a cluster yet: the agent runs without"
            f" {tool.name}; deploy it, and name its address as the tool's endpoint"
        )
        return UnsupportedTool(name=tool.name, type="mcp", message=message)
    if isinstance(tool, CodeTool) and not code:
        message = (
            f"code that models write is not run by this installation: the agent runs without {tool.name}; install with"
            " codeRunner.enabled=true, or give it an MCP server whose functions do what is wanted"
        )
        return UnsupportedTool(name=tool.name, type="code", message=message)
    if isinstance(tool, AgentTool) and not gateway:
        message = (
            f"agents ask each other through the gateway, and this installation has none: the agent runs without"
            f" {tool.agent.name}; install with gateway.enabled=true, or give it the tools it needs itself"
        )
        return UnsupportedTool(name=tool.name, type="agent", message=message)
    return tool
