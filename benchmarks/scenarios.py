"""The turns that are measured, and what the mock model says in them. Every process of a run agrees on these."""

from __future__ import annotations

from dataclasses import dataclass

SYSTEM_PROMPT = "You are a helpful assistant."
USER_TEXT = "Hello, how are you today?"
ANSWER = "I am a mock model, and these seventeen words are the whole of my answer to you."
"""Sent whole, or streamed word by word."""
LAST_WORDS = "answer to you."
TOOL_NAME = "echo"
TOOL_TEXT = "hello"
HISTORY_TURNS = 20


@dataclass(frozen=True)
class Scenario:
    """One kind of turn, and what it costs upstream: the check that every system really did the same work.

    `messages` is how many messages the model is sent over the whole turn, the system prompt included.
    """

    name: str
    title: str
    model_calls: int
    messages: int
    streamed: bool = False


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("hello", "Hello turn: one model call", 1, 2),
        Scenario("tool", "Tool turn: two model calls, a function in the process between them", 2, 2 + 4),
        Scenario("mcp", "MCP tool turn: two model calls, an MCP call over streamable HTTP between them", 2, 2 + 4),
        Scenario("history", f"Hello turn in a session with {HISTORY_TURNS} earlier turns", 1, 2 + 2 * HISTORY_TURNS),
        Scenario("stream", f"Streamed hello turn: {len(ANSWER.split())} tokens", 1, 2, streamed=True),
    )
}


def echo(text: str) -> str:
    """Return the text unchanged."""
    return text
