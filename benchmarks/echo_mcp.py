"""An MCP server with one tool that returns its text, over streamable HTTP, by the official SDK.

Run: `python -m benchmarks.echo_mcp --port P`; the endpoint is `/mcp`.
"""

from __future__ import annotations

import argparse

import mcp.types as types
from mcp.server.mcpserver import MCPServer

from benchmarks.scenarios import TOOL_NAME, echo

server = MCPServer("echo", log_level="WARNING")
server.tool(name=TOOL_NAME, annotations=types.ToolAnnotations(read_only_hint=True))(echo)

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    server.run("streamable-http", host="127.0.0.1", port=parser.parse_args().port)
