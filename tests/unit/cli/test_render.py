"""How events look to a person."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from kadre.cli import render
from kadre.engine import events as ev
from kadre.engine.messages import ToolCall, Usage
from kadre.local.console import Console

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
E = TypeVar("E", bound=ev.EventBase)


def event(kind: type[E], seconds: float = 0, **fields: Any) -> E:
    """An event of the run `run-1`, so long after noon."""
    return kind(run_id="run-1", session_id="ses-1", seq=1, time=NOON + timedelta(seconds=seconds), **fields)


def tool(status: ev.ToolStatus = "running", arguments: Any = None, **told: str) -> dict[str, Any]:
    """The fields of a tool event."""
    state = ev.ToolCallState("c1", "write", {} if arguments is None else arguments, status, **told)
    return {"name": "write", "tool_call": state}


def shown(*events: ev.Event) -> tuple[str, str]:
    """What a screen writes as answers, and beside them."""
    answers, aside = io.StringIO(), io.StringIO()
    screen = render.Screen(Console(stream=aside), answers)
    for each in events:
        screen.show(each)
    return answers.getvalue(), aside.getvalue()


def tokens(*texts: str) -> list[ev.Event]:
    return [event(ev.Token, offset=number, content=text) for number, text in enumerate(texts)]


def test_tokens_are_written_as_they_come_and_the_message_adds_nothing() -> None:
    answers, aside = shown(*tokens("Good", " day"), event(ev.AssistantMessage, content="Good day"))
    assert (answers, aside) == ("Good day\n", "")


def test_a_message_that_was_not_streamed_is_written_whole() -> None:
    assert shown(event(ev.AssistantMessage, content="Good day"))[0] == "Good day\n"


def test_a_message_completes_what_was_streamed_of_it() -> None:
    assert shown(*tokens("Good"), event(ev.AssistantMessage, content="Good day"))[0] == "Good day\n"


def test_a_message_that_differs_from_its_tokens_is_written_again() -> None:
    assert shown(*tokens("day"), event(ev.AssistantMessage, content="Good day"))[0] == "day\nGood day\n"


def test_a_message_without_text_writes_nothing() -> None:
    call = ToolCall("c1", "write")
    assert shown(event(ev.AssistantMessage, content="", tool_calls=(call,)))[0] == ""


def test_a_line_beside_the_conversation_begins_after_the_answer_so_far() -> None:
    assert shown(*tokens("Let me look"), event(ev.ToolStart, **tool())) == ("Let me look\n", "→ write()\n")


def test_a_call_shows_what_came_of_it_and_how_long_it_took() -> None:
    started = event(ev.ToolStart, **tool(arguments={"to": "bob", "times": 2}))
    _, aside = shown(started, event(ev.ToolEnd, 1.5, **tool("complete", output="sent\nto bob")))
    assert aside == '→ write(to="bob", times=2)\n✓ write (1.5 s): sent to bob\n'


@pytest.mark.parametrize("status", ["error", "unknown"])
def test_a_call_that_failed_shows_why(status: ev.ToolStatus) -> None:
    ended = event(ev.ToolEnd, **tool(status, error="bob is away"))
    assert shown(ended)[1] == "✗ write (0.0 s): bob is away\n"


def test_long_arguments_are_cut_in_a_line_about_a_call() -> None:
    line = render.call(ev.ToolCallState("c1", "write", {"text": "x" * 500}, "running"))
    assert len(line) <= len("write()") + render.ARGUMENTS_SHOWN
    assert line.endswith("…)")


def test_arguments_that_are_no_object_are_shown_as_the_model_wrote_them() -> None:
    assert render.call(ev.ToolCallState("c1", "write", "{broken", "error")) == 'write("{broken")'


def test_a_notice_is_told_once_however_many_runs_repeat_it() -> None:
    notice = event(ev.System, reason="NotSupportedYet", message="no telephone")
    assert shown(notice, notice)[1] == "note: no telephone (NotSupportedYet)\n"


def test_delegation_queueing_and_decisions_are_told() -> None:
    child: dict[str, Any] = {"agent": "default/owl", "child_run_id": "run-2", "tool_call_id": "c1"}
    _, aside = shown(
        event(ev.RunStarted, agent="default/parrot", position=2),
        event(ev.DelegateStart, message="what is\nthe time?", **child),
        event(ev.DelegateEnd, status="completed", **child),
        event(ev.ApprovalDecided, approval_id="a", decision="deny", by="expiry"),
    )
    assert aside.splitlines() == [
        "waiting for 2 runs of this session to end",
        "⇢ default/owl: what is the time?",
        "⇠ default/owl completed",
        "denied by expiry",
    ]


def test_a_run_that_failed_says_why_and_one_that_was_ended_says_so() -> None:
    failed = event(ev.Error, reason="ModelFailed", message="no answer"), event(ev.RunFinished, status="failed")
    assert shown(*failed)[1] == "error: no answer (ModelFailed)\n"
    assert shown(event(ev.RunFinished, status="interrupted"))[1] == "the run was interrupted\n"
    assert shown(event(ev.RunFinished, status="completed")) == ("", "")


def test_a_question_shows_the_whole_call() -> None:
    aside = io.StringIO()
    state = ev.ToolCallState("c1", "write", {"text": "x" * 500}, "pending")
    render.Screen(Console(stream=aside), io.StringIO()).ask(ev.Approval("a1", "r1", state, "it may write", NOON))
    assert aside.getvalue() == '? write\n    {\n      "text": "' + "x" * 500 + '"\n    }\nit may write\n'


@pytest.mark.parametrize("unseen", ["\x9b", "\u202e", "\u200b", "\u2028", "\ufeff", "\xad", "\u061c", "\U000e0041"])
def test_a_question_shows_what_cannot_be_seen_in_a_call(unseen: str) -> None:
    aside = io.StringIO()
    state = ev.ToolCallState("c1", "write", {"to": f"ex{unseen}ample"}, "pending")
    render.Screen(Console(stream=aside), io.StringIO()).ask(ev.Approval("a1", "r1", state, "it may write", NOON))
    shown = aside.getvalue()
    assert shown.isascii()
    assert json.loads(shown.partition("write\n")[2].rpartition("it may")[0]) == state.arguments
    assert render.call(state).isascii()


def test_what_models_and_tools_write_does_not_command_the_terminal() -> None:
    hostile = "\x1b[2Jrm\x9b1A \u202ecod.exe\r"
    assert render.printable(f"{hostile}\n\tend") == "[2Jrm1A cod.exe\n\tend"
    _, aside = shown(event(ev.ToolEnd, **tool("complete", output=hostile)))
    assert not re.search(r"[\x1b\x9b\r\u202e]", aside)
    assert "\x1b" not in render.record(event(ev.UserMessage, content=hostile))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_answer_is_cleaned_for_a_terminal_and_kept_as_it_is_for_a_file() -> None:
    told = event(ev.AssistantMessage, content="\x1b[31mred")
    terminal = Terminal()
    render.Screen(Console(stream=io.StringIO()), terminal).show(told)
    assert terminal.getvalue() == "[31mred\n"
    assert shown(told)[0] == "\x1b[31mred\n"


CHILD: dict[str, Any] = {"agent": "default/owl", "child_run_id": "run-2", "tool_call_id": "c1"}
APPROVAL = ev.Approval("a1", "r1", ev.ToolCallState("c1", "write", {"to": "bob"}, "pending"), "it may write", NOON)


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (event(ev.RunStarted, agent="default/owl"), "started   default/owl, asked by somebody unknown"),
        (
            event(ev.RunStarted, agent="default/owl", caller="local", parent_run_id="run-0"),
            "started   default/owl, asked by local for run-0",
        ),
        (event(ev.UserMessage, content="one\ntwo"), "user      one\n                    two"),
        (event(ev.UsageEvent, model="m", usage=Usage(3, 2, 5)), "usage     m: 3 in, 2 out"),
        (event(ev.AssistantMessage, content="", tool_calls=(ToolCall("c1", "write"),)), "answer    calls write"),
        (event(ev.ToolEnd, **tool("unknown", error="lost")), "result    write unknown: lost"),
        (event(ev.ApprovalRequired, approvals=(APPROVAL,)), 'question  write(to="bob") [a1]'),
        (
            event(ev.ApprovalDecided, approval_id="a1", decision="deny", by="local", note="late"),
            "decided   deny by local [a1]: late",
        ),
        (event(ev.DelegateStart, message="time?", **CHILD), "asks      default/owl (run-2): time?"),
        (event(ev.DelegateEnd, status="failed", **CHILD), "answered  default/owl (run-2) failed"),
        (event(ev.Error, reason="Failed", message="no answer"), "error     no answer (Failed)"),
        (event(ev.RunFinished, status="failed"), "finished  failed, 0 tokens"),
    ],
)
def test_a_record_is_a_line_an_event(told: ev.Event, line: str) -> None:
    assert render.record(told)[10:] == line
