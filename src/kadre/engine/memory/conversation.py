"""What a model is told of a session's earlier runs: messages derived from their events.

Law: pure. What comes out is always a history a provider accepts: every call of an assistant message is followed by its
result, in the order of the calls, and nothing begins with a result whose call was cut off.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kadre.engine import events as ev
from kadre.engine import loop
from kadre.engine.messages import Message

SAID = (ev.UserMessage, ev.AssistantMessage, ev.ToolEnd, ev.Summary)
"""The events that `Journal.history` gives."""
SAID_LINES = tuple(f'{{"type":"{kind.__struct_config__.tag}",'.encode() for kind in SAID)
"""How their lines begin, where a store keeps lines: those of the others are most, and need not be decoded."""
SUMMED = "(What was said in this conversation before, summed up:)"
LOST = "Error: the run was interrupted before this call's outcome was recorded; it may or may not have happened"


class Cut(Message, frozen=True, gc=False, omit_defaults=True):
    """A message of which only the beginning is here. `blobs`: its fields' whole texts, by digest, kept for that run."""

    run_id: str = ""
    blobs: dict[str, str] = msgspec.field(default_factory=dict)


class Summed(Message, frozen=True, gc=False, omit_defaults=True):
    """What stands for messages that are not told any more."""


def messages(events: Sequence[ev.Event], limit: int) -> list[Message]:
    """At most the last `limit` messages of what `Journal.history` gave; of a run that failed, what it got to.

    The cut falls on what a user said where the last `limit` messages hold any such message.
    """
    return last(told(events), limit)


def told(events: Sequence[ev.Event]) -> list[Message]:
    """All of them, however many they are."""
    said: list[Message] = []
    tell(said, events)
    return said


def tell(said: list[Message], events: Sequence[ev.Event]) -> None:
    """Make of what was told so far what is told after further runs, of which these are the events."""
    begun = len(said)
    results: dict[str, Message] = {}
    asked: ev.AssistantMessage | None = None
    for event in events:
        if isinstance(event, ev.ToolEnd):
            results[event.tool_call.id] = _result(event)
        elif isinstance(event, ev.Summary):
            said[:begun] = summed_up(said[:begun], event)
        elif isinstance(event, ev.UserMessage | ev.AssistantMessage):
            _answer(said, asked, results)
            asked, results = None, {}
            if isinstance(event, ev.UserMessage):
                begun = len(said)
                if not said:  # later in a session, what the caller brought repeats what is already here
                    said.extend(event.history)
                said.append(_told(event, Message("user", event.content)))
            elif event.content or event.tool_calls:
                said.append(_told(event, Message("assistant", event.content, event.tool_calls)))
                asked = event
    _answer(said, asked, results)


def summed_up(earlier: Sequence[Message], summary: ev.Summary) -> list[Message]:
    """What the model is told in place of what was said before a run in which it was summed up."""
    kept = earlier[max(0, len(earlier) - summary.kept) :]
    return [Summed("user", f"{SUMMED}\n\n{summary.content}"), *kept]


def _result(event: ev.ToolEnd) -> Message:
    call = event.tool_call
    return _told(event, Message("tool", loop.result_text(call), tool_call_id=call.id, name=event.name))


def _told(event: ev.Event, message: Message) -> Message:
    """The message, with where the whole of it is where the event has only the beginning."""
    if not event.blobs:
        return message
    here = {path: digest for path, digest in event.blobs.items() if not path.startswith("tool_call.")}
    for path in ("tool_call.output", "tool_call.error"):  # one of them is what a result says
        if path in event.blobs:
            here["content"] = event.blobs[path]
    return Cut(**msgspec.structs.asdict(message), run_id=event.run_id, blobs=here) if here else message


def _answer(said: list[Message], asked: ev.AssistantMessage | None, results: dict[str, Message]) -> None:
    if asked is not None:
        said += [results.get(call.id) or loop.tool_message(call, LOST) for call in asked.tool_calls]


def older(said: Sequence[Message], threshold: int) -> int:
    """How many of the first messages are to be summed up, now that there are `threshold` of them; 0: none.

    Half at most stay as they are, but for the last run, which stays whole: what stays begins with what a user said, so
    that no call loses its result.
    """
    if len(said) < threshold:
        return 0
    begins = [number for number, message in enumerate(said) if message.role == "user" and number > 1]
    half = len(said) - threshold // 2
    return next((number for number in begins if number >= half), begins[-1] if begins else 0)


def last(said: list[Message], limit: int) -> list[Message]:
    """At most `limit` of the messages: see `messages`. What was summed up stays, as the first."""
    if len(said) <= limit:
        return said
    if limit > 1 and isinstance(said[0], Summed):
        return [said[0], *last(said[1:], limit - 1)]
    kept = said[-limit:] if limit > 0 else []
    for role in ("user", "assistant"):
        for start, message in enumerate(kept):
            if message.role == role:
                return kept[start:]
    return []
