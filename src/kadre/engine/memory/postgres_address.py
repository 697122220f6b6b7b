"""From a plan's PostgreSQL server to what a connection is opened with."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from kadre.engine.memory.postgres_server import Address
from kadre.engine.memory.remote_address import trust, value
from kadre.engine.secrets import SecretReader
from kadre.plan.types import PostgresPlan

SERVER = "PostgreSQL"


def of_plan(plan: PostgresPlan, secrets: SecretReader) -> Callable[[], Address]:
    """What to connect to, as a function. It raises Unavailable where a secret has no value now."""

    def now() -> Address:
        if plan.url is not None:
            return Address(value(secrets, plan.url, SERVER))
        user = plan.user if plan.user_secret is None else value(secrets, plan.user_secret, SERVER)
        password = "" if plan.password is None else f":{quote(value(secrets, plan.password, SERVER), safe='')}"
        host = f"[{plan.host}]" if ":" in plan.host else plan.host
        dsn = f"postgresql://{quote(user, safe='')}{password}@{host}:{plan.port}/{quote(plan.database, safe='')}"
        return Address(dsn, trust(secrets, plan.ca, SERVER) if plan.tls else None)

    return now
