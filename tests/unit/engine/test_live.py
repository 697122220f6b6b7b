"""Following a run: what a reader sees, from wherever it begins."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from kadre.base.errors import Unavailable
from kadre.engine import events as ev
from kadre.engine.live import TOKEN_RING, Live
from kadre.engine.memory.port import RunInfo

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def ids(seq: int) -> dict[str, Any]:
    return {"run_id": "run-1", "session_id": "ses-1", "seq": seq, "time": NOW}


def begun() -> Live:
    live = Live(
        RunInfo(
            run_id="run-1",
            session_id="ses-1",
            agent="default/a",
            status="running",
            order=1,
            last_seq=2,
            epoch=1,
            created=NOW,
            updated=NOW,
        ),
        stream=True,
    )
    live.publish([ev.RunStarted(agent="default/a", **ids(1)), ev.UserMessage(content="hi", **ids(2))])
    return live


def token(live: Live, text: str, seq: int = 2) -> None:
    live.token(ev.Token(offset=live.offset, content=text, **ids(seq)))


def end(live: Live) -> None:
    live.publish([ev.AssistantMessage(content="hello", **ids(3)), ev.RunFinished(status="completed", **ids(4))])


async def everything(live: Live, after: int = 0, offset: int = -1) -> list[tuple[int, int | None]]:
    return [
        (event.seq, event.offset if isinstance(event, ev.Token) else None) async for event in live.follow(after, offset)
    ]


async def test_a_reader_that_comes_late_sees_every_event() -> None:
    live = begun()
    end(live)
    assert await everything(live) == [(1, None), (2, None), (3, None), (4, None)]


async def test_a_reader_sees_events_and_tokens_as_they_come() -> None:
    live = begun()
    reading = asyncio.create_task(everything(live))
    await asyncio.sleep(0)
    token(live, "hel")
    await asyncio.sleep(0)
    token(live, "lo")
    await asyncio.sleep(0)
    end(live)
    assert await asyncio.wait_for(reading, 1) == [(1, None), (2, None), (2, 0), (2, 1), (3, None), (4, None)]


async def test_a_reader_goes_on_after_the_token_it_saw_last() -> None:
    live = begun()
    token(live, "hel")
    token(live, "lo")
    reading = asyncio.create_task(everything(live, after=2, offset=0))
    await asyncio.sleep(0)
    end(live)
    assert await asyncio.wait_for(reading, 1) == [(2, 1), (3, None), (4, None)]


async def test_tokens_that_were_superseded_are_not_told_again() -> None:
    live = begun()
    token(live, "hel")
    live.publish([ev.AssistantMessage(content="hello", **ids(3))])
    token(live, "more", seq=3)
    live.publish([ev.RunFinished(status="completed", **ids(4))])
    assert await everything(live, after=2) == [(3, None), (4, None)]


async def test_the_ring_of_tokens_is_bounded_and_the_message_catches_a_slow_reader_up() -> None:
    live = begun()
    for _ in range(TOKEN_RING * 2):
        token(live, "x")
    reading = asyncio.create_task(everything(live, after=2))
    await asyncio.sleep(0)
    end(live)
    seen = await asyncio.wait_for(reading, 1)
    assert len(seen) <= TOKEN_RING + 2
    assert seen[-2:] == [(3, None), (4, None)]


async def test_a_run_that_was_lost_ends_everyones_waiting_with_its_error() -> None:
    live = begun()
    waiting = asyncio.create_task(live.wait())
    following = asyncio.create_task(everything(live))
    await asyncio.sleep(0)
    live.fail(Unavailable("the disk is full"))
    for task in (waiting, following):
        with pytest.raises(Unavailable, match="the disk is full"):
            await asyncio.wait_for(task, 1)


async def test_open_approvals_are_those_asked_and_not_decided() -> None:
    live = begun()
    state = ev.ToolCallState("c1", "write", {}, "pending")
    first, second = (ev.Approval(name, "r", state, "writes", NOW) for name in ("apr-1", "apr-2"))
    live.publish([ev.ApprovalRequired(approvals=(first, second), **ids(3))])
    live.publish([ev.ApprovalDecided(approval_id="apr-1", decision="allow", by="local", **ids(4))])
    assert live.pending_approvals() == [second]
    assert await live.wait_decision() is None
