"""A model's API key, read anew for every call."""

from __future__ import annotations

from kadre.base.errors import ModelError
from kadre.engine.secrets import SecretReader, describe
from kadre.plan.providers import PROVIDERS
from kadre.plan.types import ModelPlan

MISSING = "ModelKeyMissing"


def read(plan: ModelPlan, secrets: SecretReader) -> str | None:
    """The key, or None. Raises ModelError where the provider's own endpoint would refuse the call for want of one.

    Any other endpoint may do without: a gateway, a mock, a server of one's own.
    """
    key = (secrets.read(plan.api_key) or "").strip() if plan.api_key is not None else ""
    provider = PROVIDERS[plan.provider]
    if not key and provider.key_needed and plan.endpoint.rstrip("/") == provider.endpoint:
        where = f"there is no value in {describe(plan.api_key)}" if plan.api_key else "the model names no API key"
        raise ModelError(f"no API key for {plan.provider} model {plan.model}: {where}", reason=MISSING)
    if not (key.isascii() and key.isprintable()) and plan.api_key is not None:
        message = f"the API key in {describe(plan.api_key)} has characters that no API key has, such as a line break"
        raise ModelError(message, reason="ModelUnauthorized")
    return key or None


def told(plan: ModelPlan, key: str | None) -> str:
    """Which key a call carried, for people: what to look at where it was refused."""
    if plan.api_key is None:
        return "whether the model needs an API key: it names none"
    where = describe(plan.api_key)
    return f"the API key in {where}" if key else f"why there is no API key in {where}"
