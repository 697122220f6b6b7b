"""The two services that the documents' api Tools call: tickets to be filed, and customers to be looked up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router

from tests.support.serving import answering

TOKEN = "tickets-token-1"


class Tickets:
    """What was filed, with the headers of each request."""

    def __init__(self) -> None:
        self.url = ""
        self.filed: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []

    @property
    def port(self) -> int:
        """Where it listens on this machine."""
        return int(self.url.rpartition(":")[2])

    def _known(self, request: Request) -> bool:
        self.headers.append(dict(request.headers))
        return request.headers.get("authorization") == f"Bearer {TOKEN}"

    async def file(self, request: Request) -> Response:
        """A ticket."""
        if not self._known(request):
            return JSONResponse({"error": "who is that?"}, 401)
        self.filed.append(await request.json())
        return JSONResponse({"ticket_id": f"T-{len(self.filed)}", "status": "open", "created_at": "today"}, 201)

    async def customer(self, request: Request) -> Response:
        """A customer."""
        if not self._known(request):
            return JSONResponse({"error": "who is that?"}, 401)
        self.asked.append(request.path_params["id"])
        return JSONResponse(
            {"id": request.path_params["id"], "name": "Ada", "email": "ada@example.com", "tier": "gold"}
        )


@asynccontextmanager
async def tickets(address: str = "127.0.0.1") -> AsyncIterator[Tickets]:
    """Serve both at an address of this machine."""
    served = Tickets()
    routes = [
        Route("/api/v1/tickets", served.file, methods=["POST"]),
        Route("/api/v1/customers/{id}", served.customer, methods=["GET"]),
    ]
    async with answering(Router(routes), address) as url:
        served.url = url
        yield served
