"""What a pod takes for the plan that it was made for."""

from __future__ import annotations

from pathlib import Path

import pytest

from kadre.base.errors import ProblemError
from kadre.local.pod import read_plan
from kadre.operator.children import plan_map
from kadre.plan.types import AgentKey, AgentPlan, ModelPlan

PLAN = AgentPlan(key=AgentKey("team", "a"), model=ModelPlan(provider="scripted", model="m"))


def test_a_plan_that_is_another_than_the_controllers_is_not_served(tmp_path: Path) -> None:
    file, digest = tmp_path / "plan.json", plan_map.digest(PLAN)
    file.write_bytes(plan_map.encoded(PLAN))
    assert read_plan(file, digest) == read_plan(file) == PLAN
    file.write_bytes(plan_map.encoded(PLAN) + b"\n")
    assert read_plan(file) == PLAN
    with pytest.raises(ProblemError, match="delete the ConfigMap that the pod's volume plan names") as refused:
        read_plan(file, digest)
    assert [problem.reason for problem in refused.value.problems] == ["ForeignPlan"]


def test_what_is_no_plan_is_told_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    with pytest.raises(ProblemError, match=r"plan\.json is no plan that can be run"):
        read_plan(file)
    file.write_text("{}")
    with pytest.raises(ProblemError, match=r"plan\.json is no plan that can be run"):
        read_plan(file)
