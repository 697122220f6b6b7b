"""A model's API key, read anew for every call."""

from __future__ import annotations

from kadre.base.errors import ModelError
from kadre.engine.secrets import SecretReader, describe
from kadre.plan.providers import PROVIDERS
from kadre.plan.types import ModelPlan


def read(plan: ModelPlan, secrets: SecretReader) -> str | None:
    """The key, or None. Raises ModelError where the provider's own endpoint would refuse the call for want of one.

    Any other endpoint may do without: a gateway, a mock, a server of one's own.
    """
    key = secrets.read(plan.api_key) if plan.api_key is not None else None
    provider = PROVIDERS[plan.provider]
    if not key and provider.key_needed and plan.endpoint.rstrip("/") == provider.endpoint:
        where = f"there is no value in {describe(plan.api_key)}" if plan.api_key else "the model names no API key"
        raise ModelError(f"no API key for {plan.provider} model {plan.model}: {where}", reason="ModelKeyMissing")
    return key or None
