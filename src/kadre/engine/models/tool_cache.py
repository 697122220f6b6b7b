"""Tools in a provider's JSON, encoded once: an agent offers the same ones on every call."""

from __future__ import annotations

from collections.abc import Callable

from kadre.engine.messages import ToolSpec


class ToolCache:
    """JSON of tuples of tools, made once for each tuple."""

    def __init__(self, encode: Callable[[tuple[ToolSpec, ...]], bytes], size: int = 64) -> None:
        self._encode = encode
        self._size = size
        self._known: dict[int, tuple[tuple[ToolSpec, ...], bytes]] = {}

    def get(self, tools: tuple[ToolSpec, ...]) -> bytes:
        """The JSON. The tuple is kept with it, so its identity cannot come to mean another."""
        known = self._known.get(id(tools))
        if known is not None:
            return known[1]
        if len(self._known) >= self._size:
            self._known.clear()
        encoded = self._encode(tools)
        self._known[id(tools)] = (tools, encoded)
        return encoded
