"""Where a model is called and with whose key.

The provider's own variable (OPENAI_API_KEY) holds the key for the provider's own address, and for the one that the
surroundings set beside it (OPENAI_BASE_URL). An address in a manifest gets only the key that is named there, out of a
Secret or a line of `.env`, never one that is only exported: a manifest from elsewhere must not be able to have
somebody's key sent to it.
"""

from __future__ import annotations

from kadre.api.parts import SecretKeyRef
from kadre.plan.providers import PROVIDERS, base_url
from kadre.plan.types import Provider, SecretRef
from kadre.plan.work import Place, Work


def endpoint(work: Work, provider: Provider, written: str | None) -> str:
    """The base URL: as written, else as the surroundings say, else the provider's own."""
    defaults = PROVIDERS[provider]
    if not defaults.endpoint:
        return (written or "").rstrip("/")
    return base_url(written or "") or base_url(work.lookup.setting(defaults.endpoint_env)) or defaults.endpoint


def own_variable(provider: Provider, written: str | None) -> str:
    """The provider's variable, where it may be used with the endpoint written; empty where it may not."""
    defaults = PROVIDERS[provider]
    return defaults.key_env if not written or base_url(written) == defaults.endpoint else ""


def named_key(work: Work, place: Place, key: SecretKeyRef, provider: Provider, written: str | None) -> SecretRef:
    """The key that the author names."""
    return work.secret(place, key, own=own_variable(provider, written))


def default_key(work: Work, place: Place, provider: Provider, written: str | None, field: str) -> SecretRef | None:
    """The key where the author names none, in `field`. Problems: MissingSecret; KeyNotSent (a warning)."""
    defaults = PROVIDERS[provider]
    if not defaults.key_env:
        return None
    ref = SecretRef(namespace=place.resource.namespace, env=defaults.key_env, exported=True)
    there = work.lookup.secret(ref) == "found"
    if not own_variable(provider, written):
        if there:
            message = f"{defaults.key_env} is not sent to {written}, which is not the provider's own address"
            named = f"{field} with any name and key: {defaults.key_env}"
            fix = f"if it is meant for it, name it, {named}, and have it as a line of .env or in that Secret"
            work.problem(place, "KeyNotSent", message, fix, "warning")
        return None
    if not there and defaults.key_needed and endpoint(work, provider, written) == defaults.endpoint:
        message = f"there is no API key for {provider}"
        fix = f"set {defaults.key_env} in the environment or in .env, or write {field} with a Secret's name and key"
        work.problem(place, "MissingSecret", message, f"{fix}; to try it without one, use --model scripted")
    return ref
