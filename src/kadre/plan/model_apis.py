"""KAOS's way to a model: a ModelAPI, and a name among those it offers.

`mode: Hosted` is an Ollama. `mode: Proxy` is a LiteLLM where servers have pods of their own; elsewhere it is planned as
the server behind the proxy, in the provider's own API where LiteLLM's name of it is known.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal

from kadre.api.dialects.kaos import KaosAgent, ModelAPI, ProxyConfig
from kadre.base.problems import did_you_mean
from kadre.plan import keys, servers
from kadre.plan.draft import Entry, Place
from kadre.plan.servers import LITELLM
from kadre.plan.types import ModelPlan, Provider, SecretRef
from kadre.plan.work import Work

_ToolCalls = Literal["auto", "native", "shim"]
_TOOL_CALLS: dict[str, _ToolCalls] = {"auto": "auto", "native": "native", "string": "shim"}


def model_plan(work: Work, agent: KaosAgent, named: Entry[str] | None) -> ModelPlan | None:
    """The model of a KAOS agent; `named`: the one its environment names, if any."""
    place = Place(agent, "spec.modelAPI")
    fix = f"create a ModelAPI named {agent.spec.model_api}, or name another one"
    api = work.reference(ModelAPI, place, agent.spec.model_api, fix)
    if api is None:
        return None
    if agent.spec.model:
        named = Entry(Place(agent, "spec.model"), agent.spec.model)
    mode = (agent.spec.config.tool_call_mode if agent.spec.config else None) or "auto"
    if api.spec.mode == "Hosted":
        return _hosted(work, api, named, _TOOL_CALLS[mode])
    return _proxied(work, api, named or Entry(place, ""), _TOOL_CALLS[mode])


def check(work: Work, api: ModelAPI) -> None:
    """What is wrong with a ModelAPI by itself, for an agent that names no model."""
    if api.spec.mode == "Proxy" and api.spec.proxy_config is not None and not _pods(work, api):
        concrete = [model for model in api.spec.proxy_config.models or () if "*" not in model]
        if concrete:
            _proxied(work, api, Entry(Place(api, "spec.proxyConfig.models"), concrete[0]), "auto")


def _pods(work: Work, api: ModelAPI) -> str:
    """Where its own pods answer; empty where it has none: there the server behind a proxy is called."""
    return work.served(api, servers.port_of(api))


def _hosted(work: Work, api: ModelAPI, named: Entry[str] | None, tool_calls: _ToolCalls) -> ModelPlan | None:
    hosted = api.spec.hosted_config
    if hosted is None:
        return None  # told when the ModelAPI itself was checked
    model = hosted.model.removeprefix("ollama/")
    if named is not None and _tagged(named.value) != _tagged(model):
        _not_offered(work, api, named, [model])
        return None
    pods = _pods(work, api)
    endpoint = f"{pods}/v1" if pods else keys.endpoint(work, "ollama", None)
    return ModelPlan(provider="ollama", model=model, endpoint=endpoint, tool_calls=tool_calls, hosted=not pods)


def _tagged(model: str) -> str:
    """The name with its tag: Ollama takes `llama3.2` for `llama3.2:latest`."""
    plain = model.removeprefix("ollama/")
    return plain if ":" in plain else f"{plain}:latest"


def _proxied(work: Work, api: ModelAPI, named: Entry[str], tool_calls: _ToolCalls) -> ModelPlan | None:
    proxy = api.spec.proxy_config
    if proxy is None:
        return None
    offered = proxy.models or []
    name = named.value or next((model for model in offered if "*" not in model), "")
    if not name:
        fix = "write model: in the agent, or list the model in the ModelAPI's proxyConfig.models"
        work.problem(named.place, "MissingModel", f"neither the agent nor ModelAPI {api.name} names a model", fix)
        return None
    if named.value and offered:
        found = _offer(name, offered, proxy.provider)
        if found is None:
            _not_offered(work, api, named, offered)
            return None
        name, listed = found
    else:
        listed = name
    if pods := _pods(work, api):
        name = listed
        if (
            proxy.provider
            and name not in offered
            and not any(each.startswith(f"{proxy.provider}/") for each in offered)
        ):
            name = name.removeprefix(f"{proxy.provider}/")  # which the proxy puts before it
        key = servers.master_key(work, api)
        return ModelPlan(provider="openai", model=name, endpoint=f"{pods}/v1", api_key=key, tool_calls=tool_calls)
    provider, model = _provider(name, proxy)
    if provider is None:
        _unknown_provider(work, api, proxy, name)
        return None
    if proxy.config_yaml is not None:
        work.not_yet(f"proxyConfig.configYaml of ModelAPI {api.name} is not read yet: {model} is called directly")
    return ModelPlan(
        provider=provider,
        model=model,
        endpoint=keys.endpoint(work, provider, proxy.api_base),
        api_key=_key(work, api, proxy, provider),
        tool_calls=tool_calls,
        exported=provider == "bedrock" and keys.trust(work, provider, proxy.api_base) == "exported",
    )


def _offer(name: str, offered: list[str], provider: str | None) -> tuple[str, str] | None:
    """The model's name with what says whose it is, and as the proxy knows it; None where it does not serve it. The
    provider's prefix may be on either."""
    spellings = [name, f"{provider}/{name}"] if provider else [name]
    for listed in offered:
        if "*" in listed:
            for spelling in spellings:
                if fnmatchcase(spelling, listed):
                    return spelling, spelling
        elif name in {listed, listed.partition("/")[2]} or name.partition("/")[2] == listed:
            return (name if name.endswith(f"/{listed}") else listed), listed
    return None


def _provider(name: str, proxy: ProxyConfig) -> tuple[Provider | None, str]:
    """Who serves the model, and its name there. Behind an address, a first part that is no provider's name belongs to
    the model's: `Qwen/Qwen3-8B`."""
    prefix, _, rest = name.partition("/")
    if proxy.provider:
        return LITELLM.get(proxy.provider), rest if prefix == proxy.provider and rest else name
    if rest and prefix in LITELLM:
        return LITELLM[prefix], rest
    return None if rest and not proxy.api_base else "openai", name


def _unknown_provider(work: Work, api: ModelAPI, proxy: ProxyConfig, name: str) -> None:
    prefix = proxy.provider or name.partition("/")[0]
    place = Place(api, "spec.proxyConfig.provider" if proxy.provider else "spec.proxyConfig.models")
    message = f"Kadre can't speak to the provider {prefix}{did_you_mean(prefix, LITELLM)}"
    fix = f"use one of {', '.join(sorted(LITELLM))}; a server that speaks OpenAI's API is openai, with its apiBase"
    work.problem(place, "UnknownProvider", message, fix)


def _key(work: Work, api: ModelAPI, proxy: ProxyConfig, provider: Provider) -> SecretRef | None:
    place = Place(api, "spec.proxyConfig.apiKey")
    written = proxy.api_key
    if written is None:
        where = Place(api, "spec.proxyConfig").below("apiBase") if proxy.api_base else Place(api, "spec.proxyConfig")
        return keys.default_key(work, where, provider, proxy.api_base, "apiKey.valueFrom.secretKeyRef:")
    source = written.value_from
    if source is not None and source.secret_key_ref is not None:
        place = place.below("valueFrom.secretKeyRef")
        return keys.named_key(work, place, source.secret_key_ref, provider, proxy.api_base)
    where_written = "in the manifest" if written.value is not None else "in a ConfigMap"
    message = f"the API key of ModelAPI {api.name} is {where_written}, where everybody can read it: it is not used"
    fix = "put it into a Secret, and write apiKey: {valueFrom: {secretKeyRef: {name: …, key: …}}}"
    work.problem(place, "SecretInManifest", message, fix)
    return None


def _not_offered(work: Work, api: ModelAPI, named: Entry[str], offered: list[str]) -> None:
    name = named.value
    message = f"ModelAPI {api.name} does not offer {name}{did_you_mean(name, offered)}"
    work.problem(
        named.place, "ModelNotOffered", message, f"name one of {', '.join(offered)}, or add it to the ModelAPI"
    )
