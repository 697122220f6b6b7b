"""Which model an agent uses, however its author named it."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, cast

from kadre.api.dialects.kaos import KaosAgentSpec, ModelAPI, ProxyConfig
from kadre.api.kinds.agent import AgentSpec
from kadre.api.kinds.model_config import ModelConfig, ModelSettings
from kadre.api.parts import EnvVar, SecretKeyRef
from kadre.base.problems import did_you_mean
from kadre.plan import providers
from kadre.plan.findings import Findings
from kadre.plan.types import KAOS_GROUP, ModelPlan, Provider, SecretRef

MODEL_VARIABLES = ("LLM_MODEL", "MODEL_NAME")
"""Environment variables that name a model; the first wins."""

CALL_TIMEOUT = ModelPlan(provider="openai", model="").timeout


def native(spec: AgentSpec, findings: Findings) -> ModelPlan | None:
    """The model of a native agent: its ModelConfig, with what is written in place over it."""
    layers: list[tuple[ModelSettings, str]] = [(spec.model, "spec.model")] if spec.model else []
    if spec.model_config_ref is not None:
        config = findings.find("ModelConfig", spec.model_config_ref)
        if not isinstance(config, ModelConfig):
            findings.missing("ModelConfig", spec.model_config_ref, "spec.modelConfig")
            return None
        layers.append((config.spec, "spec.modelConfig"))
    if not layers:
        fix = "write modelConfig: NAME, or model: {provider: …, name: …}"
        findings.add("MissingModel", "the agent has no model", fix, "spec")
        return None
    name = named_in(spec.env) or _first(layers, "model")
    provider = _first(layers, "provider") or ("openai" if _first(layers, "endpoint") else None)
    if not name or not provider:
        lacking = "name" if provider else "provider"
        fix = f"write model.{lacking}" + ("" if provider else f" ({', '.join(providers.ALL)})")
        findings.add("MissingModel", f"the agent's model has no {lacking}", fix, layers[0][1])
        return None
    return _built(cast("Provider", provider), name, layers, findings)


def _built(provider: Provider, name: str, layers: list[tuple[ModelSettings, str]], findings: Findings) -> ModelPlan:
    path = layers[0][1]
    defaults = providers.PROVIDERS[provider]
    endpoint = providers.base_url(_first(layers, "endpoint") or "")
    return ModelPlan(
        provider=provider,
        model=name.removeprefix("ollama/") if provider == "ollama" else name,
        endpoint=endpoint or defaults.endpoint,
        api_key=_key(provider, endpoint, _first(layers, "api_key_secret_ref"), path, findings),
        params=_params(provider, layers, findings),
        headers=_first(layers, "headers") or {},
        tool_calls=_first(layers, "tool_calling") or "auto",
        region=_first(layers, "region") or "",
        rules=_first(layers, "rules") or "",
        timeout=_first(layers, "timeout") or CALL_TIMEOUT,
    )


def _first(layers: Iterable[tuple[ModelSettings, str]], field: str) -> Any:
    """The value of the first layer that has one; an empty text is none."""
    values = (getattr(settings, field) for settings, _ in layers)
    return next((value for value in values if value is not None and value != ""), None)


def _params(provider: Provider, layers: list[tuple[ModelSettings, str]], findings: Findings) -> dict[str, Any]:
    lacks = providers.PROVIDERS[provider].lacks
    params = {}
    for field in providers.SAMPLING:
        value = _first(layers, field)
        if value is None:
            continue
        if field in lacks:
            message = f"{provider} has no {field}; it is left out"
            findings.warn("UnsupportedParameter", message, f"remove {field}, or choose another provider", layers[0][1])
        else:
            params[field] = value
    return params


def _key(
    provider: Provider, endpoint: str, ref: SecretKeyRef | None, path: str, findings: Findings
) -> SecretRef | None:
    """The model's key. An endpoint of the author's own needs none unless one is named."""
    defaults = providers.PROVIDERS[provider]
    env = defaults.key_env
    if ref is not None:
        secret = SecretRef(namespace=findings.resource.namespace, name=ref.name, key=ref.key, env=env)
        if not ref.optional:
            findings.secret(secret, path, f"the model ({provider})")
        return secret
    if not env:
        return None
    secret = SecretRef(env=env)
    if defaults.key_needed and not endpoint:
        findings.secret(secret, path, f"the model ({provider})")
    return secret


def named_in(env: Iterable[EnvVar] | None) -> str:
    """The model that the agent's environment names, or the empty text."""
    values = {variable.name: variable.value for variable in env or () if variable.value}
    return next((values[name] for name in MODEL_VARIABLES if name in values), "")


def kaos(spec: KaosAgentSpec, env: Iterable[EnvVar] | None, findings: Findings) -> ModelPlan | None:
    """The model of a KAOS agent: what its ModelAPI serves."""
    api = findings.find("ModelAPI", spec.model_api, KAOS_GROUP)
    if not isinstance(api, ModelAPI):
        also = findings.lookup.names("ModelAPI", findings.resource.namespace, KAOS_GROUP)
        findings.missing("ModelAPI", spec.model_api, "spec.modelAPI", also)
        return None
    wanted = spec.model or named_in(env)
    if api.spec.mode == "Hosted" and api.spec.hosted_config is not None:
        return _hosted(wanted, api.spec.hosted_config.model, spec.model_api, findings)
    if api.spec.proxy_config is not None:
        return _proxied(wanted, api.spec.proxy_config, spec.model_api, findings)
    findings.add("MissingField", f"ModelAPI {spec.model_api} says not what it serves", "mend it", "spec.modelAPI")
    return None


def _hosted(wanted: str, served: str, name: str, findings: Findings) -> ModelPlan:
    plain, offered = wanted.removeprefix("ollama/"), served.removeprefix("ollama/")
    if plain and plain != offered:
        _not_offered(plain, [offered], name, findings)
    endpoint = providers.PROVIDERS["ollama"].endpoint
    return ModelPlan(provider="ollama", model=offered, endpoint=endpoint, hosted=True)


def _proxied(wanted: str, proxy: ProxyConfig, name: str, findings: Findings) -> ModelPlan | None:
    offered = proxy.models or []
    concrete = [model for model in offered if "*" not in model]
    model = wanted or (concrete[0] if concrete else "")
    if not model:
        fix = "write model, or the environment variable MODEL_NAME"
        findings.add("MissingModel", f"ModelAPI {name} serves several models and none is named", fix, "spec")
        return None
    if offered and not any(fnmatchcase(model, pattern) for pattern in offered):
        _not_offered(model, offered, name, findings)
    prefix, _, rest = model.partition("/")
    written = prefix if rest else (proxy.provider or "openai")
    provider = written if written in providers.PROVIDERS else "openai"
    endpoint = providers.base_url(proxy.api_base or "")
    source = proxy.api_key.value_from if proxy.api_key else None
    ref = source.secret_key_ref if source else None
    return ModelPlan(
        provider=provider,
        model=rest if rest and prefix in providers.PROVIDERS else model,
        endpoint=endpoint or providers.PROVIDERS[provider].endpoint,
        api_key=_key(provider, endpoint, ref, "spec.modelAPI", findings),
    )


def _not_offered(model: str, offered: list[str], name: str, findings: Findings) -> None:
    message = f"ModelAPI {name} does not offer {model!r}{did_you_mean(model, offered)}"
    fix = f"use one it offers ({', '.join(offered)}), or add it there"
    findings.add("ModelNotOffered", message, fix, "spec.modelAPI")
