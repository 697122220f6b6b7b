"""What is refused to an informer, by a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from kadre.base.clock import FakeClock
from kadre.kube import kinds
from kadre.kube.client import Event, Part, Scope
from kadre.kube.errors import ApiError
from kadre.kube.informer import AWAITED_SECONDS, Informer
from kadre.kube.kinds import Kind

OURS = Kind("kagent.dev", "v1alpha1", "Agent", "agents")


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


class Comes:
    """An API server to which somebody brings a kind."""

    def __init__(self) -> None:
        self.there = False
        self.listed = 0

    async def parts(self, kind: Kind, scope: Scope) -> AsyncIterator[Part]:
        if not self.there:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        self.listed += 1
        yield Part({"resourceVersion": "1"}, [])

    async def watch(self, kind: Kind, version: str, scope: Scope) -> AsyncGenerator[Event, None]:
        await asyncio.Event().wait()
        yield Event("BOOKMARK", {})


async def test_a_kind_of_ours_is_followed_soon_after_somebody_brings_it() -> None:
    clock, server = FakeClock(), Comes()
    informer = Informer(server, OURS, lambda *_: 1, lambda *_: None, clock=clock)  # type: ignore[arg-type]  # of a client it takes these two
    following = asyncio.ensure_future(informer.run())
    for _ in range(60):
        await clock.advance(1.0)
    assert informer.absent
    server.there = True
    for _ in range(int(AWAITED_SECONDS)):
        await clock.advance(1.0)
    assert server.listed == 1
    assert not informer.absent
    following.cancel()
