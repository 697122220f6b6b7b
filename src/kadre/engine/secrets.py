"""The port to secret values.

Above: adapters that are about to speak to the outside. Below: files, the environment, volumes. Values are read at
the time of each call, so that a rotated secret needs no restart; a reader keeps that cheap and never logs a value.
"""

from __future__ import annotations

from typing import Protocol

from kadre.plan.types import SecretRef


class SecretReader(Protocol):
    """Knows where secret values are."""

    def read(self, ref: SecretRef) -> str | None:
        """The value now, or None where there is none. Cheap: called before every request."""
        ...


def describe(ref: SecretRef) -> str:
    """Where `ref` points, for people: never the value."""
    places = []
    if ref.name:
        places.append(f"key {ref.key} of Secret {ref.namespace}/{ref.name}")
    if ref.env:
        places.append(f"the environment variable {ref.env}" if ref.exported else f"the line {ref.env} of .env")
    return " or ".join(places) or "nowhere"
