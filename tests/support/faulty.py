"""A server that speaks OpenAI's API badly, on purpose: what a model does wrong, over a real connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web


class FaultyModel:
    """Does what `does` says: answer, tool, wait, hang, close, broken, 500, html. `asked` is set by each request.

    `wait`: it answers when `go` is set.
    """

    def __init__(self) -> None:
        self.does = "answer"
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.offers: list[str] = []
        """Models an Ollama at this address has."""
        self.obeys = False
        """With `tool`: it calls the tool that the message begins with, with all of it, and answers any other."""
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers.get("Authorization", ""))
        self.asked.set()
        match self.does:
            case "wait":
                await self.go.wait()
            case "hang":
                await asyncio.Event().wait()
            case "500":
                return web.json_response({"error": {"message": "out of order"}}, status=500)
            case "html":
                return web.Response(text="<html>Bad Gateway</html>", status=502, content_type="text/html")
            case "close" | "broken":
                return await self._cut_off(request, body)
        return await self._answer(request, body)

    async def tags(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"models": [{"name": name} for name in self.offers]})

    async def _cut_off(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        if self.does == "broken":
            await response.write(b"data: {this is no JSON\n\n")
            return response
        await response.write(_chunk({"content": "half an ans"}) if body.get("stream") else b'{"choices": [{')
        assert request.transport is not None
        request.transport.close()
        return response

    def _called(self, body: dict[str, Any]) -> dict[str, str] | None:
        names, last = [tool["function"]["name"] for tool in body.get("tools", ())], body["messages"][-1]
        if last["role"] != "user" or not self.obeys:
            return {"name": names[0], "arguments": '{"message": "hi"}'} if last["role"] == "user" else None
        name = last["content"].split()[0]
        return {"name": name, "arguments": json.dumps({"message": last["content"]})} if name in names else None

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        message: dict[str, Any] = {"role": "assistant", "content": "all well"}
        if self.does == "tool" and (function := self._called(body)) is not None:
            message = {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": function}]}
        if not body.get("stream"):
            return web.json_response({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        delta = {**message, "tool_calls": [{"index": 0, **call} for call in message.get("tool_calls", [])]}
        await response.write(_chunk(delta) + _chunk({}, "stop"))
        await response.write(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\ndata: [DONE]\n\n")
        return response


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return (
        b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode() + b"\n\n"
    )


@asynccontextmanager
async def faulty_model() -> AsyncIterator[FaultyModel]:
    """Serve one; `url` is its OpenAI base URL."""
    model = FaultyModel()
    application = web.Application()
    application.router.add_post("/v1/chat/completions", model.handle)
    application.router.add_get("/api/tags", model.tags)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    model.url = f"http://{host}:{port}/v1"
    try:
        yield model
    finally:
        await runner.cleanup()
