"""Keeps the gateway's keys: the Secret that signs, and what pods believe in every namespace that has agents."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping

from kadre.base.clock import Clock
from kadre.base.retry import Backoff
from kadre.kube import compare, kinds
from kadre.kube.apply import Seen
from kadre.kube.client import Client
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Object
from kadre.kube.owner import Owner
from kadre.operator.children.common import MANAGED_BY, MANAGER
from kadre.operator.children.pod import GATEWAY_KEYS
from kadre.operator.gateway import keys
from kadre.operator.gateway.granting import Granting
from kadre.operator.gateway.keys import SigningKeys

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
"""Between two looks at whether a key is due."""
BRIEF = 0.5
"""Between two looks at least: whoever undoes each of our writes must not have us write without a pause."""
_AGAIN = Backoff(attempts=1_000_000, first=0.5, limit=30.0)
_LABELS = {MANAGED_BY: MANAGER}


class Publisher:
    """Both. `namespaces`: those that have agents; `there`: the ConfigMaps there are of ours."""

    def __init__(
        self,
        client: Client,
        secret: Key,
        namespaces: Callable[[], Collection[str]],
        there: Callable[[], Mapping[Key, Seen]],
        clock: Clock,
    ) -> None:
        self._client = client
        self._secret = secret
        self._namespaces = namespaces
        self._there = there
        self._clock = clock
        self.owner: Owner | None = None
        """Whose the Secret is."""
        self.granting: Granting | None = None
        """Keeps what lets routes lead to the gateway, where there is a Gateway that they lead from."""
        self._woken = asyncio.Event()
        self._published: dict[str, tuple[dict[str, str], bytes]] = {}
        """By namespace what was put there, and the digest of what that came to."""

    def keeps(self, kind: str, key: Key) -> bool:
        """Whether that is the Secret."""
        return kind == kinds.SECRET.kind and key == self._secret

    def wake(self) -> None:
        """There may be another namespace with agents, or one fewer, or what was published is another."""
        self._woken.set()

    async def run(self) -> None:
        """Keep both until cancelled."""
        failures = 0
        told: dict[str, str] = {}
        while True:
            self._woken.clear()
            failed = await self.look()
            failures = failures + 1 if failed else 0
            wait = (_AGAIN.delay(failures) or _AGAIN.limit) if failed else LOOK_SECONDS
            for what, why in failed.items():
                if failures > 1 and told.get(what) != why:
                    log.warning("%s cannot be kept: %s", what, why)
            told = failed if failures != 1 else {}
            await self._clock.sleep(BRIEF)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._woken.wait()

    async def look(self) -> dict[str, str]:
        """Have both be as they are to be now; what could not be, and why."""
        failed: dict[str, str] = {}
        try:
            public = (await self._keys()).public()
        except ApiError as error:
            return {f"the gateway's Secret {self._secret}": str(error)}
        wanted = set(self._namespaces())
        if self.granting is not None:
            try:
                await self.granting.keep(wanted, self.owner)
            except ApiError as error:
                failed["the gateway's ReferenceGrant"] = str(error)
        for namespace in sorted(wanted):
            try:
                await self._publish(namespace, public)
            except ApiError as error:
                failed[f"the ConfigMap {namespace}/{GATEWAY_KEYS}"] = str(error)
        for key, seen in list(self._there().items()):
            if key.name == GATEWAY_KEYS and key.namespace not in wanted and not seen.owner:
                try:
                    await self._client.delete(kinds.CONFIG_MAP, *key, uid=seen.uid)
                except ApiError as error:
                    failed[f"the ConfigMap {key}"] = str(error)
        return failed

    async def _publish(self, namespace: str, public: dict[str, str]) -> None:
        """Have pods there believe these keys and no others. Raises ApiError."""
        key = Key(namespace, GATEWAY_KEYS)
        seen, before = self._there().get(key), self._published.get(namespace)
        if seen is not None and before == (public, seen.digest):
            return
        metadata: Object = {"name": GATEWAY_KEYS, "namespace": namespace, "labels": _LABELS}
        made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": public}
        there = await self._client.find(kinds.CONFIG_MAP, key)
        if there is None:
            there = await self._client.create(kinds.CONFIG_MAP, made)
        elif not _is_ours(there):
            raise ApiError(
                0,
                "NameTaken",
                "it is somebody else's; delete it: agents there believe whose keys it has, and not the gateway",
            )
        elif (there.get("data") or {}) != public or there.get("binaryData"):
            others = {name: None for name in there.get("data") or () if name not in public}
            version = {"resourceVersion": there["metadata"]["resourceVersion"]}
            exactly = {"metadata": version, "data": {**public, **others}, "binaryData": None}
            there = await self._client.merge(kinds.CONFIG_MAP, key, exactly)
        self._published[namespace] = (public, compare.digest(there))

    async def _keys(self) -> SigningKeys:
        there = await self._client.find(kinds.SECRET, self._secret)
        if there is not None and not _is_ours(there):
            raise ApiError(0, "NameTaken", "it is somebody else's; delete it, or name another: --gateway-secret")
        known = keys.of_secret(there) if there is not None else None
        due = keys.renewed(known, self._clock.now())
        if there is not None and keys.secret_data(due) == there.get("data"):
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


def _is_ours(obj: Object) -> bool:
    metadata = obj["metadata"]
    controlled = any(each.get("controller") for each in metadata.get("ownerReferences") or ())
    return _LABELS.items() <= (metadata.get("labels") or {}).items() and not controlled
