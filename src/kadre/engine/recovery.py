"""What a process finds of the one before it, in journals that are its alone: runs that wait and that nobody drives.

Whoever calls this holds a lock over it, so that no run is claimed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping

from kadre.base.clock import Clock
from kadre.base.errors import Unavailable
from kadre.engine import delegation, loop
from kadre.engine import events as ev
from kadre.engine.agent import HostedAgent
from kadre.engine.live import Live
from kadre.engine.memory import projection, spill
from kadre.engine.memory.port import Journal, RunInfo
from kadre.engine.observe import Observer
from kadre.engine.runner import Runner, opening

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


def orphan(runs: Waiting, driven: Container[str]) -> str:
    """One whose parent was cut off before it knew that the run waits, so that nobody will read its answer; or ""."""
    for info, _ in runs.values():
        parent = info.parent_run_id
        if parent and parent not in runs and parent not in driven:
            return info.run_id
    return ""


def root(run: RunInfo, runs: Waiting) -> str:
    """The run among these that asked for this one, at first; or this one. They go on together or not at all."""
    while run.parent_run_id in runs:
        run, _ = runs[run.parent_run_id]
    return run.run_id


async def end(
    journals: Iterable[Journal], run_id: str, status: ev.RunStatus, clock: Clock, free: Callable[[str], bool]
) -> list[str]:
    """End a run that nobody drives: nobody else would, and it holds its session. `free`: whether that is so still.

    Returns the runs it delegated to that may be open.
    """
    for journal in journals:
        info = await journal.run(run_id)
        if info is not None and info.status not in ev.ENDED and free(run_id):
            held = await journal.claim(run_id)
            events = await journal.events(run_id, limit=held.last_seq)
            last = projection.closing(held, events, status, projection.OUTCOME_UNKNOWN, clock.now())
            await journal.append(run_id, held.last_seq, last, held.epoch)
            return delegation.unfinished(events)
    return []


async def revive(
    agent: HostedAgent, info: RunInfo, runs: Mapping[str, tuple[RunInfo, Journal]], clock: Clock, observer: Observer
) -> Runner:
    """A runner that goes on with the run where its events end. Raises Conflict where it has ended meanwhile."""
    chain: tuple[str, ...] = ()
    above = runs.get(info.parent_run_id)
    while above is not None:
        chain = (above[0].agent, *chain)
        above = runs.get(above[0].parent_run_id)
    live = Live(await agent.journal.claim(info.run_id), stream=True)
    events = await agent.journal.events(info.run_id, limit=info.last_seq)
    live.publish(events)
    whole = [await spill.restore(agent.journal, event) if event.blobs else event for event in events]
    before = await opening(agent, live.info)
    return Runner(agent, live, clock, observer, chain, loop.resume(tuple(before), whole))


async def kept(journal: Journal, info: RunInfo) -> Live:
    """The stream of a run that nobody drives here."""
    live = Live(info)
    live.publish(await journal.events(info.run_id, limit=info.last_seq))
    await _recall(journal, live)
    if live.finished is None:
        live.fail(elsewhere(info.run_id))
    return live


async def _recall(journal: Journal, live: Live) -> None:
    """Have the run's answer whole, where its event keeps only the beginning."""
    for event in reversed(live.events):
        if type(event) is ev.AssistantMessage:
            whole = await spill.restore(journal, event) if event.blobs else event
            if whole is not event and isinstance(whole, ev.AssistantMessage):
                live.whole = whole
            return


def elsewhere(run_id: str) -> Unavailable:
    """What is said to whoever waits for a run that nobody drives here."""
    return Unavailable(f"run {run_id} is not driven by this process", reason="RunElsewhere")
