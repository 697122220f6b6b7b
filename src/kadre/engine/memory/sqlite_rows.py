"""What the SQLite journal knows of the file without reading it, and how its rows are told in our words."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from kadre.engine import events as ev
from kadre.engine.memory import projection, sqlite_file
from kadre.engine.memory.port import RunInfo
from kadre.engine.messages import Usage

MAX_IDLE_SESSIONS = 2000
"""Sessions remembered beyond those with open runs; about 0.5 KB each. Any other is read when a run is created in it."""
MAX_SEQ = (1 << sqlite_file.RUN_SHIFT) - 1
RUN_COLUMNS = (
    "r.no, r.run_id, s.session_id, s.agent, r.status, r.ord, r.last_seq, r.epoch, s.caller, r.parent, r.created,"
    " r.updated, r.prompt_tokens, r.completion_tokens, r.total_tokens"
)
SESSION_COLUMNS = "s.no, s.agent, s.session_id, s.caller, s.runs, s.created"
UNUSED = "NOT EXISTS (SELECT 1 FROM blob_uses u WHERE u.digest = blobs.digest)"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

SessionKey = tuple[str, str]
"""Agent and session id."""


class Row(msgspec.Struct, frozen=True):
    """A run as the file has it: its number, on which its entries' keys are built, and its head."""

    no: int
    head: projection.Head


class SessionRow(msgspec.Struct, frozen=True):
    """A session as the file has it. `runs`: the number of the latest; `open`: ids of those not ended, in order."""

    no: int
    agent: str
    session_id: str
    caller: str
    runs: int
    created: int
    open: tuple[str, ...] = ()


def microseconds(time: datetime) -> int:
    """Since 1970, as the file keeps times."""
    return (time - _EPOCH) // _MICROSECOND


def moment(stored: int) -> datetime:
    """The time of that many microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=stored)


def run_of(row: Sequence[Any]) -> Row:
    """The run of a row of RUN_COLUMNS, its pending approvals not known."""
    info = RunInfo(
        run_id=row[1],
        session_id=row[2],
        agent=row[3],
        status=row[4],
        order=row[5],
        last_seq=row[6],
        epoch=row[7],
        caller=row[8],
        parent_run_id=row[9],
        created=moment(row[10]),
        updated=moment(row[11]),
        usage=Usage(row[12], row[13], row[14]),
    )
    return Row(row[0], projection.Head(info))


class Remembered:
    """Open runs, recently used sessions and the next free numbers: enough to decide without reading."""

    def __init__(self) -> None:
        self.runs: dict[str, Row] = {}
        self.sessions: OrderedDict[SessionKey, SessionRow] = OrderedDict()
        self.next_run = 1
        self.next_session = 1

    def take(self, runs: Mapping[str, Row], sessions: Mapping[SessionKey, SessionRow | None]) -> None:
        """What a batch has committed is how it is. A session that is None was deleted."""
        for key, session in sessions.items():
            if session is None:
                self.sessions.pop(key, None)
            else:
                self.sessions[key] = session
                self.sessions.move_to_end(key)
        for run_id, row in runs.items():
            if row.head.info.status in ev.ENDED:
                self.runs.pop(run_id, None)
            else:
                self.runs[run_id] = row
        for _ in range(len(self.sessions) - MAX_IDLE_SESSIONS - len(self.runs)):
            key, session = self.sessions.popitem(last=False)
            if session.open:
                self.sessions[key] = session
