"""Agents as tools of other agents."""

from __future__ import annotations

import asyncio
from typing import Any

from kadre.base.ids import new_id
from kadre.engine import events as ev
from kadre.engine.delegation import child_of
from kadre.engine.tools.agent import AgentToolset
from kadre.plan.types import AgentKey, AgentTool, Limits


def to(scene: Any, name: str, depth: int = 5) -> AgentToolset:
    return AgentToolset(
        AgentTool(name=name, agent=AgentKey("default", name), description=f"does {name}"), scene.host, depth
    )


async def test_the_other_agents_answer_comes_back_as_the_tools(scene: Any) -> None:
    worker = await scene.says("42", name="worker")
    boss = await scene.says([("worker", {"message": "6*7?"})], "it is 42", name="boss", tools=[to(scene, "worker")])
    live = await scene.ask(name="boss")
    assert worker.requests[0].messages[-1].content == "6*7?"
    assert boss.requests[1].messages[-1].content == "42"
    assert [kind for kind in scene.types(live) if kind.startswith("delegate")] == ["delegate_start", "delegate_end"]
    start = next(event for event in live.events if isinstance(event, ev.DelegateStart))
    child = await scene.journal.run(start.child_run_id)
    assert child.parent_run_id == live.info.run_id
    assert child.status == "completed"


async def test_an_agent_is_offered_with_its_description(scene: Any) -> None:
    (spec,) = await to(scene, "worker").specs()
    assert spec.description == "Ask the agent worker: does worker"


async def test_a_cycle_of_delegation_is_an_error_the_model_reads(scene: Any) -> None:
    await scene.says([("b", {"message": "?"})], "a done", name="a", tools=[to(scene, "b")])
    b = await scene.says([("a", {"message": "?"})], "b done", name="b", tools=[to(scene, "a")])
    live = await scene.ask(name="a")
    assert live.answer() == "a done"
    assert "already part of this delegation (default/a → default/b → default/a)" in b.requests[1].messages[-1].content


async def test_a_chain_is_bounded_in_depth(scene: Any) -> None:
    await scene.says([("b", {"message": "?"})], "a done", name="a", tools=[to(scene, "b", depth=2)])
    b = await scene.says([("c", {"message": "?"})], "b done", name="b", tools=[to(scene, "c", depth=2)])
    await scene.says("never", name="c")
    await scene.ask(name="a")
    assert "2 agents deep, which is the limit" in b.requests[1].messages[-1].content


async def test_a_child_that_fails_is_an_error_with_its_cause(scene: Any) -> None:
    await scene.says([("x", {})], name="worker", limits=Limits(max_steps=1))
    boss = await scene.says([("worker", {"message": "?"})], "sorry", name="boss", tools=[to(scene, "worker")])
    await scene.ask(name="boss")
    assert boss.requests[1].messages[-1].content.startswith("Error: default/worker ended failed: no answer after 1")


async def test_cancelling_a_run_cancels_what_it_delegated(scene: Any) -> None:
    await scene.says(asyncio.Event(), name="worker")
    await scene.says([("worker", {"message": "?"})], name="boss", tools=[to(scene, "worker")])
    live = await scene.start(name="boss")
    await scene.until(live, lambda: "delegate_start" in scene.types(live))
    await scene.host.cancel(live.info.run_id)
    start = next(event for event in live.events if isinstance(event, ev.DelegateStart))
    child = await scene.host.open(start.child_run_id)
    await asyncio.wait_for(child.wait(), 5)
    assert child.finished is not None
    assert child.finished.status == "cancelled"


def test_a_delegated_run_is_listed_beside_its_parent_and_found_again() -> None:
    parent = new_id("run")
    child = child_of(parent, f"{parent}/call-1")
    assert child == child_of(parent, f"{parent}/call-1")
    assert child != child_of(parent, f"{parent}/call-2")
    assert child[:15] == parent[:15]
    assert len(child) == len(parent)
    assert child_of("chosen", "chosen/call-1").startswith("run-")
