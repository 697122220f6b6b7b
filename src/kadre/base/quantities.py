"""Amounts of CPU and memory as Kubernetes writes them, of which one has many spellings."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

_SUFFIXES = {
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), 1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate(("K", "M", "G", "T", "P", "E"), 1)},
    **{suffix: Decimal(1000) ** -power for power, suffix in enumerate(("m", "u", "n"), 1)},
}


def quantity(text: Any) -> Decimal:
    """A Kubernetes quantity such as 250m or 1Gi as a number. Raises ValueError."""
    number = str(text).strip()
    suffix = next((suffix for suffix in sorted(_SUFFIXES, key=len, reverse=True) if number.endswith(suffix)), "")
    try:
        return Decimal(number.removesuffix(suffix)) * _SUFFIXES.get(suffix, Decimal(1))
    except ArithmeticError:  # no number, or one too large for any
        raise ValueError(f"{number!r} is no quantity") from None
