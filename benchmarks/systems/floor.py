"""The floor, which every figure is divided by."""

from __future__ import annotations

from benchmarks.systems import WebApp


class Floor(WebApp):
    """A bare proxy."""

    name = "floor"
    title = "Floor: uvicorn + Starlette + aiohttp"
    module = "floor"
    packages = ("uvicorn", "uvloop", "httptools", "starlette", "aiohttp", "msgspec", "mcp")
