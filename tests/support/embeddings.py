"""A server of OpenAI's embeddings API: texts are alike by the words they share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from kadre.engine.models.embedding import Hashed


class Embeddings:
    """A running one. `answers`: statuses of the next requests, in place of an answer."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.answers: list[int] = []
        self.dimension = 0

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        self.keys.append(request.headers.get("Authorization", ""))
        if self.answers:
            status = self.answers.pop(0)
            return web.json_response({"error": {"message": f"no, because of {self.keys[-1]}"}}, status=status)
        return web.json_response(await embedded(body, self.dimension))


async def embedded(body: dict[str, Any], dimension: int = 0) -> dict[str, Any]:
    """The answer to a request, in no order. `dimension`: of the vectors, whatever is asked for."""
    vectors = await Hashed(dimension or body.get("dimensions", 256)).embed(body["input"])
    data = [{"object": "embedding", "index": n, "embedding": list(vector)} for n, vector in enumerate(vectors)]
    return {"object": "list", "data": data[::-1], "model": body["model"]}


@asynccontextmanager
async def embeddings() -> AsyncIterator[Embeddings]:
    """Serve it."""
    serving = Embeddings()
    app = web.Application(client_max_size=16 * 1024**2)
    app.router.add_post("/v1/embeddings", serving.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    serving.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield serving
    finally:
        await runner.cleanup()
