"""What an agent's author allows of a server's tools: hides the rest, and marks what allows each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from kadre.base.errors import ToolError
from kadre.engine.messages import ToolSpec
from kadre.engine.tools.port import CallContext, ToolOutput, Toolset
from kadre.plan.capabilities import grant


class Allowed:
    """A toolset seen through an agent's capabilities. A tool that is not offered cannot be called either."""

    def __init__(self, inner: Toolset, capabilities: Sequence[str], granted: bool, *, trusted: bool = False) -> None:
        self._inner = inner
        self._capabilities = capabilities
        self._granted = granted
        self._trusted = trusted
        self._base: Sequence[ToolSpec] | None = None
        self._offered: dict[str, ToolSpec] = {}
        self._specs: tuple[ToolSpec, ...] = ()

    @property
    def ready(self) -> bool:
        """See Toolset."""
        return self._inner.ready

    @property
    def notice(self) -> str:
        """See Toolset."""
        return self._inner.notice

    async def specs(self) -> Sequence[ToolSpec]:
        """See Toolset."""
        base = await self._inner.specs()
        if base is not self._base:
            self._offered = {spec.name: seen for spec in base if (seen := self._decide(spec)) is not None}
            self._specs = tuple(self._offered.values())
            self._base = base
        return self._specs

    def _decide(self, spec: ToolSpec) -> ToolSpec | None:
        by = grant(self._capabilities, spec.name, read_only=spec.read_only, granted=self._granted)
        if by == "hidden":
            return None
        marks = {"ask": by == "none", "by_class": by == "class", "trusted": self._trusted}
        same = all(getattr(spec, name) == value for name, value in marks.items())
        return spec if same else msgspec.structs.replace(spec, **marks)

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:
        """See Toolset."""
        if name not in self._offered:
            raise ToolError(f"the tool {name} is not among those this agent may use")
        return await self._inner.call(name, arguments, context)

    async def aclose(self) -> None:
        """See Toolset."""
        await self._inner.aclose()
