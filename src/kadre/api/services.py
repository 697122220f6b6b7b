"""Services of a cluster that say of themselves that they are MCP servers.

The label `kagent.dev/mcp: "true"` says so; the port named `mcp`, else `http`, else the only one is the server's, and
the annotation `kagent.dev/mcp-path` says where on it the server is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

MARK = "kagent.dev/mcp"
PATH = "kagent.dev/mcp-path"
SELECTOR = f"{MARK}=true"
"""As the API takes it."""
_PATH = re.compile(r"(/[A-Za-z0-9._~-]{1,100}){1,10}/?")


class ToolService(NamedTuple):
    """One of them. `url`: where the server is, empty where that is not known, and `fault` says why."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    url: str
    fault: str = ""

    def has(self, labels: Mapping[str, str]) -> bool:
        """Whether it has all of these."""
        return all(self.labels.get(key) == value for key, value in labels.items())


def tool_service(value: Mapping[str, Any], namespace: str, name: str) -> ToolService | None:
    """What a v1 Service says of itself, whatever it holds; None where it is no server of tools."""
    metadata, spec = _mapping(value.get("metadata")), _mapping(value.get("spec"))
    labels = {key: each for key, each in _mapping(metadata.get("labels")).items() if isinstance(each, str)}
    if labels.get(MARK) != "true":
        return None
    path = _mapping(metadata.get("annotations")).get(PATH, "")
    listed = spec.get("ports")
    ports = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    named = {each.get("name"): each.get("port") for each in reversed(ports)}
    port = named.get("mcp") or named.get("http") or (ports[0].get("port") if len(ports) == 1 else None)
    fault = ""
    if spec.get("type") == "ExternalName":
        fault = "it is of type ExternalName, and leads out of the cluster"
    elif type(port) is not int:
        fault = "it has no port named mcp or http" if ports else "it has no port"
    elif path and not (isinstance(path, str) and _PATH.fullmatch(path)):
        fault = f"its annotation {PATH} is no path"
    url = "" if fault else f"http://{name}.{namespace}:{port}{path}"
    return ToolService(namespace, name, labels, url, fault)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
