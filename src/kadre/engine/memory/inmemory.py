"""The journal in memory: for tests, benchmarks and agents that ask for it. Nothing survives the process.

Events are kept as the objects they are: nothing is encoded, copied or awaited on the way of a turn. It is bounded by
runs, sessions and bytes; past a bound it forgets ended runs, never open ones: of the agent that has most here, and of
its sessions the one used least recently. An agent that is talked to a lot costs its neighbours nothing.
"""

from __future__ import annotations

import bisect
import hashlib
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from operator import attrgetter

import msgspec

from kadre.base import errors
from kadre.base.clock import Clock, SystemClock
from kadre.engine import events as ev
from kadre.engine.memory import projection
from kadre.engine.memory.conversation import SAID
from kadre.engine.memory.port import Age, Created, NewRun, RunInfo, SessionInfo, age
from kadre.engine.memory.turns import Turns

EVENT_BYTES = 400
"""What an event weighs beside its texts, roughly: struct, time, numbers, its place in lists."""


class _Run:
    __slots__ = ("events", "head", "said", "session", "size", "weight")

    def __init__(self, head: projection.Head, events: list[ev.Event], session: _Session) -> None:
        self.head = head
        self.events = events
        self.session = session
        self.size = 0
        self.weight = 0
        """With the blobs that its events name, which may be others' too."""
        self.said: list[ev.Event] | None = None

    @property
    def order(self) -> int:
        return self.head.info.order


class _Session:
    """`ended` and `open` are both in the order of the runs' numbers."""

    __slots__ = ("caller", "count", "created", "ended", "key", "open", "title", "updated")

    def __init__(self, key: tuple[str, str], caller: str, created: datetime) -> None:
        self.key = key
        self.caller = caller
        self.created = self.updated = created
        self.count = 0
        self.title = ""
        self.open: list[_Run] = []
        self.ended: deque[_Run] = deque()


class InMemoryJournal:
    """See `port.Journal`. Bounds: `max_runs` and `max_sessions` kept, `max_bytes` of events and blobs (estimated)."""

    durable = False
    shared = False

    def __init__(
        self,
        *,
        max_runs: int = 10_000,
        max_sessions: int = 10_000,
        max_bytes: int = 64 * 1024 * 1024,
        clock: Clock | None = None,
    ) -> None:
        self.max_runs = max_runs
        self.max_sessions = max_sessions
        self.max_bytes = max_bytes
        self._clock = clock or SystemClock()
        self._runs: dict[str, _Run] = {}
        self._sessions: dict[tuple[str, str], _Session] = {}
        self._forgettable: dict[str, OrderedDict[tuple[str, str], _Session]] = {}
        """By agent its sessions with ended runs, the least recently used first."""
        self._weights: Counter[str] = Counter()
        """By agent what its runs weigh."""
        self._bytes = 0
        self._blobs: dict[str, bytes] = {}
        self._uses: dict[str, int] = {}
        self._unused: OrderedDict[str, None] = OrderedDict()
        """Blobs no event names yet, the oldest first."""
        self._turns = Turns()

    async def create(self, new: NewRun, first: Sequence[ev.Event]) -> Created:
        """See `port.Journal.create`."""
        known = self._runs.get(new.run_id)
        if known is not None:
            info = projection.same_run(new, known.head.info)
            before = sum(run.order < info.order for run in known.session.open)
            return Created(info, position=before, existing=True)
        key = (new.agent, new.session_id)
        session = self._sessions.get(key)
        position = projection.admit(new, session.caller, [run.head for run in session.open]) if session else 0
        head, first = projection.begin(new, session.count + 1 if session else 1, position, first)
        if session is None:
            session = self._sessions[key] = _Session(key, new.caller, head.info.created)
        elif session.ended:
            self._forgettable[new.agent].move_to_end(key)
        run = _Run(head, [], session)
        session.count += 1
        session.open.append(run)
        self._runs[new.run_id] = run
        self._keep(run, head, first)
        return Created(head.info, position)

    async def append(self, run_id: str, expected_seq: int, events: Sequence[ev.Event], epoch: int) -> None:
        """See `port.Journal.append`."""
        run = self._runs.get(run_id)
        head = projection.fence(run.head if run else None, run_id, expected_seq, epoch)
        if run is not None and events:
            self._keep(run, projection.follow(head, events), events)

    def _keep(self, run: _Run, head: projection.Head, events: Sequence[ev.Event]) -> None:
        size = blobs = 0
        for event in events:
            size += size_of(event) if type(event) in _WITH_TEXTS else EVENT_BYTES
            if event.blobs is not msgspec.UNSET:
                blobs += self._use(event.blobs.values())
        run.head = head
        run.events.extend(events)
        run.size += size
        run.weight += size + blobs
        self._bytes += size
        self._weights[head.info.agent] += size + blobs
        session = run.session
        if head.info.order == session.count:
            session.updated = head.info.updated
        if head.info.status in ev.ENDED:
            self._end(run)
        if len(self._runs) > self.max_runs or self._bytes > self.max_bytes or len(self._sessions) > self.max_sessions:
            self._forget()

    def _end(self, run: _Run) -> None:
        session = run.session
        session.open.remove(run)
        if session.ended and session.ended[-1].order > run.order:  # a queued run was cancelled before its turn
            bisect.insort(session.ended, run, key=attrgetter("order"))
        else:
            session.ended.append(run)
        sessions = self._forgettable.setdefault(session.key[0], OrderedDict())
        sessions[session.key] = session
        sessions.move_to_end(session.key)
        self._turns.wake(run.head.info.run_id)
        if session.open:
            self._turns.wake(session.open[0].head.info.run_id)

    def _use(self, digests: Iterable[str]) -> int:
        """Keep these blobs, which an event names; their bytes."""
        size = 0
        for digest in digests:
            self._uses[digest] = self._uses.get(digest, 0) + 1
            self._unused.pop(digest, None)
            size += len(self._blobs.get(digest, b""))
        return size

    def _forget(self) -> None:
        while self._forgettable and (
            len(self._runs) > self.max_runs or len(self._sessions) > self.max_sessions or self._bytes > self.max_bytes
        ):
            heaviest = max(self._forgettable, key=self._weights.__getitem__)
            self._forget_run(next(iter(self._forgettable[heaviest].values())))
        while self._unused and self._bytes > self.max_bytes:
            self._bytes -= len(self._blobs.pop(self._unused.popitem(last=False)[0]))

    def _forget_run(self, session: _Session) -> None:
        run = session.ended.popleft()
        del self._runs[run.head.info.run_id]
        self._bytes -= run.size
        agent = session.key[0]
        self._weights[agent] -= run.weight
        if not self._weights[agent]:
            del self._weights[agent]
        if not session.ended:
            del self._forgettable[agent][session.key]
            if not self._forgettable[agent]:
                del self._forgettable[agent]
            if not session.open:
                del self._sessions[session.key]
        for event in run.events:
            if event.blobs is msgspec.UNSET:
                continue
            for digest in event.blobs.values():
                self._uses[digest] -= 1
                if not self._uses[digest]:
                    del self._uses[digest]
                    self._bytes -= len(self._blobs.pop(digest, b""))

    async def turn(self, run_id: str) -> None:
        """See `port.Journal.turn`."""
        while True:
            run = self._runs.get(run_id)
            if run is None:
                raise errors.NotFound(f"no run {run_id}")
            if run.head.info.status in ev.ENDED:
                raise errors.Fenced(f"run {run_id} has ended ({run.head.info.status})")
            if run.session.open[0] is run:
                run.head = projection.running(run.head)
                return
            await self._turns.changed(run_id)

    async def claim(self, run_id: str, seen: RunInfo | None = None) -> RunInfo:
        """See `port.Journal.claim`."""
        run = self._runs.get(run_id)
        if run is None:
            raise errors.NotFound(f"no run {run_id}")
        run.head = projection.claimed(run.head, seen)
        return run.head.info

    async def run(self, run_id: str) -> RunInfo | None:
        """See `port.Journal.run`."""
        run = self._runs.get(run_id)
        return run.head.info if run else None

    async def events(self, run_id: str, after: int = 0, limit: int = 10_000) -> Sequence[ev.Event]:
        """See `port.Journal.events`."""
        run = self._runs.get(run_id)
        return run.events[after : after + limit] if run else ()

    async def runs(
        self,
        *,
        agent: str | None = None,
        session_id: str | None = None,
        status: ev.RunStatus | None = None,
        caller: str | None = None,
        before: Age | None = None,
        limit: int = 100,
    ) -> Sequence[RunInfo]:
        """See `port.Journal.runs`."""
        wanted = [
            info
            for info in (run.head.info for run in self._runs.values())
            if (agent is None or info.agent == agent)
            and (session_id is None or info.session_id == session_id)
            and (status is None or info.status == status)
            and (caller is None or info.caller == caller)
            and (before is None or age(info) < before)
        ]
        wanted.sort(key=age, reverse=True)  # quick: they were put in nearly in this order
        return wanted[:limit]

    async def sessions(
        self,
        *,
        agent: str | None = None,
        session_id: str | None = None,
        caller: str | None = None,
        limit: int = 100,
    ) -> Sequence[SessionInfo]:
        """See `port.Journal.sessions`."""
        wanted = [
            session
            for session in self._sessions.values()
            if (agent is None or session.key[0] == agent)
            and (session_id is None or session.key[1] == session_id)
            and (caller is None or session.caller == caller)
        ]
        wanted.sort(key=attrgetter("updated"), reverse=True)
        return [
            SessionInfo(
                session_id=session.key[1],
                agent=session.key[0],
                caller=session.caller,
                runs=session.count,
                created=session.created,
                updated=session.updated,
                title=session.title,
            )
            for session in wanted[:limit]
        ]

    async def rename_session(self, agent: str, session_id: str, title: str) -> None:
        """See `port.Journal.rename_session`."""
        self._session(agent, session_id).title = title

    async def delete_session(self, agent: str, session_id: str) -> None:
        """See `port.Journal.delete_session`."""
        session = self._session(agent, session_id)
        if session.open:
            raise projection.still_busy(session_id)
        while session.ended:
            self._forget_run(session)

    def _session(self, agent: str, session_id: str) -> _Session:
        session = self._sessions.get((agent, session_id))
        if session is None:
            raise projection.no_session(session_id)
        return session

    async def history(self, agent: str, session_id: str, before_order: int, limit: int) -> Sequence[ev.Event]:
        """See `port.Journal.history`."""
        session = self._sessions.get((agent, session_id))
        if session is None or not session.ended:
            return ()
        latest = list(islice((run for run in reversed(session.ended) if run.order < before_order), limit))
        said: list[ev.Event] = []
        for run in reversed(latest):
            if run.said is None:
                run.said = [event for event in run.events if isinstance(event, SAID)]
            said += run.said
        return said

    async def put_blob(self, data: bytes) -> str:
        """See `port.Journal.put_blob`."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if digest not in self._blobs:
            self._blobs[digest] = data
            self._bytes += len(data)
            if digest not in self._uses:
                self._unused[digest] = None
        elif digest in self._unused:
            self._unused.move_to_end(digest)
        return digest

    async def get_blob(self, digest: str) -> bytes:
        """See `port.Journal.get_blob`."""
        try:
            return self._blobs[digest]
        except KeyError:
            raise errors.NotFound(f"no blob {digest}") from None

    async def delete_sessions_before(self, agent: str, before: datetime) -> int:
        """See `port.Journal.delete_sessions_before`."""
        old = [
            session
            for session in self._sessions.values()
            if session.key[0] == agent and not session.open and session.updated < before
        ]
        for session in old:
            while session.ended:
                self._forget_run(session)
        return len(old)

    async def recover(self) -> Sequence[RunInfo]:
        """See `port.Journal.recover`. A process that just started has nothing to recover here."""
        cut_off = []
        for run in [run for run in self._runs.values() if run.head.info.status in ("queued", "running")]:
            if not projection.decided(run.events):
                last = projection.interruption(run.head.info, run.events, self._clock.now())
                self._keep(run, projection.follow(run.head, last), last)
            cut_off.append(run.head.info)
        return cut_off

    async def aclose(self) -> None:
        """See `port.Journal.aclose`."""


_WITH_TEXTS: frozenset[type] = frozenset(
    {ev.AssistantMessage, ev.UserMessage, ev.ToolStart, ev.ToolEnd, ev.ApprovalRequired, ev.Summary}
)


def size_of(event: ev.Event) -> int:
    """About how many bytes the event keeps alive; cheap, so texts are counted in characters."""
    if isinstance(event, ev.AssistantMessage):
        size = EVENT_BYTES + len(event.content)
        for call in event.tool_calls:
            size += EVENT_BYTES + len(call.arguments)
        return size
    if isinstance(event, ev.Summary):
        return EVENT_BYTES + len(event.content)
    if isinstance(event, ev.UserMessage):
        size = EVENT_BYTES + len(event.content)
        for said in event.history:
            size += EVENT_BYTES + len(said.content)
        return size
    if isinstance(event, ev.ToolStart | ev.ToolEnd):
        return 3 * EVENT_BYTES + len(event.tool_call.output) + len(event.tool_call.error)
    if isinstance(event, ev.ApprovalRequired):
        return EVENT_BYTES + 4 * EVENT_BYTES * len(event.approvals)
    return EVENT_BYTES
