"""What Kubernetes and Prometheus ask the controller: whether it lives, whether it is ready, and its figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kadre.operator.configurations import Configurations
from kadre.operator.controller import Operator


class Figures(Collector):
    """The controller's figures, read where they are kept when they are asked for."""

    def __init__(self, operator: Operator, asking: Configurations | None = None) -> None:
        self._operator = operator
        self._asking = asking

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        operator = self._operator
        yield CounterMetricFamily("kadre_reconciles", "Objects looked at.", operator.controller.reconciled)
        yield CounterMetricFamily("kadre_reconcile_failures", "Looks to be repeated.", operator.controller.failed)
        written = operator.applier.writes + operator.reporter.writes
        yield CounterMetricFamily("kadre_api_writes", "Objects written to the API server.", written)
        yield GaugeMetricFamily(
            "kadre_queue_length", "Objects that wait to be looked at.", len(operator.controller.queue)
        )
        acts = operator.acting.is_set()
        yield GaugeMetricFamily("kadre_leader", "1 where this replica acts, 0 where it stands by.", int(acts))
        declared = GaugeMetricFamily("kadre_objects", "Objects of each kind.", labels=["kind"])
        for kind, informer in operator.cluster.declared.items():
            declared.add_metric([f"{kind.kind}.{kind.group}"], len(informer.kept))
        yield declared
        if self._asking is not None:
            told = "1 where the API server is told to ask the webhook, 0 where that configuration is gone."
            asked = GaugeMetricFamily("kadre_webhook_configured", told, labels=["kind"])
            for word, there in self._asking.there():
                asked.add_metric([word], int(there))
            yield asked


async def serve(stack: AsyncExitStack, figures: Figures, metrics_address: str, health_address: str) -> None:
    """Answer at these addresses, as `:8080`, until the stack is closed; not where one is `0` or empty."""
    registry = CollectorRegistry()
    registry.register(figures)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def well(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    doors = {metrics_address: [web.get("/metrics", metrics)]}
    doors.setdefault(health_address, []).extend([web.get("/healthz", well), web.get("/readyz", well)])
    for address, routes in doors.items():
        host, _, port = address.rpartition(":")
        if not port or port == "0":
            continue
        app = web.Application()
        app.add_routes(routes)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, host or None, int(port)).start()
