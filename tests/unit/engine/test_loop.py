"""The loop's decisions, without a model."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kadre.engine import events as ev
from kadre.engine import loop
from kadre.engine.messages import Message, ToolCall
from kadre.plan.types import Limits

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CALL = ToolCall("c1", "echo", '{"text": "hi"}')
ASKS = Message("assistant", "", (CALL,))
SAYS = Message("assistant", "hello")


def ids(seq: int) -> dict[str, Any]:
    return {"run_id": "run-1", "session_id": "ses-1", "seq": seq, "time": NOW}


def state_of(status: ev.ToolStatus, output: str = "", error: str = "") -> ev.ToolCallState:
    return ev.ToolCallState("c1", "echo", {"text": "hi"}, status, output, error)


def test_an_answer_without_calls_finishes_the_run() -> None:
    state, command = loop.replied(loop.State((Message("user", "hi"),)), SAYS, Limits())
    assert command == loop.Finish()
    assert state.messages[-1] == SAYS
    assert state.steps == 1


def test_calls_are_made_before_the_model_is_asked_again() -> None:
    state, command = loop.replied(loop.State((Message("user", "hi"),)), ASKS, Limits())
    assert command == loop.CallTools((CALL,))
    result = loop.tool_message(CALL, "hi")
    state, command = loop.answered(state, [result])
    assert command == loop.CallModel()
    assert state.messages == (Message("user", "hi"), ASKS, result)
    assert state.pending == ()


@pytest.mark.parametrize(
    ("limits", "reason"),
    [(Limits(max_steps=1), "StepLimit"), (Limits(max_tool_calls=0), "ToolCallLimit")],
)
def test_a_bound_that_is_reached_fails_the_run_and_names_the_field_to_raise(limits: Limits, reason: str) -> None:
    _, command = loop.replied(loop.State(()), ASKS, limits)
    assert isinstance(command, loop.Fail)
    assert command.reason == reason
    assert "raise max" in command.message


def test_the_last_allowed_step_may_still_answer() -> None:
    _, command = loop.replied(loop.State((), steps=1), SAYS, Limits(max_steps=2))
    assert command == loop.Finish()


def test_a_run_is_rebuilt_from_its_events_up_to_the_calls_that_are_pending() -> None:
    approval = ev.Approval("apr-1", "run-1", state_of("pending"), "writes", NOW)
    a_childs = ev.Approval("apr-2", "run-2", state_of("pending"), "writes", NOW)
    resumed = loop.resume(
        (Message("system", "be kind"),),
        [
            ev.RunStarted(agent="a", **ids(1)),
            ev.UserMessage(content="hi", **ids(2)),
            ev.AssistantMessage(content="", tool_calls=(CALL,), **ids(3)),
            ev.ApprovalRequired(approvals=(approval, a_childs), **ids(4)),
        ],
    )
    assert resumed.state.messages == (Message("system", "be kind"), Message("user", "hi"), ASKS)
    assert resumed.state.pending == (CALL,)
    assert resumed.approvals == (approval,)
    assert not resumed.started


def test_a_rebuilt_run_knows_results_of_earlier_steps_and_calls_that_were_sent() -> None:
    second = ToolCall("c2", "write", "{}")
    sent = ev.ToolCallState("c2", "write", {}, "running")
    resumed = loop.resume(
        (),
        [
            ev.UserMessage(content="hi", **ids(1)),
            ev.AssistantMessage(content="", tool_calls=(CALL,), **ids(2)),
            ev.ToolStart(name="echo", tool_call=state_of("running"), **ids(3)),
            ev.ToolEnd(name="echo", tool_call=state_of("complete", "hi"), **ids(4)),
            ev.AssistantMessage(content="", tool_calls=(second,), **ids(5)),
            ev.ToolStart(name="write", tool_call=sent, **ids(6)),
        ],
    )
    assert resumed.state.steps == 2
    assert resumed.state.messages[2] == Message("tool", "hi", tool_call_id="c1", name="echo")
    assert resumed.started == {"c2"}
    assert resumed.state.pending == (second,)


def test_what_the_model_reads_of_a_failed_call_says_that_it_failed() -> None:
    assert loop.result_text(state_of("complete", "out")) == "out"
    assert loop.result_text(state_of("error", error="no such file")) == "Error: no such file"
    assert loop.result_text(state_of("unknown", error="cut off")) == "Error: cut off"
