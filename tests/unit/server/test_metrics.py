"""What is counted, under the names dashboards expect."""

from __future__ import annotations

import tracemalloc

from kadre.base.clock import FakeClock
from kadre.engine.messages import Usage
from kadre.plan.types import AgentKey, AgentPlan, ModelPlan
from kadre.server.metrics import Metrics

KEY = AgentKey("default", "a")


def plan(model: str) -> AgentPlan:
    return AgentPlan(key=KEY, model=ModelPlan(provider="scripted", model=model))


def value(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"agent": "a", "agent_name": "a"})


def test_an_agent_that_nobody_has_asked_yet_has_figures_to_scale_by() -> None:
    metrics = Metrics(FakeClock())
    metrics.show(plan("one"))
    assert value(metrics, "agent_active_sessions") == 0
    assert value(metrics, "agent_requests_per_second") == 0


def test_a_reloaded_agent_goes_on_with_what_was_counted() -> None:
    metrics, before, after = Metrics(FakeClock()), plan("one"), plan("two")
    metrics.run_started(before, "one")
    metrics.run_started(after, "two")
    metrics.run_finished(before, "one", "completed", 1.0, "")
    metrics.render()
    assert value(metrics, "agent_request_total") == 2
    assert value(metrics, "agent_active_sessions") == 1
    assert value(metrics, "agent_requests_per_second") == 2 / 60


def test_messages_that_wait_in_one_session_are_no_sessions_of_their_own() -> None:
    metrics, made = Metrics(FakeClock()), plan("one")
    for session in ("one", "one", "two"):
        metrics.run_started(made, session)
    assert value(metrics, "agent_active_sessions") == 2
    metrics.run_finished(made, "one", "completed", 1.0, "")
    assert value(metrics, "agent_active_sessions") == 2
    metrics.run_finished(made, "one", "completed", 1.0, "")
    assert value(metrics, "agent_active_sessions") == 1


def test_only_a_run_past_its_deadline_is_a_timeout_however_long_another_waited() -> None:
    metrics, made = Metrics(FakeClock()), plan("one")
    metrics.run_finished(made, "one", "failed", 10_000.0, "ModelFailed")
    assert value(metrics, "agent_timeout_total") == 0
    metrics.run_finished(made, "one", "failed", 300.0, "DeadlineExceeded")
    assert value(metrics, "agent_timeout_total") == 1


async def test_the_rate_counts_every_run_of_the_last_minute_and_no_other() -> None:
    clock, made = FakeClock(), plan("one")
    metrics = Metrics(clock)
    for runs in (3, 1, 0, 2):
        for _ in range(runs):
            metrics.run_started(made, "one")
        await clock.advance(20.5)
    metrics.render()
    assert value(metrics, "agent_requests_per_second") == 2 / 60
    await clock.advance(100_000)
    metrics.run_started(made, "one")
    metrics.render()
    assert value(metrics, "agent_requests_per_second") == 1 / 60


async def test_a_minute_takes_as_much_memory_of_many_runs_as_of_few() -> None:
    clock, made = FakeClock(), plan("one")
    metrics = Metrics(clock)

    async def a_minute(runs_a_second: int) -> int:
        for _ in range(60):
            for _ in range(runs_a_second):
                metrics.run_started(made, "one")
            await clock.advance(1)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        few = await a_minute(1)
        many = await a_minute(50)
    finally:
        tracemalloc.stop()
    assert many - few < 10_000


def test_an_agent_that_is_gone_leaves_no_figures() -> None:
    metrics, made = Metrics(FakeClock()), plan("one")
    before = metrics.render()
    metrics.run_started(made, "s")
    metrics.model_called(made, 1.0, Usage(), "")
    metrics.tool_called(made, "look", 1.0, error=True)
    metrics.run_finished(made, "s", "completed", 1.0, "")
    metrics.run_started(plan("one"), "s")  # an older plan of it, of which a run goes on
    metrics.hide(made)
    assert metrics.render() == before
    metrics.hide(made)


def test_a_server_of_tools_that_is_left_alone_is_counted_until_it_is_not() -> None:
    metrics = Metrics(FakeClock())
    for is_open in (True, True, False):
        metrics.circuit("orders", is_open)
    assert metrics.registry.get_sample_value("tool_server_circuit_open", {"server": "orders"}) == 1


def test_what_a_search_for_tools_saves_is_counted_by_model() -> None:
    metrics = Metrics(FakeClock())
    metrics.tools_unsent(plan("one"), 100)
    metrics.tools_unsent(plan("one"), 50)
    labels = {"agent": "a", "agent_name": "a", "model": "one"}
    assert metrics.registry.get_sample_value("llm_tool_tokens_saved_total", labels) == 150
