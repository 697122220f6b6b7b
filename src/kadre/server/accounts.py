"""Whose pod is calling, by the token that Kubernetes gave it: checked by the cluster's own keys, nobody being asked.

A token that a kubelet projects into a pod is signed by the cluster, for one audience and for an hour. The public halves
of the keys are the cluster's to give out (JSON Web Keys); here they are files of a mounted ConfigMap.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from kadre.base.errors import Unauthorized

if TYPE_CHECKING:
    from jwt import PyJWKSet

log = logging.getLogger(__name__)

KEYS = "jwks.json"
MAX_TOKEN = 16 * 1024
ALGORITHMS = ("RS256", "ES256", "ES384", "ES512")
"""Those that a cluster may sign its tokens by."""
LEEWAY = 30
"""Seconds by which the clocks of two machines may differ."""


class Accounts:
    """Knows the pods of a namespace. `folder`: where the keys are; `audience`: for whom a token is to be."""

    def __init__(self, folder: Path, namespace: str, audience: str) -> None:
        self._file = folder / KEYS
        self._begins = f"system:serviceaccount:{namespace}:"
        self._audience = audience
        self._read = b""
        self._keys: PyJWKSet | None = None

    def known(self, header: str) -> str:
        """The account whose token that is, of an Authorization header. Raises Unauthorized."""
        import jwt

        kind, _, token = header.partition(" ")
        if kind.lower() != "bearer" or not token or len(token) > MAX_TOKEN:
            raise Unauthorized("say whose pod this is: Authorization: Bearer TOKEN, a token that Kubernetes projects")
        try:
            key = self._current()[jwt.get_unverified_header(token)["kid"]]
            claims = jwt.decode(
                token,
                key,
                algorithms=[name for name in ALGORITHMS if name == key.algorithm_name],
                audience=self._audience,
                leeway=LEEWAY,
                options={"require": ["exp", "aud", "sub"]},
            )
        except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
            log.info("a caller is not known: %s", error)
            raise Unauthorized("that is no token that this cluster has made for this") from error
        account: str = claims["sub"]
        if not account.startswith(self._begins):
            raise Unauthorized("that is a pod of another namespace")
        return account

    def _current(self) -> PyJWKSet:
        """The keys, read again once their file is another one. Raises KeyError where there are none."""
        import jwt

        try:
            text = self._file.read_bytes()
            if self._keys is None or text != self._read:
                self._keys, self._read = jwt.PyJWKSet.from_json(text.decode()), text
        except (OSError, ValueError, jwt.PyJWTError) as error:
            log.warning("the cluster's keys cannot be read, by which callers are known: %s", error)
            if self._keys is None:
                raise KeyError(KEYS) from error
        return self._keys
