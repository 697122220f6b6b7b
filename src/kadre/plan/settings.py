"""What needs no reference followed: limits, what only a cluster uses, and fields whose feature isn't built yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kadre.api.dialects.kaos import KaosAgent, KaosAgentSpec
from kadre.api.kinds.agent import AgentSpec
from kadre.api.parts import check_resources
from kadre.api.resource import Spec
from kadre.plan.draft import Draft, Place
from kadre.plan.models import MODEL_VARIABLES
from kadre.plan.providers import PROVIDERS
from kadre.plan.types import Limits, ModelPlan
from kadre.plan.work import Work

USUAL = Limits()
TOOL_SHARE = 0.1
"""Of the model's context, that tools may take where an author does not say: the rest is for the conversation."""

WORKLOAD = (
    *("scaling", "replicas", "resources", "health_check", "observability"),
    *("runtime", "service_account_name", "service_account_annotations", "network_policy"),
)
"""Fields of an agent that only a cluster uses, besides `env`."""

ALONE = (
    *("scaling", "replicas", "resources", "health_check"),
    *("service_account_name", "service_account_annotations", "network_policy"),
)
"""Those of them that say how its own pods are: a pooled agent has none."""
KAOS_WORKLOAD = ("gateway_route", "pod_spec", "wait_for_dependencies")


def limits(spec: AgentSpec, model: ModelPlan) -> Limits:
    """The bounds the author sets, and the defaults of the others."""
    rates = spec.rate_limits
    share = TOOL_SHARE if spec.tool_budget is None else spec.tool_budget
    context = model.context_window or PROVIDERS[model.provider].context
    room = round(context * share)
    written = {
        "max_steps": spec.max_steps,
        "max_tool_calls": spec.max_tool_calls,
        "deadline": spec.timeout,
        "max_output_bytes": spec.max_output_bytes,
        "max_tool_tokens": room if room != USUAL.max_tool_tokens else None,
        "on_busy": spec.on_busy,
        "queue_limit": spec.queue_limit,
        "max_concurrent_runs": spec.max_concurrent_runs,
        "requests_per_minute": rates.requests_per_minute if rates else None,
        "tokens_per_minute": rates.tokens_per_minute if rates else None,
    }
    return msgspec.convert({name: value for name, value in written.items() if value is not None}, Limits)


def workload(draft: Draft, servers: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """What only a cluster uses, as plain JSON under the names it has in YAML. `servers`: those that it uses."""
    fields: dict[str, Any] = {}
    for name in WORKLOAD:
        _put(fields, draft.spec, name)
    if draft.env:
        fields["env"] = [_json(variable) for _, variable in draft.env]
    if isinstance(draft.resource, KaosAgent):
        spec = draft.resource.spec
        for name in KAOS_WORKLOAD:
            _put(fields, spec, name)
        if servers:
            fields["servers"] = [{"kind": kind, "name": name, "url": url} for (kind, name), url in servers.items()]
        container = spec.container
        if container is not None and (container.command or container.args):
            fields["container"] = {"command": container.command or [], "args": container.args or []}
    return fields


def notices(work: Work, draft: Draft) -> None:
    """Fields that are understood and have no effect yet."""
    spec = draft.spec
    tracing = spec.observability.tracing if spec.observability else None
    if tracing is not None and tracing.enabled:
        where = f" to {tracing.provider}" if tracing.provider else ""
        work.not_yet(f"tracing{where} is not supported yet: runs are not traced")
    if tracing is not None and tracing.secret_ref is not None:
        place = draft.place("observability").below("tracing.secretRef")
        work.secret(place, tracing.secret_ref, severity="warning")
    if spec.runtime is not None and spec.runtime.image is not None:
        work.not_yet("runtime.image is not supported yet: Kadre's own loop runs the agent")
    if spec.service_account_name is not None and spec.service_account_annotations:
        message = f"the ServiceAccount {spec.service_account_name} is its author's own: annotations are not put on it"
        place = draft.place("service_account_annotations")
        work.problem(place, "FieldNotUsed", message, "annotate it, or take serviceAccountName out", "warning")
    if isinstance(draft.resource, KaosAgent) and draft.resource.spec.pod_spec:
        work.not_yet("podSpec is not supported yet: pods are as they would be without it")
    if isinstance(draft.resource, KaosAgent):
        _kaos(work, draft.resource.spec)
    _pooled(work, draft)
    config = draft.resource.spec.config if isinstance(draft.resource, KaosAgent) else None
    if config is not None and config.autonomous is not None:
        work.not_yet("autonomous work is not supported yet: the agent answers when it is asked")


def _kaos(work: Work, spec: KaosAgentSpec) -> None:
    container, route = spec.container, spec.gateway_route
    if container is not None and (container.command or container.args):
        work.not_yet("container.command and container.args are not supported yet: Kadre's own loop runs the agent")
    if route is not None and route.retries:
        work.not_yet("gatewayRoute.retries is not supported yet: no request is sent again")


def _pooled(work: Work, draft: Draft) -> None:
    """Fields that have no effect for where the agent runs: of pods of its own, and of a pool."""
    runtime = draft.spec.runtime
    if runtime is None or runtime.mode != "Pooled":
        if runtime is not None and runtime.pool:
            message = f"the agent is in no pool: {runtime.pool} is the name of one, and mode is not Pooled"
            place = draft.place("runtime").below("pool")
            work.problem(place, "FieldNotUsed", message, "write mode: Pooled, or remove pool", "warning")
        return
    message = "a pooled agent has no pods of its own: this has no effect"
    for field in ALONE:
        if getattr(draft.spec, field) is not None:
            work.problem(draft.place(field), "FieldNotUsed", message, "take it out, or the mode", "warning")
    for place, variable in draft.env:
        if variable.name not in MODEL_VARIABLES:
            message = f"a pooled agent has no process of its own: the variable {variable.name} is not set"
            work.problem(place, "FieldNotUsed", message, "take it out, or the mode", "warning")


def merged(work: Work, draft: Draft) -> None:
    """What is wrong only together with its templates: an agent's limits below what a template asks for."""
    path = "spec.resources"
    alone = {problem for level in draft.levels for problem in check_resources(level.spec.resources, path)}
    for problem in check_resources(draft.spec.resources, path) if len(draft.levels) > 1 else ():
        if problem not in alone:
            message = f"with its templates, {problem.message}"
            work.problem(Place(draft.resource, problem.path), problem.reason, message, problem.fix)


def _put(fields: dict[str, Any], spec: Spec, name: str) -> None:
    value = getattr(spec, name)
    if value is not None:
        fields[type(spec).model_fields[name].alias or name] = _json(value)


def _json(value: Any) -> Any:
    return value.model_dump(by_alias=True, exclude_none=True, mode="json") if isinstance(value, Spec) else value
