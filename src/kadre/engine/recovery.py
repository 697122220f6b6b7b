"""Runs that a process left: found, ended, brought to life again.

Whoever calls this holds a lock over it, so that no run is claimed twice here.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from kadre.base.clock import Clock
from kadre.base.errors import Conflict
from kadre.engine import delegation, elsewhere, loop
from kadre.engine import events as ev
from kadre.engine.agent import HostedAgent
from kadre.engine.driving import Driving
from kadre.engine.live import Live
from kadre.engine.memory import projection, spill
from kadre.engine.memory.port import Journal, RunInfo
from kadre.engine.observe import Observer
from kadre.engine.runner import Runner

MOST = 10_000
"""Runs that wait for a person in one store: more than any person will decide."""

Waiting = dict[str, tuple[RunInfo, Journal]]
"""Runs that wait for a person and that nobody drives, by id, and where each is kept."""


async def waiting(journals: Iterable[Journal], driven: Container[str]) -> Waiting:
    """Those of these journals."""
    return {
        info.run_id: (info, journal)
        for journal in journals
        for info in await journal.runs(status="waiting", limit=MOST)
        if info.run_id not in driven
    }


async def waited(run: RunInfo, journal: Journal) -> bool:
    """Whether the run waits for a person, or one has decided what is not done yet."""
    return run.status == "waiting" or projection.decided(await journal.events(run.run_id, limit=run.last_seq))


def orphan(runs: Waiting, known: Container[str]) -> str:
    """One whose parent was cut off before it knew that the run waits, so that nobody will read its answer; or "".

    `known`: parents that are driven, or that another process drives as far as can be told here.
    """
    for info, _ in runs.values():
        parent = info.parent_run_id
        if parent and parent not in runs and parent not in known:
            return info.run_id
    return ""


async def is_asked_from_afar(run: RunInfo, journal: Journal, served: Container[str]) -> bool:
    """Whether an agent asked for the run that is not served here: its own journal may be elsewhere, too."""
    chain = await _chain(run, journal)
    return bool(chain) and chain[-1] not in served


async def _chain(run: RunInfo, journal: Journal) -> tuple[str, ...]:
    first = await journal.events(run.run_id, limit=1)
    return next((event.chain for event in first if isinstance(event, ev.RunStarted)), ())


def root(run: RunInfo, runs: Waiting) -> str:
    """The run among these that asked for this one, at first; or this one. They go on together or not at all."""
    while run.parent_run_id in runs:
        run, _ = runs[run.parent_run_id]
    return run.run_id


async def find(journals: Iterable[Journal], run_id: str) -> RunInfo | None:
    """The run, wherever it is kept."""
    found = await elsewhere.find(journals, run_id)
    return found[1] if found is not None else None


async def end(
    journals: Iterable[Journal],
    run_id: str,
    status: ev.RunStatus,
    driving: Driving,
    seen: RunInfo | None = None,
) -> list[ev.DelegateStart]:
    """End a run that is not driven here; whoever drives it is fenced. `seen`: see `Journal.claim`.

    Returns the runs it delegated to that may be open.
    """
    found = await elsewhere.find(journals, run_id)
    if found is None or not driving.free(run_id):
        return []
    journal, info = found
    if info.status in ev.ENDED:  # by one who may not have come to the others
        return delegation.unfinished(await journal.events(run_id, limit=info.last_seq))
    try:
        held = await journal.claim(run_id, seen)
    except Conflict:  # it has ended meanwhile
        return []
    events = await journal.events(run_id, limit=held.last_seq)
    last = projection.closing(held, events, status, projection.OUTCOME_UNKNOWN, driving.clock.now())
    await journal.append(run_id, held.last_seq, last, held.epoch)
    return delegation.unfinished(events)


async def revive(agent: HostedAgent, info: RunInfo, clock: Clock, observer: Observer) -> Runner:
    """A runner that goes on with the run where its events end.

    Raises Conflict where it has ended meanwhile, and Fenced where something has happened to it since `info`.
    """
    events = await agent.journal.events(info.run_id, limit=info.last_seq)
    whole = [await spill.restore(agent.journal, event) if event.blobs else event for event in events]
    state = loop.resume((), whole)
    # Claimed last: what cannot be read here is left to a process that can.
    live = Live(await agent.journal.claim(info.run_id, info), stream=True)
    live.publish(events)
    started = whole[0]
    chain = started.chain if isinstance(started, ev.RunStarted) else ()
    return Runner(agent, live, clock, observer, chain, state)
