"""An MCPServer's objects: the author's functions or a package behind our bridge, or an image that serves by itself."""

from __future__ import annotations

import msgspec

from kadre.base.urls import without_login
from kadre.kube.kinds import Object
from kadre.operator.children import server
from kadre.operator.children.common import Child, Settings
from kadre.operator.children.server import CONFIG_FOLDER, CONFIG_VOLUME, FILE_FOLDER, Pod, ServerOwner
from kadre.plan.servers import PORT
from kadre.plan.types import LaunchPlan, ServerPlan

LAUNCH = "launch.json"
INSTALL = "install"
"""The container whose last words are the version that it has installed."""
CA = "ca.crt"
CACHE = "/var/cache/kadre"
CACHE_SIZE = "1Gi"
_RESOURCES: Object = {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}}
# The functions have a gigabyte of address space, of which they use little.
_IMAGE: Object = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}


def children(owner: ServerOwner, settings: Settings, pinned: str = "") -> list[Child]:
    """What pods need comes before the Deployment that makes them.

    `pinned`: the package in the version that was resolved first. It is in what pods read and not in what rolls them:
    those that run have it already.
    """
    plan = owner.plan
    if plan.launch is None:
        pod = Pod(name="server", image=plan.workload["image"], port=PORT, resources=_IMAGE, env={"PORT": str(PORT)})
        return [server.service(owner, PORT), server.deployment(owner, settings, pod)]
    launch = plan.launch
    data = _data(launch, settings)
    at_pin = _data(msgspec.structs.replace(launch, package=pinned), settings) if pinned else data
    made = [server.config_map(owner, at_pin), server.service(owner, PORT)]
    return [*made, server.deployment(owner, settings, _bridge(owner, settings), data)]


def _data(launch: LaunchPlan, settings: Settings) -> dict[str, str]:
    data = {LAUNCH: msgspec.json.encode(launch, order="deterministic").decode()}
    return {**data, CA: settings.packages.ca} if launch.kind == "package" and settings.packages.ca else data


def _bridge(owner: ServerOwner, settings: Settings) -> Pod:
    plan = owner.plan
    words = ["tools", f"--launch={CONFIG_FOLDER}/{LAUNCH}"]
    config: Object = {"name": CONFIG_VOLUME, "mountPath": CONFIG_FOLDER, "readOnly": True}
    volumes: list[Object] = [{"name": CONFIG_VOLUME, "configMap": {"name": plan.service}}]
    serve = [*words, f"--port={PORT}"]
    if plan.file is not None:
        serve.append(f"--source={FILE_FOLDER}/{plan.file.key}")
    serve += [f"--env={each['name']}" for each in plan.workload.get("env") or ()]
    mounts, env, before = [config], {}, []
    if plan.launch is not None and plan.launch.kind == "package":
        cache: Object = {"name": "cache", "mountPath": CACHE}
        volumes.append({"name": "cache", "emptyDir": {"sizeLimit": CACHE_SIZE}})
        mounts.append(cache)
        env = _package_env(settings, without_login(settings.packages.index_url))
        before = [_install(plan, settings, [*words, "--install"], [config, cache])]
    return Pod(
        name="tools",
        image=settings.image,
        port=PORT,
        resources=_RESOURCES,
        args=serve,
        env=env,
        probe={"httpGet": {"path": "/health", "port": "http"}},
        volumes=volumes,
        mounts=mounts,
        before=before,
    )


def _install(plan: ServerPlan, settings: Settings, words: list[str], mounts: list[Object]) -> Object:
    """Says as its last words which version it has installed; where it could not, why."""
    env = {"HOME": server.HOME, **_package_env(settings, settings.packages.index_url)}
    return {
        "name": INSTALL,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "args": words,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": plan.workload.get("resources") or _RESOURCES,
        "securityContext": server.restricted(),
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "volumeMounts": [
            {"name": "home", "mountPath": server.HOME},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
            *mounts,
        ],
    }


def _package_env(settings: Settings, index: str) -> dict[str, str]:
    """What uv is told where it installs, and where it runs what it finds in its cache: that is kept by index."""
    env = {"UV_CACHE_DIR": f"{CACHE}/uv", "UV_PYTHON_DOWNLOADS": "never"}
    if index:
        env["UV_DEFAULT_INDEX"] = index
    return {**env, "SSL_CERT_FILE": f"{CONFIG_FOLDER}/{CA}"} if settings.packages.ca else env
