"""What each provider of models takes for granted: its address, its key, and the sampling fields it knows.

One table, read when a ModelConfig leaves something out and when it asks for what the provider lacks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import get_args

from kadre.plan.types import Provider

SAMPLING = ("temperature", "max_tokens", "top_p", "top_k", "frequency_penalty", "presence_penalty", "stop", "seed")
"""Every sampling field, by the name it has in `ModelPlan.params`."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """One provider. `lacks`: sampling fields its API has no place for."""

    endpoint: str = ""
    """Base URL with its version segment; empty: none is needed."""
    endpoint_env: str = ""
    """A setting of the surroundings that replaces `endpoint`, as the provider's own tools read it."""
    key_env: str = ""
    """The variable its key is in where an author names no secret; empty: it takes no key."""
    key_needed: bool = False
    """It refuses every call without a key."""
    lacks: frozenset[str] = frozenset()
    context: int = 128_000
    """Tokens that its models read at once, where an author does not say: what most of them do, at least."""


PROVIDERS: dict[Provider, Defaults] = {
    "openai": Defaults(
        endpoint="https://api.openai.com/v1",
        endpoint_env="OPENAI_BASE_URL",
        key_env="OPENAI_API_KEY",
        key_needed=True,
        lacks=frozenset({"top_k"}),
    ),
    "anthropic": Defaults(
        endpoint="https://api.anthropic.com/v1",
        endpoint_env="ANTHROPIC_BASE_URL",
        key_env="ANTHROPIC_API_KEY",
        key_needed=True,
        lacks=frozenset({"frequency_penalty", "presence_penalty", "seed"}),
    ),
    # Bedrock's address comes from the region, and where it has no key, AWS's own tools find credentials.
    "bedrock": Defaults(
        key_env="AWS_BEARER_TOKEN_BEDROCK", lacks=frozenset({"top_k", "frequency_penalty", "presence_penalty", "seed"})
    ),
    "ollama": Defaults(
        endpoint="http://localhost:11434/v1", endpoint_env="OLLAMA_BASE_URL", lacks=frozenset({"top_k"})
    ),
    "vllm": Defaults(endpoint="http://localhost:8000/v1", endpoint_env="VLLM_BASE_URL", key_env="VLLM_API_KEY"),
    "gpustack": Defaults(endpoint="http://localhost/v1", endpoint_env="GPUSTACK_BASE_URL", key_env="GPUSTACK_API_KEY"),
    "scripted": Defaults(),
    "local": Defaults(context=8192),
}

ALL = tuple(get_args(Provider))

_OWN = frozenset(name for known in PROVIDERS.values() for name in (known.key_env, known.endpoint_env) if name)


# Not all of amazonaws.com: buckets and machines there are anybody's.
_BEDROCK = re.compile(
    r"https://(vpce-[a-z0-9-]+\.)?bedrock-runtime(-fips)?\.[a-z]{2}(-[a-z]+)+-\d\.((vpce\.)?amazonaws\.com(\.cn)?|api\.aws)"
)


def is_own_address(provider: Provider, endpoint: str) -> bool:
    """Whether that base URL is the provider's own, which its key may always be sent to."""
    if provider == "bedrock":
        return not endpoint or _BEDROCK.fullmatch(endpoint.rstrip("/").lower()) is not None
    return endpoint == PROVIDERS[provider].endpoint


def is_own_variable(name: str) -> bool:
    """Whether a variable of the process is some provider's own: the only ones that are looked at for plans and keys."""
    return name in _OWN or name.startswith("AWS_")


def base_url(endpoint: str) -> str:
    """`endpoint` as a base URL with its version segment: `/v1` is added to one that has no path."""
    trimmed = endpoint.rstrip("/")
    _, _, rest = trimmed.partition("://")
    return f"{trimmed}/v1" if rest and "/" not in rest else trimmed
