"""An agent's model: a ModelConfig, what the agent writes itself, and what the provider takes for granted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, cast

from pydantic.alias_generators import to_camel

from kadre.api.dialects.kaos import KaosAgent
from kadre.api.kinds.agent import Agent
from kadre.api.kinds.agent_template import AgentTemplate
from kadre.api.kinds.model_config import ModelConfig, ModelSettings
from kadre.api.resource import Resource
from kadre.plan import keys, model_apis
from kadre.plan.draft import Draft, Entry, Place, beside
from kadre.plan.providers import PROVIDERS, SAMPLING, Defaults
from kadre.plan.types import ModelPlan, Provider, SecretRef
from kadre.plan.work import Work

MODEL_VARIABLES = ("LLM_MODEL", "MODEL_NAME")
"""Variables that name the model where nothing else does; the first that is set wins."""

CALL_TIMEOUT = ModelPlan(provider="openai", model="").timeout


def model_plan(work: Work, draft: Draft) -> ModelPlan | None:
    """The agent's model; None, and Problems, where there is none that could be called."""
    if work.override.model is not None:
        return work.override.model
    if isinstance(draft.resource, KaosAgent):
        return model_apis.model_plan(work, draft.resource, _named_by_env(work, draft))
    fields = _fields(work, draft)
    if fields is None:
        return None
    named = _named_by_env(work, draft)
    if named is not None and "model" not in fields:
        fields["model"] = _Field(named.place, named.value)
    if not fields:
        if draft.whole:
            work.problem(
                Place(draft.resource, "spec"),
                "MissingModel",
                "the agent has no model",
                "write modelConfig: with the name of a ModelConfig, or model: with provider and name;"
                " to try it without one, use --model scripted",
            )
        return None
    for field, example in (("provider", "provider: openai"), ("model", "name: gpt-4o")):
        if field not in fields and draft.whole:
            where = draft.place("model")
            work.problem(where, "MissingModel", f"the agent's model has no {field}", f"add {example} to its model:")
    return _plan(work, fields) if {"provider", "model"} <= fields.keys() else None


def config_plan(work: Work, config: ModelConfig) -> ModelPlan | None:
    """What a ModelConfig comes to by itself."""
    return _plan(work, _overlaid([(Place(config, "spec"), config.spec)]))


def named_config(work: Work, resource: Agent | AgentTemplate, name: str) -> ModelConfig | None:
    """The ModelConfig that an agent or a template names."""
    fix = f"create a ModelConfig named {name}, or write model: instead"
    return work.reference(ModelConfig, Place(resource, "spec.modelConfig"), name, fix)


class _Field(NamedTuple):
    place: Place
    value: Any


_Fields = dict[str, _Field]


def _fields(work: Work, draft: Draft) -> _Fields | None:
    """Every field that is set and where; None where a ModelConfig is missing."""
    layers: list[tuple[Place, ModelSettings]] = []
    for level in draft.levels:
        if isinstance(level, KaosAgent):
            continue
        spec = level.spec
        if spec.model is not None:
            layers.append((Place(level, "spec.model"), spec.model))
        if spec.model_config_ref is not None:
            config = named_config(work, level, spec.model_config_ref)
            if config is None:
                return None
            layers.append((Place(config, "spec"), config.spec))
            break
    return _overlaid(layers)


def _overlaid(layers: Iterable[tuple[Place, ModelSettings]]) -> _Fields:
    """The first layer that sets a field wins. From a layer of another provider on, nothing is taken: its endpoint, key
    and model's name belong to that one."""
    fields: _Fields = {}
    for place, settings in layers:
        provider = fields.get("provider")
        if provider is not None and settings.provider not in {None, provider.value}:
            break
        for name in settings.model_fields_set - fields.keys():
            value = getattr(settings, name)
            if value is not None:
                fields[name] = _Field(place.below(_yaml_name(place, name)), value)
    return fields


def _yaml_name(place: Place, field: str) -> str:
    return "name" if field == "model" and place.path == "spec.model" else to_camel(field)


def _named_by_env(work: Work, draft: Draft) -> Entry[str] | None:
    variables = {entry.value.name: entry for entry in draft.env}
    for name in MODEL_VARIABLES:
        if name in variables:
            place, variable = variables[name]
            value = work.value(place, variable)
            if value:
                return Entry(place, value)
    return None


def _plan(work: Work, fields: _Fields) -> ModelPlan:
    values = {name: field.value for name, field in fields.items()}
    provider: Provider = values["provider"]
    defaults = PROVIDERS[provider]
    written: str | None = values.get("endpoint")
    return ModelPlan(
        provider=provider,
        model=values["model"].removeprefix("ollama/") if provider == "ollama" else values["model"],
        endpoint=keys.endpoint(work, provider, written),
        api_key=_key(work, fields),
        params=_params(work, fields, defaults),
        headers=values.get("headers", {}),
        timeout=values.get("timeout", CALL_TIMEOUT),
        tool_calls=_tool_calls(work, fields),
        context_window=values.get("context_window", 0),
        region=_region(work, values) if provider == "bedrock" else "",
        exported=provider == "bedrock" and keys.trust(work, provider, written) == "exported",
        rules=_rules(fields) if provider == "scripted" else "",
    )


def _key(work: Work, fields: _Fields) -> SecretRef | None:
    provider: Provider = fields["provider"].value
    written: str | None = fields["endpoint"].value if "endpoint" in fields else None
    if "api_key_secret_ref" in fields:
        place, key = fields["api_key_secret_ref"]
        return keys.named_key(work, place, key, provider, written)
    place = fields["endpoint" if written else "provider"].place
    return keys.default_key(work, place, provider, written, "apiKeySecretRef:")


def _tool_calls(work: Work, fields: _Fields) -> Literal["auto", "native", "shim"]:
    """As the author set it, where the provider can do it."""
    provider: Provider = fields["provider"].value
    if "tool_calling" not in fields:
        return "auto"
    place, asked = fields["tool_calling"]
    without = {
        ("local", "native"): "local has no tool calls of its own, it is asked with the shim",
        ("scripted", "shim"): "scripted makes its own tool calls",
    }
    if (provider, asked) in without:
        message = f"{without[provider, asked]}: toolCalling: {asked} is not used"
        work.problem(place, "UnsupportedParameter", message, "remove toolCalling", "warning")
        return "auto"
    return cast("Literal['auto', 'native', 'shim']", asked)


def _params(work: Work, fields: _Fields, defaults: Defaults) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for name in SAMPLING:
        if name not in fields:
            continue
        place, value = fields[name]
        if name in defaults.lacks:
            message = f"{fields['provider'].value} has no {to_camel(name)}: it is not sent"
            work.problem(place, "UnsupportedParameter", message, f"remove {to_camel(name)}", "warning")
        else:
            params[name] = value
    return params


def _rules(fields: _Fields) -> str:
    rules = fields.get("rules")
    return beside(rules.place.resource, rules.value) if rules is not None and rules.value else ""


def _region(work: Work, values: dict[str, Any]) -> str:
    written: str = values.get("region") or ""
    return written or work.lookup.setting("AWS_REGION") or work.lookup.setting("AWS_DEFAULT_REGION")


def named_rules(resources: Iterable[Resource]) -> list[str]:
    """Paths of the rules files that the resources name, whether anything uses them or not."""
    named = []
    for resource in resources:
        settings: ModelSettings | None = None
        if isinstance(resource, ModelConfig):
            settings = resource.spec
        elif isinstance(resource, Agent | AgentTemplate):
            settings = resource.spec.model
        if settings is not None and settings.rules:
            named.append(beside(resource, settings.rules))
    return named
