"""What a connection to Redis is opened with, and what the server says of what it may lose."""

from __future__ import annotations

import pytest

from kadre.base.errors import ProblemError
from kadre.engine.memory.redis_address import of_plan
from kadre.engine.memory.redis_keeping import Keeping
from kadre.engine.memory.redis_server import Address, place, read
from kadre.plan.types import RedisPlan, SecretRef


class Secrets:
    """A SecretReader over a mapping of keys."""

    def __init__(self, **values: str) -> None:
        self.values = values

    def read(self, ref: SecretRef) -> str | None:
        """See SecretReader."""
        return self.values.get(ref.key)


def ref(key: str) -> SecretRef:
    return SecretRef(namespace="team", name="db", key=key)


def test_an_address_is_put_together_of_its_parts() -> None:
    plan = RedisPlan(host="r.team", port=6380, database=2, user_secret=ref("user"), password=ref("password"))
    address = of_plan(plan, Secrets(user="ann", password="p/w:?#@"))()
    assert address == Address("r.team", 6380, 2, "ann", "p/w:?#@")
    assert "p/w" not in repr(address)
    assert place(lambda: address).name == "redis journal r.team:6380/2"


def test_a_secret_is_read_anew_each_time() -> None:
    secrets = Secrets(url="redis://h/1")
    now = of_plan(RedisPlan(url=ref("url")), secrets)
    before = now()
    secrets.values["url"] = "redis://h/2"
    assert (before.database, now().database) == (1, 2)


def test_encryption_checks_who_answers() -> None:
    tls = of_plan(RedisPlan(host="h", tls=True), Secrets())().tls
    assert tls is not None
    assert tls.check_hostname


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", Address("h")),
        ("redis://:p%2Fw@h:1/3", Address("h", 1, 3, "", "p/w")),
        ("redis://ann:p@[::1]/", Address("::1", user="ann", password="p")),
        ("unix:///run/redis.sock", Address("/run/redis.sock")),
    ],
)
def test_an_address_is_read(url: str, address: Address) -> None:
    assert read(url) == address
    assert read("rediss://h").tls is not None


@pytest.mark.parametrize("url", ["redis://h/one", "redis://h/0?db=1", "redis://:a/b@h", "http://h", "redis://h:x"])
def test_an_address_that_cannot_be_read_is_shown_to_nobody(url: str) -> None:
    with pytest.raises(ProblemError, match="write redis://USER:PASSWORD@HOST:PORT/DATABASE") as refused:
        read(url)
    assert url not in str(refused.value)


@pytest.mark.parametrize(
    ("keeping", "durable", "told"),
    [
        (Keeping(True, "always"), True, 0),
        (Keeping(True, "everysec"), True, 1),
        (Keeping(True, None), True, 1),
        (Keeping(False, "always"), False, 1),
        (Keeping(None, None), False, 1),
        (Keeping(True, "always", "noeviction", limited=True), True, 0),
        (Keeping(True, "always", "volatile-lru", limited=True), True, 1),
        (Keeping(True, "always", "allkeys-lfu"), True, 1),
        (Keeping(True, "everysec", "allkeys-lfu", limited=True), False, 2),
    ],
)
def test_a_server_is_as_durable_as_it_says(keeping: Keeping, durable: bool, told: int) -> None:
    problems = list(keeping.problems("redis journal r/0"))
    assert (keeping.durable, len(problems)) == (durable, told)
    assert all(problem.fix and problem.reason == "JournalMayForget" for problem in problems)
