"""A turn whose store is away, answered all the same where its author wants that: without memory, and without harm.

Law: nothing of such a run is kept, so nothing may come of it that must be known after it. It answers, and uses tools
that are known to only read: no write, which a crash would leave unrecorded, no question to a person, who decides on
what is recorded, and no other agent. Who follows it sees it to its end; then it is gone.
"""

from __future__ import annotations

import msgspec

from kadre.base.ids import new_id
from kadre.engine import policy
from kadre.engine.accepting import Ask, Parent, first_events
from kadre.engine.agent import FOUND_BY_SEARCH, Bound, HostedAgent, Offer
from kadre.engine.driving import Driving
from kadre.engine.live import Live
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.memory.port import NewRun
from kadre.engine.memory.remote import JournalUnavailable
from kadre.engine.messages import ToolSpec
from kadre.engine.runner import Runner
from kadre.plan.types import AgentPlan, ApprovalPlan, Notice

REASON = "MemoryAway"
NOBODY = "the memory store is away: nobody can be asked"


class WithoutMemory(HostedAgent):
    """An agent for one run. What it uses is the other's, which closes it and counts what is used."""

    def __init__(self, agent: HostedAgent, journal: InMemoryJournal, driving: Driving) -> None:
        super().__init__(_careful(agent.plan), agent.model, agent.toolsets, journal, driving.clock, agent.masks)
        self.requests, self.tokens = agent.requests, agent.tokens
        self._whole = agent

    @property
    def place(self) -> HostedAgent:
        """See HostedAgent."""
        return self._whole

    async def offer(self) -> Offer:
        """The tools that are known to only read, and may be used without asking anybody."""
        whole = await self._whole.offer()
        tools: dict[str, Bound] = {}
        groups: dict[int, list[ToolSpec]] = {}
        for name, bound in whole.tools.items():
            if self._is_offered(bound):
                tools[name] = bound
                groups.setdefault(id(bound.toolset), []).append(bound.spec)
        notices = [notice for notice in whole.notices if notice.reason != FOUND_BY_SEARCH]
        return self._among(tools, list(groups.values()), notices)

    def _is_offered(self, bound: Bound) -> bool:
        harmless = not bound.free and _is_harmless(bound.spec)  # what finds tools would find the others too
        return harmless and policy.offered(self.plan.approvals, bound.spec, bound.name)


def goes_on(agent: HostedAgent, parent: Parent) -> bool:
    """Whether a message is answered though the agent's store is away. One that another run sends is not."""
    return agent.plan.memory.failure_mode == "Continue" and not parent.run_id


async def begin(agent: HostedAgent, ask: Ask, run_id: str, driving: Driving, error: JournalUnavailable) -> Live:
    """Answer the message in a run that no store has, which has its place among the agent's.

    `error`: why; raised where the host has ended meanwhile.
    """
    if driving.closed:
        await driving.leave(agent, unused=True)
        raise error
    journal = InMemoryJournal(clock=driving.clock)
    without = WithoutMemory(agent, journal, driving)
    message = f"answered without what was said before, and not kept; only tools that read can be used: {error}"
    notices = (*agent.plan.notices, Notice(REASON, message))
    key = str(agent.plan.key)
    new = NewRun(run_id=run_id, session_id=ask.session_id or new_id("ses"), agent=key, caller=ask.caller)
    first = first_events(new, ask, Parent(), notices, driving.clock.now())
    created = await journal.create(new, first)
    live = Live(created.run, stream=ask.stream)
    live.publish(first)
    driving.drive(Runner(without, live, driving.clock, driving.observer), wait=False)
    return live


def _careful(plan: AgentPlan) -> AgentPlan:
    """The plan, where what would be asked about is refused."""
    rules = tuple(
        msgspec.structs.replace(rule, action="deny", message=NOBODY) if rule.action == "ask" else rule
        for rule in plan.approvals.rules
    )
    # What is asked about all the same (a secret that a call would be given) is refused at once.
    approvals = ApprovalPlan(rules, expires=0.0, on_expiry="deny")
    memory = msgspec.structs.replace(plan.memory, compression=None, long_term=None)
    return msgspec.structs.replace(plan, approvals=approvals, memory=memory)


def _is_harmless(spec: ToolSpec) -> bool:
    return bool(spec.read_only) and not (spec.ask or spec.runs_code or spec.question)
