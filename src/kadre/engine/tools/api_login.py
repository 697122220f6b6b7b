"""Who calls a REST API: headers made of secrets as they are now, and tokens that are kept while they last."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import quote, urlencode

import msgspec
from multidict import CIMultiDict
from yarl import URL

from kadre.base.clock import Clock
from kadre.base.errors import ToolError
from kadre.engine.secrets import SecretReader, describe
from kadre.engine.tools.api_request import Request
from kadre.engine.tools.api_wire import Answer, Failed, Sending
from kadre.plan.types import ApiLogin, ApiTool, SecretRef

TOKEN_SECONDS = 300.0
"""How long a token is kept of which nobody says how long it lasts."""
SHORTEST = 6
"""Characters of a secret that is looked for in what is told: a shorter one is part of half of all texts."""
MOST = 64
"""Secrets that are looked for, the latest: a rotated one and a token give way to the next."""
MARGIN = 0.1
"""The part of a token's life, before its end, in which it is sent no longer."""


class Caller(Protocol):
    """Sends a request: see api_wire.Wire."""

    async def send(self, request: Request, headers: Mapping[str, str], sending: Sending) -> Answer:
        """The answer. Raises Failed."""
        ...


class _Given(msgspec.Struct):
    """What an authorization server answers (RFC 6749, 5.1)."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - a kind of token
    expires_in: float | None = None


_decoder = msgspec.json.Decoder(_Given, strict=False)


class Login:
    """What is sent of who calls, for one tool."""

    def __init__(self, plan: ApiTool, secrets: SecretReader, wire: Caller, clock: Clock) -> None:
        self._plan = plan
        self._secrets = secrets
        self._wire = wire
        self._clock = clock
        self._token = ""
        self._until = 0.0
        self._asking = asyncio.Lock()
        self._sent: dict[str, None] = {}

    def quiet(self, text: str) -> str:
        """The text without what nobody must be told: an API may answer with what it was sent."""
        for secret in sorted(self._sent, key=len, reverse=True):
            text = text.replace(secret, "[secret]")
        return text

    async def headers(self) -> dict[str, str]:
        """What is sent with a request. Raises ToolError where it cannot be had."""
        found = {
            name: self._read(ref, f"its header {name} is to have") for name, ref in self._plan.secret_headers.items()
        }
        login = self._plan.login
        if login is None:
            return found
        secret = self._read(login.secret, "it says who calls with")
        match login.type:
            case "bearer":
                found["Authorization"] = f"Bearer {secret}"
            case "basic":
                found["Authorization"] = f"Basic {self._basic(secret)}"
            case "apiKey":
                found[login.header] = secret
            case "oauth":
                found["Authorization"] = f"Bearer {await self._oauth(login, secret)}"
        return found

    def refused(self, headers: Mapping[str, str]) -> bool:
        """An API does not know who called with these headers. True: another token may help, which comes next."""
        login = self._plan.login
        if login is None or login.type != "oauth":
            return False
        if headers.get("Authorization") == f"Bearer {self._token}":
            self._token = ""
        return True

    def _read(self, ref: SecretRef, use: str) -> str:
        value = self._secrets.read(ref)
        if value is None:
            raise ToolError(f"{self._plan.name} cannot be called: there is no {describe(ref)}, which {use}")
        value = value.strip()
        if not value.isprintable():
            raise ToolError(f"{self._plan.name} cannot be called: {describe(ref)} is not one line of text")
        self._keep_quiet(value)
        return value

    def _basic(self, pair: str) -> str:
        packed = base64.b64encode(pair.encode()).decode()
        self._keep_quiet(packed, pair.partition(":")[2])
        return packed

    def _keep_quiet(self, *values: str) -> None:
        for value in values:
            for form in (value, msgspec.json.encode(value).decode()[1:-1]):
                self._sent.pop(form, None)
                if len(form) >= SHORTEST:
                    self._sent[form] = None
        while len(self._sent) > MOST:
            del self._sent[next(iter(self._sent))]

    async def _oauth(self, login: ApiLogin, secret: str) -> str:
        """A token that lasts, asked for by one of those who want it."""
        async with self._asking:
            if not self._token or self._clock.monotonic() >= self._until:
                given = await self._ask(login, secret)
                lasts = TOKEN_SECONDS if given.expires_in is None else given.expires_in
                self._token, self._until = given.access_token, self._clock.monotonic() + lasts * (1 - MARGIN)
            self._keep_quiet(self._token)
            return self._token

    async def _ask(self, login: ApiLogin, secret: str) -> _Given:
        form = {"grant_type": "client_credentials"} | ({"scope": " ".join(login.scopes)} if login.scopes else {})
        pair = f"{quote(login.client_id, safe='')}:{quote(secret, safe='')}"
        headers = {"Authorization": f"Basic {self._basic(pair)}"}
        open_headers = CIMultiDict(
            {
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Content-Type": "application/x-www-form-urlencoded",
            }
        )
        request = Request("POST", URL(login.token_url), open_headers, urlencode(form).encode())
        about = f"{self._plan.name} cannot be called: no token from {request.url.origin()}"
        try:
            answer = await self._wire.send(request, headers, Sending())
        except Failed as error:
            raise ToolError(f"{about}: {error}") from error
        if answer.status != 200:
            hint = "; check the client's id, its secret and its scopes" if answer.status in {400, 401, 403} else ""
            raise ToolError(f"{about}, which answers {answer.status}{hint}")
        try:
            given = _decoder.decode(answer.body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ToolError(f"{about}: its answer holds no token") from error
        if given.token_type.lower() != "bearer" or not given.access_token.isprintable() or not given.access_token:
            raise ToolError(f"{about}: its token is none that a request can carry")
        return given
