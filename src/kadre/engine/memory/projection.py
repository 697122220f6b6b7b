"""How events move a run, and what a session allows: the rules every store shares.

Law: pure. A store keeps a `Head` beside a run's events and asks here what the next events make of it, so that no two
stores can disagree on a status; the same functions rebuild a head from its events after a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from kadre.base import errors
from kadre.engine import events as ev
from kadre.engine.memory.port import NewRun, RunInfo
from kadre.engine.messages import Usage

QUEUE_RETRY_AFTER = 5.0
"""Seconds after which to try a full queue again: about a turn of a small model."""
_MOVING: frozenset[type] = frozenset(
    {ev.RunStarted, ev.UsageEvent, ev.ApprovalRequired, ev.ApprovalDecided, ev.RunFinished}
)
"""The types that change more than a run's last number; looking a type up once is cheaper than asking for each."""
OUTCOME_UNKNOWN = "the process ended before the outcome was recorded: the call may or may not have happened"


class Head(msgspec.Struct, frozen=True, gc=False):
    """A run as of its last event. `pending`: the approvals asked for and not decided yet."""

    info: RunInfo
    pending: tuple[ev.Approval, ...] = ()


def begin(new: NewRun, order: int, position: int, first: Sequence[ev.Event]) -> tuple[Head, Sequence[ev.Event]]:
    """The head of a new run, and its first events with the position filled in. Raises ValueError: no run_started."""
    started = first[0] if first else None
    if not isinstance(started, ev.RunStarted):
        raise ValueError("a run's first event is its run_started")
    if started.position != position:
        first = (msgspec.structs.replace(started, position=position), *first[1:])
    info = RunInfo(
        run_id=new.run_id,
        session_id=new.session_id,
        agent=new.agent,
        status="queued",
        order=order,
        last_seq=0,
        epoch=1,
        caller=new.caller,
        parent_run_id=new.parent_run_id,
        created=started.time,
        updated=started.time,
    )
    return follow(Head(info), first), first


def follow(head: Head, events: Sequence[ev.Event]) -> Head:
    """The head after `events`. Raises ValueError where their numbers do not go on, or one comes after the end."""
    info = head.info
    seq, status, usage, pending = info.last_seq, info.status, info.usage, head.pending
    for event in events:
        seq += 1
        if event.seq != seq or status in ev.ENDED or type(event) is ev.Token:
            raise ValueError(f"run {info.run_id}: {type(event).__name__} numbered {event.seq} cannot be event {seq}")
        if type(event) not in _MOVING:
            continue
        if isinstance(event, ev.UsageEvent):
            usage = usage + event.usage
        elif isinstance(event, ev.RunFinished):
            status, pending = event.status, ()
        elif isinstance(event, ev.RunStarted):
            status = "queued" if event.position else "running"
        elif isinstance(event, ev.ApprovalRequired):
            status, pending = "waiting", pending + event.approvals
        elif isinstance(event, ev.ApprovalDecided):
            pending = tuple(approval for approval in pending if approval.id != event.approval_id)
            status = "waiting" if pending else "running"
    return Head(_moved(info, status, seq, info.epoch, events[-1].time if events else info.updated, usage), pending)


def running(head: Head) -> Head:
    """The head of a queued run whose turn has come; any other is left as it is."""
    info = head.info
    if info.status != "queued":
        return head
    return Head(_moved(info, "running", info.last_seq, info.epoch, info.updated, info.usage), head.pending)


def claimed(head: Head, seen: RunInfo | None = None) -> Head:
    """The head with its epoch raised, which fences every writer before. Raises as `Journal.claim` does."""
    info = head.info
    if info.status in ev.ENDED:
        raise errors.Conflict(f"run {info.run_id} has ended ({info.status})", reason="RunEnded")
    if seen is not None and (info.epoch, info.last_seq) != (seen.epoch, seen.last_seq):
        raise errors.Fenced(f"run {info.run_id} has moved on since it was looked at")
    return Head(_moved(info, info.status, info.last_seq, info.epoch + 1, info.updated, info.usage), head.pending)


def _moved(info: RunInfo, status: ev.RunStatus, last_seq: int, epoch: int, updated: datetime, usage: Usage) -> RunInfo:
    return RunInfo(
        run_id=info.run_id,
        session_id=info.session_id,
        agent=info.agent,
        status=status,
        order=info.order,
        last_seq=last_seq,
        epoch=epoch,
        caller=info.caller,
        parent_run_id=info.parent_run_id,
        created=info.created,
        updated=updated,
        usage=usage,
    )


def fence(head: Head | None, run_id: str, expected_seq: int, epoch: int) -> Head:
    """The head, if a writer that knows this number and epoch may go on; raises Fenced otherwise."""
    if head is None:
        raise errors.Fenced(f"run {run_id} is not open here")
    info = head.info
    if info.status in ev.ENDED:
        raise errors.Fenced(f"run {run_id} has ended ({info.status})")
    if info.last_seq != expected_seq or info.epoch != epoch:
        raise errors.Fenced(
            f"run {run_id} is at event {info.last_seq} of epoch {info.epoch}, not at {expected_seq} of {epoch}"
        )
    return head


def same_run(new: NewRun, info: RunInfo) -> RunInfo:
    """The run that is there for a repeated id. Raises Conflict where it is another caller's or another agent's."""
    if new.caller != info.caller or new.agent != info.agent:
        raise errors.Conflict(f"the run id {new.run_id} is taken; choose another", reason="RunIdTaken")
    return info


def admit(new: NewRun, owner: str, open_runs: Sequence[Head]) -> int:
    """How many open runs a new one of this session comes after. Raises Conflict and TooMany as `Journal.create` says.

    `open_runs`: those that have not ended, in order.
    """
    if new.caller != owner:
        raise errors.Conflict(
            f"the session {new.session_id} belongs to another caller; choose another session id",
            reason="NotYourSession",
        )
    position = len(open_runs)
    if not position or new.on_busy == "interrupt":
        return position
    for head in open_runs:
        if head.info.status == "waiting":
            details: dict[str, Any] = {"run_id": head.info.run_id, "approvals": msgspec.to_builtins(head.pending)}
            message = f"run {head.info.run_id} of this session waits for an approval; decide it first"
            raise errors.Conflict(message, reason="SessionWaiting", details=details)
    if new.on_busy == "reject":
        raise errors.Conflict(
            f"the session is busy with run {open_runs[0].info.run_id}; send the message again when it has ended",
            reason="SessionBusy",
            details={"run_id": open_runs[0].info.run_id},
        )
    if position > new.queue_limit:
        raise errors.TooMany(
            f"{position - 1} messages already wait in this session (limit {new.queue_limit})",
            reason="SessionQueueFull",
            retry_after=QUEUE_RETRY_AFTER,
        )
    return position


def no_session(session_id: str) -> errors.NotFound:
    """What is said of a session that is not there."""
    return errors.NotFound(f"there is no session {session_id!r}", reason="NoSuchSession")


def still_busy(session_id: str) -> errors.Conflict:
    """What is said of a session that is to go and has a run that has not ended."""
    message = f"a run of session {session_id} has not ended; cancel it, or wait for its end, and delete it then"
    return errors.Conflict(message, reason="SessionBusy")


def decided(events: Sequence[ev.Event]) -> bool:
    """Whether somebody has decided about a call of the model's last reply: that was acknowledged to them, and the run
    is gone on with though its process died."""
    for event in reversed(events):
        if isinstance(event, ev.ApprovalDecided):
            return True
        if isinstance(event, ev.AssistantMessage):
            return False
    return False


def interruption(info: RunInfo, events: Iterable[ev.Event], now: datetime) -> list[ev.Event]:
    """What ends a run whose process died."""
    return closing(info, events, "interrupted", OUTCOME_UNKNOWN, now)


def closing(
    info: RunInfo, events: Iterable[ev.Event], status: ev.RunStatus, unknown: str, now: datetime
) -> list[ev.Event]:
    """What ends a run, numbered on from `info.last_seq`; `events` are all it has.

    A denial of every question that is open, an end `unknown` (said in those words) of every call without one, and a
    RunFinished with that status and `info`'s usage.
    """
    questions: dict[str, ev.Approval] = {}
    started: dict[str, ev.ToolStart] = {}
    for event in events:
        if isinstance(event, ev.ToolStart):
            started[event.tool_call.id] = event
        elif isinstance(event, ev.ToolEnd):
            started.pop(event.tool_call.id, None)
        elif isinstance(event, ev.ApprovalRequired):
            questions.update((approval.id, approval) for approval in event.approvals)
        elif isinstance(event, ev.ApprovalDecided):
            questions.pop(event.approval_id, None)
    common: dict[str, Any] = {"run_id": info.run_id, "session_id": info.session_id, "time": now}
    seq, note = info.last_seq, f"the run was {status}"
    last: list[ev.Event] = []
    for key in questions:
        seq += 1
        last.append(ev.ApprovalDecided(seq=seq, approval_id=key, decision="deny", by="end", note=note, **common))
    for start in started.values():
        seq += 1
        call = msgspec.structs.replace(start.tool_call, status="unknown", error=unknown)
        last.append(ev.ToolEnd(seq=seq, name=start.name, tool_call=call, blobs=start.blobs, **common))
    last.append(ev.RunFinished(seq=seq + 1, status=status, usage=info.usage, **common))
    return last


def replay(info: RunInfo, events: Sequence[ev.Event]) -> Head:
    """The head of a run read back: `info` as it was kept, and from its events what a RunInfo does not tell."""
    blank = msgspec.structs.replace(info, status="queued", last_seq=0, usage=Usage())
    return Head(info, follow(Head(blank), events).pending)
