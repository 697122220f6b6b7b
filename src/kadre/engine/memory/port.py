"""The port to a journal.

Above: the host, the only writer of a run, and doors that read. Below: memory, SQLite, PostgreSQL, Redis. It
knows events only as things with a run, a number and a few types that move a run's status; it never calls a model or a
tool.

What every store promises (tests/contract/journal holds each to it):
- `create` numbers a run within its session and commits its first events, at once or not at all; the same run id again
  returns the run that is there and writes nothing.
- `append` is compare-and-set on the run's last number and on its epoch; the loser gets Fenced and nothing is written.
- When `create` or `append` has returned, a kill -9 loses nothing of it (in-memory excepted, which says so by
  `durable`). When it is cancelled, it is committed or not at all by the time the cancellation arrives; `run` tells.
- Runs of one session start in their order: `turn` returns when every lower one has ended.

Some stores are one process's alone (`OwnJournal`): after a restart `recover` ends open runs as `interrupted`, but for
those that wait for a person and those about which one has decided. Others are shared (`SharedJournal`): each process
that has one open holds a lease for as long as it lives, runs name the process that created or claimed them last, and
those of one without a lease are `abandoned`: anybody's who claims them first.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol, TypeGuard

import msgspec

from kadre.engine.events import Event, RunStatus
from kadre.engine.messages import Usage
from kadre.plan.types import OnBusy

CLOSED = "JournalClosed"
"""The reason of Unavailable that a store gives which was closed: it does not come back."""


class RunInfo(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A run as lists show it: a projection of its events."""

    run_id: str
    session_id: str
    agent: str
    """`str(AgentKey)`."""
    status: RunStatus
    order: int
    """The run's number within its session, from 1."""
    last_seq: int
    epoch: int
    caller: str = ""
    parent_run_id: str = ""
    created: datetime
    updated: datetime
    usage: Usage = Usage()


Age = tuple[datetime, str]
"""When a run was created, then its id: the order of lists, the same in every store and after every restart."""


def age(run: RunInfo) -> Age:
    """Where the run stands in lists of runs."""
    return run.created, run.run_id


class SessionInfo(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A conversation as lists show it. `title`: what a person calls it; empty where nobody has said."""

    session_id: str
    agent: str
    caller: str
    runs: int
    created: datetime
    updated: datetime
    title: str = ""


class NewRun(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A run to be created. `session_id` is scoped to the agent: two agents' sessions of one name are two sessions.

    `fresh`: both ids were made for it just now, so that a store need not look whether it has them. Where that is not so
    after all, nothing is written.
    """

    run_id: str
    session_id: str
    agent: str
    caller: str = ""
    parent_run_id: str = ""
    on_busy: OnBusy = "queue"
    queue_limit: int = 8
    fresh: bool = False


class Created(msgspec.Struct, frozen=True, gc=False):
    """`existing`: the run id was known, nothing was written. `position`: open runs of the session before it."""

    run: RunInfo
    position: int = 0
    existing: bool = False


class Journal(Protocol):
    """Keeps runs and their events."""

    durable: bool
    """Whether what was acknowledged survives the process, and the pod that it may run in."""
    shared: bool
    """Whether it is a SharedJournal; else it is an OwnJournal."""

    async def create(self, new: NewRun, first: Sequence[Event]) -> Created:
        """Accept a run and commit `first` (numbered 1..n, a RunStarted and a UserMessage at least) with it.

        They may end it, which nobody drives then: see engine.forking.

        Raises Conflict (`SessionBusy`: on_busy is reject; `SessionWaiting`: a run of the session waits for approval,
        its id in details["run_id"]; `NotYourSession`: another caller's; `RunIdTaken`: the run id is another caller's or
        another agent's) and TooMany (`SessionQueueFull`). With on_busy `interrupt` it is accepted; ending the runs
        before it is the host's work. The RunStarted event's position is set by the store.
        """
        ...

    async def append(self, run_id: str, expected_seq: int, events: Sequence[Event], epoch: int) -> None:
        """Commit events numbered expected_seq+1…; raises Fenced where the run is elsewhere, or ended."""
        ...

    async def turn(self, run_id: str) -> None:
        """Wait until every lower-numbered run of the session has ended, and mark this one running.

        Raises NotFound, and Fenced where this run has ended itself.
        """
        ...

    async def claim(self, run_id: str, seen: RunInfo | None = None) -> RunInfo:
        """Become the run's only writer: raises its epoch. `seen`: only where nothing has happened to it since.

        Raises NotFound, Conflict (`RunEnded`), and Fenced where it is not as it was seen.
        """
        ...

    async def run(self, run_id: str) -> RunInfo | None:
        """The run, or None."""
        ...

    async def events(self, run_id: str, after: int = 0, limit: int = 10_000) -> Sequence[Event]:
        """The run's events with a number above `after`, in order; none where there is no such run."""
        ...

    async def runs(
        self,
        *,
        agent: str | None = None,
        session_id: str | None = None,
        status: RunStatus | None = None,
        caller: str | None = None,
        before: Age | None = None,
        limit: int = 100,
    ) -> Sequence[RunInfo]:
        """Runs by `age`, newest first; `before` is the age of the last run of the page before."""
        ...

    async def sessions(
        self,
        *,
        agent: str | None = None,
        session_id: str | None = None,
        caller: str | None = None,
        limit: int = 100,
    ) -> Sequence[SessionInfo]:
        """Sessions, the latest used first."""
        ...

    async def rename_session(self, agent: str, session_id: str, title: str) -> None:
        """Give the session that title. Raises NotFound (`NoSuchSession`)."""
        ...

    async def delete_session(self, agent: str, session_id: str) -> None:
        """Forget the session with all it holds.

        Raises NotFound (`NoSuchSession`), and Conflict (`SessionBusy`) where a run of it has not ended.
        """
        ...

    async def history(self, agent: str, session_id: str, before_order: int, limit: int) -> Sequence[Event]:
        """What was said in the session before run number `before_order`, in order: UserMessage, AssistantMessage,
        Summary and ToolEnd events of runs that have ended; of at most the latest `limit` runs. Whole runs only.
        """
        ...

    async def put_blob(self, data: bytes) -> str:
        """Keep a large value; returns its digest (`sha256:…`). Committed when it returns."""
        ...

    async def get_blob(self, digest: str) -> bytes:
        """The value of that digest. Raises NotFound."""
        ...

    async def delete_sessions_before(self, agent: str, before: datetime) -> int:
        """Forget the agent's sessions whose last run ended before that; returns how many."""
        ...

    async def aclose(self) -> None:
        """Finish waiting appends and give back files and connections."""
        ...


class OwnJournal(Journal, Protocol):
    """A journal that one process has."""

    async def recover(self) -> Sequence[RunInfo]:
        """Called once at start by a store that one process owns: end open runs that are not waiting as `interrupted`,
        an `unknown` ToolEnd for every call sent and not recorded, then a RunFinished. Returns them.

        Those about which a person has decided (`projection.decided`) are returned too, open as they are: they are gone
        on with, or ended.
        """
        ...


class SharedJournal(Journal, Protocol):
    """A journal that several processes have at once."""

    async def held(self) -> Sequence[RunInfo]:
        """The open runs that this process created or claimed, and that no other has claimed since."""
        ...

    async def abandoned(self, agents: Collection[str]) -> Sequence[RunInfo]:
        """Open runs of these agents, of processes that gave up their lease, or let it run out; some of the oldest.

        A process that could not renew its own lease for so long itself gives the others that time first.
        """
        ...

    async def news(self) -> None:
        """Wait until another process may have claimed or left a run, at most as long as leases are renewed."""
        ...


def is_shared(journal: Journal) -> TypeGuard[SharedJournal]:
    """Whether several processes may have it."""
    return journal.shared


def is_own(journal: Journal) -> TypeGuard[OwnJournal]:
    """Whether it is one process's alone."""
    return not journal.shared
