"""Tools that answer what tools answered before: for runs that were recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kadre.base.errors import ToolError
from kadre.engine.messages import ToolSpec
from kadre.engine.tools.port import CallContext, ToolOutput


class Outcome(msgspec.Struct, frozen=True):
    """What came of a call: `output`, or why it failed. `unknown`: whether it happened is not known."""

    output: str | None = None
    error: str = ""
    unknown: bool = False


class RecordedTools:
    """Offers `specs`. A call is answered by its own outcome, by the call's id, else by what its tool answers always."""

    def __init__(self, specs: Sequence[ToolSpec], outcomes: Mapping[str, Outcome], always: Mapping[str, str]) -> None:
        self._specs = tuple(specs)
        self._outcomes = outcomes
        self._always = always

    notice = ""
    """See Toolset."""

    @property
    def ready(self) -> bool:
        """See Toolset."""
        return True

    async def specs(self) -> Sequence[ToolSpec]:
        """See Toolset."""
        return self._specs

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:  # noqa: ARG002
        """See Toolset."""
        outcome = self._outcomes.get(context.tool_call_id)
        if outcome is None and name in self._always:
            return ToolOutput(self._always[name])
        if outcome is None:
            raise ToolError(f"the case has no outcome of this call of {name}")
        if outcome.output is None:
            raise ToolError(outcome.error, unknown=outcome.unknown)
        return ToolOutput(outcome.output)

    async def aclose(self) -> None:
        """See Toolset."""
