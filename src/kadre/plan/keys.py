"""Where a model is called and with whose key.

The provider's own variable (OPENAI_API_KEY) holds the key for the provider's own address, and for the one that the
process exports beside it (OPENAI_BASE_URL); in a cluster the installation names a Secret and an address in their place.
Any other address in a manifest gets only the key that is named there, out of a Secret or a line of `.env`, and an
address in `.env` only a key of the same: never one that is only exported. Files from elsewhere must not be able to have
somebody's key sent to them.
"""

from __future__ import annotations

from typing import Literal

from kadre.api.parts import SecretKeyRef
from kadre.base.problems import Severity
from kadre.plan.draft import Place
from kadre.plan.providers import PROVIDERS, base_url, is_own_address
from kadre.plan.types import Provider, SecretRef
from kadre.plan.work import Work

Trust = Literal["exported", "file", "named"]
"""Which keys an address may get: also those the process exports; those of `.env` too; only one named for it."""


def endpoint(work: Work, provider: Provider, written: str | None) -> str:
    """The base URL: as written, else as the surroundings say, else the provider's own."""
    defaults = PROVIDERS[provider]
    if not defaults.endpoint:
        return (written or "").rstrip("/")
    return base_url(written or "") or base_url(work.lookup.setting(defaults.endpoint_env)) or defaults.endpoint


def trust(work: Work, provider: Provider, written: str | None) -> Trust:
    """Which keys may go where the model is called, `written` being the endpoint in the manifest."""
    address = endpoint(work, provider, written)
    exported = base_url(work.lookup.exported(PROVIDERS[provider].endpoint_env))
    if is_own_address(provider, address) or (exported and exported == base_url(address)):
        return "exported"
    return "named" if written else "file"


def named_key(
    work: Work,
    place: Place,
    key: SecretKeyRef,
    provider: Provider,
    written: str | None,
    severity: Severity = "error",
) -> SecretRef:
    """The key that the author names."""
    trusted, variable = trust(work, provider, written), PROVIDERS[provider].key_env
    line = variable if trusted == "file" else ""
    return work.secret(place, key, line=line, own=variable if trusted == "exported" else "", severity=severity)


def default_key(
    work: Work, place: Place, provider: Provider, written: str | None, field: str, severity: Severity = "error"
) -> SecretRef | None:
    """The key where the author names none, in `field`. Problems: MissingSecret, that severe; KeyNotSent (a warning)."""
    defaults = PROVIDERS[provider]
    if not defaults.key_env:
        return None
    namespace = place.resource.namespace
    usual = work.lookup.usual_key(namespace, defaults.key_env)
    ref = usual.ref if usual else SecretRef(namespace=namespace, env=defaults.key_env, exported=True)
    line = SecretRef(namespace=ref.namespace, env=ref.env)
    there = work.lookup.secret(ref) == "found"
    match trust(work, provider, written):
        case "named":
            if there:
                message = f"{ref.env} is not sent to {written}, which is not the provider's own address"
                named = f"{field} with any name and key: {ref.env}"
                fix = f"if it is meant for it, name it, {named}, and have it as a line of .env or in that Secret"
                work.problem(place, "KeyNotSent", message, fix, "warning")
            return None
        case "file":
            if there and work.lookup.secret(line) != "found":
                address = endpoint(work, provider, None)
                message = f"{ref.env} of the environment is not sent to {address}, which .env names"
                fix = f"if it is meant for it, have {ref.env} as a line of .env, or export {defaults.endpoint_env}"
                work.problem(place, "KeyNotSent", message, fix, "warning")
            return line
        case "exported":
            if not there and defaults.key_needed and endpoint(work, provider, written) == defaults.endpoint:
                if usual:
                    work.no_secret(place, ref, severity, made_in=usual.made_in)
                    return ref
                message = f"there is no API key for {provider}"
                ways = f"set {ref.env} in the environment or in .env, or write {field} with a Secret's name and key"
                fix = f"{ways}; to try it without one, use --model scripted"
                work.problem(place, "MissingSecret", message, fix, severity)
            return ref
