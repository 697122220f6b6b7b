"""Parts that several kinds share: references, durations, quantities, environment variables, parameters."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from kadre.api.resource import Mistake, Spec
from kadre.base import urls
from kadre.base.durations import parse_duration
from kadre.base.problems import Problem
from kadre.base.quantities import quantity

PATH_PARAMETER = re.compile(r"\{([^{}]*)\}")
_QUANTITY = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?\d+)?")


def _quantity(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and not _QUANTITY.fullmatch(value):
        raise ValueError(f"expected a quantity such as 500m, 2 or 512Mi, got {value!r}")
    return value


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str | int | float) else value


def _int_or_text(value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("expected a whole number or a text")
    return value


def _url(value: str) -> str:
    wrong = urls.fault(value)
    if wrong:
        raise Mistake(*wrong)
    return value


def _host(value: str) -> str:
    if "@" in value:
        message = "a host has no @: before it is who logs in, and everybody who may read the object would know"
        raise Mistake(message, "write the host alone; who logs in is said beside it, and the password is in a Secret")
    return value


def _name(value: Any) -> Any:
    return value["name"] if isinstance(value, dict) and set(value) == {"name"} else value


Duration = Annotated[float, BeforeValidator(_duration), WithJsonSchema({"x-kubernetes-int-or-string": True})]
"""Seconds; written as a number of seconds or as 30s, 5m, 1h30m."""

Quantity = Annotated[str, BeforeValidator(_quantity), WithJsonSchema({"x-kubernetes-int-or-string": True})]
"""An amount of CPU or memory as Kubernetes writes it."""

NameRef = Annotated[str, BeforeValidator(_name), WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True})]
"""A name of another object; written as the name or as `{name: …}`."""

Url = Annotated[str, AfterValidator(_url)]
"""An http or https address."""

UrlOrNothing = Annotated[str, AfterValidator(lambda value: value and _url(value))]
"""The same; an empty text stands for none."""

UrlTemplate = Annotated[str, AfterValidator(lambda value: _url(PATH_PARAMETER.sub("1", value)) and value)]
"""The same, with `{names}` in it that are replaced."""

Host = Annotated[str, AfterValidator(_host)]
"""The name or the address of a server."""

IntOrText = Annotated[Any, AfterValidator(_int_or_text), WithJsonSchema({"x-kubernetes-int-or-string": True})]
"""A whole number or a text."""

Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]

Provider = Literal["openai", "anthropic", "bedrock", "ollama", "vllm", "gpustack", "scripted", "local"]


class SecretKeyRef(Spec):
    """One key of a Secret in the same namespace."""

    name: str
    """The Secret's name."""
    key: str
    """The key within the Secret."""
    optional: bool | None = None
    """Whether the Secret or the key may be missing."""


class SecretName(Spec):
    """A whole Secret in the same namespace."""

    name: str
    """The Secret's name."""


class ConfigMapKeyRef(Spec):
    """One key of a ConfigMap in the same namespace."""

    name: str
    """The ConfigMap's name."""
    key: str
    """The key within the ConfigMap."""
    optional: bool | None = None
    """Whether the ConfigMap or the key may be missing."""


class EnvValueFrom(Spec):
    """Where an environment variable's value comes from; exactly one of these."""

    secret_key_ref: SecretKeyRef | None = None
    """A key of a Secret."""
    config_map_key_ref: ConfigMapKeyRef | None = None
    """A key of a ConfigMap."""
    field_ref: dict[str, Any] | None = None
    """A field of the pod, e.g. `fieldPath: metadata.name`; a cluster only."""
    resource_field_ref: dict[str, Any] | None = None
    """A resource limit or request of the container; a cluster only."""


class AgentReference(Spec):
    """An agent, whichever group it is of."""

    namespace: str
    """Where it is."""
    name: str
    """Its name."""
    group: str
    """Its API group."""


class EnvVar(Spec):
    """An environment variable."""

    name: str
    """The variable's name."""
    value: str | None = Field(default=None, repr=False)  # people do write keys here
    """Its value. Numbers and booleans are written in quotes."""
    value_from: EnvValueFrom | None = None
    """Where its value comes from, instead of `value`."""


class ResourceRequirements(Spec):
    """CPU and memory of the container."""

    requests: dict[str, Quantity] | None = None
    """What the container is promised, e.g. `cpu: 250m`."""
    limits: dict[str, Quantity] | None = None
    """What the container may use at most."""


ParameterType = Literal["string", "integer", "number", "boolean", "array", "object"]


class Parameter(Spec):
    """A named input of a tool or a workflow."""

    name: str
    """The parameter's name."""
    type: ParameterType = "string"
    """The JSON type of its value."""
    required: bool = False
    """Whether a value must be given."""
    description: str | None = None
    """What it is for, as the model reads it."""
    enum: list[Any] | None = None
    """The only values allowed."""
    default: Any = None
    """The value where none is given."""
    pattern: str | None = None
    """A regular expression (RE2) a string must match."""
    format: str | None = None
    """A JSON Schema format of a string, e.g. date-time."""
    min_length: Count | None = None
    """The fewest characters of a string."""
    max_length: Count | None = None
    """The most characters of a string."""
    minimum: float | None = None
    """The smallest number."""
    maximum: float | None = None
    """The largest number."""
    min_items: Count | None = None
    """The fewest items of an array."""
    max_items: Count | None = None
    """The most items of an array."""
    items: dict[str, Any] | None = None
    """The JSON Schema of an array's items."""
    properties: dict[str, Any] | None = None
    """The JSON Schema of an object's properties."""


def check_env(env: list[EnvVar] | None, path: str) -> Iterator[Problem]:
    """Names twice, and values that have two sources or none."""
    seen: set[str] = set()
    for number, variable in enumerate(env or ()):
        here = f"{path}[{number}]"
        if variable.name in seen:
            yield Problem(
                "DuplicateName",
                f"the environment variable {variable.name} is set twice",
                fix="keep one of the two",
                path=f"{here}.name",
            )
        seen.add(variable.name)
        source = variable.value_from
        given = (
            [] if source is None else [name for name in EnvValueFrom.model_fields if getattr(source, name) is not None]
        )
        if source is not None and (variable.value is not None or len(given) != 1):
            yield Problem(
                "ConflictingFields",
                f"{variable.name} needs exactly one source of its value",
                fix="write value, or valueFrom with one of secretKeyRef, configMapKeyRef, fieldRef, resourceFieldRef",
                path=f"{here}.valueFrom",
            )


def check_resources(resources: ResourceRequirements | None, path: str) -> Iterator[Problem]:
    """Amounts below nothing, and more promised than may be used."""
    if resources is None:
        return
    for field, amounts in (("requests", resources.requests), ("limits", resources.limits)):
        for name, amount in (amounts or {}).items():
            if amount.startswith("-"):
                yield Problem(
                    "InvalidValue",
                    f"{name} {amount} is less than nothing",
                    fix="remove the -",
                    path=f"{path}.{field}.{name}",
                )
    limits = resources.limits or {}
    for name, amount in (resources.requests or {}).items():
        if name in limits and quantity(amount) > quantity(limits[name]):
            yield Problem(
                "InvalidRange",
                f"requests.{name} {amount} is more than limits.{name} {limits[name]}",
                fix="lower requests, or raise limits",
                path=f"{path}.requests.{name}",
            )
