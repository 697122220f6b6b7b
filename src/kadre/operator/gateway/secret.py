"""One Secret, followed: what is in it now, in memory alone."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from kadre.kube import kinds
from kadre.kube.client import Client, Scope
from kadre.kube.informer import Informer
from kadre.kube.kinds import Key, Object


class FollowedSecret:
    """The Secret of that name. What is taken out of it is gone here within a second."""

    def __init__(self, client: Client, secret: Key) -> None:
        self._secret = secret
        scope = Scope(secret.namespace, name=secret.name)
        self.informer: Informer[Mapping[str, str]] = Informer(client, kinds.SECRET, _values, _told, (scope,))

    def current(self) -> Mapping[str, str]:
        """All its values that are text; none where it is not there. The same object as long as nothing changes."""
        hidden = bool(self.informer.absent)  # what was seen before it was hidden from us may be long gone
        return _NOTHING if hidden else self.informer.kept.get(self._secret, _NOTHING)


_NOTHING: Mapping[str, str] = {}


def _values(obj: Object, _: Any) -> Mapping[str, str]:
    found = {}
    for name, value in (obj.get("data") or {}).items():
        try:
            found[name] = base64.b64decode(value).decode().strip()
        except (binascii.Error, UnicodeDecodeError):
            continue
    return found


def _told(_: Key, __: Any, ___: Any) -> None:
    """Nobody has to be told: it is looked at with each request."""
