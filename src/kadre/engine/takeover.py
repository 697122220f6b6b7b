"""Runs that nobody drives any more: taken up, ended, or left to a process that serves their agent.

Two kinds of journal. One that is this process's alone is looked through once, when it begins. One that processes share
is looked at as long as the host lives: a run whose process no longer renews its lease is anybody's, and whoever claims
it first has it; a run of ours that somebody else claimed is let go of.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Container, Mapping, Sequence

from kadre.base.errors import Conflict, Fenced, NotFound, Unavailable
from kadre.base.tasks import Tasks, settled
from kadre.engine import events as ev
from kadre.engine import recovery
from kadre.engine.agent import HostedAgent
from kadre.engine.driving import Driving
from kadre.engine.memory.port import Journal, RunInfo, SharedJournal, is_own, is_shared
from kadre.engine.refusals import Refusals
from kadre.engine.runner import Runner
from kadre.plan.types import AgentKey

log = logging.getLogger(__name__)


class Takeover:
    """Of one host. `resumes`: runs that were cut off are gone on with; else they end as interrupted."""

    def __init__(
        self,
        driving: Driving,
        tasks: Tasks,
        journals: Callable[[], Sequence[Journal]],
        agents: Callable[[], Mapping[AgentKey, HostedAgent]],
        *,
        resumes: bool,
    ) -> None:
        self.begun = False
        """Whether this process may take for left what it finds in journals that are its alone."""
        self._refused = Refusals(driving.clock)
        self._driving = driving
        self._tasks = tasks
        self._journals = journals
        self._agents = agents
        self._resumes = resumes
        self._looked_through: list[Journal] = []
        self._decided: recovery.Waiting = {}
        """Runs in journals of this process alone that were cut off after a person had decided about them."""
        self._soon: list[SharedJournal] = []
        self._taking_up = asyncio.Lock()
        """Held by whoever claims a run that nobody drives, until it is driven or has ended."""

    async def begin(self) -> list[RunInfo]:
        """See `Host.recover`."""
        self.begun = True
        cut_off = await self.look_through()
        await self.take_up_waiting()
        return cut_off

    async def look_through(self) -> list[RunInfo]:
        """End what was cut off in journals that are new here, and begin to look at those that are shared."""
        cut_off: list[RunInfo] = []
        async with self._taking_up:
            for journal in self._journals():
                if journal not in self._looked_through:
                    if is_shared(journal):
                        self._tasks.spawn("share", self._share(journal))
                    elif is_own(journal):
                        for info in await journal.recover():
                            if info.status in ev.ENDED:
                                cut_off.append(info)
                            else:
                                self._decided[info.run_id] = info, journal
                    self._looked_through.append(journal)  # not where it failed: it is asked again
        return cut_off

    # -- journals of one process ---------------------------------------------------------------------------------

    async def take_up_waiting(self) -> None:
        """Go on with runs that wait for a person and whose agent is served, and with those that waited for one."""
        async with self._taking_up:
            driven = self._driving.runners
            own = [journal for journal in self._journals() if not is_shared(journal)]
            waiting = {**await recovery.waiting(own, driven), **self._decided}
            elsewhere = await self._asking_elsewhere(waiting)
            # A host that has closed knows no parents any more: what it left is no orphan.
            while not self._driving.closed and (orphan := recovery.orphan(waiting, {*driven, *elsewhere})):
                del waiting[orphan]
                await self._end(orphan, "interrupted")
            revived: list[Runner] = []
            try:
                failed = await self._revive_all(waiting, revived)
                whole = [each for each in revived if recovery.root(each.live.info, waiting) not in failed]
                for runner in () if self._driving.closed else whole:  # at once: a parent must find its child's runner
                    self._driving.drive(runner, wait=False)
                    revived.remove(runner)
            finally:
                for runner in revived:
                    await self._driving.leave(runner.agent)
            if not self._driving.closed:
                await self._settle_decided()

    async def _settle_decided(self) -> None:
        """Forget those that are driven, or have ended, and end those whose agent is served no more."""
        for run_id, (info, journal) in list(self._decided.items()):
            if self._driving.free(run_id) and self._served(info, journal) is None:
                await self._end(run_id, "interrupted")
            held = await journal.run(run_id)
            if held is None or held.status in ev.ENDED or not self._driving.free(run_id):
                del self._decided[run_id]

    async def _revive_all(self, waiting: recovery.Waiting, revived: list[Runner]) -> set[str]:
        """Revive those whose agent is served; the roots of those of which one cannot be."""
        failed = set()
        for info, journal in waiting.values():
            agent = self._served(info, journal)
            if agent is not None:
                try:
                    revived.append(await self._revive(agent, info))
                except (Conflict, Fenced):
                    continue  # it has ended meanwhile
                except Exception:
                    log.exception("run %s waits for a person and cannot be taken up now", info.run_id)
                    failed.add(recovery.root(info, waiting))
        return failed

    async def _asking_elsewhere(self, waiting: recovery.Waiting) -> set[str]:
        """The runs that asked for one of these and go on as far as is known, in shared journals or at other hosts."""
        shared = [journal for journal in self._journals() if journal.shared]
        found = set()
        for info, journal in waiting.values():
            above = info.parent_run_id
            if not above or above in waiting:
                continue
            run = await recovery.find(shared, above)
            if run is not None:
                goes_on = run.status == "waiting" or (self._resumes and run.status not in ev.ENDED)
            else:
                goes_on = await self._find(above) is None and await self._is_from_afar(info, journal)
            if goes_on:
                found.add(above)
        return found

    async def _is_from_afar(self, info: RunInfo, journal: Journal) -> bool:
        return await recovery.is_asked_from_afar(info, journal, {str(key) for key in self._agents()})

    # -- journals that processes share ---------------------------------------------------------------------------

    async def _share(self, journal: SharedJournal) -> None:
        while True:
            try:
                await self.look(journal)
            except Unavailable as error:
                log.warning("whether runs were left by their processes is not known now: %s", error)
            except Exception:
                log.exception("runs that were left by their processes cannot be looked for now")
            await journal.news()

    def look_soon(self, journal: SharedJournal) -> None:
        """Have it looked at now, unless that is about to happen."""
        if journal not in self._soon:
            self._soon.append(journal)
            self._tasks.spawn("look", self._look_once(journal))

    async def _look_once(self, journal: SharedJournal) -> None:
        try:
            await self.look(journal)
        finally:
            self._soon.remove(journal)

    def refuse(self, journal: Journal, run_id: str) -> None:
        """Whoever asked was told that the run could not be accepted, or ended, though it may have been: end it then."""
        self._refused.add(journal, run_id)

    def accept(self, journal: Journal, run_id: str) -> None:
        """It was made just now, whatever was told who asked before."""
        self._refused.forget(journal, run_id)

    async def look(self, journal: SharedJournal) -> None:
        """Let go of runs that others have claimed, take up those that nobody drives, and end those nobody waits for."""
        await self._stop_orphans(journal)
        driving = self._driving
        driven = {run_id: runner for run_id, runner in driving.runners.items() if runner.agent.journal is journal}
        known = {run_id: len(runner.live.events) for run_id, runner in driven.items()}
        held = await journal.held()
        durable = {info.run_id: info.last_seq for info in held}
        for run_id, runner in driven.items():
            if durable.get(run_id, 0) < known[run_id] and not runner.live.ended:
                await self._let_go_or_mend(runner)
        left = [info for info in held if driving.free(info.run_id)]
        left += await journal.abandoned({str(key) for key, agent in self._agents().items() if agent.journal is journal})
        async with self._taking_up:
            for info in left:
                await self._settle(journal, info, {other.run_id for other in left})
        if self._refused.of(journal):  # what could not be ended is still held, and tried again
            self._refused.settle(journal, {info.run_id for info in await journal.held()})

    @staticmethod
    async def _let_go_or_mend(runner: Runner) -> None:
        """Tell the journal again what it has lost of a run of this process, or let go of one that is another's now."""
        try:
            await runner.recorder.mend()
        except Fenced:
            runner.life.stop("left")
        except Exception:  # the others, and those that were left, are looked at all the same
            log.exception("run %s cannot be told again to its journal now", runner.live.info.run_id)

    async def _ended_here(self, run_id: str) -> bool:
        """Whether this process drove the run to its end a moment ago, which its journal has lost, and is told again."""
        ended = self._driving.lately.get(run_id)
        if ended is None:
            return False
        try:
            await ended.recorder.mend()
        except Fenced:
            return False
        return True

    async def _stop_orphans(self, journal: Journal) -> None:
        """End runs of this process that were asked for by one which has ended elsewhere."""
        runners = self._driving.runners
        for runner in [each for each in runners.values() if each.agent.journal is journal]:
            above = runner.live.info.parent_run_id
            if above and above not in runners:
                with contextlib.suppress(Unavailable):  # another store, perhaps: this one is looked at all the same
                    parent = await self._find(above)
                    if parent is not None and parent.status in ev.ENDED:
                        runner.life.stop("cancelled")

    async def _settle(self, journal: Journal, info: RunInfo, left: Container[str]) -> None:
        if self._driving.draining or not self._driving.free(info.run_id):
            return
        try:
            if await self._ended_here(info.run_id):
                return
            parent = await self._find(info.parent_run_id)
            if parent is None:
                orphan = bool(info.parent_run_id) and not await self._is_from_afar(info, journal)
            else:
                orphan = parent.status in ev.ENDED
            if info.run_id in self._refused.of(journal):
                await self._end(info.run_id, "cancelled", info)
            elif orphan or not (self._resumes or await recovery.waited(info, journal)):
                await self._end(info.run_id, "interrupted", info)
            elif parent is None or parent.run_id not in left:  # else it goes on after its parent does, or ends
                agent = self._served(info, journal)
                if agent is not None:  # at its limit too: it was accepted once, and others here may wait for its end
                    await self._take(agent, info)
        except (Conflict, Fenced, NotFound):
            pass  # another process was there first
        except Exception:
            log.exception("run %s was left by its process and cannot be taken up now", info.run_id)

    async def _find(self, run_id: str) -> RunInfo | None:
        if not run_id:
            return None
        return await recovery.find(self._journals(), run_id)

    # -- one run -------------------------------------------------------------------------------------------------

    def _served(self, info: RunInfo, journal: Journal) -> HostedAgent | None:
        by_name = {str(key): agent for key, agent in self._agents().items()}
        agent = by_name.get(info.agent)
        return agent if agent is not None and agent.journal is journal else None

    async def _revive(self, agent: HostedAgent, info: RunInfo) -> Runner:
        """A runner that goes on with the run. Its place is taken at once: an agent that is replaced waits for it."""
        driving = self._driving
        agent.running += 1
        try:
            return await recovery.revive(agent, info, driving.clock, driving.observer)
        except BaseException:
            await driving.leave(agent)
            raise

    async def _take(self, agent: HostedAgent, info: RunInfo) -> None:
        """Go on with a run that processes share."""
        runner = await self._revive(agent, info)
        if self._driving.closed:  # it is left again, with all that this process has
            await self._driving.leave(agent)
        else:
            self._driving.drive(runner, wait=True)

    async def _end(self, run_id: str, status: ev.RunStatus, seen: RunInfo | None = None) -> list[ev.DelegateStart]:
        journals = [journal for journal in self._journals() if self.begun or journal.shared]
        return await recovery.end(journals, run_id, status, self._driving, seen)

    async def end(self, run_id: str, status: ev.RunStatus) -> list[ev.DelegateStart]:
        """End a run that is not driven here, wherever it is; returns the runs it delegated to that may be open.

        It is seen through whatever becomes of the caller: one that is claimed and not ended would be nobody's.
        """
        ending = self._tasks.spawn(f"{run_id}/end", settled(self._end_here(run_id, status)))
        return (await asyncio.shield(ending))()

    async def _end_here(self, run_id: str, status: ev.RunStatus) -> list[ev.DelegateStart]:
        async with self._taking_up:
            if run_id in self._driving.runners:
                return []
            try:
                return await self._end(run_id, status)
            except Unavailable:
                for journal in self._journals():
                    self.refuse(journal, run_id)  # it may be claimed: where it is, it is ended once that can be
                raise

    async def before(self, run: RunInfo) -> list[str]:
        """The open runs of its session that came before it, whoever drives them."""
        found: list[RunInfo] = []
        for journal in self._journals():
            for status in ("queued", "running", "waiting") if journal.shared else ():
                found += await journal.runs(agent=run.agent, session_id=run.session_id, status=status)
        return [info.run_id for info in found if info.order < run.order]

    async def bring(self, run_id: str) -> Runner | None:
        """The runner of a run that waits for a person, which is driven here from now on; None where it cannot be.

        Raises Fenced where it has just moved on.
        """
        if self.begun:
            await self.take_up_waiting()
        async with self._taking_up:
            await self._ended_here(run_id)
            shared = [journal for journal in self._journals() if journal.shared]
            info = await recovery.find(shared, run_id) if self._driving.free(run_id) else None
            if info is not None and info.status != "waiting":
                raise Fenced(f"run {run_id} has moved on")
            if info is not None and not self._driving.draining:
                agent = next((agent for journal in shared if (agent := self._served(info, journal))), None)
                if agent is not None:
                    await self._take(agent, info)
        return self._driving.runners.get(run_id)
