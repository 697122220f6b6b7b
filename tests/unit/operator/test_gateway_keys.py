"""The key that the gateway signs with: shown before it signs, believed for a while after it did."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from kadre.operator.gateway import keys
from kadre.operator.gateway.keys import LIFE, SETTLED, SigningKeys, renewed
from kadre.server import identity

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIRST = renewed(None, NOW)


def secret(made: SigningKeys) -> dict[str, object]:
    metadata = {"name": "s", "annotations": {keys.SINCE: made.since.isoformat()}}
    return {"metadata": metadata, "data": keys.secret_data(made)}


def test_there_is_one_key_and_it_stays() -> None:
    assert (FIRST.following, FIRST.previous, len(FIRST.public())) == (b"", b"", 1)
    assert renewed(FIRST, NOW + LIFE - SETTLED - timedelta(seconds=1)) is FIRST


def test_the_next_key_is_shown_for_an_hour_before_it_signs_and_the_last_one_for_an_hour_after() -> None:
    shown = renewed(FIRST, NOW + LIFE - SETTLED)
    assert (shown.current, len(shown.public())) == (FIRST.current, 2)
    assert renewed(shown, NOW + LIFE - timedelta(seconds=1)) is shown
    signs = renewed(shown, NOW + LIFE)
    assert (signs.current, signs.previous, signs.following) == (shown.following, FIRST.current, b"")
    assert signs.since == NOW + LIFE
    assert renewed(signs, NOW + LIFE + SETTLED - timedelta(seconds=1)) is signs
    alone = renewed(signs, NOW + LIFE + SETTLED)
    assert (alone.current, len(alone.public())) == (signs.current, 1)


def test_after_a_long_time_in_which_nobody_looked_the_next_key_has_its_hour_all_the_same() -> None:
    late = NOW + 3 * LIFE
    shown = renewed(FIRST, late)
    assert (shown.current, len(shown.public())) == (FIRST.current, 2)
    assert renewed(shown, late + SETTLED - timedelta(seconds=1)) is shown
    assert renewed(shown, late + SETTLED).current == shown.following


def test_a_secret_keeps_them() -> None:
    shown = renewed(FIRST, NOW + LIFE - SETTLED)
    assert keys.of_secret(secret(shown)) == shown


@pytest.mark.parametrize("broken", ["", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_secret_that_holds_no_key_counts_as_none(broken: str) -> None:
    made = secret(FIRST)
    made["data"] = {keys.CURRENT: base64.b64encode(broken.encode()).decode()}
    assert keys.of_secret(made) is None
    made["data"] = {keys.CURRENT: "%%%"}
    assert keys.of_secret(made) is None


def test_a_key_has_the_name_that_pods_look_for() -> None:
    key = load_pem_private_key(FIRST.current, None)
    assert list(FIRST.public()) == [f"{identity.key_id(key.public_key())}.pem"]  # type: ignore[arg-type]  # it is Ed25519


def test_of_a_secret_that_is_broken_in_part_the_rest_is_kept() -> None:
    shown = renewed(FIRST, NOW + LIFE - SETTLED)
    made = secret(shown)
    made["data"] = {**keys.secret_data(shown), keys.NEXT: "%%%", keys.PREVIOUS: base64.b64encode(b"no key").decode()}
    assert keys.of_secret(made) == FIRST
