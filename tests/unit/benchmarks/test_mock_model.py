"""The bench's mock model answers as a model would: figures measured with it would mean nothing otherwise."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.mock_model import MockModel
from benchmarks.scenarios import ANSWER

TOOLS = [{"type": "function", "function": {"name": "server_echo", "description": "", "parameters": {}}}]


def ask(model: MockModel, *roles: str, **more: Any) -> list[bytes]:
    messages = [{"role": role, "content": "x"} for role in roles]
    return model.answer(json.dumps({"model": "mock", "messages": messages, **more}).encode())


def body(piece: bytes) -> dict[str, Any]:
    head, _, data = piece.partition(b"\r\n\r\n")
    assert f"content-length: {len(data)}".encode() in head
    parsed: dict[str, Any] = json.loads(data)
    return parsed


def chunks(pieces: list[bytes]) -> list[dict[str, Any]]:
    data = b"".join(piece.split(b"\r\n", 1)[1].rsplit(b"\r\n", 1)[0] for piece in pieces[1:-1])
    return [json.loads(event.removeprefix(b"data: ")) for event in data.split(b"\n\n") if event]


def test_without_tools_it_answers_with_text() -> None:
    (answer,) = ask(MockModel(), "system", "user")
    assert body(answer)["choices"][0]["message"] == {"role": "assistant", "content": ANSWER}
    assert body(answer)["usage"]["total_tokens"] == 40


def test_offered_tools_are_called_first_and_then_it_answers() -> None:
    model = MockModel()
    (first,) = ask(model, "user", tools=TOOLS)
    (call,) = body(first)["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "server_echo", "arguments": '{"text": "hello"}'}
    (second,) = ask(model, "user", "assistant", "tool", tools=TOOLS)
    assert body(second)["choices"][0]["message"]["content"] == ANSWER


def test_a_stream_says_the_same_words_in_pieces() -> None:
    events = chunks(ask(MockModel(), "user", stream=True))
    said = [event["choices"][0]["delta"].get("content", "") for event in events]
    assert "".join(said) == ANSWER
    assert len([word for word in said if word]) == len(ANSWER.split())
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_stream_tells_usage_only_where_asked() -> None:
    options = {"include_usage": True}
    asked, unasked = (
        chunks(ask(MockModel(), "user", stream=True, **more)) for more in ({"stream_options": options}, {})
    )
    assert asked[-1]["usage"]["total_tokens"] == 40
    assert all("usage" not in event for event in unasked)


def test_it_counts_what_it_was_asked() -> None:
    model = MockModel()
    ask(model, "system", "user")
    ask(model, "user", stream=True)
    assert model.stats == {"calls": 2, "streamed": 1, "messages": 3}
