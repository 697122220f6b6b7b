"""A server's list of tools: bounded in all, and without the tools that the SDK would refuse the whole list for.

Imported with the SDK, when the first server is connected to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import mcp_types as types
import msgspec
from mcp_types import methods

from kadre.base.errors import shorten
from kadre.engine.messages import ToolSpec
from kadre.engine.tools import mcp_bounds

log = logging.getLogger(__name__)


class Listing:
    """The tools of one server, as they come in pages. `notice`: why the rest is left out; empty: nothing is, so far."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._size = 0
        self.specs: dict[str, ToolSpec] = {}
        self.notice = ""

    def add(self, page: Iterable[ToolSpec], *, more: bool) -> None:
        """Take what there is room for; `more`: another page follows."""
        most = mcp_bounds.MAX_TOOLS
        for spec in page:
            if len(self.specs) == most and spec.name not in self.specs:
                self.stop(f"the server lists more than {most} tools")
                return
            self._size += len(msgspec.json.encode((spec.name, spec.description, spec.parameters)))
            if self._size > mcp_bounds.LIST_LIMIT:
                self.stop(f"the server's list of tools is larger than {mcp_bounds.LIST_LIMIT // 1_000_000} MB")
                return
            self.specs[spec.name] = spec
        if more and len(self.specs) == most:
            self.stop(f"the server lists more than {most} tools")

    def stop(self, why: str) -> None:
        """Take no more."""
        self.notice = f"{self._name}: {why}; the first {len(self.specs)} are offered"
        log.warning("%s", self.notice)


def leave_out_malformed(name: str, message: types.JSONRPCMessage, version: Callable[[], str | None]) -> None:
    """Take the tools that the SDK would refuse out of an answer that lists tools; any other message is left alone.

    `version`: the protocol's, of the session that the message is for.
    """
    result = getattr(message, "result", None)
    if not isinstance(result, dict) or not isinstance(result.get("tools"), list) or "content" in result:
        return
    # The check takes time for each: beyond the bound nothing is offered anyway, and one more tells that there is more.
    result["tools"] = result["tools"][: mcp_bounds.MAX_TOOLS + 1]
    spoken = version() or "2025-11-25"
    if _is_valid(result, spoken) or not _is_valid({**result, "tools": []}, spoken):
        return
    kept: list[Any] = []
    left_out: list[str] = []
    for tool in result["tools"]:
        if _is_valid({**result, "tools": [tool]}, spoken):
            kept.append(tool)
        else:
            left_out.append(str(tool.get("name", "(no name)")) if isinstance(tool, dict) else "(no name)")
    result["tools"] = kept
    what = "tool of the server is" if len(left_out) == 1 else "tools of the server are"
    log.warning("%s: %d %s malformed and left out: %s", name, len(left_out), what, shorten(", ".join(left_out), 200))


def _is_valid(result: dict[str, Any], version: str) -> bool:
    try:
        with suppress(KeyError):  # a version for which the SDK checks no more than the type
            methods.validate_server_result("tools/list", version, result)
        types.ListToolsResult.model_validate(result, by_name=False)
    except ValueError:
        return False
    return True
