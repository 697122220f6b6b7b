"""Runs 1..N plans in one process: accepts runs, keeps those that are going, stops and reloads.

The same host is the laptop, a dedicated pod and a pooled pod. Doors call it; it knows none of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from kadre.base.clock import Clock, SystemClock
from kadre.base.errors import (
    BadRequest,
    Conflict,
    Fenced,
    KadreError,
    NotFound,
    Refused,
    TooMany,
    Unavailable,
)
from kadre.base.ids import is_id, new_id
from kadre.base.tasks import Tasks
from kadre.engine import away, delegation, elsewhere, sweeping
from kadre.engine import events as ev
from kadre.engine.accepting import ROOT, Ask, Parent, first_events
from kadre.engine.afar import Afar
from kadre.engine.agent import HostedAgent
from kadre.engine.approvals import NOTHING, Decision, Said, check
from kadre.engine.driving import Driving
from kadre.engine.live import Live
from kadre.engine.memory import spill
from kadre.engine.memory.port import Created, Journal, NewRun, RunInfo, is_shared
from kadre.engine.memory.remote import JournalUnavailable
from kadre.engine.observe import Observer, Unobserved
from kadre.engine.runner import END_RETRY_SECONDS, Runner
from kadre.engine.takeover import Takeover
from kadre.engine.tools.port import CallContext, ToolOutput
from kadre.plan.types import AgentKey

log = logging.getLogger(__name__)

WARN_SECONDS = 10.0
"""Between two warnings of messages that could not be taken: a full disk refuses thousands of them."""
TRIES = 20
"""Looks at a run that another process takes over while it is decided or cancelled: ten seconds."""
ACCEPTED_SECONDS = 30.0
"""In which it turns out whether a run was accepted; for longer only where its store is away."""


class Host:
    """Agents and their runs. `journals`: every store an agent may use, the default one first.

    `resumes`: runs that another process left in a journal that processes share are gone on with; else they are ended.
    `afar`: where agents are asked that are not served here.
    """

    def __init__(
        self,
        journals: Iterable[Journal] = (),
        *,
        clock: Clock | None = None,
        observer: Observer | None = None,
        resumes: bool = True,
        afar: Afar | None = None,
    ) -> None:
        self.journals = tuple(journals)
        self._afar = afar
        self.clock: Clock = clock or SystemClock()
        self._agents: dict[AgentKey, HostedAgent] = {}
        self._tasks = Tasks("host")
        self._driving = Driving(self._tasks, self.clock, observer or Unobserved())
        self._takeover = Takeover(
            self._driving, self._tasks, lambda: self.journals, lambda: self._agents, resumes=resumes
        )
        self._warned = -WARN_SECONDS

    @property
    def observer(self) -> Observer:
        """Who is told what can be counted."""
        return self._driving.observer

    @observer.setter
    def observer(self, observer: Observer) -> None:
        self._driving.observer = observer

    # -- agents --------------------------------------------------------------------------------------------------

    @property
    def agents(self) -> Mapping[AgentKey, HostedAgent]:
        """The agents served now."""
        return self._agents

    async def replace(self, agents: Mapping[AgentKey, HostedAgent]) -> None:
        """Serve exactly these. An agent that is no longer among them finishes its runs first.

        Runs that waited for an agent that was not served are taken up. Where it fails before these are served, what was
        is served on and the new ones are closed; what fails after that is logged.
        """
        if self._takeover.begun:
            try:
                await self._takeover.look_through()  # before the first run in one that is new here
            except BaseException:
                for agent in set(agents.values()) - set(self._agents.values()):
                    await agent.aclose()
                raise
        before, self._agents = self._agents, dict(agents)
        kept = {id(agent) for agent in agents.values()}
        left = [agent for agent in before.values() if id(agent) not in kept]
        for agent in left:
            agent.retired = True
        for agent in [agent for agent in left if not agent.running]:  # another one is closed by its last run
            try:
                await agent.aclose()
            except Exception:
                log.exception("what %s used could not all be given back", agent.plan.key)
        if self._takeover.begun:
            try:
                await self._takeover.take_up_waiting()
            except Exception:
                log.exception("runs that wait for a person cannot be taken up now")

    def add_journal(self, journal: Journal) -> None:
        """Look for runs in this store too."""
        if journal not in self.journals:
            self.journals = (*self.journals, journal)

    def journal_of(self, agent: str) -> Journal | None:
        """The store of an agent that is served here, by its key as text."""
        return next((each.journal for key, each in self._agents.items() if str(key) == agent), None)

    def sweep_expired_sessions(self) -> None:
        """Start forgetting sessions past their time to live, for as long as the host lives."""
        self._tasks.spawn("sweep", sweeping.forget_expired(self._agents_now, self.clock))

    def _agents_now(self) -> list[HostedAgent]:
        return list(self._agents.values())

    # -- runs ----------------------------------------------------------------------------------------------------

    async def start(self, ask: Ask, parent: Parent = ROOT) -> Live:
        """Accept a run and start driving it; the same run id again returns the run that is there.

        Raises Refused: NotFound for the agent, BadRequest for an id, TooMany past a limit, Conflict for a busy session
        or an id that is taken, Unavailable.
        """
        agent = self._agents.get(ask.agent)
        if agent is None:
            raise NotFound(f"there is no agent {ask.agent}", reason="NoSuchAgent")
        for what, value in (("run_id", ask.run_id), ("session_id", ask.session_id)):
            if value and not is_id(value):
                raise BadRequest(f"{what} must match [A-Za-z0-9][A-Za-z0-9._:-]{{0,127}}", reason="BadId")
        if ask.run_id:
            await self._accepted(ask.run_id)
            if (known := self._driving.runners.get(ask.run_id)) is not None:
                _ours(known.live.info, ask)
                return known.live
        run_id = ask.run_id or new_id("run")
        self._driving.accepting.hold(run_id)
        try:
            return await self._accept(agent, ask, run_id, parent)
        except Refused as error:
            self.observer.refused(agent.plan, error.reason)
            if isinstance(error, Unavailable):
                self._warn(f"a message to {ask.agent} was refused: {error}")
            raise
        finally:
            self._driving.accepting.release(run_id)

    async def _accepted(self, run_id: str) -> None:
        """Wait until it is known whether a run of that id was accepted. Raises Unavailable."""
        try:
            async with asyncio.timeout(ACCEPTED_SECONDS):
                await self._driving.accepting.over(run_id)
        except TimeoutError as error:
            raise Unavailable(f"whether run {run_id} was accepted is not known yet", retry_after=5.0) from error

    async def _accept(self, agent: HostedAgent, ask: Ask, run_id: str, parent: Parent) -> Live:
        if ask.run_id and await elsewhere.is_in_another(self.journals, agent.journal, run_id):
            raise _taken(run_id)
        try:
            self._admit(agent)
        except TooMany:
            known = await agent.journal.run(run_id) if ask.run_id else None
            if known is None:
                raise
            return await self._kept(agent.journal, _ours(known, ask))  # it has, or had, its place
        try:
            created, first = await self._create(agent, ask, run_id, parent)
        except JournalUnavailable as error:
            if not away.goes_on(agent, parent):
                raise
            self._warn(f"a message to {ask.agent} is answered without memory: {error}")
            self._takeover.refuse(agent.journal, run_id)  # it may be there all the same, and would hold its session
            return await away.begin(agent, ask, run_id, self._driving, error)
        if created.existing:
            await self._driving.leave(agent, unused=True)
            return await self._kept(agent.journal, created.run)
        self._takeover.accept(agent.journal, run_id)
        if self._driving.closed:
            await self._driving.leave(agent)
            # Not as a host that takes nothing more: the run is there, and must not be begun at another one too.
            message = f"the host has ended as it accepted run {run_id}; look at /runs/{run_id} for what becomes of it"
            raise Unavailable(message, reason="HostEnded", retry_after=5)
        if created.position:
            first[0] = msgspec.structs.replace(first[0], position=created.position)
        live = Live(created.run, stream=ask.stream)
        live.publish(first)
        if agent.plan.limits.on_busy == "interrupt" and created.position:
            self._interrupt_before(agent, created.run)
        self._driving.drive(Runner(agent, live, self.clock, self.observer, parent.chain), wait=created.position > 0)
        return live

    def _warn(self, message: str) -> None:
        """Tell whoever runs this, once in a while where it goes on: callers read it each time."""
        now = self.clock.monotonic()
        if now - self._warned >= WARN_SECONDS:
            self._warned = now
            log.warning("%s", message)

    def _admit(self, agent: HostedAgent) -> None:
        """Take a place among the agent's runs, before anything is waited for: a burst is counted as it comes."""
        if self._driving.draining:
            raise _shutting_down()
        limits = agent.plan.limits
        if agent.running >= limits.max_concurrent_runs:
            raise TooMany(
                f"{agent.plan.key} already has {agent.running} runs under way, which is its limit",
                reason="TooManyRuns",
                retry_after=1,
            )
        agent.requests.check()
        agent.tokens.check()
        agent.requests.charge(1)
        agent.running += 1

    async def _create(
        self, agent: HostedAgent, ask: Ask, run_id: str, parent: Parent
    ) -> tuple[Created, list[ev.Event]]:
        limits = agent.plan.limits
        new = NewRun(
            run_id=run_id,
            session_id=ask.session_id or new_id("ses"),
            agent=str(agent.plan.key),
            caller=ask.caller,
            parent_run_id=parent.run_id,
            on_busy=limits.on_busy,
            queue_limit=limits.queue_limit,
            fresh=not ask.run_id and not ask.session_id,
        )
        first = first_events(new, ask, parent, agent.plan.notices, self.clock.now())
        try:
            first = [await spill.spill(agent.journal, e) if spill.is_large(e) else e for e in first]
            return await agent.journal.create(new, first), first
        except asyncio.CancelledError:
            if self._driving.closed:
                await self._driving.leave(agent)
            else:
                self._driving.accepting.hold(run_id)
                self._tasks.spawn(f"{run_id}/abandoned", self._abandon(agent, run_id, len(first)))
            raise
        except BaseException as error:
            if not isinstance(error, JournalUnavailable) or not away.goes_on(agent, parent):  # it needs its place
                await self._driving.leave(agent, unused=True)
            if isinstance(error, Unavailable) and agent.journal.shared and (parent.run_id or not ask.run_id):
                self._takeover.refuse(agent.journal, run_id)  # one that a client named is asked for again, and found
            raise

    async def _abandon(self, agent: HostedAgent, run_id: str, begun: int) -> None:
        """End the run that may have been created for a caller who has gone: nobody else would, and it has a session.

        `begun`: the number of events it was created with.
        """
        live: Live | None = None
        try:
            live = await self._find_untouched(agent.journal, run_id, begun)
            if live is not None:
                runner = Runner(agent, live, self.clock, self.observer)
                self._driving.drive(runner, wait=False)
                runner.life.stop("cancelled")
        finally:
            self._driving.accepting.release(run_id)
            if live is None:
                await self._driving.leave(agent, unused=True)

    async def _find_untouched(self, journal: Journal, run_id: str, begun: int) -> Live | None:
        """The run, if it was created and nothing has happened in it; a store that cannot say is asked again."""
        while True:
            try:
                info = await journal.run(run_id)
                if info is None or (info.epoch, info.last_seq) != (1, begun) or info.status in ev.ENDED:
                    return None
                live = Live(info)
                live.publish(await journal.events(run_id))
            except Exception as error:  # noqa: BLE001 - whatever it is, the run may hold its session
                log.warning("whether run %s was created is not known yet: %s", run_id, error)
                await self.clock.sleep(END_RETRY_SECONDS)
            else:
                return live if run_id not in self._driving.runners else None

    async def _kept(self, journal: Journal, info: RunInfo) -> Live:
        """The stream of a run that is not driven here, and that may be taken up now where its process is gone."""
        if info.status not in ev.ENDED and self._takeover.begun:
            if is_shared(journal):
                self._takeover.look_soon(journal)
            elif (runner := await self._takeover.bring(info.run_id)) is not None:
                return runner.live
        return await elsewhere.kept(journal, info, self.clock)

    def _interrupt_before(self, agent: HostedAgent, run: RunInfo) -> None:
        for runner in list(self._driving.runners.values()):
            info = runner.live.info
            if info.agent == run.agent and info.session_id == run.session_id and info.order < run.order:
                runner.life.stop("cancelled")
        if agent.journal.shared:
            self._tasks.spawn(f"{run.run_id}/interrupts", self._cancel_before(run))

    async def _cancel_before(self, run: RunInfo) -> None:
        while run.run_id in self._driving.runners:
            try:
                before = await self._takeover.before(run)
                await self._cancel_all(before)
            except KadreError as error:
                log.warning("what run %s interrupts goes on for now: %s", run.run_id, error)
                await self.clock.sleep(END_RETRY_SECONDS)
            else:
                if not before:
                    return

    async def _cancel_all(self, run_ids: Iterable[str]) -> None:
        """Cancel each, though another cannot be. Raises what the last that cannot be raises."""
        failed: KadreError | None = None
        for run_id in run_ids:
            try:
                await self.cancel(run_id)
            except NotFound:
                continue  # its store did not outlive the process
            except KadreError as error:
                failed = error
        if failed is not None:
            raise failed

    async def _cancel_below(self, run_id: str, children: Sequence[ev.DelegateStart]) -> None:
        """Cancel what a run has delegated to. Raises what the last that cannot be raises."""
        served = {str(key) for key in self._agents}
        for child in children:
            if self._afar is not None and child.agent not in served:
                info = (await self.open(run_id)).info
                ending = self._afar.by(info.agent).cancel(child.child_run_id, info.caller)
                self._tasks.spawn(f"{child.child_run_id}/cancel", ending)
        await self._cancel_all(child.child_run_id for child in children)

    # -- beside a run --------------------------------------------------------------------------------------------

    async def open(self, run_id: str) -> Live:
        """The run's stream, live or from the journal. Raises NotFound, and Unavailable where a store cannot say."""
        runner = self._driving.runners.get(run_id)
        if runner is not None:
            return runner.live
        found = await elsewhere.find(self.journals, run_id)
        if found is not None:
            return await elsewhere.kept(*found, self.clock)
        raise NotFound(f"there is no run {run_id!r}", reason="NoSuchRun")

    async def cancel(self, run_id: str) -> Live:
        """End the run as cancelled; one that has ended stays as it is. Raises NotFound, and Unavailable."""
        for _ in range(TRIES):
            await self._accepted(run_id)
            runner = self._driving.runners.get(run_id)
            if runner is not None:
                runner.life.stop("cancelled")
                if await self._driving.ended(runner):
                    return runner.live
                continue
            try:
                await self._cancel_below(run_id, await self._takeover.end(run_id, "cancelled"))
            except Fenced:
                await self.clock.sleep(elsewhere.LOOK_SECONDS)  # another process has it now: it is asked for again
                continue
            if self._driving.free(run_id):  # else it was started meanwhile
                return await self.open(run_id)
        raise Unavailable(f"run {run_id} is taken over just now; cancel it again", retry_after=5.0)

    async def approve(
        self, run_id: str, approval_id: str, decision: Decision, by: str, note: str = "", said: Said = NOTHING
    ) -> None:
        """Decide one open question of the run, or of a run below it.

        Raises NotFound; Conflict once it has ended, or for another call than the one that waits; BadRequest for what
        the question does not take; Unavailable where nobody drives it here, or the store fails.
        """
        for _ in range(TRIES):
            live = await self.open(run_id)
            if live.finished is not None:
                raise Conflict(f"run {run_id} has ended ({live.finished.status})", reason="RunEnded")
            approval = next((open_ for open_ in live.pending_approvals() if open_.id == approval_id), None)
            if approval is None:
                raise NotFound(f"run {run_id} has no open approval {approval_id!r}", reason="NoSuchApproval")
            check(approval, decision, said)
            try:
                asking = self._driving.runners.get(approval.run_id)
                decided = {"approval_id": approval_id, "decision": decision, "by": by, "note": note}
                decided |= msgspec.to_builtins(said)
                if asking is None and await self._hand_on(live, approval, decided):
                    return
                asking = asking or await self._takeover.bring(approval.run_id)
                if asking is None:
                    message = f"run {approval.run_id} waits until its agent is served here again"
                    raise Unavailable(f"{message}; serve it, or cancel the run", reason="AgentNotServed")
                await asking.approvals.decide(approval_id, decision, by, note, said)
            except Fenced:
                await self.clock.sleep(elsewhere.LOOK_SECONDS)  # another process has it now: it is asked for again
            else:
                return
        raise Unavailable(f"run {run_id} is taken over just now; decide again", retry_after=5.0)

    async def _hand_on(self, live: Live, approval: ev.Approval, decided: Mapping[str, Any]) -> bool:
        served = {str(key) for key in self._agents}
        return self._afar is not None and await delegation.hand_on(self._afar, live, served, approval, decided)

    async def delegate(self, agent: AgentKey, message: str, context: CallContext) -> ToolOutput:
        """Have another agent answer, as a child run of the caller's; see tools.agent.Delegates."""
        parent = self._driving.runners[context.run_id]
        child_id = delegation.child_of(context.run_id, context.key)
        ask = Ask(agent=agent, message=message, session_id=child_id, run_id=child_id, caller=context.caller)
        afar = self._afar.by(parent.live.info.agent) if self._afar and agent not in self._agents else None
        begun = afar is not None  # it may have, whatever is heard of that
        try:
            child = await delegation.begin(
                afar or self, ask, Parent(context.run_id, context.chain, context.outside), parent
            )
            begun = True
            return await delegation.answer(parent, child, message, context)
        except BaseException:
            if begun and not (
                parent.life.how == "left" or parent.recorder.fenced
            ):  # else the next process goes on with both
                self._stop(ask, afar)
            raise

    def _stop(self, ask: Ask, afar: Afar | None) -> None:
        """End the run that was asked for, wherever it is."""
        runner = self._driving.runners.get(ask.run_id)
        if runner is not None:
            runner.life.stop("interrupted" if self._driving.draining else "cancelled")
        else:  # another process drives it by now
            ending = self._cancel_all([ask.run_id]) if afar is None else afar.cancel(ask.run_id, ask.caller)
            self._tasks.spawn(f"{ask.run_id}/cancel", ending)

    # -- life ----------------------------------------------------------------------------------------------------

    async def recover(self) -> list[RunInfo]:
        """After a restart: end what was cut off as interrupted, go on waiting where a person is to decide.

        Journals that are not shared must be this process's alone. From then on, runs that wait under an agent that is
        not served are taken up when it is, and so are those that other processes leave in shared journals.
        """
        return await self._takeover.begin()

    async def aclose(self, grace: float = 5.0) -> None:
        """Take no new run, give those under way `grace` seconds, end the rest as interrupted, close everything. Once.

        A run that waits for a person stays as it is: the next process goes on waiting.
        """
        if self._driving.draining:
            return
        self._driving.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._driving.idle()
        self._driving.closed = True
        for runner in list(self._driving.runners.values()):
            runner.life.stop("left" if self._driving.waits(runner) else "interrupted")
        await asyncio.sleep(0)  # a task that is cancelled before its first step never runs
        await self._tasks.aclose()
        async with contextlib.AsyncExitStack() as rest:  # all of it, though one fails
            for journal in self.journals:
                rest.push_async_callback(journal.aclose)
            for agent in self._agents.values():
                rest.push_async_callback(agent.aclose)


def _shutting_down() -> Unavailable:
    return Unavailable("the host is shutting down", reason="ShuttingDown", retry_after=5)


def _ours(info: RunInfo, ask: Ask) -> RunInfo:
    """The run that is there for a repeated id. Raises Conflict where it is another caller's or another agent's."""
    if info.agent != str(ask.agent) or info.caller != ask.caller:
        raise _taken(ask.run_id)
    return info


def _taken(run_id: str) -> Conflict:
    return Conflict(f"the run id {run_id} is taken; choose another", reason="RunIdTaken")
