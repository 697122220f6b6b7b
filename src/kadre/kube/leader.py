"""One of several replicas acts, the others stand by: a record in the API that the one at work renews.

Who holds the record is judged by this process's own clock: a record that has not changed for as long as it says it
holds is anybody's to take, whatever the times in it are. A leader that cannot renew stops before another one may begin.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import msgspec

from kadre.base.clock import Clock, SystemClock
from kadre.kube import kinds
from kadre.kube.client import Client
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Kind, Object
from kadre.kube.owner import Owner, Owners
from kadre.kube.rights import Right, granted

log = logging.getLogger(__name__)

HOLDS = 15
"""Seconds a record holds without being renewed."""
FREE = 1
"""The same of a record that its holder gave back: others that read it want a number there."""
RENEW_WITHIN = 10.0
"""Seconds in which a leader that cannot renew gives up: well before another one may take over."""
EVERY = 2.0
"""Seconds between two tries to renew, or to take over."""
GIVEN_BACK_IN = 3
"""Tries: a renewal that was cut off may come about in between, each time there is one."""
KNOWN_WITHIN = 30.0
"""Seconds in which the API server has to say what we may use; also those in which one that stands by is refused."""
LEASE_VERBS = ("create", "get", "update")
ANNOTATION = "control-plane.alpha.kubernetes.io/leader"


@dataclass(frozen=True, slots=True)
class Record:
    """Who leads. `version`: of the object it was read from."""

    holder: str
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0
    version: str = ""
    owners: Owners = ()
    """Of the object that it is in: whoever made it said whose it is."""


class Lock(Protocol):
    """Where the record is kept."""

    async def read(self) -> Record | None:
        """The record as it is; None where there is none. Raises ApiError."""
        ...

    async def write(self, record: Record) -> Record:
        """Put it in the place of the one of its version, or where there is none. Raises ApiError, a conflict too."""
        ...


class LeaseLock:
    """A record in a Lease."""

    def __init__(self, client: Client, key: Key, owner: Owner | None = None) -> None:
        self._client = client
        self._key = key
        self._owner = owner

    async def read(self) -> Record | None:
        """See Lock."""
        lease = await self._client.find(kinds.LEASE, self._key)
        return _of_lease(lease) if lease is not None else None

    async def write(self, record: Record) -> Record:
        """See Lock."""
        spec = {
            "holderIdentity": record.holder,
            "leaseDurationSeconds": HOLDS if record.holder else FREE,
            "acquireTime": record.acquired or None,
            "renewTime": record.renewed or None,
            "leaseTransitions": record.transitions,
        }
        lease = {**await _object(kinds.LEASE, self._key, record, self._owner), "spec": spec}
        put = self._client.replace if record.version else self._client.create
        return _of_lease(await put(kinds.LEASE, lease))


class ConfigMapLock:
    """A record in an annotation of a ConfigMap, for controllers that may not use Leases."""

    def __init__(self, client: Client, key: Key, owner: Owner | None = None) -> None:
        self._client = client
        self._key = key
        self._owner = owner

    async def read(self) -> Record | None:
        """See Lock."""
        found = await self._client.find(kinds.CONFIG_MAP, self._key)
        return _of_config_map(found) if found is not None else None

    async def write(self, record: Record) -> Record:
        """See Lock."""
        said = {
            "holderIdentity": record.holder,
            "leaseDurationSeconds": HOLDS if record.holder else FREE,
            "acquireTime": record.acquired,
            "renewTime": record.renewed,
            "leaderTransitions": record.transitions,
        }
        obj = await _object(kinds.CONFIG_MAP, self._key, record, self._owner)
        obj["metadata"]["annotations"] = {ANNOTATION: msgspec.json.encode(said).decode()}
        put = self._client.replace if record.version else self._client.create
        return _of_config_map(await put(kinds.CONFIG_MAP, obj))


class BothLocks:
    """A record in a Lease, and in the ConfigMap too where there is one: others, with fewer rights, may lead by that.

    Both are written, the ConfigMap first: of two who want the lead only one can, whichever of the two they know.
    """

    def __init__(self, lease: LeaseLock, config_map: ConfigMapLock) -> None:
        self._lease = lease
        self._config_map = config_map
        self._other: Record | None = None

    async def read(self) -> Record | None:
        """See Lock."""
        lease = await self._lease.read()
        try:
            other = self._other = await self._config_map.read()
        except ApiError as error:
            if not error.forbidden:
                raise
            other = self._other = None
        if other is None or not other.holder or (lease is not None and lease.holder == other.holder):
            return lease
        there = lease or Record("")
        return replace(other, version=there.version, owners=there.owners, transitions=there.transitions)

    async def write(self, record: Record) -> Record:
        """See Lock."""
        if self._other is not None:
            there = self._other
            self._other = await self._config_map.write(replace(record, version=there.version, owners=there.owners))
        return await self._lease.write(record)


async def lock(client: Client, key: Key, clock: Clock | None = None, owner: Owner | None = None) -> Lock:
    """A Lease; a ConfigMap where Leases are forbidden to us. Raises ApiError where it cannot be known.

    What of these has to be made is the `owner`'s.

    That they are forbidden is believed when it has been said for as long as a leader goes on that cannot renew: by
    then all who have these rights know it, and none of them leads by a Lease any more.
    """
    clock = clock or SystemClock()
    until, denied = clock.monotonic() + KNOWN_WITHIN, 0.0
    while True:
        try:
            if await _may_use_leases(client, key):
                return BothLocks(LeaseLock(client, key, owner), ConfigMapLock(client, key, owner))
            denied = denied or clock.monotonic() + RENEW_WITHIN
            if clock.monotonic() >= denied:
                log.warning("Leases are forbidden to this controller: the lead is kept in a ConfigMap")
                return ConfigMapLock(client, key, owner)
        except ApiError as error:
            denied = 0.0
            if clock.monotonic() >= until:
                raise
            log.info("whether Leases may be used is not known yet: %s", error)
        await clock.sleep(EVERY)


async def _may_use_leases(client: Client, key: Key) -> bool:
    group, plural = kinds.LEASE.group, kinds.LEASE.plural
    # What is to be created has no name yet.
    names = {"create": ""}
    wanted = [Right(group, plural, verb, key.namespace, names.get(verb, key.name)) for verb in LEASE_VERBS]
    return all([await granted(client, right) for right in wanted])


class Leader:
    """Leads while it holds the lock. `identity`: unique to this process."""

    def __init__(self, lock: Lock, identity: str, clock: Clock | None = None) -> None:
        self._lock = lock
        self._identity = identity
        self._clock = clock or SystemClock()
        self._seen: Record | None = None
        self._seen_at = 0.0
        self._refused: ApiError | None = None
        self._refusals = 0
        """How often we were refused the lock, one time after the other."""
        self._unsure = False
        """Whether a record was written, and nobody has said what became of that."""
        self._asked = 0.0
        """When the renewal that holds now was asked for: the others count from when they saw it, which is later."""

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait to lead, then work until the work ends or the lead is lost. Gives the lead back when it is cancelled.

        Raises ApiError where the lock is forbidden for good: by another one we might do better.
        """
        try:
            while not await self._try():
                if self._refused is not None and self._refusals * EVERY >= KNOWN_WITHIN:
                    raise self._refused
                await self._clock.sleep(EVERY)
            log.info("%s leads", self._identity)
            await self._work(work)
        finally:
            await self._release()

    async def _work(self, work: Callable[[], Awaitable[None]]) -> None:
        """The same, once the lead is ours. When it returns, the work has ended."""
        working = asyncio.ensure_future(work())
        renewing = asyncio.ensure_future(self._renew())
        try:
            await asyncio.wait([working, renewing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, renewing):
                task.cancel()
            ended = await asyncio.gather(working, renewing, return_exceptions=True)
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise outcome

    async def _renew(self) -> None:
        """Renew until that fails for too long, counted from when the last renewal was asked for."""
        until = self._asked + RENEW_WITHIN
        while (left := until - self._clock.monotonic()) > 0:
            await self._clock.sleep(min(EVERY, left))
            if await self._try(until - self._clock.monotonic()):
                until = self._asked + RENEW_WITHIN
            elif self._seen is not None and self._seen.holder != self._identity:
                break
        log.error("%s leads no longer", self._identity)

    async def _try(self, seconds: float = RENEW_WITHIN / 2) -> bool:
        """Take or renew the lead, within so many seconds; whether it is ours now."""
        asked = self._clock.monotonic()
        refusals, self._refusals = self._refusals, 0
        try:
            async with asyncio.timeout(max(0.0, min(seconds, RENEW_WITHIN / 2))):
                found = await self._lock.read()
                now = _micro(self._clock.now())
                if found is None:
                    return await self._take(asked, Record(self._identity, now, now))
                ours = replace(
                    found, holder=self._identity, acquired=now, renewed=now, transitions=found.transitions + 1
                )
                if not found.holder:
                    return await self._take(asked, ours)
                if self._seen is None or replace(found, version="") != replace(self._seen, version=""):
                    self._seen, self._seen_at = found, self._clock.monotonic()
                if found.holder == self._identity:
                    return await self._take(asked, replace(found, renewed=now))
                if self._clock.monotonic() - self._seen_at < HOLDS:
                    return False
                return await self._take(asked, ours)
        except (ApiError, TimeoutError) as error:
            if isinstance(error, ApiError) and error.forbidden:
                self._refused, self._refusals = error, refusals + 1
            if not (isinstance(error, ApiError) and error.conflict):
                log.warning("the lead could not be taken or renewed: %s", error or "no answer in time")
            return False

    async def _take(self, asked: float, record: Record) -> bool:
        before, self._unsure = self._unsure, True
        try:
            self._seen, self._seen_at = await self._lock.write(record), self._clock.monotonic()
        except ApiError as error:
            self._unsure = before or not error.status
            raise
        self._unsure = False
        self._asked = asked
        return True

    async def _release(self) -> None:
        """Let another one take over at once."""
        try:
            async with asyncio.timeout(EVERY):
                for _ in range(GIVEN_BACK_IN):
                    if await self._given_back():
                        return
        except (ApiError, TimeoutError) as error:
            log.info("the lead was not given back, and is free in %d s: %s", HOLDS, error)

    async def _given_back(self) -> bool:
        """Give the lead back, where we have it; whether that is done. Raises ApiError."""
        seen = await self._lock.read() if self._unsure else self._seen
        if seen is None or seen.holder != self._identity:
            return True
        self._unsure = True
        try:
            await self._lock.write(replace(seen, holder="", renewed=_micro(self._clock.now())))
        except ApiError as error:
            if not error.conflict:
                raise
            return False
        return True


def holder(obj: Object) -> str:
    """Who leads, by the Lease or the ConfigMap that says so; empty where nobody does."""
    return (_of_lease(obj) if "spec" in obj else _of_config_map(obj)).holder


def _of_lease(lease: Object) -> Record:
    spec = lease.get("spec") or {}
    return Record(
        spec.get("holderIdentity") or "",
        spec.get("acquireTime") or "",
        spec.get("renewTime") or "",
        spec.get("leaseTransitions") or 0,
        lease["metadata"]["resourceVersion"],
        tuple(lease["metadata"].get("ownerReferences") or ()),
    )


def _of_config_map(obj: Object) -> Record:
    text = (obj["metadata"].get("annotations") or {}).get(ANNOTATION) or "{}"
    try:
        said = msgspec.json.decode(text, type=dict[str, str | int])
    except msgspec.DecodeError:
        said = {}
    return Record(
        str(said.get("holderIdentity", "")),
        str(said.get("acquireTime", "")),
        str(said.get("renewTime", "")),
        int(said.get("leaderTransitions", 0)),
        obj["metadata"]["resourceVersion"],
        tuple(obj["metadata"].get("ownerReferences") or ()),
    )


async def _object(kind: Kind, key: Key, record: Record, owner: Owner | None) -> Object:
    """The object with the record, but for that: one that is there stays whose it is. Raises ApiError; see Owner."""
    metadata: Object = {"name": key.name, "namespace": key.namespace}
    owners = record.owners
    if record.version:
        metadata["resourceVersion"] = record.version
    elif owner is not None:
        owners = await owner.references(key.namespace)
    if owners:
        metadata["ownerReferences"] = list(owners)
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}


def _micro(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
