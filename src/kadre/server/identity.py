"""Who is calling, said by the gateway to a host: a signed word that holds for a minute, for one host.

The gateway reviews keys and tokens; a host believes what a key signed whose public half is mounted in its pod. The form
is a JSON Web Signature (RFC 7515, EdDSA) with a JWT's claims, so that any library can read one; it is made and read
here, in a few lines over `cryptography`, because the library for it would add 20 MB to every agent's pod.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import msgspec

from kadre.base.clock import Clock, SystemClock
from kadre.base.errors import Unauthorized, Unavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

HEADER = "x-kadre-identity"
LIFE_SECONDS = 60
AHEAD_SECONDS = 30
"""How far the clocks of two machines may differ."""
MOST = 4096
"""Words that are remembered, so that a caller's next request costs no signature."""
MAX_LENGTH = 4096
_KEY_ID = re.compile(r"[0-9a-f]{16}")

T = TypeVar("T")
Right = Literal["see-all", "approve"]
"""What a caller may do beyond talking: see what others said and were told; allow or deny a call that waits."""


class Claims(msgspec.Struct, omit_defaults=True):
    """What is signed. `sub`: the caller; `aud`: the agent it is said to; `exp`: when it ends, in seconds since 1970.

    `via`: the agent that asks for the caller; empty: they ask themselves.
    """

    sub: str
    aud: str
    exp: int
    rights: tuple[Right, ...] = ()
    via: str = ""


class _Head(msgspec.Struct):
    alg: str
    kid: str


_head_decoder = msgspec.json.Decoder(_Head)
_claims_decoder = msgspec.json.Decoder(Claims)


class _Recent(Generic[T]):
    """The latest used of what was worked out."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, T] = OrderedDict()

    def get(self, key: object) -> T | None:
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: object, value: T) -> None:
        self._kept[key] = value
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)


def key_id(public: Ed25519PublicKey) -> str:
    """The name a public key goes by: of the file that holds it, and in what it signed."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


class Signer:
    """Says to hosts who is calling. `pem` gives the private key that signs now; empty: there is none yet."""

    def __init__(self, pem: Callable[[], bytes], clock: Clock | None = None) -> None:
        self._pem = pem
        self._clock = clock or SystemClock()
        self._read = b""
        """What the key was read from."""
        self._key: Ed25519PrivateKey | None = None
        self._head = b""
        self._said: _Recent[tuple[str, float]] = _Recent()

    def sign(self, caller: str, host: str, rights: tuple[Right, ...] = (), via: str = "") -> str:
        """The word for that host. The same one is given for half of its life. Raises Unavailable."""
        now = self._clock.now().timestamp()
        key = self._current()
        said = self._said.get((self._head, caller, host, rights, via))
        if said is not None and said[1] > now + LIFE_SECONDS / 2:
            return said[0]
        ends = int(now) + LIFE_SECONDS
        content = self._head + b"." + _encoded(msgspec.json.encode(Claims(caller, host, ends, rights, via)))
        word = (content + b"." + _encoded(key.sign(content))).decode()
        self._said.put((self._head, caller, host, rights, via), (word, ends))
        return word

    def lacks(self) -> str:
        """What is missing before anything can be said; empty: nothing."""
        try:
            self._current()
        except Unavailable as error:
            return str(error)
        return ""

    def _current(self) -> Ed25519PrivateKey:
        pem = self._pem()
        if self._key is None or pem != self._read:
            try:
                self._key, self._read = _private(pem), pem
            except ValueError:
                message = "there is no usable key yet that says who is calling: the controller makes it"
                raise Unavailable(message, reason="NoSigningKey", retry_after=5.0) from None
            head = {"alg": "EdDSA", "kid": key_id(self._key.public_key()), "typ": "JWT"}
            self._head = _encoded(msgspec.json.encode(head))
        return self._key


class Verifier:
    """Hears on a host who is calling. `keys`: a folder with public keys as PEM, each in a file `ID.pem`.

    `here`: whether that agent is here, which has to be meant.
    """

    def __init__(self, keys: Path, here: Callable[[str], bool], clock: Clock | None = None) -> None:
        self._keys = keys
        self._here = here
        self._clock = clock or SystemClock()
        self._heard: _Recent[Claims] = _Recent()

    def heard(self, word: str) -> Claims:
        """Who is said to call, and what they may. Raises Unauthorized."""
        now = self._clock.now().timestamp()
        claims = self._heard.get(word)
        if claims is None:
            claims = self._verified(word)
            if claims.exp <= now + LIFE_SECONDS + AHEAD_SECONDS:
                self._heard.put(word, claims)
        if not now - AHEAD_SECONDS < claims.exp <= now + LIFE_SECONDS + AHEAD_SECONDS:
            raise _unproven("it was said at another time; check that the machines' clocks agree")
        return claims

    def _verified(self, word: str) -> Claims:
        from cryptography.exceptions import InvalidSignature

        if len(word) > MAX_LENGTH:
            raise _unproven("it is too long")
        content, _, signature = word.rpartition(".")
        head, _, claims = content.partition(".")
        try:
            told = _head_decoder.decode(_decoded(head))
            if told.alg != "EdDSA" or not _KEY_ID.fullmatch(told.kid):
                raise _unproven("it is of another form")
            self._public(told.kid).verify(_decoded(signature), content.encode())
            found = _claims_decoder.decode(_decoded(claims))
        except InvalidSignature:
            raise _unproven("its signature is not that of the key it names") from None
        except ValueError as error:  # msgspec's and binascii's too
            raise _unproven("it is of another form") from error
        if not self._here(found.aud) or not found.sub:
            raise _unproven(f"it is said to {found.aud}, which is not here")
        return found

    def _public(self, name: str) -> Ed25519PublicKey:
        try:
            return _public((self._keys / f"{name}.pem").read_bytes())
        except (OSError, ValueError):
            raise _unproven(f"the key {name} that signed it is not known here, or not yet") from None


def _private(pem: bytes) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(pem, None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("the key is none of Ed25519")
    return key


def _public(pem: bytes) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("the key is none of Ed25519")
    return key


def _unproven(why: str) -> Unauthorized:
    return Unauthorized(f"who is calling is not proven: {why}", reason="UnprovenIdentity")


def _encoded(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
