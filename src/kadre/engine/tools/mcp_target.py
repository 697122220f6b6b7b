"""What an MCP server is reached by, and how a call to it fails: the words its pool and its sessions share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec

from kadre.base.errors import ToolError
from kadre.plan.types import LaunchPlan


class Address(msgspec.Struct, frozen=True):
    """A server that is there already. A URL without a path is tried at `/mcp`, then `/sse`."""

    url: str
    transport: Literal["auto", "http", "sse"] = "auto"
    headers: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Address({shown(self.url)})"


class Command(msgspec.Struct, frozen=True):
    """A server to be run as a child process.

    `env` is added to a handful of harmless variables (HOME, PATH and kin), never to the whole environment. `serves`
    http: it listens on the address in `MCP_HOST` and `MCP_PORT`, which are set for it.
    """

    command: str
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    cwd: str = ""
    serves: Literal["stdio", "http"] = "stdio"

    def __repr__(self) -> str:
        return f"Command({self.command})"


Target = Address | Command
Launch = Callable[[str, LaunchPlan], Awaitable[Command]]
"""Says how the server of that name is run, having installed what it needs. Raises ToolError."""


def shown(url: str) -> str:
    """The URL without what may be secret in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


Why = Literal["", "late", "large", "away"]


class CallFailed(ToolError):
    """A call that got no answer.

    `broken`: the connection is of no use any more; `unsent`: nothing was done, and it may be made again; `why`: "late",
    time was up; "large", it was answered with more than is read, and would be again; "away", a server, or a proxy
    before it, says that it is not there now: what had begun by then it may have done, and not said.
    """

    def __init__(
        self,
        message: str,
        *,
        unknown: bool = False,
        broken: bool = False,
        unsent: bool = False,
        why: Why = "",
    ) -> None:
        self.broken = broken
        self.unsent = unsent
        self.why = why
        super().__init__(message, unknown=unknown)

    @property
    def stale(self) -> bool:
        """Whether the server knows this connection no longer: a new one may do, at once."""
        return self.unsent and self.broken

    @property
    def server_failed(self) -> bool | None:
        """Whether the server did not do its part: it is away, too busy, or breaks off.

        None where that is not known: how long it is waited for is the caller's choice.
        """
        match self.why:
            case "late":
                return None
            case "large":
                return False
            case "away":
                return True
        return self.unknown or (self.unsent and not self.broken)

    def of(self, name: str) -> CallFailed:
        """The same, with the name of the server."""
        return CallFailed(f"{name}: {self}", unknown=self.unknown, broken=self.broken, unsent=self.unsent, why=self.why)
