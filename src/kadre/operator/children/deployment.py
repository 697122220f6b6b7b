"""The Deployment that runs an agent."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from kadre.kube.kinds import DEPLOYMENT, Object
from kadre.operator.children import environment, journal, plan_map, secrets
from kadre.operator.children.common import HTTP_PORT, Child, Owner, Settings, has_metrics, metrics_port, selector
from kadre.operator.children.service_account import account_name
from kadre.plan.types import AgentPlan

CONTAINER = "agent"
"""The container that is ours, where others put theirs beside it."""
HEALTH_PATH = "/health"
TEMPLATE_HASH = "kagent.dev/template-hash"
HASH_LENGTH = 12
PLAN_VOLUME = "plan"
PLAN_FOLDER = "/etc/kadre"
LOGGING = "agent-logging-config"
"""The ConfigMap of a namespace that says how its agents log, as the documents name it; read again as it changes."""
LOGGING_FOLDER = "/etc/kadre-logging"
LOGGING_KEY = "logging.yaml"
GATEWAY_KEYS = "kadre-gateway-keys"
"""The ConfigMap of a namespace with the public keys of the gateway, whose word on who is calling its agents believe."""
GATEWAY_FOLDER = "/etc/kadre-gateway"
DATA_FOLDER = "/var/lib/kadre"
DRAIN_SECONDS = 15
"""On top of a run's deadline, that a pod is given to end."""
USER = 10001
"""Neither root nor anybody else in the image."""
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


def template_hash(template: Object) -> str:
    """The hash a pod template of ours carries; empty for one that is not ours."""
    annotations = template["metadata"].get("annotations") or {}
    found: str = annotations.get(TEMPLATE_HASH, "")
    return found


def plan_name(template: Object) -> str:
    """The name of the ConfigMap a pod template of ours takes its plan from; empty for one that is not ours."""
    volumes = template["spec"].get("volumes") or ()
    found: str = next(
        (each.get("configMap", {}).get("name", "") for each in volumes if each["name"] == PLAN_VOLUME), ""
    )
    return found


def _template(owner: Owner, settings: Settings) -> Object:
    """The pod template. It carries a hash of itself, by which an earlier one is known again after `rollout undo`."""
    labels, pod = owner.metadata("")["labels"], _pod(owner.plan, settings)
    said = hashlib.sha256(msgspec.json.encode([labels, pod], order="deterministic")).hexdigest()
    annotations = {TEMPLATE_HASH: said[:HASH_LENGTH]}
    if owner.environment:
        annotations[environment.ANNOTATION] = owner.environment
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod}


def _pod(plan: AgentPlan, settings: Settings) -> Object:
    secret_volumes, secret_mounts = secrets.volumes(plan)
    if given := journal.installed(plan, settings):
        secret_volumes.append(journal.volume(given))
    pod: Object = {
        "serviceAccountName": account_name(plan),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": int(plan.limits.deadline) + DRAIN_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(plan, settings, secret_mounts)],
        "volumes": [
            {"name": PLAN_VOLUME, "configMap": {"name": plan_map.name_of(plan)}},
            {"name": "data", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "logging", "configMap": {"name": LOGGING, "optional": True}},
            # Whether there is a gateway or not: a pod is none the worse for it, and stays as it is when there is one.
            {"name": "gateway", "configMap": {"name": GATEWAY_KEYS, "optional": True}},
            *secret_volumes,
        ],
    }
    if settings.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in settings.pull_secrets]
    if settings.node_selector:
        pod["nodeSelector"] = dict(settings.node_selector)
    return pod


def _container(plan: AgentPlan, settings: Settings, mounts: Sequence[Object]) -> Object:
    ports = [{"name": "http", "containerPort": HTTP_PORT}]
    arguments = ["host", f"--plan={PLAN_FOLDER}/{plan_map.KEY}", f"--port={HTTP_PORT}", f"--data-dir={DATA_FOLDER}"]
    arguments += [f"--logging={LOGGING_FOLDER}/{LOGGING_KEY}", f"--gateway-keys={GATEWAY_FOLDER}"]
    if journal.installed(plan, settings):
        mounts = [*mounts, journal.mount()]
        arguments.append(f"--journal={journal.FOLDER}")
    if has_metrics(plan) and metrics_port(plan) != HTTP_PORT:
        ports.append({"name": "metrics", "containerPort": metrics_port(plan)})
        arguments.append(f"--metrics-port={metrics_port(plan)}")
    container: Object = {
        "name": CONTAINER,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "args": arguments,
        "ports": ports,
        # Its status says the last words of one that fails.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": plan.workload.get("resources") or settings.resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": PLAN_VOLUME, "mountPath": PLAN_FOLDER, "readOnly": True},
            {"name": "data", "mountPath": DATA_FOLDER},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
            {"name": "logging", "mountPath": LOGGING_FOLDER, "readOnly": True},
            {"name": "gateway", "mountPath": GATEWAY_FOLDER, "readOnly": True},
            *mounts,
        ],
        **_probes(plan.workload.get("healthCheck", {})),
    }
    if env := plan.workload.get("env"):
        container["env"] = env
    return container


def _probes(wanted: Object) -> Object:
    """Liveness as the author writes it; readiness and start are looked at more often, so that a rollout is quick."""
    if wanted.get("enabled") is False:
        return {}
    port = wanted.get("port", HTTP_PORT)
    asked = {"path": wanted.get("path", HEALTH_PATH), "port": "http" if port == HTTP_PORT else port}
    timeout, failures = wanted.get("timeoutSeconds", 5), wanted.get("failureThreshold", 3)
    liveness = {
        "httpGet": asked,
        "initialDelaySeconds": wanted.get("initialDelaySeconds", 10),
        "periodSeconds": wanted.get("periodSeconds", 30),
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }
    readiness = {"httpGet": asked, "periodSeconds": 5, "timeoutSeconds": timeout, "failureThreshold": failures}
    start = {"httpGet": asked, "periodSeconds": 1, "timeoutSeconds": timeout, "failureThreshold": 60}
    return {"livenessProbe": liveness, "readinessProbe": readiness, "startupProbe": start}
