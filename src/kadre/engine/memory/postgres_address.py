"""From a plan's PostgreSQL server to what a connection is opened with, read anew each time: a rotated secret counts."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from urllib.parse import quote

from kadre.base.errors import Unavailable
from kadre.engine.memory.postgres_server import Address
from kadre.engine.secrets import SecretReader, describe
from kadre.plan.types import PostgresPlan, SecretRef


def of_plan(plan: PostgresPlan, secrets: SecretReader) -> Callable[[], Address]:
    """What to connect to, as a function. It raises Unavailable where a secret has no value now."""

    def now() -> Address:
        if plan.url is not None:
            return Address(_value(secrets, plan.url))
        user = plan.user if plan.user_secret is None else _value(secrets, plan.user_secret)
        password = "" if plan.password is None else f":{quote(_value(secrets, plan.password), safe='')}"
        host = f"[{plan.host}]" if ":" in plan.host else plan.host
        dsn = f"postgresql://{quote(user, safe='')}{password}@{host}:{plan.port}/{quote(plan.database, safe='')}"
        return Address(dsn, _trust(plan, secrets) if plan.tls else None)

    return now


def _trust(plan: PostgresPlan, secrets: SecretReader) -> ssl.SSLContext:
    authority = None if plan.ca is None else _value(secrets, plan.ca)
    try:
        return ssl.create_default_context(cadata=authority)
    except ssl.SSLError as error:
        where = describe(plan.ca) if plan.ca is not None else "this machine"
        raise _unusable(f"the certificates in {where} cannot be read; put PEM there") from error


def _value(secrets: SecretReader, ref: SecretRef) -> str:
    value = secrets.read(ref)
    if not value:
        raise _unusable(f"there is no value in {describe(ref)}, which the PostgreSQL journal needs; put it there")
    return value


def _unusable(message: str) -> Unavailable:
    return Unavailable(message, reason="JournalUnavailable", retry_after=5.0)
