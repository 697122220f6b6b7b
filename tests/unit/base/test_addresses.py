"""Which addresses are called."""

from __future__ import annotations

import pytest

from kadre.base.addresses import Policy, Written, is_literal
from kadre.base.errors import ProblemError

pytestmark = pytest.mark.requirement("webhooks", "tool-api-addresses")
METADATA = [
    *("169.254.169.254", "169.254.170.2", "::ffff:169.254.169.254", "fe80::a9fe:a9fe", "fe80::1%eth0", "fd00:ec2::254"),
    *("fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    # IPv6 that stands for it: compatible, translated (NAT64), 6to4, Teredo (whose IPv4 address is turned over)
    *("::a9fe:a9fe", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::", "2001:0:a9fe:a9fe::"),
    "2001:0:808:808::5601:5601",
]


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_a_public_address_is_called(address: str) -> None:
    assert Policy().allows(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *(
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fe80::1%eth0",
            "fd00:ec2::254",
            "fec0::1",
            "ff02::1",
        ),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "2002:7f00:1::", "64:ff9b::7f00:1", "2001::1", "name"),
        *("3fff::1", "3fff:fff::1", "5f00::1"),
    ],
)
def test_any_other_is_not(address: str) -> None:
    assert not Policy().allows(address)


def test_a_network_that_is_allowed_is_called_too() -> None:
    policy = Policy.of(["10.1.0.0/16", "fd00::/64"])
    assert [policy.allows(each) for each in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1")] == [True, True, True]
    assert [policy.allows(each) for each in ("10.2.0.1", "fd01::1", "127.0.0.1")] == [False, False, False]
    with pytest.raises(ProblemError, match="--webhook-network"):
        Policy.of(["10.1.0.1/16"])


@pytest.mark.parametrize("address", METADATA)
def test_where_clouds_hand_out_credentials_nobody_calls(address: str) -> None:
    assert not Policy().allows(address)
    assert not Written().allows(address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "192.168.1.1", "::1", "fd00::1", "8.8.8.8", "::ffff:10.0.0.1"]
)
def test_an_author_may_write_any_other(address: str) -> None:
    assert Written().allows(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "2130706433", "127.1", "0177.0.0.1", "127.0.0.1.", "１２７.0.0.1"]
)
def test_what_a_machine_may_take_for_an_address_is_no_name(host: str) -> None:
    assert is_literal(host)
    assert not Policy().allows(host)


@pytest.mark.parametrize("host", ["0x7f000001", "localhost", "a.example", "1password.com"])
def test_a_name_is_resolved_before_it_is_judged(host: str) -> None:
    assert not is_literal(host)
