"""Code that a model wrote, run by another process: in a cluster, the code runner of the agent's namespace."""

from __future__ import annotations

import io
from http import HTTPStatus
from pathlib import Path

import aiohttp
import msgspec

from kadre.base.errors import ToolError, shorten
from kadre.engine.tools.code import BUSY, Asked, Ran

CONNECT_SECONDS = 5.0
MORE_SECONDS = 15.0
"""On top of the code's own time: to be asked, to end it, and to answer."""
MAX_ANSWER = 8 << 20
"""Bytes: more than the runner's bound on output comes to in JSON."""
LOOK = (
    "it was not run, or what it came to is lost; whoever runs the cluster sees why by `kubectl get pods -l"
    " app=kagent-code-runner` and `kubectl logs deployment/kagent-code-runner` in the agent's namespace"
)


class RunnerSandbox:
    """The runner at `url`, which knows this pod by the token in a file. See Sandbox."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: Path) -> None:
        self._http = http
        self._url = url
        self._token = token
        self._checked = False

    async def check(self) -> None:
        """See Sandbox."""
        if not self._checked:
            await self._answer("GET", "/health", CONNECT_SECONDS)
            self._checked = True

    async def run(self, code: str, seconds: float) -> Ran:
        """See Sandbox."""
        body = await self._answer("POST", "/run", seconds + MORE_SECONDS, msgspec.json.encode(Asked(code, seconds)))
        try:
            return msgspec.json.decode(body, type=Ran)
        except msgspec.DecodeError as error:
            raise ToolError(f"the code runner answers what is none of its answers; {LOOK}") from error

    async def _answer(self, method: str, path: str, seconds: float, body: bytes | None = None) -> bytes:
        try:
            token = self._token.read_text(encoding="ascii").strip()  # it is renewed where it lies
        except (OSError, ValueError) as error:
            message = f"this pod's token for the code runner cannot be read ({error}): the controller mounts it"
            raise ToolError(message) from error
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        sent = io.BytesIO(body) if body is not None else None  # aiohttp warns of bytes where they are many
        said = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        try:
            async with self._http.request(
                method, self._url + path, data=sent, headers=said, timeout=timeout, allow_redirects=False
            ) as answer:
                content = await _whole(answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = shorten(str(error) or type(error).__name__)
            raise ToolError(f"the code runner at {self._url} does not answer ({why}): {LOOK}") from error
        if answer.status == HTTPStatus.OK:
            return content
        if answer.status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
            raise ToolError(BUSY)
        raise ToolError(f"the code runner refuses it: {_why(answer.status, content)}; {LOOK}")


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > MAX_ANSWER:
            raise aiohttp.ClientPayloadError("its answer has no end")
    return bytes(content)


class _Error(msgspec.Struct, frozen=True):
    message: str = ""


class _Refusal(msgspec.Struct, frozen=True):
    error: _Error = _Error()


def _why(status: int, content: bytes) -> str:
    try:
        return shorten(msgspec.json.decode(content, type=_Refusal).error.message or f"HTTP {status}")
    except msgspec.DecodeError:
        return f"HTTP {status}"
