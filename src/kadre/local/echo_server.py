"""The echo server that stands in for the package of the quickstart: the same tool, over stdin and stdout.

Run as a child process by `kadre up`, never imported by it: it loads the SDK's server.
"""

from __future__ import annotations

from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations

server = MCPServer("echo", log_level="ERROR")


@server.tool(
    description="Repeat the given text, word for word.",
    annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True),
)
async def echo(text: str) -> str:
    """Give the text back."""
    return text


if __name__ == "__main__":
    server.run("stdio")
