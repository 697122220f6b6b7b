"""Follows all objects of one kind, and keeps of each only what its user wants to know.

Lists once, then watches from there. A watch that ends is taken up where it ended; where the server no longer knows that
point, everything is listed anew and what differs is told. Users are told of changes and never of the way they came.
Several scopes, as of namespaces, are followed side by side; no two of them may have an object in common.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from kadre.base.clock import Clock, SystemClock
from kadre.base.retry import Backoff
from kadre.base.tasks import all_of
from kadre.kube.client import EVERYTHING, Client, Scope
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Kind, Object, key_of

log = logging.getLogger(__name__)
T = TypeVar("T")

BACKOFF = Backoff(attempts=1_000_000, first=0.2, limit=30.0)
BRIEF = 1.0
"""Seconds: a server that ends watches sooner than that would be asked without a pause."""
DOUBT_SECONDS = 3.0
"""Between the first refusal of a list and the second, which is believed: an API server that starts, or one that cannot
reach what it asks, refuses what it allows a moment later."""
ABSENT_SECONDS = 30.0
"""Between two looks at whether a kind that the cluster does not know, or does not show us, is there by now."""
AWAITED_SECONDS = 5.0
"""The same of a kind that we bring ourselves: somebody is about to apply it."""


class Informer(Generic[T]):
    """All objects of one kind.

    `keep` makes of an object, and of what was kept of it before, what is kept now. `changed` is told what was kept and
    what is, None where there was or is nothing; not where both are the same. `listed` is told whenever all that there
    are have been listed: what is not kept then is not there, whatever was heard of it.
    """

    def __init__(
        self,
        client: Client,
        kind: Kind,
        keep: Callable[[Object, T | None], T],
        changed: Callable[[Key, T | None, T | None], None],
        scopes: Sequence[Scope] = (EVERYTHING,),
        listed: Callable[[], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.kind = kind
        self.kept: dict[Key, T] = {}
        self.synced = asyncio.Event()
        """All there were have been listed, or cannot be: what is kept is as good as it gets."""
        self.absent: dict[Scope, str] = {}
        """Why nothing can be followed in a scope: the cluster has no such kind, or does not show it to us."""
        self._client = client
        self._keep = keep
        self._changed = changed
        self._listed = listed
        self._unknown = set(scopes)
        self._scopes = tuple(scopes)
        self._clock = clock or SystemClock()
        self._versions: dict[Key, str] = {}
        self._doubted: set[Scope] = set()
        """Those that have been refused to us once."""
        self._broken: set[Scope] = set()
        """Those of which something may have happened that we have not been told."""

    def knows(self, namespace: str) -> bool:
        """Whether all that there are in a namespace have been listed, and what happens there is told since."""
        hidden = {*self.absent, *self._broken}
        return self.synced.is_set() and not any(scope.namespace in ("", namespace) for scope in hidden)

    async def run(self) -> None:
        """Follow them until cancelled."""
        await all_of([self._follow(scope) for scope in self._scopes])

    async def _follow(self, scope: Scope) -> None:
        version, failures = "", 0
        while True:
            try:
                if not version:
                    version = await self._list(scope)
                    failures = 0
                began = self._clock.monotonic()
                async for event in self._client.watch(self.kind, version, scope):
                    version = event.object["metadata"]["resourceVersion"]
                    self._hears(scope)
                    if self._clock.monotonic() - began >= BRIEF:
                        failures = 0
                    if event.type != "BOOKMARK":
                        self._take(event.object, gone=event.type == "DELETED")
                self._hears(scope)
                failures = failures + 1 if self._clock.monotonic() - began < BRIEF else 0
                if failures:
                    await self._clock.sleep(_wait(failures))
            except ApiError as error:
                self._broken.add(scope)
                if error.expired:
                    version = ""
                    await self._clock.sleep(BACKOFF.first)
                    continue
                failures += 1
                if error.missing or error.forbidden:
                    version = ""  # what happens until it is shown to us again nobody tells
                await self._clock.sleep(self._after(scope, error, failures))

    def _hears(self, scope: Scope) -> None:
        """A watch was answered: a refusal is the first one again. Lists alone may be allowed for ever."""
        self._broken.discard(scope)
        self._doubted.discard(scope)

    def _after(self, scope: Scope, error: ApiError, failures: int) -> float:
        """Seconds to wait after a failure."""
        if error.forbidden and scope not in self._doubted:
            self._doubted.add(scope)
            return DOUBT_SECONDS
        if error.missing or error.forbidden:
            if scope not in self.absent:
                what = "is not known to this cluster" if error.missing else "may not be read by us"
                where = f" in {scope.namespace}" if scope.namespace else ""
                self.absent[scope] = f"{self.kind.plural} of {self.kind.api_version} {what}{where}"
                # Of what we may not read, who knows what it is for has more to say.
                log.log(
                    logging.WARNING if error.missing else logging.INFO, "%s: working without them", self.absent[scope]
                )
            self._know(scope)
            return AWAITED_SECONDS if error.missing and not self.kind.optional else ABSENT_SECONDS
        log.log(logging.WARNING if failures > 1 else logging.INFO, "following %s: %s", self.kind.plural, error)
        return _wait(failures)

    async def _list(self, scope: Scope) -> str:
        there = set()
        version = ""
        async for part in self._client.parts(self.kind, scope):
            version = part.version
            for obj in part.objects():
                there.add(key_of(obj))
                self._take(obj, gone=False)
        if self.absent.pop(scope, None):
            log.info("%s of %s are there: they are followed", self.kind.plural, self.kind.api_version)
        self._broken.discard(scope)
        for key in [key for key in self.kept if scope.holds(key) and key not in there]:
            self._drop(key)
        self._know(scope)
        if self._listed is not None:
            self._listed()
        return version

    def _know(self, scope: Scope) -> None:
        self._unknown.discard(scope)
        if not self._unknown:
            self.synced.set()

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


def _wait(failures: int) -> float:
    return BACKOFF.delay(failures) or BACKOFF.limit
