"""The floor of a pool: plans followed by bare aiohttp, each answered for by one call to its model, and nothing else.

`python -m benchmarks.apps.pool_floor PORT KUBECONFIG NAMESPACE SELECTOR`. No session, no journal, no tool, no limit.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from kadre.kube import access

PLANS: dict[str, Any] = {}


def take(config_map: Any) -> None:
    """Serve the plan."""
    plan = json.loads(config_map["data"]["plan.json"])
    PLANS[plan["key"]["name"]] = plan


async def follow(http: aiohttp.ClientSession, url: str, selector: str) -> None:
    """List the plans, and watch them from there."""
    async with http.get(url, params={"labelSelector": selector}) as answer:
        listed = await answer.json()
    for item in listed["items"]:
        take(item)
    query = {"labelSelector": selector, "watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}
    async with http.get(url, params=query, timeout=aiohttp.ClientTimeout(total=None)) as answer:
        async for line in answer.content:
            take(json.loads(line)["object"])


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """One client for the API server, and one for models."""
    found = access.by_kubeconfig(Path(sys.argv[2]))
    connector = aiohttp.TCPConnector(ssl=found.tls or True)
    async with aiohttp.ClientSession(connector=connector) as api, aiohttp.ClientSession() as models:
        app.state.models = models
        url = f"{found.server}/api/v1/namespaces/{sys.argv[3]}/configmaps"
        following = asyncio.create_task(follow(api, url, sys.argv[4]))
        yield
        following.cancel()


async def chat(request: Request) -> JSONResponse:
    """`POST /agents/{name}/chat`."""
    plan = PLANS.get(request.path_params["name"])
    if plan is None:
        return JSONResponse({}, 404)
    asked = await request.json()
    messages = [
        {"role": "system", "content": plan["system_prompt"]},
        {"role": "user", "content": asked["message"]},
    ]
    url, body = f"{plan['model']['endpoint']}/chat/completions", {"model": plan["model"]["model"], "messages": messages}
    async with request.app.state.models.post(url, json=body) as answer:
        told = await answer.json()
    return JSONResponse({"response": told["choices"][0]["message"]["content"]})


async def health(request: Request) -> JSONResponse:
    """`GET /health`."""
    del request
    return JSONResponse({"agents": len(PLANS)})


app = Starlette(
    routes=[Route("/agents/{name}/chat", chat, methods=["POST"]), Route("/health", health)], lifespan=lifespan
)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
