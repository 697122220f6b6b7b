"""Runs as A2A's tasks: what is told of them, event by event."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from a2a import types

from kadre.engine import events as ev
from kadre.engine.messages import ToolCall
from kadre.server.a2a import tasks

pytestmark = pytest.mark.requirement("a2a-outward")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN: dict[str, Any] = {"run_id": "run-1", "session_id": "ses-1", "status": "queued", "updated": "2026-01-01T00:00:00Z"}
LINK = "http://here/runs/run-1/approve"


def base(seq: int) -> dict[str, Any]:
    return {"run_id": "run-1", "session_id": "ses-1", "seq": seq, "time": NOW}


def word(text: str, offset: int = 0) -> ev.Token:
    return ev.Token(**base(2), offset=offset, content=text)


def said(text: str, *, calls: bool = False) -> ev.AssistantMessage:
    return ev.AssistantMessage(**base(3), content=text, tool_calls=(ToolCall("1", "look", "{}"),) if calls else ())


def approval(name: str) -> ev.Approval:
    call = ev.ToolCallState(id="1", name="write", arguments={}, status="pending")
    return ev.Approval(name, "run-1", call, "it writes", NOW + timedelta(hours=1))


def told(*events: ev.Event) -> list[str]:
    """A word for each thing that the task's followers are told: a state, or a piece of the answer."""
    telling = tasks.Telling(RUN, LINK)
    found = []
    for event in events:
        for update in telling.tell(event):
            if isinstance(update, types.TaskStatusUpdateEvent):
                found.append(types.TaskState.Name(update.status.state).removeprefix("TASK_STATE_"))
            else:
                (part,) = update.artifact.parts
                found.append(("+" if update.append else "") + part.text + ("." if update.last_chunk else ""))
    return found


def test_pieces_make_the_answer_and_the_last_one_says_so() -> None:
    assert told(word("a "), word("b", 1), said("a b")) == ["WORKING", "a ", "+b."]
    assert told(word("ab"), said("ab")) == ["WORKING", "ab."]
    assert told(said("a b")) == ["WORKING", "a b."]


def test_what_came_before_a_tool_or_was_lost_is_begun_anew() -> None:
    assert told(word("hm"), said("hm", calls=True), word("a"), said("a")) == ["WORKING", "hm", "a."]
    assert told(word("b", 7), said("a b")) == ["WORKING", "a b."]
    assert told(word("a"), word("?", 1), said("a b")) == ["WORKING", "a", "a b."]


def test_it_works_again_when_the_last_question_is_decided() -> None:
    asked = ev.ApprovalRequired(**base(3), approvals=(approval("one"), approval("two")))
    first = ev.ApprovalDecided(**base(4), approval_id="one", decision="allow", by="ada")
    second = msgspec.structs.replace(first, approval_id="two")
    ended = ev.RunFinished(**base(6), status="completed")
    assert told(asked, first, second, ended) == ["INPUT_REQUIRED", "WORKING", "COMPLETED"]


@pytest.mark.parametrize(
    ("status", "state", "why"),
    [
        ("queued", "SUBMITTED", ""),
        ("running", "WORKING", ""),
        ("completed", "COMPLETED", ""),
        ("cancelled", "CANCELED", ""),
        ("failed", "FAILED", "no model"),
        ("interrupted", "FAILED", tasks.INTERRUPTED),
    ],
)
def test_a_run_s_status_is_a_task_s_state(status: ev.RunStatus, state: str, why: str) -> None:
    events = [ev.UserMessage(**base(1), content="hi")]
    error = [ev.Error(**base(2), reason="ModelFailed", message="no model")] if status == "failed" else []
    plain = msgspec.to_builtins([*events, *error, {"type": "new"}])
    run = {**RUN, "status": status, "response": "done", "events": plain}
    made = tasks.task(run, LINK)
    assert types.TaskState.Name(made.status.state) == f"TASK_STATE_{state}"
    assert "".join(part.text for part in made.status.message.parts) == why
    assert [part.text for each in made.artifacts for part in each.parts] == (["done"] if status == "completed" else [])
    assert [message.parts[0].text for message in made.history] == ["hi"]
    if status in ev.ENDED:
        finished = ev.RunFinished(**base(3), status=status)
        assert told(*error, finished)[-1] == state


def test_a_task_that_waits_says_for_what_and_where_that_is_decided() -> None:
    run = {**RUN, "status": "waiting", "approvals": msgspec.to_builtins([approval("one")])}
    made = tasks.task(run, LINK, 0)
    assert made.status.state == types.TaskState.TASK_STATE_INPUT_REQUIRED
    assert LINK in made.status.message.parts[0].text
    assert "write (approval one)" in made.status.message.parts[0].text
    assert made.status.message.metadata["approvals"][0]["id"] == "one"
    assert not made.history
