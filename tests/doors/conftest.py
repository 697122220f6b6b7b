"""A served host, and a client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.support.scene import Scene
from tests.support.serving import serving


@pytest.fixture
def scene() -> Scene:
    """A host with one store and a clock that stands still."""
    return Scene()


@pytest.fixture
async def url(scene: Scene) -> AsyncIterator[str]:
    """The served host's address."""
    async with serving(scene) as base:
        yield base


@pytest.fixture
async def http(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that knows the address."""
    async with aiohttp.ClientSession(url) as session:
        yield session
