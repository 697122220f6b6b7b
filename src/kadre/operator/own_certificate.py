"""The webhook's certificate where nobody else makes one: an authority for one signature, kept in a Secret.

All replicas serve with what is in the Secret; whoever finds it missing or old makes the next one. The key of an
authority is thrown away when it has signed: a new certificate comes with a new authority, and for a while the API
server is told to trust both, since a replica serves with the old one until it looks into the Secret again.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import ipaddress
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kadre.base.clock import Clock, SystemClock
from kadre.kube import kinds
from kadre.kube.client import Client
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Kind, Object
from kadre.kube.owner import Owner
from kadre.operator import configurations
from kadre.operator.certificates import Pair
from kadre.operator.children.common import MANAGED_BY, MANAGER

log = logging.getLogger(__name__)

LIFE = datetime.timedelta(days=90)
EARLIER = datetime.timedelta(minutes=5)
"""A certificate begins that long before it is made: clocks of two machines differ."""
MAX_ROUNDS = 5
"""Of looking at what another replica has just changed."""
_LABELS = {MANAGED_BY: MANAGER}


@dataclass(frozen=True, slots=True)
class Made:
    """A certificate and who vouches for it: the authority that signed it first, then the one before."""

    pair: Pair
    trusted: bytes


class Shared:
    """A Source that makes what it gives, shares it in a Secret, and has the API server trust it.

    `service` names the webhook configurations; `hosts`: names and addresses that the certificate is for; `owner`: whose
    the Secret is, once it is made.
    """

    def __init__(
        self,
        client: Client,
        secret: Key,
        service: str,
        hosts: Sequence[str],
        clock: Clock | None = None,
        life: datetime.timedelta = LIFE,
        owner: Owner | None = None,
    ) -> None:
        self._client = client
        self._secret = secret
        self._service = service
        self._hosts = hosts
        self._clock = clock or SystemClock()
        self._life = life
        self._owner = owner

    async def current(self) -> Pair:
        """See Source."""
        for _ in range(MAX_ROUNDS):
            try:
                return await self._current()
            except ApiError as error:
                if not error.conflict:
                    raise
        raise ApiError(0, "Unsettled", f"the Secret {self._secret} changes faster than it can be read")

    async def _current(self) -> Pair:
        # Before the Secret is read: who has it trust a newer certificate wrote the Secret first, so that what is found
        # older here is refused as a conflict, and never takes that trust back.
        asking = [(kind, await self._client.find(kind, Key("", self._service))) for kind in configurations.KINDS]
        made = await self._shared()
        for kind, configuration in asking:
            if configuration is not None:
                await self._trust(kind, configuration, made.trusted)
        return made.pair

    async def _shared(self) -> Made:
        """What is in the Secret, put there where it is missing or old. A conflict: another replica was first."""
        there = await self._client.find(kinds.SECRET, self._secret)
        if there is None:
            owners = await self._owner.references(self._secret.namespace) if self._owner is not None else ()
            made = make(self._hosts, self._clock.now(), self._life)
            try:
                await self._client.create(kinds.SECRET, self._object(made, {"ownerReferences": list(owners)}))
            except ApiError as error:
                if not error.conflict:
                    raise
                return _read(await self._client.get(kinds.SECRET, *self._secret))
            return made
        if not _LABELS.items() <= (there["metadata"].get("labels") or {}).items():
            # An OSError and not a refusal to start: the controller works without its webhook.
            raise OSError(f"the Secret {self._secret} is somebody else's; delete it, or name another: --webhook-secret")
        try:
            before = _read(there)
            if not self._is_old(before):
                return before
            trusted = _first(before.trusted)
        except (ValueError, TypeError, x509.ExtensionNotFound, UnsupportedAlgorithm) as error:
            log.warning("the Secret %s holds no certificate to serve with (%s): made anew", self._secret, error)
            trusted = b""
        made = make(self._hosts, self._clock.now(), self._life, trusted)
        kept = {key: there["metadata"].get(key) for key in ("resourceVersion", "ownerReferences")}
        await self._client.replace(kinds.SECRET, self._object(made, kept))
        log.info("the webhook has a new certificate in the Secret %s", self._secret)
        return made

    def _is_old(self, made: Made) -> bool:
        certificate = x509.load_pem_x509_certificate(made.pair.certificate)
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        foreign = any(_host(host) not in names for host in self._hosts)
        return foreign or self._clock.now() >= begins + (ends - begins) * 2 / 3

    async def _trust(self, kind: Kind, configuration: Object, trusted: bytes) -> None:
        """Have the API server trust our certificate: written only where it does not."""
        bundle = base64.b64encode(trusted).decode()
        webhooks = configuration.get("webhooks") or ()
        if all((each.get("clientConfig") or {}).get("caBundle") == bundle for each in webhooks):
            return
        wanted = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": self._service, "resourceVersion": configuration["metadata"]["resourceVersion"]},
            "webhooks": [{"name": each["name"], "clientConfig": {"caBundle": bundle}} for each in webhooks],
        }
        await self._client.apply(kind, wanted)

    def _object(self, made: Made, further: Object) -> Object:
        data = {"tls.crt": made.pair.certificate, "tls.key": made.pair.key, "ca.crt": made.trusted}
        metadata = {"name": self._secret.name, "namespace": self._secret.namespace, "labels": _LABELS, **further}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "type": "kubernetes.io/tls",
            "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
        }


def make(hosts: Iterable[str], now: datetime.datetime, life: datetime.timedelta, before: bytes = b"") -> Made:
    """A certificate of a server with these names and addresses. `before`: an authority that is trusted, too."""
    key, above = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    # Authorities of one name and different keys are mixed up by clients that look them up by name.
    issuer = _name(f"kadre-webhook-ca-{x509.random_serial_number():x}"[:60])
    authority = (
        _begun(issuer, issuer, above.public_key(), above, now, life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_others=True), critical=True)
        .sign(above, hashes.SHA256())
    )
    certificate = (
        _begun(_name("kadre-webhook"), issuer, key.public_key(), above, now, life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_others=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
        .sign(above, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Made(Pair(_pem(certificate), secret), _pem(authority) + before)


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    above: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    life: datetime.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + life)
        # Python 3.13 trusts no certificate that does not say whose key it has, and whose key signed it.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above.public_key()), critical=False)
    )


def _usage(*, signs_others: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_others,
        crl_sign=signs_others,
        encipher_only=False,
        decipher_only=False,
    )


def _read(secret: Object) -> Made:
    """What a Secret holds. Raises ValueError."""
    data = secret.get("data") or {}
    try:
        certificate, key, trusted = (base64.b64decode(data[name]) for name in ("tls.crt", "tls.key", "ca.crt"))
    except (KeyError, TypeError, binascii.Error) as error:
        raise ValueError(f"no {error}" if isinstance(error, KeyError) else str(error)) from error
    shown = x509.load_pem_x509_certificate(certificate).public_key()
    if serialization.load_pem_private_key(key, None).public_key() != shown:
        raise ValueError("the key is not that of the certificate")
    return Made(Pair(certificate, key), trusted)


def _first(trusted: bytes) -> bytes:
    return _pem(x509.load_pem_x509_certificates(trusted)[0])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
