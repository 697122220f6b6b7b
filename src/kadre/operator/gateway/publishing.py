"""Keeps the gateway's keys: the Secret that signs, and what pods believe in every namespace that has agents."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection

from kadre.base.clock import Clock
from kadre.base.retry import Backoff
from kadre.kube import kinds
from kadre.kube.apply import Applier, NameTaken, Place
from kadre.kube.client import Client
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Object
from kadre.kube.owner import Owner
from kadre.operator.children.common import MANAGED_BY, MANAGER
from kadre.operator.children.deployment import GATEWAY_KEYS
from kadre.operator.gateway import keys
from kadre.operator.gateway.keys import SigningKeys

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
"""Between two looks at whether a key is due."""
_AGAIN = Backoff(attempts=1_000_000, first=0.5, limit=30.0)
_LABELS = {MANAGED_BY: MANAGER}


class Publisher:
    """Both. `namespaces`: those that have agents; `there`: where the ConfigMap is now; `owner`: whose the Secret is."""

    def __init__(
        self,
        client: Client,
        applier: Applier,
        secret: Key,
        namespaces: Callable[[], Collection[str]],
        there: Callable[[], Collection[Key]],
        clock: Clock,
    ) -> None:
        self._client = client
        self._applier = applier
        self._secret = secret
        self._namespaces = namespaces
        self._there = there
        self._clock = clock
        self.owner: Owner | None = None
        self._woken = asyncio.Event()
        self._public: dict[str, str] = {}

    def wake(self) -> None:
        """There may be another namespace with agents, or one fewer, or what was published is another."""
        self._woken.set()

    async def run(self) -> None:
        """Keep both until cancelled."""
        failures = 0
        while True:
            self._woken.clear()
            wait = LOOK_SECONDS
            try:
                await self.look()
                failures = 0
            except (ApiError, NameTaken) as error:
                failures += 1
                wait = _AGAIN.delay(failures) or _AGAIN.limit
                level = logging.INFO if failures == 1 else logging.WARNING
                log.log(level, "the gateway's keys cannot be kept: %s; trying again in %.1f s", error, wait)
                await self._clock.sleep(wait)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._woken.wait()

    async def look(self) -> None:
        """Have both be as they are to be now. Raises ApiError, NameTaken."""
        self._public = (await self._keys()).public()
        wanted = set(self._namespaces())
        for namespace in sorted(wanted):
            await self._applier.ensure(_place(namespace), self._config_map(namespace), "")
        for key in list(self._there()):
            if key.name == GATEWAY_KEYS and key.namespace not in wanted:
                await self._applier.remove(_place(key.namespace), "")

    async def _keys(self) -> SigningKeys:
        there = await self._client.find(kinds.SECRET, self._secret)
        if there is not None and not _LABELS.items() <= (there["metadata"].get("labels") or {}).items():
            raise NameTaken(Place(kinds.SECRET, self._secret))
        known = keys.of_secret(there) if there is not None else None
        due = keys.renewed(known, self._clock.now())
        if due == known:
            return due
        metadata: Object = {
            "name": self._secret.name,
            "namespace": self._secret.namespace,
            "labels": _LABELS,
            "annotations": {keys.SINCE: due.since.isoformat()},
        }
        made = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": keys.secret_data(due)}
        if there is None:
            owners = await self.owner.references(self._secret.namespace) if self.owner is not None else ()
            metadata["ownerReferences"] = list(owners)
            await self._client.create(kinds.SECRET, made)
        else:
            metadata |= {key: there["metadata"].get(key) for key in ("resourceVersion", "ownerReferences")}
            await self._client.replace(kinds.SECRET, made)
        log.info("the gateway's keys in the Secret %s are new", self._secret)
        return due

    def _config_map(self, namespace: str) -> Object:
        metadata = {"name": GATEWAY_KEYS, "namespace": namespace, "labels": _LABELS}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": self._public}


def _place(namespace: str) -> Place:
    return Place(kinds.CONFIG_MAP, Key(namespace, GATEWAY_KEYS))
