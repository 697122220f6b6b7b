"""A tool that asks a person: the run waits, and the answer is the call's result."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kadre.base.errors import BadRequest
from kadre.engine import events as ev
from kadre.engine.approvals import Said
from kadre.engine.tools.human import HumanToolset
from kadre.plan.types import ApprovalPlan, ApprovalRule, HumanTool
from tests.support.scene import restarted

pytestmark = pytest.mark.requirement("tool-human")
ASK = [("ask_desk", {"question": "Which room?"})]


def desk(**more: Any) -> HumanToolset:
    return HumanToolset(HumanTool(name="ask_desk", prompt="A guest is waiting", **more))


async def ended(live: Any) -> None:
    await asyncio.wait_for(live.wait(), 5)


async def test_the_run_waits_and_the_answer_is_the_result(scene: Any) -> None:
    model = await scene.says(ASK, "room 12", tools=[desk()])
    live = await scene.start()
    approval = await scene.approval(live)
    assert (approval.kind, approval.reason) == ("question", "A guest is waiting")
    assert approval.tool_call.arguments == {"question": "Which room?"}
    assert (await scene.journal.run(live.info.run_id)).status == "waiting"
    await scene.host.approve(live.info.run_id, approval.id, "allow", "ada", said=Said(answer="Room 12"))
    await ended(live)
    assert model.requests[1].messages[-1].content == "Room 12"
    (decided,) = [event for event in live.events if isinstance(event, ev.ApprovalDecided)]
    assert (decided.by, decided.answer) == ("ada", "Room 12")
    assert [(end.status, end.output, end.outside) for end in scene.tool_ends(live)] == [("complete", "Room 12", "")]


async def test_a_run_that_waits_for_an_answer_survives_a_restart(scene: Any) -> None:
    await scene.says(ASK, tools=[desk()])
    live = await scene.start()
    approval = await scene.approval(live)
    after = await restarted(scene)
    model = await after.says("room 12", tools=[desk()])
    await after.host.recover()
    await after.host.approve(live.info.run_id, approval.id, "allow", "ada", said=Said(answer="Room 12"))
    again = await after.host.open(live.info.run_id)
    await ended(again)
    assert again.answer() == "room 12"
    assert model.requests[0].messages[-1].content == "Room 12"


async def test_an_answer_given_before_a_restart_is_the_result_after_it(scene: Any) -> None:
    both = [*ASK, ("ask_desk", {"question": "Which floor?"})]
    await scene.says(both, tools=[desk()])
    live = await scene.start()
    await scene.until(live, lambda: len(live.pending_approvals()) == 2)
    first, second = live.pending_approvals()
    await scene.host.approve(live.info.run_id, first.id, "allow", "ada", said=Said(answer="Room 12"))
    after = await restarted(scene)
    model = await after.says("done", tools=[desk()])
    await after.host.recover()
    await after.host.approve(live.info.run_id, second.id, "allow", "ada", said=Said(answer="First"))
    await ended(await after.host.open(live.info.run_id))
    results = [message.content for message in model.requests[0].messages if message.role == "tool"]
    assert results == ["Room 12", "First"]


async def test_nobody_answering_is_the_default_answer(scene: Any) -> None:
    model = await scene.says(ASK, "any room", tools=[desk(timeout=60.0, default="take any")])
    live = await scene.start()
    approval = await scene.approval(live)
    assert (approval.on_expiry, approval.default) == ("allow", "take any")
    await asyncio.sleep(0)
    await scene.clock.advance(61)
    await ended(live)
    assert model.requests[1].messages[-1].content == "take any"
    (decided,) = [event for event in live.events if isinstance(event, ev.ApprovalDecided)]
    assert (decided.by, decided.answer) == ("expiry", "take any")


async def test_nobody_answering_is_an_error_that_the_model_reads_where_there_is_no_default(scene: Any) -> None:
    model = await scene.says(ASK, "sorry", tools=[desk(timeout=60.0)])
    live = await scene.start()
    await scene.approval(live)
    await asyncio.sleep(0)
    await scene.clock.advance(61)
    await ended(live)
    told = model.requests[1].messages[-1].content
    assert told == "Error: nobody answered this question (expiry: nobody answered in time)"


async def test_who_does_not_want_to_answer_denies_and_says_why(scene: Any) -> None:
    model = await scene.says(ASK, "sorry", tools=[desk()])
    live = await scene.start()
    approval = await scene.approval(live)
    await scene.host.approve(live.info.run_id, approval.id, "deny", "ada", "ask the guest")
    await ended(live)
    assert model.requests[1].messages[-1].content == "Error: nobody answered this question (ada: ask the guest)"


@pytest.mark.parametrize(
    ("said", "reason"), [(Said(), "AnswerMissing"), (Said(arguments={"question": "x"}), "BadDecision")]
)
async def test_a_question_is_answered_by_an_answer_alone(scene: Any, said: Said, reason: str) -> None:
    await scene.says(ASK, "done", tools=[desk()])
    live = await scene.start()
    approval = await scene.approval(live)
    with pytest.raises(BadRequest) as refused:
        await scene.host.approve(live.info.run_id, approval.id, "allow", "ada", said=said)
    assert refused.value.reason == reason
    assert live.pending_approvals() == [approval]


async def test_a_question_that_is_none_is_not_asked(scene: Any) -> None:
    model = await scene.says([("ask_desk", {})], "sorry", tools=[desk()])
    await scene.ask()
    assert "question: is required" in model.requests[1].messages[-1].content


async def test_declared_parameters_are_what_the_model_asks_with(scene: Any) -> None:
    parameters = {
        "type": "object",
        "properties": {"topic": {"type": "string"}, "urgent": {"type": "boolean", "default": False}},
        "required": ["topic"],
        "additionalProperties": False,
    }
    model = await scene.says([("ask_desk", {"topic": "rooms"})], "done", tools=[desk(parameters=parameters)])
    live = await scene.start()
    approval = await scene.approval(live)
    assert model.requests[0].tools[0].parameters == parameters
    assert approval.tool_call.arguments == {"topic": "rooms", "urgent": False}
    await scene.host.approve(live.info.run_id, approval.id, "allow", "ada", said=Said(answer="two are free"))
    await ended(live)
    assert live.answer() == "done"


async def test_a_rule_may_keep_the_model_from_asking(scene: Any) -> None:
    rules = ApprovalPlan(rules=(ApprovalRule(action="deny", tools=("ask_desk",), arguments={"question": "password"}),))
    model = await scene.says([("ask_desk", {"question": "Your password?"})], "ok", tools=[desk()], approvals=rules)
    await scene.ask()
    assert "ask_desk is not allowed" in model.requests[1].messages[-1].content
