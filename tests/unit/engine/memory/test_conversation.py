"""What a model is told of earlier runs is always something a provider accepts."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from kadre.engine import events as ev
from kadre.engine.memory import conversation
from kadre.engine.messages import Message, ToolCall
from tests.contract.journal.story import Teller


def _user(run: Teller, text: str, history: tuple[Message, ...] = ()) -> ev.Event:
    event: ev.Event = run.event(ev.UserMessage, content=text, history=history)
    return event


def _calls(run: Teller, *ids: str, content: str = "") -> ev.Event:
    calls = tuple(ToolCall(id=key, name="echo", arguments="{}") for key in ids)
    event: ev.Event = run.event(ev.AssistantMessage, content=content, tool_calls=calls)
    return event


def _result(
    run: Teller, key: str, output: str = "out", status: ev.ToolStatus = "complete", error: str = ""
) -> ev.Event:
    call = ev.ToolCallState(id=key, name="echo", arguments={}, status=status, output=output, error=error)
    event: ev.Event = run.event(ev.ToolEnd, name="echo", tool_call=call)
    return event


def _shape(messages: list[Message]) -> list[str]:
    return [f"{message.role}:{message.tool_call_id or message.content}" for message in messages]


def test_messages_alternate_as_they_were_said() -> None:
    run = Teller("run-1", "s")
    said = [_user(run, "a"), _calls(run, content="b"), _user(run, "c"), _calls(run, content="d")]
    assert _shape(conversation.messages(said, 10)) == ["user:a", "assistant:b", "user:c", "assistant:d"]


def test_a_message_whose_texts_were_too_large_says_where_they_are_whole() -> None:
    run = Teller("run-1", "s")
    moved = [
        (_user(run, "a…", (Message("user", "before"),)), {"content": "1", "history": "2"}),
        (_calls(run, "c"), {"tool_calls.0.arguments": "3"}),
        (_result(run, "c", "", "error", "no…"), {"tool_call.error": "4", "tool_call.arguments": "3"}),
    ]
    events = [msgspec.structs.replace(event, blobs=blobs) for event, blobs in moved]
    told = msgspec.to_builtins(conversation.messages([*events, _user(run, "b")], 10))
    assert [(message.get("run_id"), message.get("blobs")) for message in told] == [
        (None, None),
        ("run-1", {"content": "1", "history": "2"}),
        ("run-1", {"tool_calls.0.arguments": "3"}),
        ("run-1", {"content": "4"}),
        (None, None),
    ]


def test_results_follow_their_calls_in_the_order_of_the_calls() -> None:
    run = Teller("run-1", "s")
    said = [_user(run, "a"), _calls(run, "1", "2"), _result(run, "2"), _result(run, "1"), _calls(run, content="b")]
    messages = conversation.messages(said, 10)
    assert _shape(messages) == ["user:a", "assistant:", "tool:1", "tool:2", "assistant:b"]
    assert messages[1].tool_calls[0].id == "1"


def test_ids_used_again_in_a_later_step_keep_their_own_results() -> None:
    run = Teller("run-1", "s")
    said = [_user(run, "a"), _calls(run, "1"), _result(run, "1", "x"), _calls(run, "1"), _result(run, "1", "y")]
    assert [message.content for message in conversation.messages(said, 10) if message.role == "tool"] == ["x", "y"]


def test_a_call_without_a_result_is_told_to_be_unknown() -> None:
    run = Teller("run-1", "s")
    said = [_user(run, "a"), _calls(run, "1", "2"), _result(run, "1"), _user(run, "b")]
    messages = conversation.messages(said, 10)
    assert _shape(messages) == ["user:a", "assistant:", "tool:1", "tool:2", "user:b"]
    assert messages[3].content == conversation.LOST


def test_a_failed_call_is_told_as_an_error() -> None:
    run = Teller("run-1", "s")
    said = [_user(run, "a"), _calls(run, "1"), _result(run, "1", "", "error", "no such pod")]
    assert conversation.messages(said, 10)[2].content == "Error: no such pod"


def test_what_a_user_said_to_a_run_that_failed_stays() -> None:
    run = Teller("run-1", "s")
    assert _shape(conversation.messages([_user(run, "a"), _user(run, "b")], 10)) == ["user:a", "user:b"]


def test_an_empty_answer_is_left_out() -> None:
    run = Teller("run-1", "s")
    assert _shape(conversation.messages([_user(run, "a"), _calls(run), _user(run, "b")], 10)) == ["user:a", "user:b"]


def test_messages_the_first_caller_brought_are_kept_and_later_ones_not_repeated() -> None:
    run = Teller("run-1", "s")
    brought = (Message("user", "x"), Message("assistant", "y"))
    said = [_user(run, "a", brought), _calls(run, content="b"), _user(run, "c", brought)]
    assert _shape(conversation.messages(said, 10)) == ["user:x", "assistant:y", "user:a", "assistant:b", "user:c"]


def test_the_cut_falls_on_what_a_user_said() -> None:
    run = Teller("run-1", "s")
    said = [_user(run, "a"), _calls(run, "1"), _result(run, "1"), _calls(run, content="b"), _user(run, "c")]
    assert _shape(conversation.messages(said, 4)) == ["user:c"]
    assert _shape(conversation.messages(said, 5)) == ["user:a", "assistant:", "tool:1", "assistant:b", "user:c"]
    assert _shape(conversation.messages(said[:4], 2)) == ["assistant:b"]
    assert conversation.messages(said, 0) == []


_STEPS = st.lists(
    st.one_of(
        st.just("user"),
        st.just("answer"),
        st.tuples(st.lists(st.sampled_from("123"), unique=True, min_size=1), st.sets(st.sampled_from("123"))),
    ),
    max_size=12,
)


@given(steps=_STEPS, limit=st.integers(0, 12))
def test_whatever_was_said_and_cut_is_a_valid_history(steps: list[object], limit: int) -> None:
    run = Teller("run-1", "s")
    said: list[ev.Event] = []
    for step in steps:
        if step == "user":
            said.append(_user(run, "u"))
        elif isinstance(step, tuple):
            said += [_calls(run, *step[0]), *(_result(run, key) for key in sorted(step[1]))]
        else:
            said.append(_calls(run, content="a"))
    messages = conversation.messages(said, limit)
    assert len(messages) <= limit
    expected: list[str] = []
    for message in messages:
        if message.role == "tool":
            assert message.tool_call_id == expected.pop(0)
        else:
            assert expected == []
            expected = [call.id for call in message.tool_calls]
    assert expected == []
