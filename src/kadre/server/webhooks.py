"""Webhooks of runs: whoever began a run has a URL told of what becomes of it, in A2A's form.

They are this process's: they end when the run's end has been told, and with the process. A URL is whatever a caller
says, and this process stands where the caller may not: only public addresses are called, and those of the networks that
the installation allows; each connection is checked when it is made, so that no name can mean another address by then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from kadre.base import urls
from kadre.base.addresses import Policy
from kadre.base.clock import Clock
from kadre.base.errors import BadRequest, Forbidden, KadreError, NotFound, TooMany
from kadre.base.ids import is_id, new_id
from kadre.base.retry import Backoff
from kadre.base.tasks import Tasks
from kadre.engine import outbound
from kadre.engine.live import Live
from kadre.server import body, errors
from kadre.server.openai import BASE
from kadre.server.runs import RunsDoor

log = logging.getLogger(__name__)

MOST = 1000
"""Webhooks at once; each is a task, and a connection while it is told something."""
MOST_OF_A_RUN = 10
MAX_URL = 2048
MAX_SECRET = 4096
SECONDS = 10.0
"""For one telling, from the connection to the answer."""
TIMEOUT = aiohttp.ClientTimeout(total=SECONDS)
BACKOFF = Backoff(attempts=5, first=1.0, limit=30.0)
_AGAIN = frozenset({408, 425, 429, *range(500, 600)}) - {501}


class Webhook(msgspec.Struct):
    """`POST /runs/{id}/webhooks`. `token` and `credentials` are sent with what is told, and shown to nobody."""

    url: str
    id: str = ""
    token: str = ""
    scheme: str = ""
    credentials: str = ""

    def shown(self) -> dict[str, str]:
        """As who asks for it is told."""
        return {"id": self.id, "url": self.url, "scheme": self.scheme}

    def headers(self) -> dict[str, str]:
        """What is sent with what is told."""
        found = {"X-A2A-Notification-Token": self.token} if self.token else {}
        if self.scheme and self.credentials:
            found["Authorization"] = f"{self.scheme} {self.credentials}"
        return found


_decoder = msgspec.json.Decoder(Webhook)


class WebhooksDoor:
    """`/runs/{id}/webhooks`."""

    def __init__(self, runs: RunsDoor, tasks: Tasks, clock: Clock, policy: Policy) -> None:
        self._runs = runs
        self._tasks = tasks
        self._clock = clock
        self._policy = policy
        self._kept: dict[str, dict[str, tuple[Webhook, asyncio.Task[None]]]] = {}
        self._count = 0

    async def index(self, request: Request) -> Response:
        """Those of the run that have not been told of its end yet."""
        live = await self._runs.open(request)
        return errors.json_response({"webhooks": [webhook.shown() for webhook, _ in self._of(live).values()]})

    async def create(self, request: Request) -> Response:
        """One more, or another in the place of one: it is told of all that has become of the run, and what does."""
        live = await self._runs.open(request)
        if request.scope["caller"].via:
            raise Forbidden("an agent that delegates follows the run itself", reason="ViaAgent")
        webhook = await body.decode(request, _decoder)
        webhook.id = webhook.id or new_id("hook")
        await self._check(webhook)
        had = self._of(live)
        if webhook.id not in had and (len(had) >= MOST_OF_A_RUN or self._count >= MOST):
            raise TooMany(
                f"the run has {len(had)} webhooks of at most {MOST_OF_A_RUN}, this process {self._count} of {MOST}",
                reason="TooManyWebhooks",
                retry_after=60.0,
            )
        self._cancel(live, webhook.id)
        base = request.headers.get(BASE, "") if request.scope["caller"].agent else ""
        link = f"{(base or str(request.base_url)).rstrip('/')}/runs/{live.info.run_id}/approve"
        task = self._tasks.spawn(f"{live.info.run_id}/{webhook.id}", self._tell(live, webhook, link))
        self._kept.setdefault(live.info.run_id, {})[webhook.id] = (webhook, task)
        self._count += 1
        return errors.json_response(webhook.shown(), 201)

    async def one(self, request: Request) -> Response:
        """One of them."""
        live = await self._runs.open(request)
        return errors.json_response(self._found(live, request).shown())

    async def delete(self, request: Request) -> Response:
        """It is told nothing more."""
        live = await self._runs.open(request)
        webhook = self._found(live, request)
        self._cancel(live, webhook.id)
        return errors.json_response(webhook.shown())

    def _of(self, live: Live) -> dict[str, tuple[Webhook, asyncio.Task[None]]]:
        return self._kept.get(live.info.run_id, {})

    def _found(self, live: Live, request: Request) -> Webhook:
        wanted = request.path_params["webhook"]
        try:
            return self._of(live)[wanted][0]
        except KeyError:
            raise NotFound(f"the run has no webhook {wanted!r}", reason="NoSuchWebhook") from None

    def _cancel(self, live: Live, webhook_id: str) -> None:
        kept = self._of(live).get(webhook_id)
        if kept is not None:
            self._forget(live, kept[0])
            kept[1].cancel()

    def _forget(self, live: Live, webhook: Webhook) -> None:
        of_run = self._of(live)
        if webhook.id in of_run and of_run[webhook.id][0] is webhook:
            del of_run[webhook.id]
            self._count -= 1
        if not of_run:
            self._kept.pop(live.info.run_id, None)

    async def _check(self, webhook: Webhook) -> None:
        """Raises BadRequest for a URL that is not called."""
        wrong = (
            urls.fault(webhook.url) if len(webhook.url) <= MAX_URL else ("the URL is too long", f"{MAX_URL} is most")
        )
        if wrong is not None:
            raise BadRequest(f"{wrong[0]}; {wrong[1]}", reason="BadWebhook")
        if not is_id(webhook.id):
            raise BadRequest("a webhook's id must match [A-Za-z0-9][A-Za-z0-9._:-]{0,127}", reason="BadId")
        secrets = (webhook.token, webhook.scheme, webhook.credentials)
        if any(len(each) > MAX_SECRET or not each.isprintable() for each in secrets):
            raise BadRequest(f"token, scheme and credentials are {MAX_SECRET} printable characters at most")
        host = urlsplit(webhook.url).hostname or ""
        try:
            await outbound.check(host, self._policy)
        except OSError as error:
            message = (
                f"{host} has no address that a webhook may have: it must be public, or in a network that whoever runs"
                " this allows (--webhook-network)"
            )
            raise BadRequest(message, reason="BadWebhook") from error

    async def _tell(self, live: Live, webhook: Webhook, link: str) -> None:
        try:
            async with outbound.session(self._policy, limit=1) as http:
                async for told in _told(live, link):
                    await self._post(http, webhook, told, live.info.run_id)
        except KadreError as error:
            log.warning("a webhook of run %s is told nothing more: %s", live.info.run_id, error)
        finally:
            self._forget(live, webhook)

    async def _post(self, http: aiohttp.ClientSession, webhook: Webhook, told: Any, run_id: str) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                async with http.post(
                    webhook.url, json=told, headers=webhook.headers(), allow_redirects=False, timeout=TIMEOUT
                ) as answer:
                    if answer.status not in _AGAIN:
                        if answer.status >= 300:
                            log.warning("a webhook of run %s answers %d and is not asked again", run_id, answer.status)
                        return
                    why = str(answer.status)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                why = type(error).__name__
            delay = BACKOFF.delay(attempt)
            if delay is None:
                log.warning("a webhook of run %s could not be told (%s)", run_id, why)
                return
            await self._clock.sleep(delay)


async def _told(live: Live, link: str) -> AsyncIterator[Any]:
    """What is told of the run, from its beginning to its end: each change, and the answer in one piece."""
    from google.protobuf.json_format import MessageToDict

    from kadre.engine import events as ev
    from kadre.server.a2a import tasks

    telling = tasks.Telling({**msgspec.to_builtins(live.info), "status": "queued"}, link)
    async for event in live.follow():
        if isinstance(event, ev.Token):
            continue
        if isinstance(event, ev.AssistantMessage):
            event = msgspec.structs.replace(event, content=live.said(event))  # noqa: PLW2901
        for update in telling.tell(event):
            yield MessageToDict(tasks.response(update))
