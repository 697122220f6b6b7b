"""What is known of MCP servers on PyPI that cannot be told from their names.

Most packages need no entry: they are run as `uvx NAME` and speak over stdin and stdout. An entry says what else one
needs, and which module of ours does the same where the machine lacks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Entry:
    """A package that needs more than its name."""

    python: str = ""
    """The Python it needs, as a requirement has it, where not just any will do."""
    beside: tuple[str, ...] = ()
    """Requirements installed with it."""
    serves: Literal["stdio", "http"] = "stdio"
    """http: it listens on `MCP_HOST` and `MCP_PORT`."""
    stand_in: str = ""
    """A module of ours with the same tools."""


CATALOGUE = {
    # Written for the SDK's first major version without saying so in its requirements.
    "test-mcp-echo-server": Entry(
        python=">=3.12", beside=("mcp<2",), serves="http", stand_in="kadre.local.echo_server"
    ),
}
