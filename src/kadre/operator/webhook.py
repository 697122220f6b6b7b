"""The admission webhook: the API server asks it, over HTTPS, about every object of ours that is written.

It serves on every replica, whoever leads. What goes wrong here never stands in anybody's way: without an answer the
API server takes the object (failurePolicy Ignore), and its status says what is wrong with it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from kadre.api.resource import Resource
from kadre.base.clock import Clock, SystemClock
from kadre.base.errors import KadreError
from kadre.base.problems import Problem
from kadre.base.tasks import Tasks
from kadre.kube.client import Client
from kadre.kube.kinds import Key
from kadre.kube.owner import Owner
from kadre.operator import admission
from kadre.operator.certificates import Files, Source, Tls
from kadre.operator.cluster import Cluster
from kadre.operator.configurations import Configurations

log = logging.getLogger(__name__)

MAX_BODY = 3 << 20
"""Bytes of one review: an object before and after, each at most the 1.5 MB that a cluster stores."""
READ_SECONDS = 5.0
"""For a review to arrive; after as long the API server asks no more."""
PLAN_SECONDS = 3.0
"""For following references: what is left of the API server's five is for everything else."""
END_SECONDS = 2.0
"""In which answers that are being given are finished when the process ends."""


@dataclass(frozen=True, slots=True)
class Options:
    """Where the webhook serves, and whence its certificate is."""

    address: str = "0"
    """As `:9443`; `0` or empty: nowhere."""
    cert_dir: str = ""
    """A folder with tls.crt and tls.key; empty: the controller makes a certificate itself, and needs the next two."""
    service: str = ""
    """NAMESPACE/NAME by which the API server calls it. Both webhook configurations have that name, too."""
    secret: str = "kadre-webhook"  # noqa: S105 - its name
    """The name, in the Service's namespace, of the Secret with the certificate that all replicas share."""

    @property
    def on(self) -> bool:
        """Whether there is to be a webhook."""
        return self.address.rpartition(":")[2] not in {"", "0"}


class Webhook:
    """Answers the API server."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def app(self) -> web.Application:
        """Its two doors."""
        made = web.Application(client_max_size=MAX_BODY)
        made.add_routes([web.post("/validate", self._validate), web.post("/mutate", self._mutate)])
        return made

    async def _validate(self, request: web.Request) -> web.Response:
        asked = await _read(request)
        verdict = admission.judge(asked)
        further: tuple[Problem, ...] = ()
        if verdict.resource is not None and not verdict.refused:
            further = await self._further(verdict.resource)
        return _json(admission.validated(asked, verdict, further))

    async def _mutate(self, request: web.Request) -> web.Response:
        return _json(admission.mutated(await _read(request)))

    async def _further(self, resource: Resource) -> tuple[Problem, ...]:
        """What is wrong with where it is, or with what it refers to; nothing where that is not known."""
        if not self._cluster.follows(resource.namespace):
            return (_unwatched(resource.namespace, self._cluster.settings.home),)
        if not self._cluster.synced:
            return ()
        try:
            async with asyncio.timeout(PLAN_SECONDS):
                planned, _ = await self._cluster.plan(resource, lambda _: None)
        except TimeoutError:
            log.warning("%s: its references could not be followed within %.0f s", resource.ref, PLAN_SECONDS)
            return ()
        except Exception:
            log.exception("%s: its references could not be followed", resource.ref)
            return ()
        return planned.problems


async def serve(
    stack: AsyncExitStack, client: Client, cluster: Cluster, options: Options, owner: Owner
) -> Configurations | None:
    """Answer until the stack is closed. Raises KadreError where the options do not fit together.

    `owner`: whose the Secret is that is made for it. What has the API server ask is followed, where its name is told.
    """
    host, _, port = options.address.rpartition(":")
    if not port.isdecimal():
        raise KadreError(f"--webhook-bind-address {options.address}: write it as :9443")
    tls = Tls(_source(client, options, owner))
    await listen(stack, Webhook(cluster), tls, host, int(port))
    if not options.service:
        return None
    tasks = Tasks("webhook-configurations")
    stack.push_async_callback(tasks.aclose)
    followed = Configurations(client, options.service.rpartition("/")[2], tls.hurry)
    tasks.spawn("follow", followed.run())
    return followed


async def listen(
    stack: AsyncExitStack, webhook: Webhook, tls: Tls, host: str, port: int, clock: Clock | None = None
) -> None:
    """Serve with the certificate of today, and with the next one when it is there, until the stack is closed."""
    tasks = Tasks("webhook")
    # Tried once before anything is served, so that a replica is seldom ready before its webhook is.
    wait = await tls.refresh()
    stack.push_async_callback(tasks.aclose)
    tasks.spawn("certificate", tls.follow(clock or SystemClock(), wait))
    runner = web.AppRunner(webhook.app(), access_log=None, shutdown_timeout=END_SECONDS)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, host or None, port, ssl_context=tls.context).start()


def _source(client: Client, options: Options, owner: Owner) -> Source:
    if options.cert_dir:
        return Files(Path(options.cert_dir))
    namespace, _, name = options.service.partition("/")
    if not (namespace and name and options.secret):
        raise KadreError(
            "a webhook without --webhook-cert-dir needs --webhook-service NAMESPACE/NAME: it makes its own"
        )
    try:
        from kadre.operator import own_certificate  # only where one is made: the library that signs is an extra
    except ImportError as error:
        raise KadreError("a certificate is made by the extra `webhook`: pip install 'kadre[webhook]'") from error
    hosts = [name, f"{name}.{namespace}", f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.cluster.local"]
    return own_certificate.Shared(client, Key(namespace, options.secret), name, hosts, owner=owner)


def _unwatched(namespace: str, home: str) -> Problem:
    """The chart's policy says the same where the API server asks about watched namespaces alone."""
    where = f" in {home}" if home else ""
    message = f"the namespace {namespace} is not watched by the installation{where}: nothing runs there"
    return Problem("NotWatched", message, "add it to watchNamespaces, or use a namespace that is in it")


async def _read(request: web.Request) -> admission.Request:
    try:
        async with asyncio.timeout(READ_SECONDS):
            body = await request.read()
    except TimeoutError as error:
        raise web.HTTPRequestTimeout from error
    try:
        return admission.read(body)
    except ValueError as error:
        raise web.HTTPBadRequest(text=str(error)) from error


def _json(answer: dict[str, Any]) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")
