"""How long an API server is waited for that is away, or says no, by a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from kadre.base.clock import FakeClock
from kadre.kube.client import EVERYTHING, Event, Page, Scope
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Kind
from kadre.operator import install
from kadre.operator.install import DOUBT, PATIENCE, _patiently


async def _played(*answers: tuple[float, int]) -> float:
    """Seconds until it is done, where the server answers so until those seconds; 200: done. Raises ApiError."""
    clock = FakeClock()

    async def work() -> None:
        status = next(status for until, status in answers if clock.monotonic() < until)
        if status != 200:
            raise ApiError(status, "", "told")

    trying = asyncio.ensure_future(_patiently(work, clock))
    for _ in range(200):
        await clock.advance(0.5)
        if trying.done():
            trying.result()
            return clock.monotonic()
    raise AssertionError("it is tried for ever")


async def test_one_that_starts_is_waited_for_whatever_it_says_first() -> None:
    assert await _played((12, 0), (20, 403), (1000, 200)) < 30
    assert await _played((5, 403), (20, 0), (26, 403), (1000, 200)) < 40


async def test_a_no_that_stays_is_believed_and_so_is_silence() -> None:
    for answers, seconds in ((((1000, 403),), DOUBT), (((1000, 0),), PATIENCE), (((5, 0), (1000, 401)), 5 + DOUBT)):
        with pytest.raises(ApiError) as told:
            await asyncio.wait_for(_played(*answers), 5)
        assert told.value.status == answers[-1][1], seconds


async def test_what_is_wrong_by_itself_is_told_at_once() -> None:
    with pytest.raises(ApiError):
        await _played((0.1, 422), (1000, 200))


class Watches:
    """An API server that serves the kind once it has been listed three times, and ends every watch."""

    def __init__(self) -> None:
        self.listed = 0

    async def list(self, kind: Kind, scope: Scope = EVERYTHING) -> Page:
        self.listed += 1
        conditions = [{"type": "Established", "status": "True"}] if self.listed == 3 else []
        return Page([{"metadata": {"name": "agents.kagent.dev"}, "status": {"conditions": conditions}}], "1")

    async def watch(self, kind: Kind, version: str, scope: Scope = EVERYTHING) -> AsyncGenerator[Event, None]:
        if not version:
            yield Event("BOOKMARK", {})


async def test_a_kind_is_said_to_be_served_when_it_is_and_not_when_a_watch_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(install, "BRIEF", 0)
    server = Watches()
    await install._served(server, {"agents.kagent.dev"})  # type: ignore[arg-type]  # of a client it takes these two
    assert server.listed == 3
