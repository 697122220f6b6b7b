"""The one event stream: everything that happens in a run, for every door, the journal and the UI.

An event is immutable, cannot be part of a cycle (so the garbage collector need not look at it: `gc=False`) and is
self-describing: its JSON has `type v seq run_id session_id time` and its own fields. `seq`
numbers journalled events from 1 without gaps. A `token` is not journalled: it carries the seq of the last journalled
event and an `offset` that counts tokens since then, and the next `assistant_message` replaces all of them. Readers
skip types they do not know.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from kadre.engine.messages import Message, ToolCall, Usage

RunStatus = Literal["queued", "running", "waiting", "completed", "failed", "cancelled", "interrupted"]
ENDED: frozenset[str] = frozenset({"completed", "failed", "cancelled", "interrupted"})
ToolStatus = Literal["pending", "running", "complete", "error", "unknown"]
MAX_EVENT_BYTES = 65536
"""An event's JSON is at most this long; larger values go to the journal as blobs first."""


class EventBase(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="type"):
    """The fields every event has. `blobs` maps a field that was too large to the digest of its whole value."""

    run_id: str
    session_id: str
    seq: int
    time: datetime
    v: int = 1
    blobs: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class ToolCallState(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A tool call as people see it. `arguments` is the parsed object, or the text where it is no JSON.

    `note`: what the model is told before the outcome, which is that a person changed the arguments. `outside`: the tool
    as the agent names it, where the outcome's text is one that nobody has vouched for.
    """

    id: str
    name: str
    arguments: Any
    status: ToolStatus
    output: str = ""
    error: str = ""
    note: str = ""
    outside: str = ""


class RunStarted(EventBase, frozen=True, kw_only=True, tag="run_started"):
    """The run was accepted. `position`: runs of its session before it that have not ended yet.

    `chain`: the agents above one that another run delegates to, from the first that was asked down. `outside`: where
    text came from that had entered that run and that nobody has vouched for.
    """

    agent: str
    caller: str = ""
    parent_run_id: str = ""
    position: int = 0
    chain: tuple[str, ...] = ()
    outside: str = ""


class System(EventBase, frozen=True, kw_only=True, tag="system"):
    """A notice for people, e.g. a part of the agent that is not supported yet. Not sent to the model.

    `TakenUp`: the run's process is gone, and another one goes on with the run. `Forked`: the run was not driven; it
    holds a conversation that was taken from another session.
    """

    reason: str
    message: str


class UserMessage(EventBase, frozen=True, kw_only=True, tag="user_message"):
    """What the caller said; `history` holds earlier messages where the caller brought its own (OpenAI door).

    `outside`: where text came from that nobody has vouched for, where this, or what the caller brought, may hold some.
    """

    content: str
    history: tuple[Message, ...] = ()
    outside: str | msgspec.UnsetType = msgspec.UNSET


class Summary(EventBase, frozen=True, kw_only=True, tag="summary"):
    """What was said earlier in the session, summed up: from here on the model is told this in its place.

    `kept`: how many messages right before the run's own are told as they are; `model` wrote it. `outside`: where text
    came from that nobody has vouched for and that was in what is summed up.
    """

    content: str
    kept: int
    model: str
    outside: str = ""


class Recollection(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One thing that the agent remembers of its caller. `outside`: where text came from that nobody has vouched for
    and that was in the run of which it was kept."""

    id: str
    text: str
    outside: str = ""


class Recalled(EventBase, frozen=True, kw_only=True, tag="recalled"):
    """What the agent remembers from earlier sessions that has to do with what was said: the model is told it."""

    memories: tuple[Recollection, ...]


class Token(EventBase, frozen=True, kw_only=True, tag="token"):
    """A piece of the answer as it is produced. Not journalled."""

    offset: int
    content: str


class ToolStart(EventBase, frozen=True, kw_only=True, tag="tool_start"):
    """A call that the model asked for is taken up: committed before it is sent, or refused."""

    name: str
    tool_call: ToolCallState


class ToolEnd(EventBase, frozen=True, kw_only=True, tag="tool_end"):
    """A call's outcome, which the model will read."""

    name: str
    tool_call: ToolCallState


class Approval(msgspec.Struct, frozen=True, gc=False):
    """One question of the run `run_id` to a person.

    `kind` call: may this call be made, as it is or with other arguments? `kind` question: what is the answer, which is
    the call's result? `reason`: why it is asked; of a question, what the person is told beside it. `digest`: of the
    call's name and arguments, by which who decides can say which call they saw. `on_expiry`: what it comes to when
    nobody decides; `default`: the answer then, of a question that expires to `allow`.
    """

    id: str
    run_id: str
    tool_call: ToolCallState
    reason: str
    expires: datetime
    digest: str = ""
    kind: Literal["call", "question"] = "call"
    on_expiry: Literal["deny", "allow"] = "deny"
    default: str | None = None


class ApprovalRequired(EventBase, frozen=True, kw_only=True, tag="approval_required"):
    """The run waits for a person."""

    approvals: tuple[Approval, ...]


class ApprovalDecided(EventBase, frozen=True, kw_only=True, tag="approval_decided"):
    """One question was answered; `by` is the caller, `expiry`, or `end`: the run ended before anybody did.

    `arguments`: those that the call is made with, where whoever allowed it changed them; `answer`: to a question.
    """

    approval_id: str
    decision: Literal["allow", "deny"]
    by: str
    note: str = ""
    arguments: Any = None
    answer: str | None = None


class DelegateStart(EventBase, frozen=True, kw_only=True, tag="delegate_start"):
    """Another agent was asked; `child_run_id` is its run."""

    agent: str
    child_run_id: str
    tool_call_id: str
    message: str


class DelegateEnd(EventBase, frozen=True, kw_only=True, tag="delegate_end"):
    """The other agent's run ended."""

    agent: str
    child_run_id: str
    tool_call_id: str
    status: RunStatus


class UsageEvent(EventBase, frozen=True, kw_only=True, tag="usage"):
    """Tokens of one model call, as its provider counted them.

    `tools_unsent`: tokens more, about, that the schemas of tools would have taken which are found by search instead.
    """

    model: str
    usage: Usage
    tools_unsent: int | msgspec.UnsetType = msgspec.UNSET


class AssistantMessage(EventBase, frozen=True, kw_only=True, tag="assistant_message"):
    """What the model said in one call, whole; replaces the tokens before it.

    `outside`: where text came from that nobody has vouched for, where the model had read some by then.
    """

    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"
    outside: str | msgspec.UnsetType = msgspec.UNSET


class Error(EventBase, frozen=True, kw_only=True, tag="error"):
    """Why the run cannot go on, for people. `retry_after`: seconds a provider asked to be left alone."""

    reason: str
    message: str
    retry_after: float | None = None


class RunFinished(EventBase, frozen=True, kw_only=True, tag="run_finished"):
    """The last event of a run."""

    status: RunStatus
    usage: Usage = Usage()


Event = (
    RunStarted
    | System
    | UserMessage
    | Summary
    | Recalled
    | Token
    | ToolStart
    | ToolEnd
    | ApprovalRequired
    | ApprovalDecided
    | DelegateStart
    | DelegateEnd
    | UsageEvent
    | AssistantMessage
    | Error
    | RunFinished
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    """The event's JSON, one line."""
    return _encoder.encode(event)


def decode(data: bytes | str) -> Event:
    """The event of that JSON. Raises msgspec.DecodeError where it is none of ours."""
    return _decoder.decode(data)


def encode_lines(events: Sequence[Event]) -> bytes:
    """The events' JSON, each on a line that ends: encodings joined without more are one of all their events."""
    return _encoder.encode_lines(events)


def decode_lines(data: bytes) -> list[Event]:
    """The events of `encode_lines`. Raises msgspec.DecodeError where one is none of ours."""
    return _decoder.decode_lines(data)


def known(told: Iterable[Any]) -> list[Event]:
    """Events that came as plain JSON, without those of types this version does not know."""
    found = []
    for item in told:
        with contextlib.suppress(msgspec.ValidationError):
            found.append(msgspec.convert(item, Event))
    return found


def lost(data: bytes) -> str | None:
    """Why a run was lost, where that is what a stream tells: an `error` that is not one of the run's events."""
    try:
        told = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return None
    is_word = isinstance(told, dict) and told.get("type") == "error" and "seq" not in told
    return str(told.get("message", "")) if is_word else None
