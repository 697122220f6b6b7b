"""Large texts leave an event for a blob, and come back as they were."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from kadre.engine import events as ev
from kadre.engine.memory import spill
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.messages import Message, ToolCall
from tests.contract.journal.story import Teller

LARGE = "0123456789" * 20_000


def _state(**fields: Any) -> ev.ToolCallState:
    return ev.ToolCallState(**{"id": "1", "name": "echo", "arguments": {}, "status": "complete", **fields})


def _cases() -> dict[str, tuple[ev.Event, set[str]]]:
    run = Teller("run-1", "s")
    calls = tuple(ToolCall(id=str(index), name="echo", arguments=json.dumps({"text": LARGE})) for index in range(2))
    many = tuple(Message("user", "x" * 500) for _ in range(300))
    approval = ev.Approval(
        id="a", run_id="r", tool_call=_state(arguments={"text": LARGE}), reason="it writes", expires=run.start
    )
    question = msgspec.structs.replace(approval, tool_call=_state(), kind="question", default=LARGE)
    decided = {"approval_id": "a", "decision": "allow", "by": "ada"}
    return {
        "content": (run.event(ev.AssistantMessage, content=LARGE), {"content"}),
        "user": (run.event(ev.UserMessage, content=LARGE), {"content"}),
        "history": (run.event(ev.UserMessage, content="hello", history=many), {"history"}),
        "output": (run.event(ev.ToolEnd, name="echo", tool_call=_state(output=LARGE)), {"tool_call.output"}),
        "arguments": (
            run.event(ev.ToolStart, name="echo", tool_call=_state(arguments={"text": LARGE})),
            {"tool_call.arguments"},
        ),
        "malformed arguments": (
            run.event(ev.ToolStart, name="echo", tool_call=_state(arguments="{" + LARGE)),
            {"tool_call.arguments"},
        ),
        "both": (
            run.event(ev.ToolEnd, name="echo", tool_call=_state(arguments=[LARGE], output=LARGE)),
            {"tool_call.arguments", "tool_call.output"},
        ),
        "calls": (
            run.event(ev.AssistantMessage, content="", tool_calls=calls),
            {"tool_calls.0.arguments", "tool_calls.1.arguments"},
        ),
        "approval": (run.event(ev.ApprovalRequired, approvals=(approval,)), {"approvals.0.tool_call.arguments"}),
        "question": (run.event(ev.ApprovalRequired, approvals=(question,)), {"approvals.0.default"}),
        "changed": (run.event(ev.ApprovalDecided, arguments={"text": LARGE}, **decided), {"arguments"}),
        "answer": (run.event(ev.ApprovalDecided, answer=LARGE, **decided), {"answer"}),
        "error": (run.event(ev.Error, reason="R", message=LARGE), {"message"}),
        "escaped": (run.event(ev.UserMessage, content="\x01" * 12_000), {"content"}),
    }


@pytest.mark.parametrize("case", list(_cases()))
async def test_a_large_event_becomes_small_and_comes_back_whole(case: str) -> None:
    event, paths = _cases()[case]
    journal = InMemoryJournal()
    assert spill.is_large(event)
    small = await spill.spill(journal, event)
    assert len(ev.encode(small)) <= ev.MAX_EVENT_BYTES
    assert not spill.is_large(small)
    assert isinstance(small.blobs, dict)
    assert set(small.blobs) == paths
    kept = ev.decode(ev.encode(small))
    assert await spill.restore(journal, kept) == event


async def test_a_small_event_is_left_as_it_is() -> None:
    run = Teller("run-1", "s")
    journal = InMemoryJournal()
    for event in [*run.first("x" * 60_000), *run.last()]:
        assert not spill.is_large(event)
        assert await spill.spill(journal, event) is event
        assert await spill.restore(journal, event) is event


async def test_what_stays_of_a_text_is_its_beginning() -> None:
    event = Teller("run-1", "s").event(ev.AssistantMessage, content=LARGE)
    small = await spill.spill(InMemoryJournal(), event)
    assert isinstance(small, ev.AssistantMessage)
    assert small.content.startswith(LARGE[: spill.PREVIEW])
    assert "200000 characters in all" in small.content


async def test_a_blob_that_is_gone_leaves_the_preview() -> None:
    event = Teller("run-1", "s").event(ev.AssistantMessage, content=LARGE)
    small = await spill.spill(InMemoryJournal(), event)
    left = await spill.restore(InMemoryJournal(), small)
    assert left == msgspec.structs.replace(small, blobs=msgspec.UNSET)


async def test_only_as_much_is_moved_as_must_be() -> None:
    call = _state(arguments={"short": "x"}, output=LARGE, error="short")
    small = await spill.spill(InMemoryJournal(), Teller("run-1", "s").event(ev.ToolEnd, name="echo", tool_call=call))
    assert isinstance(small, ev.ToolEnd)
    assert (small.tool_call.arguments, small.tool_call.error) == ({"short": "x"}, "short")
