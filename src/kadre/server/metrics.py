"""The metrics door: what the host tells its observer, under the names that dashboards of this field expect."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client import Counter as Counted
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from kadre.base.clock import Clock
from kadre.engine.events import RunStatus
from kadre.engine.messages import Usage
from kadre.plan.types import AgentKey, AgentPlan

BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 30, 60)
RATE_WINDOW = 60
"""Seconds over which requests per second are averaged: shorter than a scaler's patience, longer than a burst."""
_AGENT = ("agent", "agent_name")


class _Recent:
    """Runs accepted within the rate's window, counted by the second: what is kept does not grow with the runs."""

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque(maxlen=RATE_WINDOW)
        """A second and its runs, in order, without seconds that had none."""

    def add(self, now: float) -> None:
        """Count one, accepted now."""
        second = int(now)
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1][1] += 1
        else:
            self._seconds.append([second, 1])

    def rate(self, now: float) -> float:
        """Runs a second."""
        return sum(runs for second, runs in self._seconds if second > int(now) - RATE_WINDOW) / RATE_WINDOW


class _Of:
    """One agent's series, bound once: label look-ups are most of a metric's cost."""

    def __init__(self, metrics: Metrics, plan: AgentPlan) -> None:
        labels = (plan.labels.get("app", plan.key.name), plan.key.name)
        self.requests = metrics.requests.labels(*labels)
        self.errors = metrics.errors.labels(*labels)
        self.duration = metrics.duration.labels(*labels)
        self.active = metrics.active.labels(*labels)
        self.rate = metrics.rate.labels(*labels)
        self.timeouts = metrics.timeouts.labels(*labels)
        self.rate_limited = metrics.rate_limited.labels(*labels)
        model = (*labels, plan.model.model, plan.model.provider)
        self.inference = metrics.inference.labels(*model)
        self.prompt = metrics.tokens.labels(*labels, plan.model.model, "prompt")
        self.completion = metrics.tokens.labels(*labels, plan.model.model, "completion")
        self.labels = labels
        self.tools: dict[str, tuple[Any, Any]] = {}
        self.recent = _Recent()
        self.sessions: Counter[str] = Counter()
        """Runs under way or waiting for their turn, by the session that they are of."""


class Metrics:
    """An Observer, and `GET /metrics`."""

    def __init__(self, clock: Clock) -> None:
        self.registry = registry = CollectorRegistry()
        self._clock = clock
        self._of: dict[AgentKey, tuple[AgentPlan, _Of]] = {}

        def counter(name: str, text: str, *more: str) -> Counted:
            return Counted(name, text, (*_AGENT, *more), registry=registry)

        def histogram(name: str, text: str, *more: str) -> Histogram:
            return Histogram(name, text, (*_AGENT, *more), buckets=BUCKETS, registry=registry)

        self.requests = counter("agent_request_total", "Runs accepted.")
        self.errors = counter("agent_request_errors_total", "Runs that failed or were refused.")
        self.duration = histogram("agent_request_duration_seconds", "Seconds from a run's start to its end.")
        self.active = Gauge("agent_active_sessions", "Sessions that have a run under way.", _AGENT, registry=registry)
        self.rate = Gauge("agent_requests_per_second", "Runs accepted, per second.", _AGENT, registry=registry)
        self.timeouts = counter("agent_timeout_total", "Runs that passed their deadline.")
        self.rate_limited = counter("llm_rate_limit_errors_total", "Model calls the provider refused for their rate.")
        self.inference = histogram("llm_inference_duration_seconds", "Seconds of one model call.", "model", "provider")
        self.tokens = counter("llm_tokens_total", "Tokens as the provider counted them.", "model", "token_type")
        self.unsent = counter(
            "llm_tool_tokens_saved_total", "Tokens, about, of tools that were not sent, being found by search.", "model"
        )
        self.tool_duration = histogram("tool_execution_duration_seconds", "Seconds of one tool call.", "tool_name")
        self.tool_errors = counter("tool_execution_errors_total", "Tool calls that failed.", "tool_name")
        what = "MCP servers of that name that are left alone for a while, because their last calls failed."
        self.circuits = Gauge("tool_server_circuit_open", what, ("server",), registry=registry)
        self._collectors: tuple[Counted | Gauge | Histogram, ...] = (
            *(self.requests, self.errors, self.duration, self.active, self.rate, self.timeouts, self.rate_limited),
            *(self.inference, self.tokens, self.unsent, self.tool_duration, self.tool_errors),
        )

    def _series(self, plan: AgentPlan) -> _Of:
        known = self._of.get(plan.key)
        if known is not None and known[0] is plan:
            return known[1]
        series = _Of(self, plan)
        if known is not None:  # a reloaded plan takes over what was counted
            series.recent, series.sessions = known[1].recent, known[1].sessions
        self._of[plan.key] = (plan, series)
        return series

    def show(self, plan: AgentPlan) -> None:
        """Have an agent's figures there before there is anything to count: who scales by them must not find none."""
        self._series(plan)

    def hide(self, plan: AgentPlan) -> None:
        """Have none of an agent that is gone any more: in a process where agents come and go they would pile up."""
        known = self._of.pop(plan.key, None)
        if known is not None:
            for each in self._collectors:
                each.remove_by_labels(dict(zip(_AGENT, known[1].labels, strict=True)))

    def run_started(self, plan: AgentPlan, session: str) -> None:
        """See Observer."""
        series = self._series(plan)
        series.requests.inc()
        series.sessions[session] += 1
        series.active.set(len(series.sessions))
        series.recent.add(self._clock.monotonic())

    def run_finished(self, plan: AgentPlan, session: str, status: RunStatus, seconds: float, reason: str) -> None:
        """See Observer."""
        series = self._series(plan)
        if series.sessions[session] > 1:
            series.sessions[session] -= 1
        else:
            del series.sessions[session]
            series.active.set(len(series.sessions))
        series.duration.observe(seconds)
        if status == "failed":
            series.errors.inc()
        if reason == "DeadlineExceeded":
            series.timeouts.inc()

    def model_called(self, plan: AgentPlan, seconds: float, usage: Usage, error: str) -> None:
        """See Observer."""
        series = self._series(plan)
        series.inference.observe(seconds)
        if usage.prompt_tokens:
            series.prompt.inc(usage.prompt_tokens)
        if usage.completion_tokens:
            series.completion.inc(usage.completion_tokens)
        if error == "ModelRateLimited":
            series.rate_limited.inc()

    def tools_unsent(self, plan: AgentPlan, tokens: int) -> None:
        """See Observer."""
        series = self._series(plan)
        self.unsent.labels(*series.labels, plan.model.model).inc(tokens)

    def tool_called(self, plan: AgentPlan, name: str, seconds: float, error: bool) -> None:
        """See Observer."""
        series = self._series(plan)
        bound = series.tools.get(name)
        if bound is None:
            labels = (*series.labels, name)
            bound = series.tools[name] = (self.tool_duration.labels(*labels), self.tool_errors.labels(*labels))
        bound[0].observe(seconds)
        if error:
            bound[1].inc()

    def circuit(self, server: str, is_open: bool) -> None:
        """A server of tools is left alone from now on, or no longer."""
        self.circuits.labels(server).inc(1 if is_open else -1)

    def refused(self, plan: AgentPlan, reason: str) -> None:
        """See Observer."""
        del reason
        self._series(plan).errors.inc()

    def render(self) -> bytes:
        """All series in Prometheus' text form."""
        now = self._clock.monotonic()
        for _, series in self._of.values():
            series.rate.set(series.recent.rate(now))
        return generate_latest(self.registry)

    async def get(self, request: Request) -> Response:
        """`GET /metrics`."""
        del request
        return Response(self.render(), media_type=CONTENT_TYPE_LATEST)
