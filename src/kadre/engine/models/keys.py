"""A model's API key, read anew for every call, and the requests' target that it is part of."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kadre.base.errors import ModelError
from kadre.engine.models import http
from kadre.engine.models.target import Target, address
from kadre.engine.secrets import SecretReader, describe
from kadre.plan.providers import PROVIDERS
from kadre.plan.types import ModelPlan

MISSING = "ModelKeyMissing"
_SOON = "; put it there: where a Secret is new, a pod sees it within a minute"


class Keyed:
    """Where one model's requests go, made anew when its key is another.

    `path`: below the model's endpoint. `headers`: those an API wants for a key, or for none. The author's come last.
    """

    def __init__(
        self, plan: ModelPlan, secrets: SecretReader, path: str, headers: Callable[[str | None], Mapping[str, str]]
    ) -> None:
        self._plan = plan
        self._secrets = secrets
        self._headers = headers
        self._url = address(plan.endpoint, path)
        self._key: str | None = None
        self._target = self._made(None)

    def target(self) -> Target:
        """The target with the key of now. Raises ModelError as `read` does."""
        key = read(self._plan, self._secrets)
        if key != self._key:
            self._key = key
            self._target = self._made(key)
        return self._target

    def _made(self, key: str | None) -> Target:
        headers = http.headers()
        headers.update(self._headers(key))
        headers.update(self._plan.headers)
        return Target(self._url, headers, told(self._plan, key))


def read(plan: ModelPlan, secrets: SecretReader) -> str | None:
    """The key, or None. Raises ModelError where the provider's own endpoint would refuse the call for want of one.

    Any other endpoint may do without: a gateway, a mock, a server of one's own.
    """
    key = (secrets.read(plan.api_key) or "").strip() if plan.api_key is not None else ""
    provider = PROVIDERS[plan.provider]
    if not key and provider.key_needed and plan.endpoint.rstrip("/") == provider.endpoint:
        where = (
            f"there is no value in {describe(plan.api_key)}{_SOON}" if plan.api_key else "the model names no API key"
        )
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
