"""Makes a case of a run, wherever its events are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from kadre.engine import events as ev
from kadre.engine.memory import conversation, spill
from kadre.engine.memory.port import RunInfo
from kadre.engine.replay import case as cases
from kadre.engine.replay.case import Case, Tool

MAX_HISTORY = 100
"""Messages of earlier runs that are kept where it is not known how many the model was told."""


class Given(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an agent gives its model with every conversation. `prompt` None: whoever asks may not know it."""

    prompt: str | None = None
    tools: tuple[Tool, ...] = ()
    max_history: int = MAX_HISTORY


class Runs(Protocol):
    """Where runs are: a server's, or a data folder's. Each raises NotFound, or what keeps it from looking."""

    async def run(self, run_id: str) -> tuple[RunInfo, Sequence[ev.Event]]:
        """The run and all its events."""
        ...

    async def before(self, run: RunInfo, limit: int) -> Sequence[RunInfo]:
        """At most the latest `limit` ended runs of its session before it, in their order."""
        ...

    async def blob(self, run_id: str, digest: str) -> bytes:
        """A text that an event of that run names."""
        ...

    async def given(self, agent: str) -> Given | None:
        """What the agent gives its model now; None where that cannot be known here."""
        ...


class _Of:
    """The texts of one run's events."""

    def __init__(self, runs: Runs, run_id: str) -> None:
        self._runs = runs
        self._run_id = run_id

    async def get_blob(self, digest: str) -> bytes:
        """See spill.Blobs."""
        return await self._runs.blob(self._run_id, digest)


async def record(runs: Runs, run_id: str, name: str = "") -> Case:
    """The case that the run makes. Raises BadRequest where it has not ended, TooLarge, and what `runs` does."""
    info, events = await runs.run(run_id)
    whole = await _whole(runs, run_id, events)
    case = cases.of_events(info.agent, whole)
    given = await runs.given(info.agent)
    limit = given.max_history if given else MAX_HISTORY
    earlier = conversation.told(await _earlier(runs, info, limit))
    summary = next((event for event in whole if isinstance(event, ev.Summary)), None)
    history = conversation.last(conversation.summed_up(earlier, summary) if summary else earlier, limit)
    more: dict[str, Any] = {"history": tuple(history), "metadata": {"name": name or run_id}}
    if given is not None:
        more |= {"prompt": given.prompt, "tools": given.tools}
    return msgspec.structs.replace(case, **more)


async def _whole(runs: Runs, run_id: str, events: Sequence[ev.Event]) -> list[ev.Event]:
    return [await spill.restore(_Of(runs, run_id), event) if event.blobs else event for event in events]


async def _earlier(runs: Runs, info: RunInfo, limit: int) -> list[ev.Event]:
    """What was said in earlier runs, as the model is told of them."""
    said: list[ev.Event] = []
    for run in await runs.before(info, limit) if info.order > 1 and limit > 0 else ():
        _, events = await runs.run(run.run_id)
        said += await _whole(runs, run.run_id, [event for event in events if isinstance(event, conversation.SAID)])
    return said
