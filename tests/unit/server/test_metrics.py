"""What is counted, under the names dashboards expect."""

from __future__ import annotations

from kadre.base.clock import FakeClock
from kadre.plan.types import AgentKey, AgentPlan, ModelPlan
from kadre.server.metrics import Metrics

KEY = AgentKey("default", "a")


def plan(model: str) -> AgentPlan:
    return AgentPlan(key=KEY, model=ModelPlan(provider="scripted", model=model))


def value(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"agent": "a", "agent_name": "a"})


def test_a_reloaded_agent_goes_on_with_what_was_counted() -> None:
    metrics, before, after = Metrics(FakeClock()), plan("one"), plan("two")
    metrics.run_started(before)
    metrics.run_started(after)
    metrics.run_finished(before, "completed", 1.0, "")
    metrics.render()
    assert value(metrics, "agent_request_total") == 2
    assert value(metrics, "agent_active_sessions") == 1
    assert value(metrics, "agent_requests_per_second") == 2 / 60


def test_only_a_run_past_its_deadline_is_a_timeout_however_long_another_waited() -> None:
    metrics, made = Metrics(FakeClock()), plan("one")
    metrics.run_finished(made, "failed", 10_000.0, "ModelFailed")
    assert value(metrics, "agent_timeout_total") == 0
    metrics.run_finished(made, "failed", 300.0, "DeadlineExceeded")
    assert value(metrics, "agent_timeout_total") == 1
