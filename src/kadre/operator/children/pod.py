"""What the pods of an agent and those of a pool have in common: as whom they run, what they may, how they are asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from kadre.kube.kinds import Object
from kadre.operator.children.common import CODE_AUDIENCE, GATEWAY_AUDIENCE, HTTP_PORT, Settings

CONTAINER = "agent"
"""The container that is ours, where others put theirs beside it."""
HEALTH_PATH = "/health"
TEMPLATE_HASH = "kagent.dev/template-hash"
HASH_LENGTH = 12
LOGGING = "agent-logging-config"
"""The ConfigMap of a namespace that says how its agents log, as the documents name it; read again as it changes."""
LOGGING_FOLDER = "/etc/kadre-logging"
LOGGING_KEY = "logging.yaml"
GATEWAY_KEYS = "kadre-gateway-keys"
"""The ConfigMap of a namespace with the public keys of the gateway, whose word on who is calling its agents believe."""
GATEWAY_FOLDER = "/etc/kadre-gateway"
DATA_FOLDER = "/var/lib/kadre"
TOKEN_FOLDER = "/var/run/kadre/gateway"  # noqa: S105 - a place
TOKEN_LIFE = 3600
"""Seconds for which it holds; the kubelet brings another one before that."""


def _token(name: str, audience: str) -> Object:
    """A volume with a token that says to somebody, and to nobody else, whose pod it is."""
    claims = {"audience": audience, "expirationSeconds": TOKEN_LIFE, "path": "token"}
    return {"name": name, "projected": {"sources": [{"serviceAccountToken": claims}]}}


TOKEN = _token("gateway-token", GATEWAY_AUDIENCE)
"""For the gateway."""
TOKEN_MOUNT: Object = {"name": "gateway-token", "mountPath": TOKEN_FOLDER, "readOnly": True}
CODE_RUNNER = "kagent-code-runner"
"""The name of what runs the code of models, in every namespace that has some to run. It is the namespace's and no
agent's, so it is called by the API's name; an agent that has this name is told that it is taken."""
CODE_TOKEN_FOLDER = "/var/run/kadre/code-runner"  # noqa: S105 - a place
CODE_TOKEN = _token("code-runner-token", CODE_AUDIENCE)
"""For the code runner."""
CODE_TOKEN_MOUNT: Object = {"name": "code-runner-token", "mountPath": CODE_TOKEN_FOLDER, "readOnly": True}
USER = 10001
"""Neither root nor anybody else in the image."""
_ARGUMENTS = (
    f"--data-dir={DATA_FOLDER}",
    *(f"--logging={LOGGING_FOLDER}/{LOGGING_KEY}", f"--gateway-keys={GATEWAY_FOLDER}"),
)
VOLUMES: tuple[Object, ...] = (
    {"name": "data", "emptyDir": {}},
    {"name": "tmp", "emptyDir": {}},
    {"name": "logging", "configMap": {"name": LOGGING, "optional": True}},
    # Whether there is a gateway or not: a pod is none the worse for it, and stays as it is when there is one.
    {"name": "gateway", "configMap": {"name": GATEWAY_KEYS, "optional": True}},
)
MOUNTS: tuple[Object, ...] = (
    {"name": "data", "mountPath": DATA_FOLDER},
    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
    {"name": "logging", "mountPath": LOGGING_FOLDER, "readOnly": True},
    {"name": "gateway", "mountPath": GATEWAY_FOLDER, "readOnly": True},
)


def arguments(settings: Settings, http: int = HTTP_PORT) -> list[str]:
    """What whatever serves agents in a pod is told. `http`: where it answers."""
    return [f"--port={http}", *_ARGUMENTS, *[f"--webhook-network={network}" for network in settings.webhook_networks]]


def to_ask(settings: Settings) -> list[str]:
    """What it is told besides where its agents ask others: TOKEN is mounted at TOKEN_MOUNT then."""
    return [f"--gateway-url={settings.gateway_url}", f"--gateway-token={TOKEN_FOLDER}/token"]


def code_selector() -> Object:
    """By which the code runner's pods are found."""
    return {"matchLabels": {"app": CODE_RUNNER}}


def to_run_code(namespace: str) -> list[str]:
    """What it is told where its code is run: CODE_TOKEN is mounted at CODE_TOKEN_MOUNT then."""
    url = f"http://{CODE_RUNNER}.{namespace}.svc:{HTTP_PORT}"
    return [f"--code-runner={url}", f"--code-runner-token={CODE_TOKEN_FOLDER}/token"]


def template(labels: Mapping[str, str], spec: Object, annotations: Mapping[str, str] | None = None) -> Object:
    """A pod template. It carries a hash of itself, by which an earlier one is known again after `rollout undo`.

    `annotations` are no part of what is hashed.
    """
    said = hashlib.sha256(msgspec.json.encode([labels, spec], order="deterministic")).hexdigest()
    noted = {TEMPLATE_HASH: said[:HASH_LENGTH], **(annotations or {})}
    return {"metadata": {"labels": labels, "annotations": noted}, "spec": spec}


def template_hash(template: Object) -> str:
    """The hash a pod template of ours carries; empty for one that is not ours."""
    annotations = template["metadata"].get("annotations") or {}
    found: str = annotations.get(TEMPLATE_HASH, "")
    return found


def has_code_run(template: Object) -> bool:
    """Whether pods of that template, of ours, know the code runner."""
    volumes = template.get("spec", {}).get("volumes") or ()
    return any(each.get("name") == CODE_TOKEN["name"] for each in volumes)


def pod(settings: Settings, account: str, grace: int, container: Object, volumes: Sequence[Object]) -> Object:
    """What is in a pod template. `grace`: seconds it is given to end."""
    made: Object = {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": list(volumes),
    }
    if settings.pull_secrets:
        made["imagePullSecrets"] = [{"name": name} for name in settings.pull_secrets]
    if settings.node_selector:
        made["nodeSelector"] = dict(settings.node_selector)
    return made


def container(
    settings: Settings, arguments: Sequence[str], ports: Sequence[Object], mounts: Sequence[Object], resources: Object
) -> Object:
    """Our container. `arguments`: the command's words."""
    return {
        "name": CONTAINER,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "args": list(arguments),
        "ports": list(ports),
        # Its status says the last words of one that fails.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": list(mounts),
    }


def probes(wanted: Object, http: int = HTTP_PORT) -> Object:
    """Liveness as the author writes it; readiness and start are looked at more often, so that a rollout is quick."""
    if wanted.get("enabled") is False:
        return {}
    port = wanted.get("port", http)
    asked = {"path": wanted.get("path", HEALTH_PATH), "port": "http" if port == http else port}
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
