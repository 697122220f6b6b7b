"""What a cluster cannot do yet is taken out of a plan, and said."""

from __future__ import annotations

import pytest

from kadre.operator.unsupported import for_cluster
from kadre.plan.build import Planned
from kadre.plan.types import (
    AgentKey,
    AgentPlan,
    AgentTool,
    CodeTool,
    Dependency,
    LaunchPlan,
    McpTools,
    ModelPlan,
    UnsupportedTool,
)

ECHO = McpTools(name="echo", launch=LaunchPlan(kind="package", package="echo-server"))
ORDERS = McpTools(name="orders", url="http://orders")
MODEL = ModelPlan(provider="scripted", model="m")


def planned(*tools: McpTools) -> Planned:
    plan = AgentPlan(key=AgentKey("team", "helper"), model=MODEL, tools=tools)
    return Planned(plan, (), tuple(Dependency(kind="tool", name=tool.name) for tool in tools))


def test_a_server_that_nothing_starts_is_left_out_and_said_of_the_tool() -> None:
    made = for_cluster(planned(ECHO, ORDERS))
    assert made.plan is not None
    echo, orders = made.plan.tools
    assert isinstance(echo, UnsupportedTool)
    assert orders == ORDERS
    assert [notice.reason for notice in made.plan.notices] == ["NotSupportedYet"]
    assert [len(each.notices) for each in made.dependencies] == [1, 0]


@pytest.mark.requirement("tool-code-cluster")
def test_code_that_models_write_is_not_run_where_the_installation_runs_none() -> None:
    plan = AgentPlan(key=AgentKey("team", "helper"), model=MODEL, tools=(CodeTool(name="python"), ORDERS))
    before = Planned(plan, (), (Dependency(kind="tool", name="python"),))
    assert for_cluster(before) == before
    made = for_cluster(before, code=False)
    assert made.plan is not None
    assert [type(tool) for tool in made.plan.tools] == [UnsupportedTool, McpTools]
    assert "runs without python; install with codeRunner.enabled=true" in made.dependencies[0].notices[0].message


def test_a_plan_that_a_pod_can_run_stays_as_it_is() -> None:
    before = planned(ORDERS)
    assert for_cluster(before) == before


def test_without_a_gateway_an_agent_that_is_asked_by_another_is_left_out_and_said_of_it() -> None:
    asked = AgentTool(name="first_aid", agent=AgentKey("team", "first.aid"))
    plan = AgentPlan(key=AgentKey("team", "helper"), model=MODEL, tools=(asked, ORDERS))
    known = (Dependency(kind="agent", name="first.aid"), Dependency(kind="tool", name="orders"))
    assert for_cluster(Planned(plan, (), known)).plan == plan
    made = for_cluster(Planned(plan, (), known), gateway=False)
    assert made.plan is not None
    first, orders = made.plan.tools
    assert isinstance(first, UnsupportedTool)
    assert orders == ORDERS
    ((told,), none) = [each.notices for each in made.dependencies]
    assert (told.reason, none) == ("NotSupportedYet", ())
    assert "runs without first.aid" in told.message
