"""What a connection to PostgreSQL is opened with, from a plan and its Secrets."""

from __future__ import annotations

import pytest

from kadre.base.errors import Unavailable
from kadre.engine.memory.postgres_address import of_plan
from kadre.plan.types import PostgresPlan, SecretRef


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
    plan = PostgresPlan(host="db.team", port=5433, database="my chats", user="ann@x", password=ref("password"))
    address = of_plan(plan, Secrets(password="p/w:?#@"))()
    assert (address.dsn, address.tls) == ("postgresql://ann%40x:p%2Fw%3A%3F%23%40@db.team:5433/my%20chats", None)
    assert "p" not in repr(address).removeprefix("Address")
    assert of_plan(PostgresPlan(host="::1"), Secrets())().dsn == "postgresql://postgres@[::1]:5432/postgres"


def test_a_secret_is_read_anew_each_time() -> None:
    secrets = Secrets(url="postgresql://a@h/d")
    now = of_plan(PostgresPlan(url=ref("url")), secrets)
    before = now().dsn
    secrets.values["url"] = "postgresql://b@h/d"
    assert (before, now().dsn) == ("postgresql://a@h/d", "postgresql://b@h/d")


def test_encryption_checks_who_answers() -> None:
    tls = of_plan(PostgresPlan(host="h", tls=True), Secrets())().tls
    assert tls is not None
    assert tls.check_hostname
    with pytest.raises(Unavailable, match=r"certificates in key ca\.crt of Secret team/db cannot be read"):
        of_plan(PostgresPlan(host="h", tls=True, ca=ref("ca.crt")), Secrets(**{"ca.crt": "no PEM"}))()


def test_a_secret_without_a_value_is_told_by_its_name() -> None:
    with pytest.raises(Unavailable, match="no value in key password of Secret team/db"):
        of_plan(PostgresPlan(host="h", password=ref("password")), Secrets())()
