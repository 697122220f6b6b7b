"""The runs that this process drives, and the places they take among their agents' runs."""

from __future__ import annotations

import asyncio

from kadre.base.clock import Clock
from kadre.base.tasks import Tasks
from kadre.engine import elsewhere
from kadre.engine.accepting import Accepting
from kadre.engine.agent import HostedAgent
from kadre.engine.lately import Lately
from kadre.engine.memory.inmemory import size_of
from kadre.engine.observe import Observer
from kadre.engine.runner import Runner


class Driving:
    """Shared by what accepts runs and by what takes up those that others left."""

    def __init__(self, tasks: Tasks, clock: Clock, observer: Observer) -> None:
        self.runners: dict[str, Runner] = {}
        self.accepting = Accepting()
        self.lately: Lately[Runner] = Lately(clock.monotonic)
        self.draining = False
        """No run is begun or taken up any more."""
        self.closed = False
        """Nothing is driven any more: what is accepted from now on is the next process's to end."""
        self.clock = clock
        self.observer = observer
        self._tasks = tasks

    def free(self, run_id: str) -> bool:
        """Whether nobody here drives the run or is about to."""
        return run_id not in self.runners and run_id not in self.accepting

    def drive(self, runner: Runner, *, wait: bool) -> None:
        """Drive the run to its end, which gives its place back. `wait`: other runs of its session come first."""
        run_id = runner.live.info.run_id
        self.runners[run_id] = runner
        self.observer.run_started(runner.agent.plan, runner.live.info.session_id)
        runner.life.task = self._tasks.spawn(run_id, self._guarded(runner, wait))

    async def ended(self, runner: Runner) -> bool:
        """Wait until it is driven no more; whether that is its end, and not that another process has it now.

        Raises what `Live.fail` was given.
        """
        live, task = runner.live, runner.life.task
        while not live.ended and task is not None and not task.done():
            changed = asyncio.ensure_future(live.changed())
            await asyncio.wait({changed, task}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        if live.lost is not None:
            raise live.lost
        return live.finished is not None

    async def idle(self) -> None:
        """Until nothing is under way or about to be, but what waits for a person."""
        while True:
            await self.accepting.none()
            runners = self.runners.values()
            working = [r.life.task for r in runners if r.life.task is not None and not self.waits(r)]
            if working:
                await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
            elif not self.accepting:
                return

    async def _guarded(self, runner: Runner, wait: bool) -> None:
        live = runner.live
        try:
            await runner.drive(wait)
        finally:
            self.runners.pop(live.info.run_id, None)
            if live.finished is not None and runner.agent.journal.shared:
                self.lately.add(live.info.run_id, runner, sum(map(size_of, live.events)))
            if live.finished is not None and live.finished.status == "interrupted":
                self._stop_children(live.info.run_id)
            if not live.ended:  # left to another process, or its driver failed
                elsewhere.follow(live, None if self.closed else runner.agent.journal, self.clock)
            await self.leave(runner.agent.place)

    def _stop_children(self, run_id: str) -> None:
        """End what the run asked for before its process died: cut off now, it has not come to ask for that again."""
        for runner in self.runners.values():
            if runner.live.info.parent_run_id == run_id:
                runner.life.stop("interrupted")

    async def leave(self, agent: HostedAgent, *, unused: bool = False) -> None:
        """Give the place back; `unused`: no run came of it. The last to leave an agent that was replaced closes it."""
        if unused:
            agent.requests.charge(-1)
        agent.running -= 1
        if agent.retired and not agent.running:
            await agent.aclose()

    def waits(self, runner: Runner) -> bool:
        """Whether it waits for a person, as those above it know: the next process could not go on without them."""
        above = self.runners.get(runner.live.info.parent_run_id)
        return bool(runner.live.pending_approvals()) and (above is None or self.waits(above))
