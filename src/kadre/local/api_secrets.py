"""Secret values in a pool's pod: read from the API by name, for the plans that are served there come and go."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Mapping

from kadre.base.clock import Clock
from kadre.kube import kinds
from kadre.kube.client import Client
from kadre.kube.errors import ApiError
from kadre.plan.types import SecretRef

log = logging.getLogger(__name__)

LOOK_SECONDS = 30.0
"""Between two looks at every Secret: a new value counts as soon as in a pod that has it as a file. To follow each would
hold a connection open for each."""
FORBIDDEN_SECONDS = 2.0
"""For which one that may not be read yet is asked for again: the API server heeds a Role a moment after it shows it."""
BRIEF = 0.1


class ApiSecrets:
    """A SecretReader over the Secrets of a namespace that plans use, and over nothing else of theirs."""

    def __init__(self, client: Client, namespace: str, clock: Clock) -> None:
        self._client = client
        self._namespace = namespace
        self._clock = clock
        self._used: Mapping[str, frozenset[str]] = {}
        self._values: dict[str, Mapping[str, str]] = {}
        self._told: set[str] = set()
        self._reading: dict[str, asyncio.Lock] = {}

    def read(self, ref: SecretRef) -> str | None:
        """See SecretReader."""
        return self._values.get(ref.name, {}).get(ref.key) if ref.namespace == self._namespace else None

    def use(self, keys: Mapping[str, frozenset[str]]) -> None:
        """From now on these are used, by the names of their Secrets; what is used no more is forgotten."""
        self._used = keys
        for name in self._values.keys() - keys.keys():
            del self._values[name]
        for name in self._reading.keys() - keys.keys():
            del self._reading[name]
        self._told &= keys.keys()

    async def have(self, names: set[str]) -> None:
        """Read those that have not been read with all their keys. One that cannot be read has no values for now."""
        await asyncio.gather(*[self._first(name) for name in names if name in self._used])

    async def follow(self) -> None:
        """Read all of them again and again, until cancelled."""
        while True:
            names = list(self._used)
            for name in names:
                await self._look(name)
                await self._clock.sleep(LOOK_SECONDS / len(names))
            if not names:
                await self._clock.sleep(LOOK_SECONDS)

    async def _first(self, name: str) -> None:
        async with self._reading.setdefault(name, asyncio.Lock()):  # of many plans that use it the first one reads it
            until = self._clock.monotonic() + FORBIDDEN_SECONDS
            while not self._known(name) and not await self._look(name) and self._clock.monotonic() < until:
                await self._clock.sleep(BRIEF)

    def _known(self, name: str) -> bool:
        return name in self._values and self._used.get(name, frozenset()) <= self._values[name].keys()

    async def _look(self, name: str) -> bool:
        """Read one; whether what it holds is known: what is known stays while it cannot be asked for."""
        try:
            found = await self._client.find(kinds.SECRET, kinds.Key(self._namespace, name))
        except ApiError as error:
            if name not in self._told:
                self._told.add(name)
                log.info("the Secret %s cannot be read now: %s", name, error)
            return False
        self._told.discard(name)
        wanted = self._used.get(name, frozenset())
        self._values[name] = _decoded((found or {}).get("data") or {}, wanted)
        return True


def _decoded(data: Mapping[str, str], wanted: frozenset[str]) -> dict[str, str]:
    values = {}
    for key in wanted & data.keys():
        try:
            values[key] = base64.b64decode(data[key]).decode().strip("\n")
        except (binascii.Error, UnicodeDecodeError):
            continue
    return values
