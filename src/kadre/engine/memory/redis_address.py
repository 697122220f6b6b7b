"""From a plan's Redis server to what a connection is opened with."""

from __future__ import annotations

from collections.abc import Callable

from kadre.engine.memory import redis_server
from kadre.engine.memory.redis_server import Address
from kadre.engine.memory.remote_address import trust, value
from kadre.engine.secrets import SecretReader
from kadre.plan.types import RedisPlan

SERVER = "Redis"


def of_plan(plan: RedisPlan, secrets: SecretReader) -> Callable[[], Address]:
    """What to connect to, as a function. It raises Unavailable where a secret has no value now."""

    def now() -> Address:
        if plan.url is not None:
            return redis_server.read(value(secrets, plan.url, SERVER))
        return Address(
            plan.host,
            plan.port,
            plan.database,
            plan.user if plan.user_secret is None else value(secrets, plan.user_secret, SERVER),
            "" if plan.password is None else value(secrets, plan.password, SERVER),
            trust(secrets, plan.ca, SERVER) if plan.tls else None,
        )

    return now
