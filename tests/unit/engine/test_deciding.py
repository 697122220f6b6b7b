"""How people decide: calls changed before they are made, digests, expiry to a default, batches decided in part."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kadre.base.errors import BadRequest, Conflict
from kadre.engine import events as ev
from kadre.engine.approvals import Said
from kadre.engine.tools.functions import Functions
from kadre.engine.tools.human import HumanToolset
from kadre.plan.types import ApprovalPlan, ApprovalRule, HumanTool, Limits
from tests.support.scene import CALL, Pen, restarted

pytestmark = pytest.mark.requirement("approval-decisions")


async def ended(live: Any) -> None:
    await asyncio.wait_for(live.wait(), 5)


async def test_a_call_that_was_changed_is_made_as_changed_and_both_are_told(scene: Any, asking: Any, pen: Pen) -> None:
    model = await scene.says(CALL, "done", tools=[asking(pen.write)])
    live = await scene.start()
    approval = await scene.approval(live)
    said = Said(arguments={"text": "bye"}, digest=approval.digest)
    await scene.host.approve(live.info.run_id, approval.id, "allow", "ada", said=said)
    await ended(live)
    assert pen.written == ["bye"]
    (required,) = [event for event in live.events if isinstance(event, ev.ApprovalRequired)]
    (decided,) = [event for event in live.events if isinstance(event, ev.ApprovalDecided)]
    (started,) = [event for event in live.events if isinstance(event, ev.ToolStart)]
    assert required.approvals[0].tool_call.arguments == {"text": "hi"}
    assert decided.arguments == started.tool_call.arguments == {"text": "bye"}
    told = model.requests[1].messages[-1].content
    assert told == '[ada allowed this call with other arguments: {"text":"bye"}]\nwrote bye'


@pytest.mark.parametrize("arguments", [{"text": 1}, {}, {"text": "bye", "more": 1}])
async def test_arguments_that_the_tool_does_not_take_are_refused_and_the_call_waits_on(
    scene: Any, asking: Any, pen: Pen, arguments: dict[str, Any]
) -> None:
    await scene.says(CALL, "done", tools=[asking(pen.write)])
    live = await scene.start()
    approval = await scene.approval(live)
    with pytest.raises(BadRequest, match="write does not take these arguments") as refused:
        await scene.host.approve(live.info.run_id, approval.id, "allow", "ada", said=Said(arguments=arguments))
    assert refused.value.reason == "InvalidArguments"
    assert live.pending_approvals() == [approval]
    await scene.host.approve(live.info.run_id, approval.id, "allow", "ada")
    await ended(live)
    assert pen.written == ["hi"]


async def test_arguments_that_a_rule_denies_are_refused(scene: Any, asking: Any, pen: Pen) -> None:
    rules = ApprovalPlan(rules=(ApprovalRule(action="deny", tools=("write",), arguments={"text": "secret"}),))
    await scene.says(CALL, "done", tools=[asking(pen.write)], approvals=rules)
    live = await scene.start()
    approval = await scene.approval(live)
    said = Said(arguments={"text": "a secret"})
    with pytest.raises(BadRequest) as refused:
        await scene.host.approve(live.info.run_id, approval.id, "allow", "ada", said=said)
    assert refused.value.reason == "DeniedByPolicy"
    assert not pen.written


async def test_a_decision_about_another_call_than_the_one_that_waits_is_a_conflict(
    scene: Any, asking: Any, pen: Pen
) -> None:
    await scene.says(CALL, "done", tools=[asking(pen.write)])
    live = await scene.start()
    approval = await scene.approval(live)
    with pytest.raises(Conflict) as refused:
        await scene.host.approve(live.info.run_id, approval.id, "allow", "ada", said=Said(digest="sha256:0"))
    assert refused.value.reason == "DigestMismatch"
    await scene.host.approve(live.info.run_id, approval.id, "deny", "ada", said=Said(digest=approval.digest))
    await ended(live)
    assert not pen.written


@pytest.mark.parametrize(
    ("decision", "said"),
    [("deny", Said(arguments={"text": "x"})), ("deny", Said(answer="x")), ("allow", Said(answer="x"))],
)
async def test_what_makes_no_sense_decides_nothing(
    scene: Any, asking: Any, pen: Pen, decision: Any, said: Said
) -> None:
    await scene.says(CALL, "done", tools=[asking(pen.write)])
    live = await scene.start()
    approval = await scene.approval(live)
    with pytest.raises(BadRequest) as refused:
        await scene.host.approve(live.info.run_id, approval.id, decision, "ada", said=said)
    assert refused.value.reason == "BadDecision"
    assert live.pending_approvals() == [approval]


async def test_a_changed_call_that_was_decided_before_a_restart_is_made_as_changed_after_it(
    scene: Any, asking: Any, pen: Pen
) -> None:
    both = [("write", {"text": "one"}), ("write", {"text": "two"})]
    await scene.says(both, tools=[asking(pen.write)])
    live = await scene.start()
    await scene.until(live, lambda: len(live.pending_approvals()) == 2)
    first, second = live.pending_approvals()
    said = Said(arguments={"text": "changed"})
    await scene.host.approve(live.info.run_id, first.id, "allow", "ada", said=said)
    after = await restarted(scene)
    await after.says("done", tools=[asking(pen.write)])
    await after.host.recover()
    said = Said(arguments={"text": "later"}, digest=second.digest)
    await after.host.approve(live.info.run_id, second.id, "allow", "ada", said=said)
    await ended(await after.host.open(live.info.run_id))
    assert sorted(pen.written) == ["changed", "later"]


async def test_of_a_batch_what_nobody_decides_is_refused_and_the_rest_is_made(
    scene: Any, asking: Any, pen: Pen
) -> None:
    both = [("write", {"text": "one"}), ("write", {"text": "two"})]
    await scene.says(both, "done", tools=[asking(pen.write)])
    live = await scene.start()
    await scene.until(live, lambda: len(live.pending_approvals()) == 2)
    await scene.host.approve(live.info.run_id, live.pending_approvals()[1].id, "allow", "ada")
    assert not pen.written
    await asyncio.sleep(0)
    await scene.clock.advance(ApprovalPlan().expires + 1)
    await ended(live)
    assert pen.written == ["two"]
    assert [(end.status, "denied by expiry" in end.error) for end in scene.tool_ends(live)] == [
        ("error", True),
        ("complete", False),
    ]


async def test_what_nobody_decides_comes_to_what_the_author_says(scene: Any, asking: Any, pen: Pen) -> None:
    plan = ApprovalPlan(expires=60, on_expiry="allow")
    await scene.says(CALL, "done", tools=[asking(pen.write)], approvals=plan)
    live = await scene.start()
    approval = await scene.approval(live)
    assert approval.on_expiry == "allow"
    await asyncio.sleep(0)
    await scene.clock.advance(61)
    await ended(live)
    assert pen.written == ["hi"]


@pytest.mark.requirement("approval-policy")
async def test_rules_make_ask_refuse_and_hide(scene: Any, pen: Pen) -> None:
    def erase(text: str) -> str:
        """Erase it."""
        return text

    rules = ApprovalPlan(
        rules=(
            ApprovalRule(action="deny", tools=("write",), arguments={"text": "^no"}, message="it begins with no"),
            ApprovalRule(action="ask", tools=("write",), arguments={"text": "^ask"}, message="it begins with ask"),
            ApprovalRule(action="deny", tools=("erase",)),
        )
    )
    calls = [("write", {"text": "no"}), ("write", {"text": "ask"}), ("write", {"text": "go"}), ("erase", {"text": "x"})]
    model = await scene.says(calls, "done", tools=[Functions(pen.write, erase)], approvals=rules)
    live = await scene.start()
    approval = await scene.approval(live)
    assert approval.tool_call.arguments == {"text": "ask"}
    assert approval.reason == "it begins with ask"
    await scene.host.approve(live.info.run_id, approval.id, "allow", "ada")
    await ended(live)
    assert pen.written == ["ask", "go"]
    assert [spec.name for spec in model.requests[0].tools] == ["write"]
    results = [message.content for message in model.requests[1].messages if message.role == "tool"]
    assert results[0] == "Error: write is not allowed: it begins with no"
    assert "there is no tool 'erase'" in results[3]


@pytest.mark.parametrize(("count", "size"), [(40, 5000), (12, 20_000), (3, 50_000), (300, 1)])
async def test_many_questions_are_asked_whole_in_events_that_are_small_enough(
    scene: Any, asking: Any, pen: Pen, count: int, size: int
) -> None:
    texts = [str(number) + "x" * size for number in range(count)]
    limits = Limits(max_tool_calls=count)
    await scene.says([("write", {"text": text}) for text in texts], "done", tools=[asking(pen.write)], limits=limits)
    live = await scene.start()
    await scene.until(live, lambda: bool(live.pending_approvals()))
    assert [approval.tool_call.arguments["text"] for approval in live.pending_approvals()] == texts
    required = [event for event in live.events if isinstance(event, ev.ApprovalRequired)]
    assert all(len(ev.encode(event)) <= ev.MAX_EVENT_BYTES for event in required)
    for approval in live.pending_approvals():
        await scene.host.approve(live.info.run_id, approval.id, "allow", "ada")
    await ended(live)
    assert sorted(pen.written) == sorted(texts)


@pytest.mark.parametrize("size", [ev.MAX_EVENT_BYTES - 4096, 200_000])
async def test_a_call_that_nobody_can_be_shown_whole_is_refused_and_the_others_are_asked_about(
    scene: Any, asking: Any, pen: Pen, size: int
) -> None:
    calls = [("write", {"text": "x" * size}), ("write", {"text": "hi"})]
    model = await scene.says(calls, "done", tools=[asking(pen.write)])
    live = await scene.start()
    approval = await scene.approval(live)
    assert approval.tool_call.arguments == {"text": "hi"}
    await scene.host.approve(live.info.run_id, approval.id, "allow", "ada")
    await ended(live)
    assert pen.written == ["hi"]
    refused = next(message for message in model.requests[1].messages if message.role == "tool")
    assert "a person must see all of this call to decide about it" in refused.content
    assert "Call it with less" in refused.content


async def test_a_call_that_nobody_is_asked_about_may_be_large(scene: Any, pen: Pen) -> None:
    await scene.says([("write", {"text": "x" * 200_000})], "done", tools=[Functions(pen.write)])
    await scene.ask()
    assert [len(text) for text in pen.written] == [200_000]


async def test_a_long_answer_that_stands_for_none_makes_room_for_the_question(scene: Any) -> None:
    desk = HumanToolset(HumanTool(name="ask_desk", default="d" * 50_000))
    await scene.says([("ask_desk", {"question": "q" * 55_000})], "done", tools=[desk])
    live = await scene.start()
    approval = await scene.approval(live)
    assert approval.tool_call.arguments == {"question": "q" * 55_000}
    await asyncio.sleep(0)
    await scene.clock.advance(ApprovalPlan().expires + 1)
    await ended(live)
    assert scene.tool_ends(live)[0].output == "d" * 50_000
