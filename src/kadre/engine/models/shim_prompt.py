"""What a model without tool calls is told: its tools, how to ask for one, and what they answered. Pure.

Three renderings of a conversation. `offering` wants one JSON object back: a tool call or an answer. `plain` wants text;
tool calls and results stand in it as sentences. `repeating` wants no more than the last results back, from a model that
can do no more. All keep roles alternating, which some chat templates insist on.

The wording was chosen by trying it on a model of 135 million parameters, larger ones are content with any. What it said
of 38 results: asked "What is the answer to my question?" none as they were, and 26 somewhere in its answer ("The tool
echo answered: hello"); asked to repeat them 31 and 34; with examples of four kinds 35 and 36.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from kadre.base.errors import shorten
from kadre.engine.messages import Message, ToolSpec

BRIEF = 100
"""Characters of a tool's description where they have to be few."""
_WORDS = "good day, all"
"""With a comma: after an example without one, "good morning, world" is repeated up to its comma."""
_EXAMPLES: dict[str, Any] = {"string": _WORDS, "integer": 3, "number": 3, "boolean": True, "array": [], "object": {}}
_ASK = "What is the answer to my question?"
_REPEATED = (
    ("What is the capital of Italy?", "Rome"),
    ("Open the letter", "Dear Sam, see you at nine."),
    ("Which shops are open?", "Bakery  open\nBank    open\nBar     closed"),
    ("Please say: good day", "good day"),
)
_ANSWERED = (("What is the capital of Italy?", "Rome"), ("Good evening!", "Good evening!"))
_EXAMPLE_WORDS = "\n".join((_WORDS, *(text for pair in _ANSWERED for text in pair))).lower()
"""All that the examples say: a weak model may repeat it as if it had been asked to."""
_STOPS = re.compile(r"[,.!?\n]")


def turn(messages: Sequence[Message]) -> Sequence[Message]:
    """What has happened since the last user message."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role == "user":
            return messages[index + 1 :]
    return messages


def outputs(messages: Sequence[Message]) -> list[str]:
    """What tools answered since the last user message."""
    return [message.content for message in turn(messages) if message.role == "tool"]


def asked(messages: Sequence[Message]) -> tuple[Message, ...]:
    """What was said last, and the system's messages: enough to decide on a tool, with nothing to be led astray by."""
    system = [message for message in messages if message.role == "system"]
    return (*system, *[message for message in messages if message.role == "user"][-1:])


def fitting(messages: Sequence[Message], characters: int) -> tuple[Message, ...]:
    """The conversation without the tool calls of earlier turns, its oldest messages left out beyond `characters`.

    No message is longer than a third of that.
    """
    recent = len(turn(messages))
    system: list[Message] = []
    rest: list[Message] = []
    for index, message in enumerate(messages):
        if message.role == "system":
            system.append(_cut(message, characters // 3))
        elif index >= len(messages) - recent or not (message.tool_calls or message.role == "tool"):
            rest.append(_cut(message, characters // 3))
    left = characters - sum(len(message.content) for message in system)
    kept: list[Message] = []
    for message in reversed(rest):
        left -= len(message.content)
        if left < 0 and kept:
            break
        kept.append(message)
    return (*system, *reversed(kept))


def offering(messages: Sequence[Message], tools: Sequence[ToolSpec], *, brief: bool = False) -> tuple[Message, ...]:
    """The conversation for a model that may call one of `tools` by replying in JSON. `brief`: tools in a line each."""
    rendered = [
        Message("assistant", call_text(message) if message.tool_calls else _json({"answer": message.content}))
        if message.role == "assistant"
        else _said(message)
        for message in messages
        if message.role != "system"
    ]
    return _alternating([*_system(messages, _manual(tools, brief)), *rendered, *_asking(messages)])


def plain(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation for a model that is to answer in text."""
    rendered = []
    for message in messages:
        if message.tool_calls:
            names = ", ".join(call.name for call in message.tool_calls)
            said = f"{message.content}\n\n" if message.content else ""
            rendered.append(Message("assistant", f"{said}I will use the tool {names}."))
        elif message.role != "system":
            rendered.append(_said(message))
    return _alternating([*_system(messages), *rendered, *_asking(messages)])


def repeating(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The last user message and what tools answered to it, for a model that is to say the same."""
    question = next((message.content for message in reversed(messages) if message.role == "user"), "")
    told = [Message("system", "You are a helpful assistant.")]
    for said, output in _REPEATED:
        told += [_to_repeat(said, output), Message("assistant", output)]
    return (*told, _to_repeat(question, "\n".join(outputs(messages))))


def call_text(message: Message) -> str:
    """A message's first tool call in the form a model is to write it. Arguments that are no JSON stay a text."""
    call = message.tool_calls[0]
    try:
        arguments = msgspec.json.decode(call.arguments)
    except msgspec.DecodeError:
        arguments = call.arguments
    return _json({"tool": call.name, "arguments": arguments})


def is_example(arguments: str, messages: Sequence[Message]) -> bool:
    """Whether a part of a call's arguments is what only the prompt's examples say, and not the user."""
    said = next((message.content for message in reversed(messages) if message.role == "user"), "").lower()
    parts = [part.strip() for text in _texts(msgspec.json.decode(arguments)) for part in _STOPS.split(text.lower())]
    return any(part and part not in said and re.search(rf"\b{re.escape(part)}\b", _EXAMPLE_WORDS) for part in parts)


def schema(tools: Sequence[ToolSpec], *, loose: bool = False, decide: bool = False) -> dict[str, Any]:
    """JSON Schema of a reply: one tool with its arguments, or an answer.

    `loose`: arguments are any object. `decide`: only that there is an answer is asked for, not what it is.
    """
    definitions: dict[str, Any] = {}
    choices = [
        {
            "type": "object",
            "properties": {
                "tool": {"const": tool.name},
                "arguments": {"type": "object"} if loose else _parameters(tool, index, definitions),
            },
            "required": ["tool", "arguments"],
            "additionalProperties": False,
        }
        for index, tool in enumerate(tools)
    ]
    answer = {
        "type": "object",
        "properties": {"answer": {"const": ""} if decide else {"type": "string"}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    whole: dict[str, Any] = {"anyOf": [*choices, answer]}
    return {**whole, "$defs": definitions} if definitions else whole


def _parameters(tool: ToolSpec, index: int, definitions: dict[str, Any]) -> dict[str, Any]:
    """The tool's own schema, its definitions moved to the root, where `$ref` looks for them."""
    parameters = {"type": "object", **tool.parameters}
    own = {**parameters.pop("definitions", {}), **parameters.pop("$defs", {})}
    if not own:
        return parameters
    definitions.update({f"t{index}-{name}": _moved(value, index) for name, value in own.items()})
    moved: dict[str, Any] = _moved(parameters, index)
    return moved


def _moved(value: Any, index: int) -> Any:
    if isinstance(value, dict):
        return {
            key: f"#/$defs/t{index}-{entry.rpartition('/')[2]}"
            if key == "$ref" and isinstance(entry, str)
            else _moved(entry, index)
            for key, entry in value.items()
        }
    return [_moved(entry, index) for entry in value] if isinstance(value, list) else value


def _manual(tools: Sequence[ToolSpec], brief: bool) -> str:
    lines = ["Tools:", *(_described(tool, brief) for tool in tools), ""]
    lines.append('Reply in JSON: a tool call {"tool": ..., "arguments": {...}} or an answer {"answer": ...}.')
    lines += ["", "Examples:"]
    arguments = _example(tools[0])
    told = " and ".join(
        f"{name} {value if isinstance(value, str) else _json(value)}" for name, value in arguments.items()
    )
    lines.append(f"User: Use {tools[0].name} with {told}" if told else f"User: Use {tools[0].name}")
    lines.append(f"Assistant: {_json({'tool': tools[0].name, 'arguments': arguments})}")
    for question, answer in _ANSWERED:
        lines += [f"User: {question}", f"Assistant: {_json({'answer': answer})}"]
    return "\n".join(lines)


def _described(tool: ToolSpec, brief: bool) -> str:
    properties = tool.parameters.get("properties", {})
    about = shorten(tool.description, BRIEF) if brief else tool.description
    lines = [f"- {tool.name}({', '.join(properties)}): {about}".rstrip(": ")]
    for name, schema in properties.items():
        if not brief and isinstance(schema, Mapping) and schema.get("description"):
            lines.append(f"  {name}: {schema['description']}")
    return "\n".join(lines)


def _example(tool: ToolSpec) -> dict[str, Any]:
    properties = tool.parameters.get("properties", {})
    return {name: _value(properties.get(name)) for name in tool.parameters.get("required") or properties}


def _value(about: Any) -> Any:
    if not isinstance(about, Mapping):
        return _WORDS
    if about.get("enum"):
        return about["enum"][0]
    kind = about.get("type")
    return _EXAMPLES.get(kind, _WORDS) if isinstance(kind, str) else _WORDS


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _texts(entry)


def _cut(message: Message, limit: int) -> Message:
    if len(message.content) <= limit:
        return message
    return msgspec.structs.replace(message, content=message.content[: limit - 1] + "…")


def _system(messages: Iterable[Message], more: str = "") -> list[Message]:
    texts = [message.content for message in messages if message.role == "system" and message.content]
    text = "\n\n".join([*texts, more] if more else texts)
    return [Message("system", text)] if text else []


def _said(message: Message) -> Message:
    if message.role != "tool":
        return message
    return Message("user", f"The tool {message.name} answered: {message.content}")


def _asking(messages: Sequence[Message]) -> list[Message]:
    return [Message("user", _ASK)] if messages and messages[-1].role == "tool" else []


def _to_repeat(question: str, output: str) -> Message:
    return Message("user", f"{question}\n\nRepeat this text exactly, nothing else:\n{output}")


def _alternating(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Messages of one role that follow each other, put together."""
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role == message.role:
            joined[-1] = Message(message.role, f"{joined[-1].content}\n\n{message.content}")
        else:
            joined.append(message)
    return tuple(joined)


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=0).decode()
