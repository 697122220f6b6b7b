"""The Deployment that runs an agent."""

from __future__ import annotations

from collections.abc import Sequence

from kadre.kube.kinds import DEPLOYMENT, Object
from kadre.operator.children import environment, journal, plan_map, pod, secrets, waiting
from kadre.operator.children.common import (
    Child,
    Owner,
    Settings,
    delegates,
    has_metrics,
    http_port,
    metrics_port,
    runs_code,
    selector,
)
from kadre.operator.children.service_account import account_name
from kadre.plan.types import AgentPlan

PLAN_VOLUME = "plan"
PLAN_FOLDER = "/etc/kadre"
DRAIN_SECONDS = 15
"""On top of a run's deadline, that a pod is given to end."""
HISTORY = 10
"""Revisions to which `kubectl rollout undo` can go back."""


def deployment(owner: Owner, settings: Settings, *, replicas: int, scaled: bool) -> Child:
    """The Deployment. `replicas`: how many pods it begins with where it is `scaled`, else how many it has."""
    plan = owner.plan
    spec: Object = {
        "revisionHistoryLimit": HISTORY,
        "selector": {"matchLabels": selector(plan)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": _template(owner, settings),
    }
    if not scaled:
        spec["replicas"] = replicas
    manifest = {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.kind,
        "metadata": owner.metadata(plan.key.name),
        "spec": spec,
    }
    return Child(DEPLOYMENT, manifest, {"replicas": max(1, replicas)} if scaled else None)


def plan_name(template: Object) -> str:
    """The name of the ConfigMap a pod template of ours takes its plan from; empty for one that is not ours."""
    volumes = template["spec"].get("volumes") or ()
    found: str = next(
        (each.get("configMap", {}).get("name", "") for each in volumes if each["name"] == PLAN_VOLUME), ""
    )
    return found


def _template(owner: Owner, settings: Settings) -> Object:
    annotations = {environment.ANNOTATION: owner.environment} if owner.environment else {}
    return pod.template(owner.metadata("")["labels"], _pod(owner.plan, settings), annotations)


def _pod(plan: AgentPlan, settings: Settings) -> Object:
    volumes, mounts = secrets.volumes(plan)
    if given := journal.installed(plan, settings):
        volumes.append(journal.volume(given))
        mounts.append(journal.mount())
    if delegates(plan):
        volumes.append(pod.TOKEN)
        mounts.append(pod.TOKEN_MOUNT)
    if runs_code(plan):
        volumes.append(pod.CODE_TOKEN)
        mounts.append(pod.CODE_TOKEN_MOUNT)
    planned = {"name": PLAN_VOLUME, "configMap": {"name": plan_map.name_of(plan)}}
    grace = int(plan.limits.deadline) + DRAIN_SECONDS
    container = _container(plan, settings, mounts)
    made = pod.pod(settings, account_name(plan), grace, container, [planned, *pod.VOLUMES, *volumes])
    if first := waiting.containers(plan, settings):
        made["initContainers"] = first
    return made


def _container(plan: AgentPlan, settings: Settings, mounts: Sequence[Object]) -> Object:
    mounted = {"name": PLAN_VOLUME, "mountPath": PLAN_FOLDER, "readOnly": True}
    http = http_port(plan)
    ports = [{"name": "http", "containerPort": http}]
    planned = [f"--plan={PLAN_FOLDER}/{plan_map.KEY}", f"--plan-sha256={plan_map.digest(plan)}"]
    arguments = ["host", *planned, *pod.arguments(settings, http)]
    arguments += [f"--journal={journal.FOLDER}"] if journal.installed(plan, settings) else []
    if delegates(plan):
        arguments += pod.to_ask(settings)
    if runs_code(plan):
        arguments += pod.to_run_code(plan.key.namespace)
    if has_metrics(plan) and metrics_port(plan) != http:
        ports.append({"name": "metrics", "containerPort": metrics_port(plan)})
        arguments.append(f"--metrics-port={metrics_port(plan)}")
    resources = plan.workload.get("resources") or settings.resources
    container = pod.container(settings, arguments, ports, [mounted, *pod.MOUNTS, *mounts], resources)
    container |= pod.probes(plan.workload.get("healthCheck", {}), http)
    if env := plan.workload.get("env"):
        container["env"] = env
    return container
