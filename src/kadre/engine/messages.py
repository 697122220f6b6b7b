"""What is said to and by a model, in one neutral form that every provider is translated from and to."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """A model's wish to call a tool. `arguments` is the JSON text as the model wrote it, perhaps malformed."""

    id: str
    name: str
    arguments: str = "{}"


class Message(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One message. `tool_calls` only on assistant; `tool_call_id` and `name` only on tool."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""


class Question(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """That calling a tool is asking a person, and how: what they are told, for how long, what stands for no answer."""

    prompt: str = ""
    seconds: float = 0.0
    """0: as long as an approval of the agent."""
    default: str | None = None


class ToolSpec(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A tool as a model sees it, and what is known of its effects (None: unknown, which means it may write)."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    """JSON Schema of the arguments, an object schema."""
    read_only: bool | None = None
    idempotent: bool = False
    ask: bool = False
    """Its author has not allowed it: a person must approve each call, where no rule says otherwise."""
    by_class: bool = False
    """A class or a pattern allows it, not its name: that ends when text from outside has entered the run."""
    trusted: bool = False
    """Its author vouches for what it answers: see McpTools."""
    question: Question | None = None
    """Calling it is asking a person."""
    read_by_model: bool = False
    """What it is given, or what that comes to, is for a model to read: placeholders of secrets stay what they are."""
    runs_code: bool = False
    """It runs what it is given: of the class `exec`, whatever its name and however little it can do."""
    filled: bool = False
    """What it is given is held against `parameters`, and their defaults are filled in, before it is decided whether
    it is called: Kadre does both for this tool. Any other's server does as it likes."""
    shared: tuple[str, ...] = ()
    """Of its names, those that another tool or server of the agent has too: no rule that allows means it by one."""
    listed: bool = False
    """Its server describes it: words of somebody else's, which every request to the model has."""
    beside: str = ""
    """Another server of the agent that describes its tools and that nobody vouches for; empty: there is none."""
    server: str = ""
    """The tool reference it came from, for people."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens as the provider counted them; zeros where it did not say."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        """The sum of two calls."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.total_tokens + other.total_tokens,
        )
