"""What waits for a person, over all runs: one list to look at and to decide from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from kadre.base.errors import NotFound
from kadre.engine import events as ev
from kadre.engine.host import Host
from kadre.engine.live import Live
from kadre.engine.memory.port import RunInfo
from kadre.server import errors, runs

Item = dict[str, Any]
"""An open approval with where it is decided: `root_run_id`, which a caller began or that is known best here."""


class ApprovalsDoor:
    """`/approvals`."""

    def __init__(self, host: Host, run: runs.RunsDoor) -> None:
        self._host = host
        self._run = run

    async def index(self, request: Request) -> Response:
        """Open approvals, the oldest first: `?agent= &limit=`. For who may decide about them."""
        runs.may_approve(request)
        limit, agent = runs.limit_of(request), self._run.agent(request)
        waiting: list[RunInfo] = []
        for journal in self._run.journals(request):
            waiting += await journal.runs(agent=agent, status="waiting", caller=runs.only(request), limit=limit + 1)
        kept: Item = {}
        for info in waiting:
            with contextlib.suppress(NotFound):  # it has ended, and was forgotten, meanwhile
                for item in _open(await self._host.open(info.run_id), info):
                    keep(kept, item)
        listed = ordered(kept)
        more = len(waiting) > limit or len(listed) > limit
        return errors.json_response({"approvals": listed[:limit], "more": more})


def keep(kept: Item, item: Item) -> None:
    """Add to the approvals by id: of one that several runs tell of, what the run tells that nobody delegated."""
    known = kept.setdefault(item["id"], item)
    own = next((each for each in (known, item) if each["run_id"] == each["root_run_id"]), known)
    best = item if known["parent_run_id"] and not item["parent_run_id"] else known
    kept[item["id"]] = {**best, "agent": own["agent"]}


def ordered(kept: Item) -> list[Item]:
    """Those that are kept, the oldest first."""
    return sorted(kept.values(), key=lambda item: (item["asked"], item["id"]))


def _open(live: Live, info: RunInfo) -> Iterator[Item]:
    asked: dict[str, datetime] = {}
    agents = {info.run_id: info.agent}
    for event in live.events:
        if isinstance(event, ev.ApprovalRequired):
            asked.update((approval.id, event.time) for approval in event.approvals)
        elif isinstance(event, ev.DelegateStart):
            agents[event.child_run_id] = event.agent
    for approval in live.pending_approvals():
        yield {
            **msgspec.to_builtins(approval),
            "agent": agents.get(approval.run_id, info.agent),
            "session_id": info.session_id,
            "caller": info.caller,
            "asked": msgspec.to_builtins(asked[approval.id]),
            "root_run_id": info.run_id,
            "parent_run_id": info.parent_run_id,
        }
