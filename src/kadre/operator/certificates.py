"""The certificate that the webhook shows, renewed while it serves."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from kadre.base.clock import Clock
from kadre.base.tasks import first_of
from kadre.kube.errors import ApiError

log = logging.getLogger(__name__)

EVERY = 30.0
"""Seconds between two looks at the certificate: a new one is served long before the old one ends."""
AFTER_FAILURE = 3.0
BRIEF = 0.5
"""Between two looks, however often we are told to hurry: somebody else may undo at once what a look does."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with the chain above it, and its key, both as PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


class Source(Protocol):
    """Where the certificate of now is. Above: what serves with it. Below: files, or the cluster's API."""

    async def current(self) -> Pair:
        """The certificate to serve with; the same one as before where there is no newer. Raises OSError, ApiError."""
        ...


class Files:
    """tls.crt and tls.key in a folder, as Kubernetes mounts a Secret of that type."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def current(self) -> Pair:
        """See Source."""
        return self._read()

    def _read(self) -> Pair:
        return Pair((self._folder / "tls.crt").read_bytes(), (self._folder / "tls.key").read_bytes())


class Tls:
    """What connections are served with: each new one has the newest certificate."""

    def __init__(self, source: Source) -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._source = source
        self._served: Pair | None = None
        self._failure = ""
        self._due = asyncio.Event()

    def hurry(self) -> None:
        """Look again at once: what a look sees to has changed."""
        self._due.set()

    async def refresh(self) -> float:
        """Serve with the certificate of now; the seconds after which to look again. Bears every failure."""
        try:
            pair = await self._source.current()
            if pair != self._served:
                # Into another context first: half a pair, as while files are being replaced, would break this one.
                _load(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), pair)
                _load(self.context, pair)
                self._served = pair
                log.info("the webhook serves with a new certificate")
        except (ApiError, OSError, ValueError) as error:  # ssl.SSLError is an OSError
            if str(error) != self._failure:  # once, and not every few seconds
                log.warning("the webhook's certificate could not be had: %s", error)
            self._failure = str(error)
            return AFTER_FAILURE
        self._failure = ""
        return EVERY

    async def follow(self, clock: Clock, wait: float = 0.0) -> None:
        """Look for a newer certificate until cancelled, for the first time after `wait` seconds."""
        while True:
            await first_of(clock.sleep(wait), self._hurried(clock))
            self._due.clear()
            wait = await self.refresh()

    async def _hurried(self, clock: Clock) -> None:
        await clock.sleep(BRIEF)
        await self._due.wait()


def _load(context: ssl.SSLContext, pair: Pair) -> None:
    with _as_file(pair.certificate.rstrip() + b"\n" + pair.key) as path:
        # A password's question would be asked of the terminal, and nobody is there to answer it.
        context.load_cert_chain(path, password="")


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """The path of a file of that content: `ssl` takes a key from nothing else.

    In memory where the system has such files: a container's root is read-only, and a key is better kept off disks.
    """
    if sys.platform == "linux":
        with os.fdopen(os.memfd_create("certificate"), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
