"""The sentence model in the process: whom it makes wait."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from kadre.engine.models.embedding_local import DIMENSION, LocalEmbedder


@pytest.mark.needs("embedding-model")
async def test_it_has_a_thread_of_its_own_and_takes_none_of_those_that_all_share() -> None:
    shared, free = ThreadPoolExecutor(1), threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(shared)
    busy = loop.run_in_executor(None, free.wait)
    try:
        async with asyncio.timeout(20):
            vectors = await LocalEmbedder().embed(["one"] * 20)
    finally:
        free.set()
        await busy
    assert {len(vector) for vector in vectors} == {DIMENSION}
