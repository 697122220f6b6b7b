"""Tells KEDA which agents somebody waits for, so that one without pods gets one: KEDA's external scaler, over gRPC.

KEDA asks one replica of the gateway, and a message may wait at another. So a replica that is asked by KEDA asks the
others, in KEDA's own words; asked by another replica, it answers for itself alone. Nothing that is said here makes
anything happen but by KEDA's asking: who reaches the port can ask the same, and learns no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import grpc
import grpc.aio

from kadre.base.clock import Clock, SystemClock
from kadre.base.tasks import Tasks, all_of, first_of
from kadre.server.gateway import externalscaler as messages
from kadre.server.gateway.wanted import Name, Wanted

METRIC = "messages"
"""What KEDA makes a metric of: 1 while somebody waits, of a target of 1. It never asks for a second pod."""
REPEAT_SECONDS = 5.0
"""Between two times that KEDA is told of an agent that is wanted still: it scales down so long after the last one, and
loses the first where it has only just begun with the agent."""
PEER_SECONDS = 1.0
"""For which another replica is waited for, and between two tries."""
GRACE = 2.0
MOST_CALLS = 20_000
"""Calls under way at once: KEDA holds one for each agent that may have no pods, and so does each other replica."""
_DIRECTLY = (("grpc.enable_http_proxy", 0),)
_REPLICA = (("kadre-replica", "1"),)
"""Says that it is a replica that asks."""


class Peers(Protocol):
    """The replicas of the gateway, this one among them or not."""

    def addresses(self) -> Sequence[str]:
        """Where they tell what is wanted at them, as `10.0.0.7:9095`."""
        ...

    async def changed(self) -> None:
        """Come back when there may be others."""
        ...


class Scaler:
    """The gRPC service."""

    def __init__(self, wanted: Wanted, peers: Peers, clock: Clock | None = None) -> None:
        self._wanted = wanted
        self._peers = peers
        self._clock = clock or SystemClock()
        self._tasks = Tasks("scaler")
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._ending = asyncio.Event()
        self._server = grpc.aio.server(maximum_concurrent_rpcs=MOST_CALLS)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(messages.SERVICE, self._methods()),)
        )

    async def start(self, address: str) -> int:
        """Serve at `host:port`; the port. Raises OSError where that cannot be had."""
        try:
            port: int = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(str(error)) from error
        await self._server.start()
        self._tasks.spawn("leave-peers", self._leave())
        return port

    async def aclose(self) -> None:
        """End. Streams end well: KEDA begins them anew, at another replica, sooner than after a failure."""
        self._ending.set()
        await self._server.stop(GRACE)
        await self._tasks.aclose()
        for channel in self._channels.values():
            await channel.close()

    def _methods(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        asked = messages.ScaledObjectRef

        def unary(answer: Callable[[Any, Any], Any], request: Any = asked) -> grpc.RpcMethodHandler[Any, Any]:
            return grpc.unary_unary_rpc_method_handler(answer, request.FromString, _serialized)

        return {
            "IsActive": unary(self._is_active),
            "GetMetricSpec": unary(self._metric_spec),
            "GetMetrics": unary(self._metrics, messages.MetricsRequest),
            "StreamIsActive": grpc.unary_stream_rpc_method_handler(self._stream, asked.FromString, _serialized),
        }

    async def _is_active(self, ref: Any, context: Any) -> Any:
        return messages.IsActive(result=await self._is_wanted(ref, alone=_asked_by_replica(context)))

    async def _metric_spec(self, ref: Any, context: Any) -> Any:
        del ref, context
        return messages.MetricSpecs(metricSpecs=[messages.MetricSpec(metricName=METRIC, targetSize=1)])

    async def _metrics(self, request: Any, context: Any) -> Any:
        wanted = await self._is_wanted(request.scaledObjectRef, alone=_asked_by_replica(context))
        return messages.Metrics(metricValues=[messages.MetricValue(metricName=METRIC, metricValue=int(wanted))])

    async def _is_wanted(self, ref: Any, *, alone: bool) -> bool:
        """Whether a message for it waits or is being answered here, or at any replica."""
        if _name(ref) in self._wanted or alone:
            return _name(ref) in self._wanted
        return any(await all_of(self._asked(address, ref) for address in self._peers.addresses()))

    async def _asked(self, address: str, ref: Any) -> bool:
        call = self._channel(address).unary_unary(
            f"/{messages.SERVICE}/IsActive", _serialized, messages.IsActive.FromString
        )
        try:
            return bool((await call(ref, timeout=PEER_SECONDS, metadata=_REPLICA)).result)
        except grpc.aio.AioRpcError:
            return False  # what waits at one that does not answer has nobody to wait for

    async def _stream(self, ref: Any, context: Any) -> AsyncIterator[Any]:
        with self._wanted.watched(_name(ref)) as news:
            hearing = None if _asked_by_replica(context) else self._tasks.spawn("hear", self._hear(ref, news))
            try:
                while True:
                    await first_of(news.wait(), self._ending.wait())
                    if self._ending.is_set():
                        return
                    news.clear()
                    yield messages.IsActive(result=True)
                    await first_of(self._clock.sleep(REPEAT_SECONDS), self._ending.wait())
                    if _name(ref) in self._wanted:
                        news.set()
            finally:
                if hearing is not None:
                    hearing.cancel()

    async def _hear(self, ref: Any, news: asyncio.Event) -> None:
        """Have the news of the other replicas, whoever they are."""
        heard: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                others = set(self._peers.addresses())
                for address in heard.keys() - others:
                    heard.pop(address).cancel()
                for address in others - heard.keys():
                    heard[address] = self._tasks.spawn("hear-one", self._hear_one(address, ref, news))
                await self._peers.changed()
        finally:
            for each in heard.values():
                each.cancel()

    async def _hear_one(self, address: str, ref: Any, news: asyncio.Event) -> None:
        call = self._channel(address).unary_stream(
            f"/{messages.SERVICE}/StreamIsActive", _serialized, messages.IsActive.FromString
        )
        while True:
            with suppress(grpc.aio.AioRpcError):
                async for _ in call(ref, metadata=_REPLICA):
                    news.set()
            await self._clock.sleep(PEER_SECONDS)

    async def _leave(self) -> None:
        """Hang up on replicas that are gone."""
        while True:
            await self._peers.changed()
            for address in self._channels.keys() - set(self._peers.addresses()):
                await self._channels.pop(address).close()

    def _channel(self, address: str) -> grpc.aio.Channel:
        found = self._channels.get(address)
        if found is None:
            found = self._channels[address] = grpc.aio.insecure_channel(address, _DIRECTLY)
        return found


def _name(ref: Any) -> Name:
    return (ref.namespace, ref.name)


def _serialized(message: Any) -> bytes:
    sent: bytes = message.SerializeToString()
    return sent


def _asked_by_replica(context: Any) -> bool:
    return any(name == _REPLICA[0][0] for name, _ in context.invocation_metadata() or ())
