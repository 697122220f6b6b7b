"""Keeps events small: texts too large for one go to the journal as blobs before it, and come back for who needs them.

An event's JSON is at most `events.MAX_EVENT_BYTES`. Of a text that was moved the event keeps the beginning, and in
`blobs` the text's path (`content`, `tool_call.output`, `tool_calls.0.arguments`, …) with the digest of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import msgspec

from kadre.base import errors
from kadre.engine import events as ev
from kadre.engine.memory.port import Journal
from kadre.engine.messages import Message

LOOK_CLOSER = 8 * 1024
"""Characters of text from which an event's JSON is measured: below, not even escaping every one can make it large."""
PREVIEW = 1024
"""Characters of a moved text that stay in the event, for people who read the stream."""
_TEXTS: dict[type, tuple[str, ...]] = {
    ev.System: ("message",),
    ev.UserMessage: ("content", "history"),
    ev.Summary: ("content",),
    ev.Recalled: ("memories.*.text",),
    ev.ToolStart: ("tool_call.arguments",),
    ev.ToolEnd: ("tool_call.output", "tool_call.error", "tool_call.arguments"),
    ev.ApprovalRequired: ("approvals.*.tool_call.arguments", "approvals.*.default"),
    ev.ApprovalDecided: ("arguments", "answer", "note"),
    ev.DelegateStart: ("message",),
    ev.AssistantMessage: ("content", "tool_calls.*.arguments"),
    ev.Error: ("message",),
}
_encode = msgspec.json.Encoder().encode


class Blobs(Protocol):
    """Has the texts that were moved."""

    async def get_blob(self, digest: str) -> bytes:
        """See Journal."""
        ...


def is_large(event: ev.Event) -> bool:
    """Whether the event must go through `spill`. Cheap for the small events that nearly all are."""
    if type(event) not in _TEXTS:
        return False
    return _characters(event) > LOOK_CLOSER and len(ev.encode(event)) > ev.MAX_EVENT_BYTES


def _characters(event: ev.Event) -> int:
    if isinstance(event, ev.UserMessage | ev.AssistantMessage):
        size = len(event.content)
        if isinstance(event, ev.UserMessage):
            return size + len(_encode(event.history))
        return size + sum(len(call.arguments) for call in event.tool_calls)
    return sum(len(value) if isinstance(value, str) else len(_encode(value)) for _, value in _texts(event))


async def spill(journal: Journal, event: ev.Event) -> ev.Event:
    """The event with its largest texts kept as blobs, until the rest is small enough. Raises what `put_blob` does."""
    if not is_large(event):
        return event
    texts = [(path, value, _data(path, value)) for path, value in _texts(event)]
    # Of a question the call itself stays, which people decide about: its default makes room.
    decided = type(event) is ev.ApprovalRequired
    texts.sort(key=lambda text: (decided and text[0].endswith(".arguments"), -len(text[2])))
    blobs: dict[str, str] = dict(event.blobs or {})
    for path, value, data in texts:
        blobs[path] = await journal.put_blob(data)
        event = msgspec.structs.replace(_with(event, path.split("."), _preview(value, data)), blobs=dict(blobs))
        if len(ev.encode(event)) <= ev.MAX_EVENT_BYTES:
            break
    return event


async def restore(journal: Blobs, event: ev.Event) -> ev.Event:
    """The event as it was before `spill`. A blob that is no longer kept leaves its preview in place."""
    if not event.blobs:
        return event
    for path, digest in event.blobs.items():
        try:
            data = await journal.get_blob(digest)
        except errors.NotFound:
            continue
        event = _with(event, path.split("."), _value(path, data))
    return msgspec.structs.replace(event, blobs=msgspec.UNSET)


async def without_lost(journal: Blobs, event: ev.Event) -> ev.Event:
    """The event, which names no blob that is not kept: of such a text it has the preview."""
    kept = {}
    for path, digest in (event.blobs or {}).items():
        try:
            await journal.get_blob(digest)
        except errors.NotFound:
            continue
        kept[path] = digest
    return event if kept == event.blobs else msgspec.structs.replace(event, blobs=kept or msgspec.UNSET)


def named(events: Iterable[ev.Event], digest: str) -> str | None:
    """The path of a text that one of the events keeps as that blob; None where none does."""
    for event in events:
        for path, kept in (event.blobs or {}).items():
            if kept == digest:
                return path
    return None


def _texts(event: ev.Event) -> Iterator[tuple[str, Any]]:
    for pattern in _TEXTS.get(type(event), ()):
        yield from _found(event, pattern.split("."), "")


def _found(inside: Any, parts: list[str], path: str) -> Iterator[tuple[str, Any]]:
    if not parts:
        if inside is not None:
            yield path[1:], inside
    elif parts[0] == "*":
        for index, item in enumerate(inside):
            yield from _found(item, parts[1:], f"{path}.{index}")
    else:
        yield from _found(getattr(inside, parts[0]), parts[1:], f"{path}.{parts[0]}")


def _with(inside: Any, parts: list[str], value: Any) -> Any:
    """A copy of a struct (or tuple of structs) with the value at that path replaced."""
    if not parts:
        return value
    if isinstance(inside, tuple):
        index = int(parts[0])
        return (*inside[:index], _with(inside[index], parts[1:], value), *inside[index + 1 :])
    return msgspec.structs.replace(inside, **{parts[0]: _with(getattr(inside, parts[0]), parts[1:], value)})


def is_json(path: str) -> bool:
    """Whether the path's blob is JSON; every other is the text itself. Parsed arguments may be any JSON value."""
    return path in {"history", "arguments"} or path.endswith("tool_call.arguments")


def _data(path: str, value: Any) -> bytes:
    return _encode(value) if is_json(path) else value.encode()


def _value(path: str, data: bytes) -> Any:
    if not is_json(path):
        return data.decode()
    kind: Any = tuple[Message, ...] if path == "history" else Any
    return msgspec.json.decode(data, type=kind)


def _preview(value: Any, data: bytes) -> Any:
    if isinstance(value, tuple):
        return ()
    text = value if isinstance(value, str) else data.decode()
    return f"{text[:PREVIEW]}… [{len(text)} characters in all, kept apart]"
