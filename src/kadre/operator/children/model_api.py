"""A ModelAPI's objects: a LiteLLM that passes requests on, or an Ollama that serves a model."""

from __future__ import annotations

import msgspec

from kadre.kube.kinds import Object
from kadre.operator.children import server
from kadre.operator.children.common import Child, Settings
from kadre.operator.children.server import CONFIG_FOLDER, CONFIG_VOLUME, FILE_FOLDER, Pod, ServerOwner
from kadre.plan.servers import MASTER_KEY, OLLAMA_PORT, PORT
from kadre.plan.types import ServerPlan

LITELLM_FILE = "config.yaml"
PULLED = "/pulled"
"""Where a model is kept that the image lacks: it goes with the pod."""
_LITELLM: Object = {"requests": {"cpu": "100m", "memory": "384Mi"}, "limits": {"memory": "1Gi"}}
_OLLAMA: Object = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "8Gi"}}
# The image's own models are used where the one that is asked for is among them; else it is pulled beside them.
_PULL = f"""
ollama serve >/tmp/serve.log 2>&1 & server=$!
tries=0
until ollama list >/dev/null 2>&1; do
  tries=$((tries + 1)); [ "$tries" -lt 120 ] || {{ tail -n 5 /tmp/serve.log >&2; exit 1; }}; sleep 0.5
done
if ollama show "$MODEL" >/dev/null 2>&1; then echo "the image has $MODEL"; exit 0; fi
kill "$server"; wait "$server" || true
export OLLAMA_MODELS={PULLED}
ollama serve >/tmp/serve.log 2>&1 &
until ollama list >/dev/null 2>&1; do sleep 0.5; done
echo "pulling $MODEL"
ollama pull "$MODEL" >/tmp/pull.log 2>&1 || {{ echo "error: the model $MODEL cannot be pulled:" \\
  "$(tr '\\r' '\\n' </tmp/pull.log | grep -a . | tail -n 1)" >&2; exit 1; }}
"""
_SERVE = f"if [ -d {PULLED}/manifests ]; then export OLLAMA_MODELS={PULLED}; fi; exec ollama serve"


def children(owner: ServerOwner, settings: Settings) -> list[Child]:
    """What pods need comes before the Deployment that makes them."""
    if owner.plan.type == "ollama":
        return [server.service(owner, OLLAMA_PORT), server.deployment(owner, settings, _ollama(owner, settings))]
    data = {} if owner.plan.file is not None else {LITELLM_FILE: _config(owner.plan)}
    made = [server.config_map(owner, data)] if data else []
    pod = _litellm(owner.plan, settings)
    return [*made, server.service(owner, PORT), server.deployment(owner, settings, pod, data)]


def _config(plan: ServerPlan) -> str:
    """LiteLLM's configuration, as YAML. Keys are named in it and never written."""
    if plan.config:
        return plan.config
    models = []
    variables = {*plan.secret_env, *(each["name"] for each in plan.workload.get("env") or ())}
    for route in plan.routes:
        given = {"model": route.model}
        if route.api_base:
            given["api_base"] = route.api_base
        if route.key:
            given["api_key"] = f"os.environ/{route.key}"
        elif route.api_base and route.model.startswith("openai/") and "OPENAI_API_KEY" not in variables:
            given["api_key"] = "none"  # OpenAI's client asks for one, whatever the server behind it wants
        models.append({"model_name": route.name, "litellm_params": given})
    config = {"model_list": models, "litellm_settings": {"drop_params": True}}
    return msgspec.json.format(msgspec.json.encode(config)).decode()  # JSON is YAML, and quotes what must be


def _litellm(plan: ServerPlan, settings: Settings) -> Pod:
    if plan.file is not None:
        volumes, mounts, file = [], [], f"{FILE_FOLDER}/{plan.file.key}"
    else:
        volumes = [{"name": CONFIG_VOLUME, "configMap": {"name": plan.service}}]
        mounts = [{"name": CONFIG_VOLUME, "mountPath": CONFIG_FOLDER, "readOnly": True}]
        file = f"{CONFIG_FOLDER}/{LITELLM_FILE}"
    return Pod(
        name="litellm",
        image=plan.workload.get("image") or settings.images.litellm,
        port=PORT,
        resources=_LITELLM,
        args=["--config", file, "--host", "0.0.0.0", "--port", str(PORT)],  # noqa: S104 - a pod is reached from outside
        # Prices of models come with it: it would ask the internet for newer ones at every start.
        env={"LITELLM_LOCAL_MODEL_COST_MAP": "True", **_open(plan)},
        probe={"httpGet": {"path": "/health/liveliness", "port": "http"}},
        volumes=volumes,
        mounts=mounts,
    )


def _open(plan: ServerPlan) -> dict[str, str]:
    """It starts without a key that callers must show only where it is told so."""
    named = {each["name"] for each in plan.workload.get("env") or ()}
    return {} if MASTER_KEY in named else {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}


def _ollama(owner: ServerOwner, settings: Settings) -> Pod:
    plan = owner.plan
    image = plan.workload.get("image") or settings.images.ollama
    pulled = {"name": "pulled", "mountPath": PULLED}
    env = {"OLLAMA_HOST": f"0.0.0.0:{OLLAMA_PORT}", "OLLAMA_NOPRUNE": "1"}
    pull: Object = {
        "name": "pull",
        "image": image,
        "imagePullPolicy": settings.pull_policy,
        "command": ["/bin/sh", "-c", _PULL],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": plan.workload.get("resources") or _OLLAMA,
        "securityContext": server.restricted(read_only=False),
        "env": server.environment(
            owner, {"HOME": server.HOME, "OLLAMA_NOPRUNE": "1", "OLLAMA_HOST": "127.0.0.1", "MODEL": plan.model}
        ),
        "volumeMounts": [
            {"name": "home", "mountPath": server.HOME},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
            pulled,
        ],
    }
    return Pod(
        name="ollama",
        image=image,
        port=OLLAMA_PORT,
        resources=_OLLAMA,
        command=["/bin/sh", "-c", _SERVE],
        env=env,
        probe={"httpGet": {"path": "/", "port": "http"}},
        volumes=[{"name": "pulled", "emptyDir": {}}],
        mounts=[pulled],
        before=[pull],
    )
