"""Follows all objects of one kind, and keeps of each only what its user wants to know.

Lists once, then watches from there. A watch that ends is taken up where it ended; where the server no longer knows that
point, everything is listed anew and what differs is told. Users are told of changes and never of the way they came.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from kadre.base.clock import Clock, SystemClock
from kadre.base.retry import Backoff
from kadre.kube.client import EVERYTHING, Client, Scope
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Kind, Object, key_of

log = logging.getLogger(__name__)
T = TypeVar("T")

BACKOFF = Backoff(attempts=1_000_000, first=0.2, limit=30.0)
ABSENT_SECONDS = 30.0
"""Between two looks at whether a kind that the cluster does not know, or does not show us, is there by now."""


class Informer(Generic[T]):
    """All objects of one kind.

    `keep` makes of an object, and of what was kept of it before, what is kept now. `changed` is told what was kept and
    what is, None where there was or is nothing; not where both are the same.
    """

    def __init__(
        self,
        client: Client,
        kind: Kind,
        keep: Callable[[Object, T | None], T],
        changed: Callable[[Key, T | None, T | None], None],
        scope: Scope = EVERYTHING,
        clock: Clock | None = None,
    ) -> None:
        self.kind = kind
        self.kept: dict[Key, T] = {}
        self.synced = asyncio.Event()
        """All there were have been listed, or cannot be: what is kept is as good as it gets."""
        self.absent = ""
        """Why nothing can be followed: the cluster has no such kind, or does not show it to us."""
        self._client = client
        self._keep = keep
        self._changed = changed
        self._scope = scope
        self._clock = clock or SystemClock()
        self._versions: dict[Key, str] = {}

    async def run(self) -> None:
        """Follow them until cancelled."""
        version, failures = "", 0
        while True:
            try:
                if not version:
                    version = await self._list()
                    failures = 0
                async for event in self._client.watch(self.kind, version, self._scope):
                    version = event.object["metadata"]["resourceVersion"]
                    failures = 0
                    if event.type != "BOOKMARK":
                        self._take(event.object, gone=event.type == "DELETED")
            except ApiError as error:
                if error.expired:
                    version = ""
                    await self._clock.sleep(BACKOFF.first)
                    continue
                failures += 1
                await self._clock.sleep(self._after(error, failures))

    def _after(self, error: ApiError, failures: int) -> float:
        """Seconds to wait after a failure."""
        if error.missing or error.forbidden:
            if not self.absent:
                what = "is not known to this cluster" if error.missing else "may not be read by us"
                self.absent = f"{self.kind.plural} of {self.kind.api_version} {what}"
                log.warning("%s: working without them", self.absent)
            self.synced.set()
            return ABSENT_SECONDS
        log.log(logging.WARNING if failures > 1 else logging.INFO, "following %s: %s", self.kind.plural, error)
        return BACKOFF.delay(failures) or BACKOFF.limit

    async def _list(self) -> str:
        page = await self._client.list(self.kind, self._scope)
        self.absent = ""
        there = set()
        for obj in page.items:
            there.add(key_of(obj))
            self._take(obj, gone=False)
        for key in self.kept.keys() - there:
            self._drop(key)
        self.synced.set()
        return page.version

    def _take(self, obj: Object, *, gone: bool) -> None:
        key, version = key_of(obj), obj["metadata"]["resourceVersion"]
        if gone:
            self._drop(key)
            return
        if self._versions.get(key) == version:
            return
        before = self.kept.get(key)
        self._versions[key] = version
        try:
            after = self._keep(obj, before)
        except Exception:  # somebody else's object may hold anything; the others are followed all the same
            log.exception("%s %s cannot be understood", self.kind.kind, key)
            return
        self.kept[key] = after
        if before != after:
            self._changed(key, before, after)

    def _drop(self, key: Key) -> None:
        self._versions.pop(key, None)
        before = self.kept.pop(key, None)
        if before is not None:
            self._changed(key, before, None)
