"""One agent in a host: its plan with the model and tools it names brought to life."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import msgspec

from kadre.base.clock import Clock
from kadre.base.errors import ToolError
from kadre.base.tasks import all_of
from kadre.engine import policy
from kadre.engine.limits import RateLimit
from kadre.engine.masking import NO_MASKS, Masks
from kadre.engine.memory.port import Journal
from kadre.engine.messages import Message, ToolSpec
from kadre.engine.models.port import Model
from kadre.engine.tools import finding
from kadre.engine.tools.port import Toolset
from kadre.plan import names
from kadre.plan.types import AgentPlan, Notice

if TYPE_CHECKING:
    from kadre.engine.memory.longterm import LongTermMemory


FOUND_BY_SEARCH = "ToolsFoundBySearch"


class Bound(msgspec.Struct, frozen=True):
    """A tool as it is offered to the model: whose it is, and its name there."""

    toolset: Toolset
    name: str
    spec: ToolSpec
    free: bool = False
    """It does nothing but look at the tools that are offered: no rule is about it."""


class Offer(msgspec.Struct, frozen=True):
    """The tools of one run, by the names the model sees; `notices` tells which are not among them.

    `finder`: what finds those that are not sent with each request, where they are too many for that: it is among
    `tools`, and none of `specs`, which are the agent's own.
    """

    specs: tuple[ToolSpec, ...] = ()
    tools: dict[str, Bound] = {}
    notices: tuple[Notice, ...] = ()
    finder: finding.Finder | None = None

    def sent(self, messages: Iterable[Message]) -> finding.Sent:
        """The tools that go with these messages."""
        return finding.Sent(self.specs) if self.finder is None else self.finder.sent(messages)

    @property
    def seen(self) -> Iterable[str]:
        """Names of the tools that the model sees from the start."""
        if self.finder is None:
            return self.tools
        return [spec.name for spec in (*self.finder.always, self.finder.spec)]


class HostedAgent:
    """A plan, ready to run. Owns its model and toolsets; shares its journal."""

    def __init__(
        self,
        plan: AgentPlan,
        model: Model,
        toolsets: Sequence[Toolset],
        journal: Journal,
        clock: Clock,
        masks: Masks = NO_MASKS,
    ) -> None:
        self.plan = plan
        self.model = model
        self.toolsets = tuple(toolsets)
        self.journal = journal
        self.masks = masks
        self.memories: LongTermMemory | None = None
        """What it remembers across sessions, where its author wants it to."""
        self.summarizer: Model | None = None
        """Sums up long conversations; None: `model` does."""
        self.requests = RateLimit(plan.limits.requests_per_minute, "requests", clock)
        self.tokens = RateLimit(plan.limits.tokens_per_minute, "tokens", clock)
        self.running = 0
        self.retired = False
        """A newer plan took this one's place: closed when its last run ends."""
        self._offered: tuple[Sequence[ToolSpec] | ToolError, ...] | None = None
        self._offer = Offer()
        self._last: list[Sequence[ToolSpec]] = [() for _ in self.toolsets]
        """What each toolset offered last: one that is away keeps what its tools are called."""

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What people should know: parts it does without, and tools that were not there when it last asked for them."""
        return (*self.plan.notices, *self._offer.notices)

    @property
    def place(self) -> HostedAgent:
        """The agent among whose runs one of this has its place."""
        return self

    async def offer(self) -> Offer:
        """The tools offered now: the same object as last time where nothing changed, so that adapters can cache."""
        if not self.toolsets:
            return self._offer
        found = await self._ask()
        last = self._offered
        if last is None or any(now is not before for now, before in zip(found, last, strict=True)):
            self._offered, self._offer = found, self._bind(found)
        return self._offer

    async def _ask(self) -> tuple[Sequence[ToolSpec] | ToolError, ...]:
        """What each toolset offers, in their order; those that must ask somebody are waited for together."""
        if len(self.toolsets) > 1 and sum(not toolset.ready for toolset in self.toolsets) > 1:
            return tuple(await all_of(_specs(toolset) for toolset in self.toolsets))
        # Nothing is won by tasks, which cost more than what is known already.
        return tuple([await _specs(toolset) for toolset in self.toolsets])

    def _bind(self, found: Sequence[Sequence[ToolSpec] | ToolError]) -> Offer:
        tools: dict[str, Bound] = {}
        notices, groups = [], list[list[ToolSpec]]()
        self._last = [last if isinstance(now, ToolError) else now for now, last in zip(found, self._last, strict=True)]
        bearers = Counter(name for specs in self._last for spec in specs for name in _names(spec))
        strangers = [spec.server for specs in self._last for spec in specs if spec.listed and not spec.trusted]
        for toolset, specs in zip(self.toolsets, found, strict=True):
            if isinstance(specs, ToolError):
                notices.append(Notice(reason="ToolsUnavailable", message=self.masks.hide(str(specs))))
                continue
            if toolset.notice:
                notices.append(Notice(reason="ToolsLeftOut", message=self.masks.hide(toolset.notice)))
            groups.append([])
            for spec in specs:
                name = _free_name(spec, tools)
                shared = tuple(each for each in dict.fromkeys((name, spec.name)) if bearers[each] != 1)
                beside = next((server for server in strangers if server != spec.server), "")
                same = name == spec.name and not shared and not beside
                shown = spec if same else msgspec.structs.replace(spec, name=name, shared=shared, beside=beside)
                shown = _masked(shown, self.masks)
                if policy.offered(self.plan.approvals, shown, spec.name):
                    tools[name] = Bound(toolset, spec.name, shown)
                    groups[-1].append(shown)
        return self._among(tools, groups, notices)

    def _among(self, tools: dict[str, Bound], groups: Sequence[Sequence[ToolSpec]], notices: Sequence[Notice]) -> Offer:
        """These tools, by what finds them where they are too many. `groups`: see `finding.over`."""
        specs = tuple(bound.spec for bound in tools.values())
        room = self.plan.limits.max_tool_tokens
        finder = finding.over(groups, room, _free_name(ToolSpec(name=finding.NAME, server="kadre"), tools))
        if finder is not None:
            tools[finder.spec.name] = Bound(finder, finder.spec.name, finder.spec, free=True)
            notices = (*notices, _found_by_search(finder, room))
        return Offer(specs, tools, tuple(notices), finder)

    async def aclose(self) -> None:
        """Close the model and the toolsets, all of them though one fails. Once."""
        async with AsyncExitStack() as rest:
            rest.push_async_callback(self.model.aclose)
            if self.memories is not None:
                rest.push_async_callback(self.memories.aclose)
            if self.summarizer is not None:
                rest.push_async_callback(self.summarizer.aclose)
            for toolset in self.toolsets:
                rest.push_async_callback(toolset.aclose)


def _free_name(spec: ToolSpec, taken: Collection[str]) -> str:
    """A name for the tool that every provider accepts and that no other tool of the agent has."""
    name, number = names.tool_name(spec.name), 1
    if name in taken:
        name = names.tool_name(f"{spec.server}_{spec.name}")
    while name in taken:
        number += 1
        name = names.tool_name(f"{spec.server}_{spec.name}_{number}")
    return name


def _found_by_search(finder: finding.Finder, room: int) -> Notice:
    message = (
        f"{len(finder.rest)} tools are found by {finder.spec.name} instead of being sent with each request: they would"
        f" take about {finder.unsent} tokens more of it, and all may have {room} (toolBudget)"
    )
    return Notice(reason=FOUND_BY_SEARCH, message=message)


def _names(spec: ToolSpec) -> frozenset[str]:
    """All that the tool may be called, by its server, the model and the author; a number after it nobody chose."""
    plain, longer = names.tool_name(spec.name), names.tool_name(f"{spec.server}_{spec.name}")
    return frozenset({spec.name, plain, longer, spec.server})


def _masked(spec: ToolSpec, masks: Masks) -> ToolSpec:
    """The tool without the secrets that its server's listing may show: a model reads that as it does an answer."""
    listed = [spec.description, spec.parameters]
    hidden = masks.hidden(listed)
    if hidden == listed:
        return spec
    return msgspec.structs.replace(spec, description=hidden[0], parameters=hidden[1])


async def _specs(toolset: Toolset) -> Sequence[ToolSpec] | ToolError:
    try:
        return await toolset.specs()
    except ToolError as error:
        return error
