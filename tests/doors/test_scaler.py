"""What KEDA is told of agents that somebody waits for, whichever replica of the gateway it asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from kadre.base.clock import FakeClock
from kadre.plan.types import AgentKey
from kadre.server.gateway import externalscaler as messages
from kadre.server.gateway.scaler import METRIC, REPEAT_SECONDS, Scaler
from kadre.server.gateway.wanted import Wanted

pytestmark = [pytest.mark.requirement("scale-from-zero"), pytest.mark.timeout(20)]
A, B = AgentKey("team", "a"), AgentKey("team", "b")
SECONDS = 5.0


class Known:
    """Replicas that a test knows."""

    def __init__(self) -> None:
        self.there: list[str] = []
        self.news = asyncio.Event()

    def addresses(self) -> Sequence[str]:
        """See Peers."""
        return tuple(self.there)

    async def changed(self) -> None:
        """See Peers."""
        await self.news.wait()

    def are(self, *addresses: str) -> None:
        """These and no others."""
        self.there = list(addresses)
        self.news.set()
        self.news = asyncio.Event()


class Replica:
    """One of the gateway's, and KEDA at it."""

    def __init__(self, peers: Known) -> None:
        self.wanted = Wanted()
        self.clock = FakeClock()
        self.scaler = Scaler(self.wanted, peers, self.clock)
        self.address = ""

    async def asked(self, method: str, request: Any, answer: Any) -> Any:
        """What it answers to KEDA."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            call = channel.unary_unary(
                f"/{messages.SERVICE}/{method}", lambda sent: sent.SerializeToString(), answer.FromString
            )
            return await call(request, timeout=SECONDS)

    async def is_active(self, agent: AgentKey) -> bool:
        """What KEDA asks every now and then."""
        return bool((await self.asked("IsActive", ref(agent), messages.IsActive)).result)

    @asynccontextmanager
    async def listening(self, agent: AgentKey) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
        """KEDA, which waits to be told: the next that it hears, grpc.aio.EOF at the end."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            call = channel.unary_stream(
                f"/{messages.SERVICE}/StreamIsActive",
                lambda sent: sent.SerializeToString(),
                messages.IsActive.FromString,
            )(ref(agent))

            async def heard() -> Any:
                async with asyncio.timeout(SECONDS):
                    return await call.read()

            yield heard
            call.cancel()


def ref(agent: AgentKey) -> Any:
    """How KEDA names it."""
    return messages.ScaledObjectRef(name=agent.name, namespace=agent.namespace)


@asynccontextmanager
async def replicas(peers: Known, count: int = 2) -> AsyncIterator[list[Replica]]:
    """So many, which know one another."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            replica = Replica(peers)
            await stack.enter_async_context(aclosing(replica.scaler))
            replica.address = f"127.0.0.1:{await replica.scaler.start('127.0.0.1:0')}"
            made.append(replica)
        peers.are(*(each.address for each in made))
        yield made


async def test_keda_is_told_of_a_message_that_waits_at_the_replica_it_does_not_ask() -> None:
    async with replicas(Known()) as (asked, other), asked.listening(A) as heard:
        assert not await asked.is_active(A)
        ended = other.wanted.begins(A)
        assert (await heard()).result
        assert await asked.is_active(A)
        assert not await asked.is_active(B)
        ended()
        assert not await asked.is_active(A)


async def test_it_is_told_again_while_somebody_waits_still() -> None:
    async with replicas(Known(), 1) as (one,):
        ended = one.wanted.begins(A)
        async with one.listening(A) as heard:
            assert (await heard()).result
            await one.clock.advance(REPEAT_SECONDS)
            assert (await heard()).result
            ended()


async def test_its_autoscaler_is_never_asked_for_a_second_pod() -> None:
    async with replicas(Known(), 1) as (one,):
        (spec,) = (await one.asked("GetMetricSpec", ref(A), messages.MetricSpecs)).metricSpecs
        assert (spec.metricName, spec.targetSize) == (METRIC, 1)
        for _ in range(3):
            one.wanted.begins(A)
        request = messages.MetricsRequest(scaledObjectRef=ref(A), metricName=METRIC)
        (value,) = (await one.asked("GetMetrics", request, messages.Metrics)).metricValues
        assert (value.metricName, value.metricValue) == (METRIC, 1)


async def test_a_replica_that_is_new_is_heard_and_one_that_is_gone_is_not_waited_for() -> None:
    peers = Known()
    async with replicas(peers) as (asked, other), asked.listening(A) as heard:
        peers.are(asked.address, "127.0.0.1:1")
        other.wanted.begins(A)
        assert not await asked.is_active(A)
        peers.are(asked.address, other.address)
        assert (await heard()).result


async def test_a_replica_that_ends_lets_keda_go_on_at_another() -> None:
    async with replicas(Known()) as (one, other), one.listening(A) as heard:
        other.wanted.begins(A)
        assert (await heard()).result
        await one.scaler.aclose()
        assert await heard() is grpc.aio.EOF
        assert await other.is_active(A)
