"""One question to many hosts: a few at a time, for a few callers at a time, and nobody is waited for who hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from kadre.base.errors import KadreError, TooMany
from kadre.base.tasks import all_of
from kadre.server.gateway.upstream import Call, Place, Upstream, whole
from kadre.server.gateway.visitors import Visitor

AT_ONCE = 32
"""Hosts that are asked at the same time for one request."""
ROOM = 16
"""Requests under way at once that many hosts are asked for."""
NOTHING = frozenset({404})


class Many:
    """Asks hosts. `missing` is what is told of those that could not be asked, by their agent."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._under_way = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A place among those for whom many hosts are asked. Raises TooMany."""
        if self._under_way >= ROOM:
            message = "the pods of all agents are asked for as many requests as may be at once; name an agent, or wait"
            raise TooMany(message, reason="LooksUnderWay", retry_after=1.0)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def each(
        self,
        places: Iterable[Place],
        call: Callable[[Place], Call],
        visitor: Visitor,
        take: Callable[[Place, Any], None],
    ) -> list[str]:
        """Have `take` see every host's answer, as bytes; what is told of those that gave none.

        One that has nothing there is not taken, nor told of. `take` raises ValueError, KeyError or TypeError for
        nonsense.
        """
        missing: list[str] = []
        waiting = iter(places)

        async def work() -> None:
            for place in waiting:
                try:
                    answer = await self._upstream.at(call(place), place, visitor)
                    content = await whole(answer)
                    if answer.status in NOTHING:
                        continue
                    if answer.status != 200:
                        missing.append(f"{place.agent.short}: its pod answers {answer.status}")
                        continue
                    take(place, content)
                except (KadreError, aiohttp.ClientError, TimeoutError) as error:
                    missing.append(f"{place.agent.short}: {error or 'its pod does not answer in time'}")
                except (ValueError, KeyError, TypeError, OverflowError):
                    missing.append(f"{place.agent.short}: its pod answers what cannot be read")

        await all_of([work() for _ in range(AT_ONCE)])
        return sorted(missing)

    async def first(
        self, places: Iterable[Place], call: Callable[[Place], Call], visitor: Visitor
    ) -> tuple[Place | None, list[Place]]:
        """The first host that has it; the others are not waited for. And those that could not be asked."""
        waiting = iter(places)
        unasked: list[Place] = []

        async def work() -> Place | None:
            for place in waiting:
                try:
                    answer = await self._upstream.at(call(place), place, visitor)
                except KadreError:
                    unasked.append(place)
                    continue
                answer.release()
                if answer.status == 200:
                    return place
                if answer.status not in NOTHING:
                    unasked.append(place)
            return None

        working = {asyncio.ensure_future(work()) for _ in range(AT_ONCE)}
        try:
            while working:
                done, working = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
                if found := next(filter(None, (each.result() for each in done)), None):
                    return found, unasked
            return None, unasked
        finally:
            for each in working:
                each.cancel()
