"""An MCP server written by hand, for what the SDK's would never do: `rough.py (stdio | http | http-json | sse) OPTION`.

`flood` answers with a gigabyte that never ends a message, `forget` ends all sessions. Options: `many` tools, a `heavy`
list of them, a `rotten` one, `silent` from the start, `noisy` on stderr, `forgetful` of each session. Over HTTP it
prints its port first.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

CHUNK = b"x" * (1 << 20)
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
GONE = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
SCHEMA = {"type": "object", "properties": {"cursor": {"type": "string"}}}
PAGE = 100
heard: list[str] = []
sessions = 0
NOISE = (
    {"method": "notifications/progress", "params": {"progressToken": 1, "progress": 0.5}},
    {"method": "notifications/message", "params": {"level": "info", "data": "working"}},
    {"method": "notifications/tools/list_changed"},
    {"method": "notifications/of-nobody", "params": {"x": 1}},
)


def tool(name: str, **more: Any) -> dict[str, Any]:
    """A tool as it is listed."""
    return {"name": name, "inputSchema": SCHEMA, **more}


def text(content: str) -> dict[str, Any]:
    """A result."""
    return {"content": [{"type": "text", "text": content}]}


def listed(params: dict[str, Any]) -> dict[str, Any]:
    """Five thousand tools in fifty pages for `many`, pages of two large ones for `heavy`; else a few."""
    if "heavy" in sys.argv:
        turn = int(params.get("cursor", 0))
        tools = [tool(f"tool-{2 * turn + number}", description="x" * 400_000) for number in range(2)]
        return {"tools": tools, "nextCursor": str(turn + 1)}
    if "rotten" in sys.argv:
        return {"tools": [3, tool("good"), {"name": "no-schema"}, {"inputSchema": SCHEMA}, tool("x", annotations=1)]}
    if "many" in sys.argv:
        start = int(params.get("cursor", 0))
        page = [tool(f"tool-{number}") for number in range(start, start + PAGE)]
        return {"tools": page, **({"nextCursor": str(start + PAGE)} if start + PAGE < 5000 else {})}
    odd = {"type": "object", "properties": {"x": {"type": "no-such-type", "$ref": "#/nowhere"}}}
    return {
        "tools": [
            tool("flood"),
            tool("heard", title="What was heard"),
            tool("büro/öffnen now!"),
            {**tool("odd"), "inputSchema": odd},
        ]
    }


def result(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """The answer to a request; None for a gigabyte."""
    if method == "initialize":
        capabilities = {"tools": {"listChanged": True}}
        info = {"name": "rough", "version": "1"}
        return {"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": info}
    if method == "tools/list":
        return listed(params)
    if method == "tools/call":
        match params["name"]:
            case "flood":
                return None
            case "heard":
                return text(json.dumps(heard))
            case "env":
                return text(json.dumps(sorted(os.environ)))
            case "big":
                return text("x" * params["arguments"]["size"])
            case "forget":
                global sessions
                sessions += 1
                return text("forgotten")
            case name:
                return text(f"called {name}")
    return {}


async def answer(message: dict[str, Any]) -> AsyncIterator[bytes]:
    """The answer, in pieces."""
    heard.append(message["method"])
    if "silent" in sys.argv or (message.get("params") or {}).get("name") == "hang":
        if sys.argv[1].startswith("http"):
            await asyncio.Event().wait()
        return
    head = f'{{"jsonrpc":"2.0","id":{json.dumps(message.get("id"))},'
    if message["method"] == "server/discover":
        yield f'{head}"error":{{"code":-32601,"message":"unknown"}}}}'.encode()
    elif (value := result(message["method"], message.get("params") or {})) is not None:
        yield f'{head}"result":{json.dumps(value)}}}'.encode()
    else:
        yield f'{head}"result":{{"content":[{{"type":"text","text":"'.encode()
        for _ in range(1024):
            yield CHUNK


async def stdio() -> None:
    """Speak over stdin and stdout, after rubbish."""
    print("Welcome to the rough server!\n\x1b[1m{not json}\n")  # noqa: T201
    sys.stdout.flush()
    if "noisy" in sys.argv:
        threading.Thread(target=lambda: [os.write(2, b"noise\n" * 10_000) for _ in iter(int, 1)], daemon=True).start()
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            for noise in (*NOISE, {"id": 1_000_000, "result": {}}):
                print(json.dumps({"jsonrpc": "2.0", **noise}))  # noqa: T201
            sys.stdout.flush()
            async for piece in answer(message):
                sys.stdout.buffer.write(piece)
            print(flush=True)  # noqa: T201
        else:
            heard.append(message["method"])


def _with_session(head: bytes) -> bytes:
    return head.replace(b"connection", b"mcp-session-id: %d\r\nconnection" % sessions)


class Web:
    """Speaks over HTTP, in each of three ways."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.events: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                length = re.search(r"(?i)content-length: *(\d+)", head)
                body = await reader.readexactly(int(length.group(1)) if length else 0)
                if head.startswith("GET"):
                    await self.listen(head, writer)
                else:
                    await self.post(head, json.loads(body), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def listen(self, head: str, writer: asyncio.StreamWriter) -> None:
        """The stream of the older transport."""
        if self.kind != "sse":
            writer.write(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n")
            return
        writer.write(SSE + b"event: endpoint\r\ndata: /messages\r\n\r\n")
        self.events = writer
        await asyncio.Event().wait()

    async def post(self, head: str, message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        """One message, of the session that is now."""
        out = writer
        session = re.search(r"(?i)mcp-session-id: *(\S+)", head)
        if session and (
            session.group(1) != str(sessions) or ("forgetful" in sys.argv and "tools/call" in message["method"])
        ):
            heard.append("too late")
            writer.write(GONE)
            return
        if "id" not in message or self.kind == "sse":
            writer.write(ACCEPTED)
        if "id" not in message:
            heard.append(message["method"])
            return
        if self.kind == "sse":
            assert self.events is not None
            out = self.events
        elif self.kind == "http":
            out.write(_with_session(SSE))
        else:
            out.write(_with_session(JSON))
        if self.kind != "http-json":
            for noise in NOISE:
                out.write(b"event: message\r\ndata: %s\r\n\r\n" % json.dumps({"jsonrpc": "2.0", **noise}).encode())
            out.write(b"event: message\r\ndata: ")
        async for piece in answer(message):
            out.write(piece)
            await out.drain()
        out.write(b"\r\n\r\n")
        if self.kind != "sse":
            await out.drain()
            out.close()


async def main() -> None:
    """Serve until killed."""
    if sys.argv[1] == "stdio":
        await stdio()
        return
    server = await asyncio.start_server(Web(sys.argv[1]).serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    await asyncio.Event().wait()


asyncio.run(main())
