"""The one event stream: everything that happens in a run, for every door, the journal and the UI.

An event is immutable, cannot be part of a cycle (so the garbage collector need not look at it: `gc=False`) and is
self-describing: its JSON has `type v seq run_id session_id time` and its own fields. `seq`
numbers journalled events from 1 without gaps. A `token` is not journalled: it carries the seq of the last journalled
event and an `offset` that counts tokens since then, and the next `assistant_message` replaces all of them. Readers
skip types they do not know.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """A tool call as people see it. `arguments` is the parsed object, or the text where it is no JSON."""

    id: str
    name: str
    arguments: Any
    status: ToolStatus
    output: str = ""
    error: str = ""


class RunStarted(EventBase, frozen=True, kw_only=True, tag="run_started"):
    """The run was accepted. `position`: runs of its session before it that have not ended yet."""

    agent: str
    caller: str = ""
    parent_run_id: str = ""
    position: int = 0


class System(EventBase, frozen=True, kw_only=True, tag="system"):
    """A notice for people, e.g. a part of the agent that is not supported yet. Not sent to the model.

    `TakenUp`: the run's process is gone, and another one goes on with the run.
    """

    reason: str
    message: str


class UserMessage(EventBase, frozen=True, kw_only=True, tag="user_message"):
    """What the caller said; `history` holds earlier messages where the caller brought its own (OpenAI door)."""

    content: str
    history: tuple[Message, ...] = ()


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
    """One question to a person: may this call of the run `run_id` be made? `expires` denies it."""

    id: str
    run_id: str
    tool_call: ToolCallState
    reason: str
    expires: datetime


class ApprovalRequired(EventBase, frozen=True, kw_only=True, tag="approval_required"):
    """The run waits for a person."""

    approvals: tuple[Approval, ...]


class ApprovalDecided(EventBase, frozen=True, kw_only=True, tag="approval_decided"):
    """One question was answered; `by` is the caller, `expiry`, or `end`: the run ended before anybody did."""

    approval_id: str
    decision: Literal["allow", "deny"]
    by: str
    note: str = ""


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
    """Tokens of one model call, as its provider counted them."""

    model: str
    usage: Usage


class AssistantMessage(EventBase, frozen=True, kw_only=True, tag="assistant_message"):
    """What the model said in one call, whole; replaces the tokens before it."""

    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"


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
