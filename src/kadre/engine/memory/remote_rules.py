"""What events make of a run that a server keeps: a difference that the server adds. Pure, and the same for each server.

Nothing of a run is remembered between writes. Only a decision of an approval, which a person makes, needs it read.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from kadre.base import errors
from kadre.engine import events as ev
from kadre.engine.memory import projection
from kadre.engine.memory.port import RunInfo

MAX_SEQ = (1 << 20) - 1
"""Events of a run, as in SQLite."""
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_UNTOLD = RunInfo(
    run_id="",
    session_id="",
    agent="",
    status="queued",
    order=0,
    last_seq=0,
    epoch=0,
    created=_LONG_AGO,
    updated=_LONG_AGO,
)
"""A run of which nothing is known. No event of a run that has begun leads back to `queued`."""


def untold(run_id: str, last_seq: int) -> RunInfo:
    """The run as one knows it who knows its last number alone: what follows from events then is what they add."""
    return msgspec.structs.replace(_UNTOLD, run_id=run_id, last_seq=last_seq)


def decides(events: Sequence[ev.Event]) -> bool:
    """Whether what the events make of the run hangs on which approvals it waits for."""
    return any(isinstance(event, ev.ApprovalDecided) for event in events)


def digests(events: Sequence[ev.Event]) -> list[str]:
    """The blobs that the events name."""
    return [digest for event in events if event.blobs is not msgspec.UNSET for digest in event.blobs.values()]


def check_room(run_id: str, last_seq: int) -> None:
    """Raise TooLarge where a run would get more events than one may have."""
    if last_seq > MAX_SEQ:
        raise errors.TooLarge(f"run {run_id} has more than {MAX_SEQ} events")


def position_of(info: RunInfo, kept: Sequence[ev.Event], first: Sequence[ev.Event]) -> int | None:
    """Its position, where this run is the one that was to be created with `first`, untouched since; else None.

    `kept`: what it was created with.
    """
    if not kept or info.epoch != 1 or info.last_seq != len(first):
        return None
    started, ours = kept[0], first[0]
    if not isinstance(started, ev.RunStarted) or not isinstance(ours, ev.RunStarted):
        return None
    moved = msgspec.structs.replace(ours, position=started.position)
    return started.position if [moved, *first[1:]] == list(kept) else None


def fence(info: RunInfo | None, run_id: str, expected_seq: int, epoch: int) -> RunInfo:
    """The run, if a writer that knows this number and epoch may go on; raises Fenced otherwise."""
    return projection.fence(projection.Head(info) if info else None, run_id, expected_seq, epoch).info
