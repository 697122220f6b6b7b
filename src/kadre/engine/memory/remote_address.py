"""What a connection to a server that keeps a journal needs of Secrets, read anew each time: a rotated one counts."""

from __future__ import annotations

import ssl

from kadre.base.errors import Unavailable
from kadre.engine.memory.remote import RETRY_AFTER
from kadre.engine.secrets import SecretReader, describe
from kadre.plan.types import SecretRef


def value(secrets: SecretReader, ref: SecretRef, server: str) -> str:
    """The value there. `server`: what needs it, as in PostgreSQL. Raises Unavailable where there is none now."""
    found = secrets.read(ref)
    if not found:
        raise _unusable(f"there is no value in {describe(ref)}, which the {server} journal needs; put it there")
    return found


def trust(secrets: SecretReader, ca: SecretRef | None, server: str) -> ssl.SSLContext:
    """Whom to trust: the authorities there, else the usual ones. Raises Unavailable where they cannot be had now."""
    authority = None if ca is None else value(secrets, ca, server)
    try:
        return ssl.create_default_context(cadata=authority)
    except ssl.SSLError as error:
        where = describe(ca) if ca is not None else "this machine"
        raise _unusable(f"the certificates in {where} cannot be read; put PEM there") from error


def _unusable(message: str) -> Unavailable:
    return Unavailable(message, reason="JournalUnavailable", retry_after=RETRY_AFTER)
