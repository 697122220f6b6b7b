"""Names to be looked at: each once, one at a time, and after failures ever more rarely."""

from __future__ import annotations

import asyncio

from kadre.kube.queue import Queue


async def test_a_key_added_twice_is_given_out_once() -> None:
    queue: Queue[str] = Queue()
    for key in ("a", "b", "a"):
        queue.add(key)
    assert [await queue.get(), await queue.get()] == ["a", "b"]
    queue.done("a")
    queue.done("b")
    assert queue.idle


async def test_a_key_added_while_it_is_worked_on_comes_again_when_that_is_done() -> None:
    queue: Queue[str] = Queue()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    queue.add("b")
    assert await queue.get() == "b"
    queue.done("a")
    assert await queue.get() == "a"


async def test_waits_double_up_to_their_limit_and_begin_anew_after_a_success() -> None:
    queue: Queue[str] = Queue(first=1.0, limit=4.0)
    waits = [queue.retry("a") for _ in range(5)]
    assert all(
        low <= wait <= high for wait, (low, high) in zip(waits, [(0.5, 1), (1, 2), (2, 4), (2, 4), (2, 4)], strict=True)
    )
    queue.forget("a")
    assert queue.retry("a") <= 1.0
    assert queue.retry("a", after=60.0) == 60.0
    queue.close()


async def test_what_is_wanted_sooner_is_not_kept_waiting() -> None:
    queue: Queue[str] = Queue()
    queue.add_after("a", 3600)
    queue.add_after("a", 0.001)
    async with asyncio.timeout(1):
        assert await queue.get() == "a"
    queue.add_after("b", 3600)
    queue.add("b")
    assert await queue.get() == "b"
    queue.close()


async def test_a_hint_ends_no_wait_after_a_failure_and_else_has_it_looked_at() -> None:
    queue: Queue[str] = Queue(first=60.0)
    queue.hint("a")
    assert await queue.get() == "a"
    queue.hint("a")
    queue.retry("a")
    queue.done("a")
    queue.hint("a")
    assert queue.idle
    queue.add("a")  # which is more than a hint
    assert await queue.get() == "a"
    queue.hint("a")
    queue.forget("a")
    queue.add_after("a", 60.0)
    queue.done("a")
    assert await queue.get() == "a"
    queue.close()
