"""The shipped fake: a model that answers by rules, for tests, demonstrations and work without a key.

It keeps to the port in everything a caller can notice: it streams word by word, counts usage (a word is a token), calls
tools, and fails on demand the way a real endpoint does, retries included. `scripted_rules` is what it goes by. The
same conversation always gets the same answer; only faults that happen a number of times are remembered.
"""

from __future__ import annotations

import asyncio
import fnmatch
import glob
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from kadre.base.clock import Clock, SystemClock
from kadre.base.retry import Backoff
from kadre.engine.messages import Message, ToolCall, ToolSpec, Usage
from kadre.engine.models import failures
from kadre.engine.models.port import ModelRequest, Reply, TextDelta
from kadre.engine.models.retries import Piece, retrying
from kadre.engine.models.scripted_rules import BUILT_IN, PLACEHOLDER, Fault, Rule, ToolUse

PLACE = "the scripted model"
TIMEOUT = 120.0
"""Seconds after which a hanging answer is given up, as a real model's adapter does."""

_SIMPLE: dict[str, type] = {"integer": int, "number": float, "boolean": bool}
_WORDS = re.compile(r"\S+\s*|\s+")


@dataclass(frozen=True, slots=True)
class _Turn:
    """A conversation since its last user message."""

    message: str
    outputs: tuple[str, ...]
    """What tools answered."""
    call: int
    """Which model call of the turn this is, from 1."""

    @classmethod
    def of(cls, messages: Sequence[Message]) -> _Turn:
        outputs: list[str] = []
        calls = 1
        for message in reversed(messages):
            if message.role == "user":
                return cls(message.content.strip(), tuple(reversed(outputs)), calls)
            if message.role == "tool":
                outputs.append(message.content)
            elif message.role == "assistant":
                calls += 1
        return cls("", tuple(reversed(outputs)), calls)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one rule comes to for one request."""

    rule: Rule
    text: str
    calls: tuple[ToolCall, ...]
    fault: Fault | None


class Scripted:
    """A model that goes by `rules`, in order, then by the built-in ones. `timeout`: seconds a fault `hang` lasts."""

    def __init__(
        self,
        rules: Sequence[Rule] = (),
        *,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self._rules = (*rules, *BUILT_IN)
        self._clock = clock or SystemClock()
        self._backoff = backoff or Backoff()
        self._timeout = timeout
        self._faults: dict[Rule, int] = {}

    def call(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        """See `port.Model.call`."""
        return retrying(lambda: self._once(request), self._backoff, self._clock)

    async def aclose(self) -> None:
        """Nothing to give back."""

    async def _once(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        answer = self._answer(request)
        rule, fault, text = answer.rule, answer.fault, answer.text
        if rule.delay:
            await self._clock.sleep(rule.delay)
        if fault is not None and fault.kind == "status":
            raise failures.of_error(
                "a fault of its script", "", fault.status, place=PLACE, retry_after=fault.retry_after
            )
        words = _WORDS.findall(text)
        for number, word in enumerate(words[: len(words) // 2] if fault else words):
            if rule.word_delay and number:
                await self._clock.sleep(rule.word_delay)
            if request.stream:
                yield TextDelta(word)
                await asyncio.sleep(0)  # a reader sees each word before the next is there, as from a network
        if fault is not None and fault.kind == "hang":
            await self._clock.sleep(self._timeout)
            raise failures.timed_out(self._timeout)
        if fault is not None:
            raise failures.stream_broken("a fault of its script")
        message = Message("assistant", text, answer.calls)
        yield Reply(message, _usage(request.messages, message), "tool_calls" if answer.calls else "stop")

    def _answer(self, request: ModelRequest) -> _Answer:
        turn = _Turn.of(request.messages)
        for rule in self._rules:
            answer = self._apply(rule, turn, request)
            if answer is not None:
                return answer
        raise AssertionError("the last built-in rule always applies")

    def _apply(self, rule: Rule, turn: _Turn, request: ModelRequest) -> _Answer | None:
        """What the rule comes to, or None where it does not apply."""
        if rule.after_tool is not None and rule.after_tool != bool(turn.outputs):
            return None
        if rule.call and rule.call != turn.call:
            return None
        found = rule.match.search(turn.message) if rule.match else None
        if rule.match and found is None:
            return None
        values = _values(turn, found)
        calls = []
        for index, use in enumerate(rule.tools):
            tool = _offered(use, values, request.tools)
            if tool is None:
                return None
            # The length of the conversation tells this call from those of earlier replies, and is the same every time.
            calls.append(ToolCall(f"call_{len(request.messages)}_{index}", tool.name, _arguments(use, values, tool)))
        fault = self._due(rule)
        if fault is None and rule.say is None and not calls:
            return None
        return _Answer(rule, _filled(rule.say or "", values), tuple(calls), fault)

    def _due(self, rule: Rule) -> Fault | None:
        """The rule's fault, if it has to happen now."""
        fault = rule.fault
        if fault is None or not fault.times:
            return fault
        happened = self._faults.get(rule, 0)
        if happened >= fault.times:
            return None
        self._faults[rule] = happened + 1
        return fault


def _values(turn: _Turn, found: dict[str, str] | None) -> dict[str, str]:
    return {"message": turn.message, "tool_output": "\n".join(turn.outputs), **(found or {})}


def _filled(text: str, values: dict[str, str]) -> str:
    return PLACEHOLDER.sub(lambda found: found[1] or values[found[2]], text)


def _offered(use: ToolUse, values: dict[str, str], tools: Sequence[ToolSpec]) -> ToolSpec | None:
    """The first offered tool the name fits. What a user wrote is taken as it is, never as a pattern."""
    escaped = {name: glob.escape(value) for name, value in values.items()}
    pattern = _filled(use.name, escaped).lower()
    return next((tool for tool in tools if fnmatch.fnmatchcase(tool.name.lower(), pattern)), None)


def _arguments(use: ToolUse, values: dict[str, str], tool: ToolSpec) -> str:
    if isinstance(use.arguments, str):
        return _filled(use.arguments, values)
    properties: dict[str, Any] = tool.parameters.get("properties", {})
    arguments = {}
    for name, value in use.arguments.items():
        key = _first_text(properties) if name == "*" else name
        arguments[key] = _typed(_rendered(value, values), properties.get(key))
    return msgspec.json.encode(arguments).decode()


def _first_text(properties: dict[str, Any]) -> str:
    """The name of the first parameter that takes a text; `text` where none says so."""
    for name, schema in properties.items():
        if isinstance(schema, dict) and "string" in str(schema.get("type", "string")):
            return name
    return next(iter(properties), "text")


def _rendered(value: Any, values: dict[str, str]) -> Any:
    if isinstance(value, str):
        return _filled(value, values)
    if isinstance(value, dict):
        return {key: _rendered(entry, values) for key, entry in value.items()}
    if isinstance(value, list):
        return [_rendered(entry, values) for entry in value]
    return value


def _typed(value: Any, schema: Any) -> Any:
    """A text as the number or truth value that the parameter wants, where it is one."""
    wanted = _SIMPLE.get(str(schema.get("type"))) if isinstance(schema, dict) else None
    if wanted is None or not isinstance(value, str):
        return value
    try:
        return msgspec.convert(value, wanted, strict=False)
    except msgspec.ValidationError:
        return value


def _usage(messages: Sequence[Message], reply: Message) -> Usage:
    prompt = sum(map(_count, messages))
    completion = _count(reply)
    return Usage(prompt, completion, prompt + completion)


def _count(message: Message) -> int:
    return len(message.content.split()) + sum(len(call.arguments.split()) for call in message.tool_calls)
