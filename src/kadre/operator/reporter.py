"""Writes what is said of an object, where it says something new, and tells people of it by Events."""

from __future__ import annotations

import logging
import secrets

from kadre.base.clock import Clock
from kadre.base.errors import shorten
from kadre.kube import kinds
from kadre.kube.client import Client
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Kind, Object
from kadre.operator.children.common import MANAGER
from kadre.operator.cluster import Declared, Ref, our_kinds
from kadre.operator.rights import Rights
from kadre.operator.status import News, news

log = logging.getLogger(__name__)

NOTE_LIMIT = 1000
"""Characters of an Event's text; the API server takes 1024."""


class Reporter:
    """The status of our objects, under one field manager."""

    def __init__(self, client: Client, clock: Clock, rights: Rights) -> None:
        self.writes = 0
        self._client = client
        self._clock = clock
        self._kinds = {(kind.group, kind.kind): kind for kind in our_kinds()}
        self._rights = rights

    def kind_of(self, ref: Ref) -> Kind:
        """The kind of one of our objects."""
        return self._kinds[ref.group, ref.kind]

    async def report(self, ref: Ref, declared: Declared, status: Object) -> None:
        """Have the object's status be this. Nothing where it is gone, or another of the same name by now."""
        kind = self.kind_of(ref)
        if status == declared.status or not self._rights.may(kind, "patch", namespace=ref.namespace, part="status"):
            return
        obj = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": ref.name, "namespace": ref.namespace, "uid": declared.uid},
            "status": status,
        }
        self.writes += 1
        try:
            await self._client.apply(kind, obj, "status")
        except ApiError as error:
            if not (error.missing or error.conflict):
                raise
            return
        for item in news(declared.status, status):
            await self.tell(kind, ref, declared.uid, item)

    async def tell(self, kind: Kind, ref: Ref, uid: str, item: News) -> None:
        """Make an Event. People can do without it, so nothing is tried again for its sake."""
        if not self._rights.may(kinds.EVENT, "create", namespace=ref.namespace):
            return
        event = {
            "apiVersion": kinds.EVENT.api_version,
            "kind": kinds.EVENT.kind,
            "metadata": {"name": f"{ref.name[:200]}.{secrets.token_hex(8)}", "namespace": ref.namespace},
            "eventTime": self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": "Normal" if item.good else "Warning",
            "reason": item.reason,
            "action": "Reconcile",
            "note": shorten(item.message, NOTE_LIMIT),
            "reportingController": f"kagent.dev/{MANAGER}",
            "reportingInstance": MANAGER,
            "regarding": {
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                "namespace": ref.namespace,
                "name": ref.name,
                "uid": uid,
            },
        }
        self.writes += 1
        try:
            await self._client.create(kinds.EVENT, event)
        except ApiError as error:
            log.info("%s: no Event could be made: %s", ref, error)
