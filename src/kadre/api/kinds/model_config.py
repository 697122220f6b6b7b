"""ModelConfig: a model, how to reach it and how to sample from it; also the fields of an Agent's inline `model`."""

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from kadre.api.parts import Duration, Positive, Provider, SecretKeyRef, UrlOrNothing
from kadre.api.resource import NATIVE, Column, Listing, Resource, Spec
from kadre.base.problems import Problem


class ModelSettings(Spec):
    """Fields shared by ModelConfig and an Agent's inline model. Nothing is required here: a template may add it."""

    spellings: ClassVar[Mapping[str, str]] = {"baseUrl": "endpoint", "baseURL": "endpoint"}

    provider: Provider | None = None
    """Who serves the model: openai (and all that speak its API), anthropic, bedrock, ollama, vllm, gpustack, local
    (the model that comes with Kadre) or scripted (answers by rules, for tests)."""
    model: str | None = None
    """The model's name as its provider knows it."""
    endpoint: UrlOrNothing | None = None
    """Base URL of the API, where it isn't the provider's own."""
    api_key_secret_ref: SecretKeyRef | None = None
    """The Secret key that holds the API key. Without it: the provider's default Secret or environment variable."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """How freely the model chooses its words, from 0 to 2; not sent where it isn't set."""
    max_tokens: Positive | None = None
    """The most tokens of one answer."""
    context_window: Positive | None = None
    """How many tokens the model reads at once, which `toolBudget` is a share of; 128000 where nothing is written, and
    8192 of provider local."""
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Nucleus sampling: only the likeliest tokens that make up this share."""
    top_k: Positive | None = None
    """Only this many of the likeliest tokens; not known to openai."""
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    """From -2 to 2: above 0, tokens are rarer the more often they were used."""
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    """From -2 to 2: above 0, tokens are rarer once they were used."""
    stop: list[str] | None = None
    """Texts at which the model stops."""
    seed: int | None = None
    """Makes sampling repeatable where the provider can."""
    timeout: Duration | None = None
    """How long the model may send nothing before the call fails, e.g. 120s (the default)."""
    headers: dict[str, str] | None = None
    """HTTP headers sent with every call; no secrets here."""
    region: str | None = None
    """bedrock: the AWS region."""
    tool_calling: Literal["auto", "native", "shim"] | None = None
    """How tools are offered: by the provider's API (native), by a prompt, and a JSON grammar where that API takes one
    (shim), or whichever works (auto, the default)."""
    rules: str | None = None
    """scripted: path of a YAML file of rules, beside the manifest."""


class InlineModel(ModelSettings):
    """An Agent's own model: ModelConfig's fields, with the model called `name`."""

    spellings: ClassVar[Mapping[str, str]] = {**ModelSettings.spellings, "name": "model"}


class ModelConfigSpec(ModelSettings):
    """A model, how to reach it and how to sample from it."""

    provider: Provider
    model: str


class ModelConfig(Resource):
    """A model that agents refer to by name."""

    listing = Listing(
        "modelconfigs",
        short=("mc",),
        columns=(
            Column("Provider", ".spec.provider"),
            Column("Model", ".spec.model"),
            Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
            Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', priority=1),
        ),
    )

    api_version: str = NATIVE
    kind: Literal["ModelConfig"] = "ModelConfig"
    spec: ModelConfigSpec

    def check(self) -> Iterator[Problem]:
        """See `check_model`."""
        yield from check_model(self.spec, "spec")


def check_model(model: ModelSettings, path: str) -> Iterator[Problem]:
    """Fields that another provider understands and this one does not."""
    if model.provider is None:
        return
    for field, provider in (("rules", "scripted"), ("region", "bedrock")):
        if getattr(model, field) is not None and model.provider != provider:
            yield Problem(
                "FieldNotUsed",
                f"{field} has no effect with provider {model.provider}",
                fix=f"remove {field}, or set provider: {provider}",
                path=f"{path}.{field}",
                severity="warning",
            )
