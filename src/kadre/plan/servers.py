"""KAOS's ModelAPI and MCPServer where servers have pods of their own: what is run, and what is not built yet."""

from __future__ import annotations

from typing import Any

from kadre.api.dialects.kaos import MCPServer, ModelAPI, ProxyConfig
from kadre.api.dialects.kaos_parts import Workload
from kadre.api.parts import EnvVar
from kadre.plan import keys
from kadre.plan.draft import Entry, Place
from kadre.plan.names import server_name
from kadre.plan.providers import PROVIDERS, is_own_address
from kadre.plan.types import LaunchPlan, Provider, ProxyRoute, SecretRef, ServerPlan
from kadre.plan.work import Work

PORT = 8000
"""Where a server of tools answers, at `/mcp`, and a proxy of models."""
OLLAMA_PORT = 11434
MASTER_KEY = "LITELLM_MASTER_KEY"
"""Of a proxy: what holds the key that it wants from whoever calls it, where its author writes one."""
KEY_VARIABLE = "PROXY_API_KEY"
"""Of a proxy: what holds the key that its author names."""

LITELLM: dict[str, Provider] = {
    "anthropic": "anthropic",
    "bedrock": "bedrock",
    "custom_openai": "openai",
    "hosted_vllm": "vllm",
    "litellm_proxy": "openai",
    "ollama": "ollama",
    "ollama_chat": "ollama",
    "openai": "openai",
    "openai_like": "openai",
    "vllm": "vllm",
}
"""LiteLLM's names of providers -> ours."""
_PREFIXES = LITELLM.keys() | {
    *(
        "azure",
        "azure_ai",
        "cerebras",
        "cohere",
        "databricks",
        "deepinfra",
        "deepseek",
        "fireworks_ai",
        "gemini",
        "groq",
    ),
    *("huggingface", "lm_studio", "mistral", "nvidia_nim", "openrouter", "perplexity", "replicate", "sagemaker"),
    *("sambanova", "together_ai", "vertex_ai", "watsonx", "xai"),
}
"""What a model's name may begin with that says to LiteLLM whose it is."""
_BASES: dict[Provider, set[str]] = {
    "anthropic": {"ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"},
    "bedrock": {"AWS_BEDROCK_RUNTIME_ENDPOINT"},
    "ollama": {"OLLAMA_API_BASE"},
    "openai": {"OPENAI_API_BASE", "OPENAI_BASE_URL"},
    "vllm": {"HOSTED_VLLM_API_BASE", "VLLM_API_BASE"},
}
"""Variables by which an author tells LiteLLM where a provider is."""


def server_plan(work: Work, server: ModelAPI | MCPServer) -> ServerPlan | None:
    """What pods of its own run; None where there are none for it, or nothing that could be run in them."""
    if not work.served(server, port_of(server)):
        return None
    if server.spec.pod_spec:
        work.not_yet("podSpec is not supported yet: pods are as they would be without it")
    if server.spec.gateway_route:
        work.not_yet(f"gatewayRoute of a {server.kind} is not supported yet: it is reached inside the cluster alone")
    return _models(work, server) if isinstance(server, ModelAPI) else _tools(work, server)


def port_of(server: ModelAPI | MCPServer) -> int:
    """Where its pods answer."""
    return OLLAMA_PORT if isinstance(server, ModelAPI) and server.spec.mode == "Hosted" else PORT


def master_key(work: Work, api: ModelAPI) -> SecretRef | None:
    """The key that a proxy wants from agents; None where it wants none."""
    entry = _variable(api, MASTER_KEY)
    source = entry.value.value_from if entry else None
    if entry is None or source is None or source.secret_key_ref is None:
        return None
    return work.secret(entry.place.below("valueFrom.secretKeyRef"), source.secret_key_ref)


def _variable(api: ModelAPI, name: str) -> Entry[EnvVar] | None:
    """The variable of a proxy of that name: what is said of its container wins, as in its pods."""
    proxy, container = api.spec.proxy_config, api.spec.container
    written = [
        *_env(Place(api, "spec.proxyConfig.env"), proxy.env if proxy else None),
        *_env(Place(api, "spec.container.env"), container.env if container else None),
    ]
    return next((entry for entry in reversed(written) if entry.value.name == name), None)


def unbuilt(server: MCPServer) -> str:
    """Why nothing can be run of a server of tools; empty where something can."""
    config = server.spec.config
    if server.spec.type == "node-runtime" and not _image(server):
        return "MCP servers that are npm packages are not supported on a cluster yet"
    if server.spec.type == "custom" and not _image(server) and not config.tools and not config.mcp:
        return "an MCPServer of type custom needs an image"
    return ""


def _models(work: Work, api: ModelAPI) -> ServerPlan | None:
    spec = api.spec
    if spec.hosted_config is not None:
        place = Place(api, "spec.hostedConfig.env")
        return _plan(
            work,
            api,
            "ollama",
            _env(place, spec.hosted_config.env),
            model=spec.hosted_config.model.removeprefix("ollama/"),
        )
    proxy = spec.proxy_config
    if proxy is None:
        return None
    env = _env(Place(api, "spec.proxyConfig.env"), proxy.env)
    own = proxy.config_yaml
    container = api.spec.container
    written = {each.name for each in (*(proxy.env or ()), *((container.env if container else None) or ()))}
    secrets = _keys(work, api, proxy, written) if own is None else {}
    _master(work, api, lent=bool(secrets) and proxy.api_key is None)
    if own is not None:
        file = None
        if own.from_secret_key_ref is not None:
            file = work.secret(Place(api, "spec.proxyConfig.configYaml.fromSecretKeyRef"), own.from_secret_key_ref)
        return _plan(work, api, "litellm", env, config=own.from_string or "", file=file)
    named = KEY_VARIABLE if KEY_VARIABLE in secrets else ""
    routes = []
    for name in _names(proxy):
        model = _litellm(name, proxy)
        routes.append(ProxyRoute(name=name, model=model, key=named, api_base=_base(work, model, proxy, written)))
    return _plan(work, api, "litellm", env, routes=tuple(routes), secret_env=secrets)


def _master(work: Work, api: ModelAPI, *, lent: bool) -> None:
    """Whether a proxy wants a key of whoever calls it, and agents can be given it. Who is `lent` the installation's
    keys has to.
    """
    entry, own = _variable(api, MASTER_KEY), api.spec.proxy_config and api.spec.proxy_config.config_yaml
    source = entry.value.value_from.secret_key_ref if entry is not None and entry.value.value_from is not None else None
    surely = entry is not None and not (lent and source is not None and source.optional)
    if not surely and own is None:
        whose = "the keys of this installation" if lent else "the keys that it has"
        message = f"whoever reaches the proxy {api.name} inside the cluster may use it, with {whose}"
        fix = f"write {MASTER_KEY} in proxyConfig.env, out of a Secret that is not optional: agents send it too"
        work.problem(Place(api, "spec.proxyConfig"), "OpenProxy", message, fix, "error" if lent else "warning")
    if entry is None or source is not None:
        return
    where = "in the manifest" if entry.value.value_from is None else "in no Secret"
    message = f"the key that the proxy {api.name} wants is {where}: everybody can read it, and agents are not given it"
    fix = f"put it into a Secret, and write {MASTER_KEY} with valueFrom: {{secretKeyRef: {{name: …, key: …}}}}"
    work.problem(entry.place, "SecretInManifest", message, fix)


def _names(proxy: ProxyConfig) -> list[str]:
    """The models that it serves, each once; any where none is named."""
    return list(dict.fromkeys(proxy.models or ["*"]))


def _litellm(name: str, proxy: ProxyConfig) -> str:
    """The model in LiteLLM's words. A name alone is one of OpenAI's; behind an address, a first part that is no
    provider's name is the model's too."""
    provider = proxy.provider
    if provider:
        return name if name.startswith(f"{provider}/") else f"{provider}/{name}"
    prefix, _, rest = name.partition("/")
    alone = not rest and not name.startswith("*")
    return f"openai/{name}" if alone or (proxy.api_base and not (rest and prefix in _PREFIXES)) else name


def _base(work: Work, model: str, proxy: ProxyConfig, written: set[str]) -> str:
    """Where LiteLLM asks for the model: where its author says, else where the installation has the provider."""
    if proxy.api_base:
        return proxy.api_base.rstrip("/")
    prefix = model.partition("/")[0]
    provider = LITELLM.get(prefix)
    if provider is None or written & _BASES[provider]:
        return ""
    address = keys.endpoint(work, provider, None)
    if not address or is_own_address(provider, address):
        return ""
    # To these LiteLLM adds the version by itself.
    return address.removesuffix("/v1") if provider in ("anthropic", "ollama") else address


def _keys(work: Work, api: ModelAPI, proxy: ProxyConfig, written: set[str]) -> dict[str, SecretRef]:
    """Keys of the providers behind it: the one its author names, else those of the installation."""
    place = Place(api, "spec.proxyConfig.apiKey")
    if proxy.api_key is not None:
        source = proxy.api_key.value_from
        if source is not None and source.secret_key_ref is not None:
            return {KEY_VARIABLE: work.secret(place.below("valueFrom.secretKeyRef"), source.secret_key_ref)}
        where = "in the manifest" if proxy.api_key.value is not None else "in a ConfigMap"
        message = f"the API key of ModelAPI {api.name} is {where}, where everybody can read it: it is not used"
        fix = "put it into a Secret, and write apiKey: {valueFrom: {secretKeyRef: {name: …, key: …}}}"
        work.problem(place, "SecretInManifest", message, fix)
        return {}
    found: dict[str, SecretRef] = {}
    for name in _names(proxy):
        provider = LITELLM.get(_litellm(name, proxy).partition("/")[0])
        variable = PROVIDERS[provider].key_env if provider else ""
        if provider is None or not variable or variable in written or variable in found:
            continue
        field = "apiKey.valueFrom.secretKeyRef:"
        ref = keys.default_key(work, Place(api, "spec.proxyConfig"), provider, proxy.api_base, field)
        if ref is not None and ref.name:
            found[variable] = ref
    any_ones = [name for name in _names(proxy) if _litellm(name, proxy).startswith("*")]
    if any_ones and not any(name.endswith("_API_KEY") or name.startswith("AWS_") for name in written):
        message = f"the proxy {api.name} has no key for {any_ones[0]}: whose models these are is not said"
        fix = "write provider:, or the provider before the models, as in openai/*; or have its key in proxyConfig.env"
        work.problem(Place(api, "spec.proxyConfig.models"), "NoProvider", message, fix, "warning")
    return found


def _tools(work: Work, server: MCPServer) -> ServerPlan | None:
    lacking = unbuilt(server)
    if lacking:
        work.not_yet(f"{lacking}: nothing is run")
        return None
    config = server.spec.config
    env = _env(Place(server, "spec.config.env"), config.env)
    if config.telemetry is not None and config.telemetry.enabled:
        work.not_yet("tracing of MCP servers is not supported yet")
    if _image(server):
        return _plan(work, server, "image", env)
    tools = config.tools
    if tools is not None and tools.from_secret_key_ref is not None:
        file = work.secret(Place(server, "spec.config.tools.fromSecretKeyRef"), tools.from_secret_key_ref)
        return _plan(work, server, "launch", env, launch=LaunchPlan(kind="source"), file=file)
    if tools is not None and tools.from_string is not None:
        return _plan(work, server, "launch", env, launch=LaunchPlan(kind="source", source=tools.from_string))
    package = config.mcp or (tools.from_package if tools else None) or ""
    return _plan(work, server, "launch", env, launch=LaunchPlan(kind="package", package=package))


def _image(server: MCPServer) -> str:
    container = server.spec.container
    return server.spec.config.image or (container.image if container else None) or ""


def _env(place: Place, written: list[EnvVar] | None) -> list[Entry[EnvVar]]:
    return [Entry(place.item(number), item) for number, item in enumerate(written or ())]


def _plan(work: Work, server: ModelAPI | MCPServer, kind: Any, env: list[Entry[EnvVar]], **fields: Any) -> ServerPlan:
    spec: Workload = server.spec
    container = spec.container
    if container is not None:
        env = [*env, *_env(Place(server, "spec.container.env"), container.env)]
    work.env(env)  # for what is missing: pods read them from where they are
    resources = (container.resources if container else None) or spec.resources
    image = _image(server) if isinstance(server, MCPServer) else (container.image if container else None)
    said = {
        "env": [_json(item) for _, item in env],
        "replicas": spec.replicas,
        "resources": _json(resources) if resources is not None else None,
        "image": image,
        "command": container.command if container else None,
        "args": container.args if container else None,
    }
    return ServerPlan(
        type=kind,
        service=server_name(server.kind, server.name),
        namespace=server.namespace,
        name=server.name,
        url=work.served(server, port_of(server)) + ("/mcp" if isinstance(server, MCPServer) else ""),
        labels=server.metadata.labels,
        workload={name: value for name, value in said.items() if value not in (None, "", [])},
        **fields,
    )


def _json(value: Any) -> Any:
    return value.model_dump(by_alias=True, exclude_none=True, mode="json")
