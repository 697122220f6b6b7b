"""The gateway's signing key: kept in a Secret, made and renewed by the controller, its public half in every pod.

A pod believes every key of the ConfigMap in its namespace. A new key is shown there an hour before it signs, and the
one before it for an hour after: by then every kubelet has brought the ConfigMap, and every gateway the Secret.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from kadre.kube.kinds import Object

log = logging.getLogger(__name__)

LIFE = datetime.timedelta(days=30)
SETTLED = datetime.timedelta(hours=1)
SINCE = "kagent.dev/since"
"""Annotation of the Secret: since when its current key signs."""
CURRENT, NEXT, PREVIOUS = "current.pem", "next.pem", "previous.pem"


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """Private keys as PEM: the one that signs, the one after it, the one before; empty where there is none."""

    current: bytes
    since: datetime.datetime
    following: bytes = b""
    previous: bytes = b""

    def public(self) -> dict[str, str]:
        """All that pods are to believe, by the names of their files."""
        halves = [_read(pem).public_key() for pem in (self.current, self.following, self.previous) if pem]
        return {f"{key_id(half)}.pem": _shown(half) for half in halves}


def renewed(keys: SigningKeys | None, now: datetime.datetime) -> SigningKeys:
    """The keys as they are to be now; the same where they are."""
    if keys is None:
        return SigningKeys(_made(), now)
    age = now - keys.since
    if keys.following and age >= LIFE:
        return SigningKeys(keys.following, now, previous=keys.current)
    if not keys.following and age >= LIFE - SETTLED:
        # After a time in which nobody looked the next key is as new as this, and its hour begins now.
        since = min(keys.since, now) if age < LIFE else now - LIFE + SETTLED
        return replace(keys, following=_made(), since=since)
    if keys.previous and age >= SETTLED:
        return replace(keys, previous=b"")
    return keys


def of_secret(secret: Object) -> SigningKeys | None:
    """What a Secret holds; None where it holds no key that signs. Of what is broken besides, the rest is kept."""
    name, data = secret["metadata"]["name"], secret.get("data") or {}
    current, following, previous = [_pem(name, each, data.get(each)) for each in (CURRENT, NEXT, PREVIOUS)]
    try:
        since = datetime.datetime.fromisoformat((secret["metadata"].get("annotations") or {})[SINCE])
        if since.tzinfo is None:
            raise ValueError("a time without its zone")
    except (ValueError, TypeError, KeyError) as error:
        log.warning("the Secret %s does not say since when its key signs (%s): it is made anew", name, error)
        return None
    return SigningKeys(current, since, following, previous) if current else None


def _pem(secret: str, key: str, encoded: str | None) -> bytes:
    """One of its keys; empty where it is not there, or none."""
    try:
        pem = base64.b64decode(encoded or "", validate=True)
        if pem:
            _read(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error) as error:
        log.warning("%s of the Secret %s is no key (%s)", key, secret, error)
        return b""
    return pem


def secret_data(keys: SigningKeys) -> dict[str, str]:
    """The same as a Secret's data."""
    named: Iterable[tuple[str, bytes]] = (
        (CURRENT, keys.current),
        (NEXT, keys.following),
        (PREVIOUS, keys.previous),
    )
    return {name: base64.b64encode(pem).decode() for name, pem in named if pem}


def key_id(public: Ed25519PublicKey) -> str:
    """The name that a public key goes by; as `kadre.server.identity` has it, which a test compares."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def _made() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _read(pem: bytes) -> Ed25519PrivateKey:
    key = load_pem_private_key(pem, None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("a key that is none of Ed25519")
    return key


def _shown(public: Ed25519PublicKey) -> str:
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
