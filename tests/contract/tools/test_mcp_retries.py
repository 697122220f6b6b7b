"""Calls that are sent again because that is safe, calls that are not, and servers that are left alone for a while."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kadre.base.clock import FakeClock
from kadre.base.errors import ToolError
from kadre.engine.tools.mcp import McpPool, McpToolset, Tries
from kadre.engine.tools.mcp_target import CallFailed
from kadre.engine.tools.port import ToolOutput
from kadre.plan.types import McpTools
from tests.contract.tools.conftest import Secrets, World, call
from tests.contract.tools.proxies import before, refusal
from tests.contract.tools.test_mcp_bounds import rough

BAD, AWAY, BUSY = refusal("502 Bad Gateway"), refusal("503 Service Unavailable"), refusal("429 Too Many Requests")


@asynccontextmanager
async def orders(world: World, instead: list[bytes], **options: Any) -> AsyncIterator[McpToolset]:
    """Its tools behind a proxy that gives the answers in `instead` first."""
    async with before(world, instead) as port:
        pool = McpPool(Secrets(), **options)
        tools = pool.toolset(McpTools(name="orders", url=f"http://127.0.0.1:{port}/mcp"))
        await tools.specs()
        yield tools
        await pool.aclose()


@pytest.mark.parametrize("world", ["http-json"], indirect=True)
@pytest.mark.parametrize("refused", [BAD, AWAY, BUSY])
async def test_what_the_server_says_only_reads_is_sent_again(world: World, refused: bytes) -> None:
    instead: list[bytes] = []
    async with orders(world, instead) as tools:
        instead += [refused] * 2
        assert await call(tools, "echo", text="x") == ToolOutput("x")
        instead += [refused] * 4
        with pytest.raises(ToolError, match=r"orders: the server answered HTTP (50|429)"):
            await call(tools, "echo", text="x")
        assert len(instead) == 1


@pytest.mark.parametrize("world", ["http-json"], indirect=True)
async def test_what_may_have_happened_is_sent_once_and_what_has_not_again(world: World) -> None:
    instead: list[bytes] = []
    async with orders(world, instead) as tools:
        instead += [BAD] * 2
        with pytest.raises(ToolError) as caught:
            await call(tools, "who")
        assert (caught.value.unknown, len(instead)) == (True, 1)
        instead[:] = [BUSY] * 2
        assert (await call(tools, "who")).content.isdigit()


@pytest.mark.parametrize("world", ["http-json"], indirect=True)
async def test_a_write_is_not_sent_again_where_a_proxy_says_that_its_server_has_broken_off(world: World) -> None:
    """As Envoy does: 503, "upstream connect error or disconnect/reset before headers", whatever was done by then."""
    instead: list[bytes] = []
    async with orders(world, instead) as tools:
        instead += [AWAY] * 2
        with pytest.raises(ToolError, match="HTTP 503"):
            await call(tools, "who")
        assert len(instead) == 1


@pytest.mark.parametrize("world", ["http-json"], indirect=True)
async def test_what_its_author_says_may_be_repeated_is_and_stays_unknown_where_no_try_is_answered(
    world: World,
) -> None:
    instead: list[bytes] = []
    async with before(world, instead) as port:
        pool = McpPool(Secrets())
        tools = pool.toolset(McpTools(name="orders", url=f"http://127.0.0.1:{port}/mcp", idempotent=True))
        assert all(spec.idempotent for spec in await tools.specs())
        instead.append(BAD)
        assert (await call(tools, "who")).content.isdigit()
        instead += [AWAY, BUSY, BAD]
        with pytest.raises(ToolError, match=r"HTTP 503.*; before that the call was sent") as caught:
            await call(tools, "who")
        assert (caught.value.unknown, instead) == (True, [])
        await pool.aclose()


@pytest.mark.parametrize("world", ["http", "http-json", "sse"], indirect=True)
async def test_a_call_waits_for_a_server_that_is_replaced(world: World) -> None:
    tools = world.toolset()
    await tools.specs()
    await world.stop()
    clock = Waits(world.start)
    pool = McpPool(Secrets(), clock=clock)
    again = pool.toolset(McpTools(name="tests", url=f"http://127.0.0.1:{world.port}", timeout=20))
    assert (await call(again, "who")).content.isdigit()
    assert clock.waited
    await pool.aclose()


@pytest.mark.parametrize("world", ["http-json"], indirect=True)
async def test_all_tries_of_a_call_have_its_one_time(world: World) -> None:
    clock = FakeClock()
    instead: list[bytes] = []
    async with before(world, instead) as port:
        pool = McpPool(Secrets(), clock=clock)
        tools = pool.toolset(McpTools(name="orders", url=f"http://127.0.0.1:{port}/mcp", timeout=0.05))
        await tools.specs()
        instead += [BUSY] * 2
        with pytest.raises(ToolError, match="HTTP 429"):
            await call(tools, "echo", text="x")
        assert len(instead) == 1
        await pool.aclose()


@pytest.mark.parametrize("world", ["http-json"], indirect=True)
async def test_a_server_that_keeps_failing_is_left_alone_and_then_tried_once(world: World) -> None:
    clock, told, instead = FakeClock(), list[tuple[str, bool]](), list[bytes]()
    async with orders(world, instead, clock=clock, on_circuit=lambda *what: told.append(what)) as tools:
        instead += [BAD] * 9
        for _ in range(5):
            with pytest.raises(ToolError, match="HTTP 502"):
                await call(tools, "who")
        assert (len(instead), told) == (4, [("orders", True)])
        with pytest.raises(ToolError, match=r"orders is left alone for 30 s more.*HTTP 502 Bad Gateway") as refused:
            await call(tools, "who")
        assert (refused.value.unknown, len(instead)) == (False, 4)
        assert {spec.name for spec in await tools.specs()} > {"who", "echo"}
        await clock.advance(30)
        with pytest.raises(ToolError, match="HTTP 502"):
            await call(tools, "who")
        with pytest.raises(ToolError, match="left alone"):
            await call(tools, "who")
        assert len(instead) == 3
        instead.clear()
        await clock.advance(30)
        assert (await call(tools, "who")).content.isdigit()
        assert (await call(tools, "who")).content.isdigit()
        assert told == [("orders", True), ("orders", False)]


@pytest.mark.parametrize("world", ["http-json"], indirect=True)
async def test_what_a_server_answers_is_no_failure_of_it(world: World) -> None:
    instead: list[bytes] = []
    async with orders(world, instead) as tools:
        for _ in range(7):
            instead.append(refusal("403 Forbidden"))
            with pytest.raises(ToolError, match="HTTP 403"):
                await call(tools, "who")
            assert (await call(tools, "fail", message="no such order")).is_error
        for _ in range(7):
            instead.append(refusal("403 Forbidden"))
            with pytest.raises(ToolError, match="HTTP 403"):
                await call(tools, "who")
        assert (await call(tools, "who")).content.isdigit()


KINDS = ["stdio", "sse", "http", "http-json"]


@pytest.mark.parametrize("world", KINDS, indirect=True)
async def test_who_waits_too_little_leaves_the_server_to_others(world: World) -> None:
    hasty, patient = world.toolset(timeout=0.05), world.toolset()
    await patient.specs()
    for _ in range(7):
        with pytest.raises(ToolError, match=r"no answer within 0.05 s"):
            await call(hasty, "hang")
    assert (await call(patient, "who")).content.isdigit()


@pytest.mark.parametrize("world", ["http-json"], indirect=True)
async def test_calls_that_fail_together_are_one_failure(world: World) -> None:
    instead: list[bytes] = []
    async with orders(world, instead) as tools:
        instead += [BAD] * 7
        failed = await asyncio.gather(*[call(tools, "who") for _ in range(7)], return_exceptions=True)
        assert all(isinstance(each, ToolError) and each.unknown for each in failed)
        assert (await call(tools, "who")).content.isdigit()


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_that_is_too_large_is_no_failure_and_not_asked_for_again(kind: str) -> None:
    async with rough(kind, idempotent=True) as tools:
        await tools.specs()
        for _ in range(6):
            with pytest.raises(ToolError, match=r"MB, which is not read|exceeded the \d+ byte limit"):
                await call(tools, "flood")
        assert await call(tools, "x") == ToolOutput("called x")
        if kind != "stdio":  # which is another process each time
            heard = json.loads((await call(tools, "heard")).content)
            assert heard.count("tools/call") == 8


def test_a_session_that_ends_when_time_is_up_is_not_begun_again() -> None:
    tries = Tries(McpTools(name="x", timeout=5.0), repeatable=True)
    assert tries.again(CallFailed("the server ended the session", broken=True, unsent=True), 6.0) is None


class Waits(FakeClock):
    """Waits for nothing, and does something the first time."""

    def __init__(self, instead: Callable[[], Any]) -> None:
        super().__init__()
        self._instead = instead
        self.waited = False

    async def sleep(self, seconds: float) -> None:
        if not self.waited:
            self.waited = True
            await self._instead()
