"""The port to tools.

Above: the driver, which has already checked limits and approvals, and journalled `tool_start`. Below: an MCP server,
another agent, a function. It knows nothing of approvals, journals or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from kadre.engine.messages import ToolSpec


class CallContext(msgspec.Struct, frozen=True):
    """Who calls. `key` is the idempotency key, `run/call`: the same where the call is made again."""

    run_id: str
    session_id: str
    key: str
    tool_call_id: str = ""
    caller: str = ""
    depth: int = 1
    chain: tuple[str, ...] = ()
    """Agents from the root run down to the one that calls: a delegation to one of them is a cycle."""
    outside: str = ""
    """Where text came from that has entered the run and that nobody has vouched for; empty: there is none."""


class ToolOutput(msgspec.Struct, frozen=True):
    """What a tool answered, as text the model can read. `is_error`: the tool itself says that it failed.

    `outside`: where the text comes from that nobody has vouched for, empty where there is none; None: as its spec says.
    """

    content: str
    is_error: bool = False
    outside: str | None = None


class Toolset(Protocol):
    """A group of tools that come and go together."""

    @property
    def ready(self) -> bool:
        """Whether `specs` answers at once, from what is known: nobody need be asked for it."""
        ...

    @property
    def notice(self) -> str:
        """What people should know of the tools that `specs` gave last: some were left out; else empty."""
        ...

    async def specs(self) -> Sequence[ToolSpec]:
        """The tools offered now; cheap when nothing changed. Raises errors.ToolError where they cannot be known."""
        ...

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:
        """Call one tool. Raises errors.ToolError, with `unknown` where it may have happened all the same."""
        ...

    async def aclose(self) -> None:
        """Give back connections and processes; may be called once."""
        ...
