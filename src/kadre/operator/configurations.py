"""The two objects that have the API server ask the webhook, followed: each replica knows whether they are there.

Without them nothing is refused or warned of, and nobody is told so by the API server. Where whom to trust is missing
in one of them, as in one that was made anew, it is written in at once and not when the certificate is looked at next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from kadre.base.tasks import all_of
from kadre.kube import kinds
from kadre.kube.client import Client, Scope
from kadre.kube.informer import Informer
from kadre.kube.kinds import Key, Kind, Object

log = logging.getLogger(__name__)

KINDS = (kinds.VALIDATING_WEBHOOKS, kinds.MUTATING_WEBHOOKS)
_WITHOUT = {
    kinds.VALIDATING_WEBHOOKS: "objects are taken as they are, and nothing is refused or warned of",
    kinds.MUTATING_WEBHOOKS: "no object says who created it",
}


class Configurations:
    """Both, by the name that they share. `changed`: told when one is there that trusts otherwise than it did before."""

    def __init__(self, client: Client, name: str, changed: Callable[[], None]) -> None:
        self._key = Key("", name)
        self._changed = changed
        self._missed: set[Kind] = set()
        self._informers = [self._informer(client, kind) for kind in KINDS]

    async def run(self) -> None:
        """Follow them until cancelled."""
        await all_of([informer.run() for informer in self._informers])

    def there(self) -> Iterator[tuple[str, bool]]:
        """Of each kind whether it is there; nothing of one that we are not shown."""
        for informer in self._informers:
            if informer.synced.is_set() and not informer.absent:
                yield informer.kind.kind, self._key in informer.kept

    def _informer(self, client: Client, kind: Kind) -> Informer[tuple[str, ...]]:
        def told(_: Key, __: tuple[str, ...] | None, after: tuple[str, ...] | None) -> None:
            if after is None:
                self._miss(kind)
                return
            if kind in self._missed:
                self._missed.discard(kind)
                log.info("the %s %s is there again", kind.kind, self._key)
            self._changed()

        def listed() -> None:
            if self._key not in informer.kept:
                self._miss(kind)

        informer = Informer(client, kind, _trusted, told, (Scope(name=self._key.name),), listed)
        return informer

    def _miss(self, kind: Kind) -> None:
        if kind in self._missed:
            return
        self._missed.add(kind)
        log.warning(
            "the %s %s is gone: %s; `helm upgrade` of the release makes it anew", kind.kind, self._key, _WITHOUT[kind]
        )


def _trusted(configuration: Object, _: tuple[str, ...] | None) -> tuple[str, ...]:
    """Whom the API server trusts, by webhook."""
    webhooks = configuration.get("webhooks") or ()
    return tuple((each.get("clientConfig") or {}).get("caBundle") or "" for each in webhooks)
