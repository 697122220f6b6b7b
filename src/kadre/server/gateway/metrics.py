"""The gateway's own series: never an agent's, or whoever sums them counts twice."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from kadre.server.gateway.crowd import Crowd
from kadre.server.gateway.fleet import Fleet
from kadre.server.gateway.upstream import Upstream


class GatewayMetrics(Collector):
    """`GET /metrics`."""

    def __init__(self, fleet: Fleet, upstream: Upstream, crowd: Crowd) -> None:
        self._fleet = fleet
        self._upstream = upstream
        self._crowd = crowd
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        yield GaugeMetricFamily("kagent_gateway_requests_under_way", "Requests that have not ended.", self._crowd.total)
        yield CounterMetricFamily("kagent_gateway_requests", "Requests that were let in.", self._crowd.entered)
        yield CounterMetricFamily(
            "kagent_gateway_requests_refused", "Requests for which there was no room.", self._crowd.refused
        )
        failures = self._upstream.failures
        yield CounterMetricFamily(
            "kagent_gateway_host_failures", "Times a host did not answer or was ending.", failures
        )
        yield GaugeMetricFamily(
            "kagent_gateway_requests_held", "Requests that wait for a first pod.", self._upstream.held
        )
        keys = list(self._fleet.all())
        yield GaugeMetricFamily("kagent_gateway_agents", "Agents there are.", len(keys))
        active = sum(1 for key in keys if self._fleet.hosts(key))
        yield GaugeMetricFamily("kagent_gateway_agents_active", "Agents of which a pod answers.", active)

    async def get(self, request: Request) -> Response:
        """All of them, as Prometheus reads them."""
        del request
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)
