"""Which addresses are called, where somebody else says what is called.

This process stands where a caller, a model or an answer may not go: in a cluster's network, beside a cloud's metadata.
A judge says of an address whether it is called; who connects asks it of what a name has resolved to, and connects to
that.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Protocol

from kadre.base.errors import ProblemError
from kadre.base.problems import Problem

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# Where clouds hand out a machine's own credentials, to whoever asks from there.
_METADATA = tuple(
    ipaddress.ip_network(text)
    for text in (
        "169.254.0.0/16",  # link-local: nearly every cloud
        "fe80::/10",
        "fd00:ec2::/32",  # AWS
        "fd20:ce::/64",  # Google
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure; a public address by its number
        "192.0.0.192/32",  # Oracle
    )
)
# Addresses of these end in the IPv4 address that they stand for.
_EMBEDDING = tuple(
    ipaddress.IPv6Network(text) for text in ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
)

# Never on the public network, and not known to every Python that runs this.
_NEVER_PUBLIC = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing inside one network
    )
)


class Judge(Protocol):
    """Says which addresses are called."""

    def allows(self, address: str) -> bool:
        """Whether that address, as text, is called."""
        ...


class Policy:
    """Public addresses, and those of `networks`: for what whoever calls, a model or an answer names."""

    def __init__(self, networks: Sequence[IpNetwork] = ()) -> None:
        self._networks = tuple(networks)

    @classmethod
    def of(cls, networks: Sequence[str]) -> Policy:
        """The policy of networks as people write them. Raises ProblemError."""
        try:
            return cls([ipaddress.ip_network(text.strip()) for text in networks])
        except ValueError as error:
            fix = "write it as in 10.1.0.0/16"
            raise ProblemError([Problem("BadNetwork", f"--webhook-network: {error}", fix)]) from error

    def allows(self, address: str) -> bool:
        """See Judge."""
        found = _address(address)
        if found is None:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
            found = found.ipv4_mapped
        return any(found in network for network in self._networks if network.version == found.version) or _public(found)


class Written:
    """Any address but those of metadata: for a host that an author writes, whose network it is."""

    def allows(self, address: str) -> bool:
        """See Judge."""
        found = _address(address)
        return found is not None and not _is_metadata(found)


def is_literal(host: str) -> bool:
    """Whether a host is an address, and no name: in whichever form a machine may take it for one."""
    return ":" in host or host.replace(".", "").isdigit()


def _address(text: str) -> IpAddress | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _public(address: IpAddress) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and (address.is_site_local or address.sixtofour):
        return False  # the second stands for an IPv4 address, whatever that is
    if any(address in network for network in _NEVER_PUBLIC):
        return False
    if _is_metadata(address):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _is_metadata(address: IpAddress) -> bool:
    return any(
        each in network
        for each in (address, *_inner(address))
        for network in _METADATA
        if network.version == each.version
    )


def _inner(address: IpAddress) -> Iterator[IpAddress]:
    """The IPv4 addresses that an IPv6 address may stand for on its way."""
    if not isinstance(address, ipaddress.IPv6Address):
        return
    for known in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())):
        if known is not None:
            yield known
    if any(address in network for network in _EMBEDDING):
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
