"""What is refused to an informer, by a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from kadre.base.clock import FakeClock
from kadre.kube import kinds
from kadre.kube.client import Event, Part, Scope
from kadre.kube.errors import ApiError
from kadre.kube.informer import Informer
from kadre.kube.kinds import Kind


class Lists:
    """An API server that lets us list and not watch."""

    def __init__(self) -> None:
        self.listed = 0

    async def parts(self, kind: Kind, scope: Scope) -> AsyncIterator[Part]:
        self.listed += 1
        yield Part({"resourceVersion": "1"}, [])

    async def watch(self, kind: Kind, version: str, scope: Scope) -> AsyncGenerator[Event, None]:
        if version:
            raise ApiError(403, "Forbidden", "may not watch")
        yield Event("BOOKMARK", {})


async def test_what_may_be_listed_and_not_watched_is_said_to_be_absent_and_seldom_listed() -> None:
    clock, lists = FakeClock(), Lists()
    informer = Informer(lists, kinds.SECRET, lambda *_: 1, lambda *_: None, clock=clock)  # type: ignore[arg-type]  # of a client it takes these two
    following = asyncio.ensure_future(informer.run())
    for _ in range(600):
        await clock.advance(1.0)
    assert informer.absent
    assert lists.listed <= 600 / 30 + 2
    following.cancel()
