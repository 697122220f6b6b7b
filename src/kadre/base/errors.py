"""Exceptions, sorted by who acts on them.

    KadreError
    ├── ProblemError        the user: mends what they wrote (carries every Problem)
    ├── ToolError           the model: reads the message as the tool's answer
    ├── ModelError          the caller: the model could not answer (retryable or not)
    ├── Refused             the caller: a request that cannot be served, as it is or now
    │   ├── BadRequest      400  what was sent is malformed
    │   ├── Unauthorized    401  who the caller is is not known
    │   ├── NotFound        404
    │   ├── Conflict        409  e.g. a busy session, an ambiguous name
    │   ├── TooLarge        413
    │   ├── TooMany         429  with the seconds after which to try again
    │   ├── Forbidden       403
    │   ├── NotSupportedYet 501
    │   └── Unavailable     503  e.g. shutting down; with the seconds after which to try again
    └── Fenced              the code: another writer owns the run now; stop before the next effect

Messages are shown to people: they hold no secret, no stack and at most `MESSAGE_LIMIT` characters of
anything that came from outside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from kadre.base.problems import Problem

MESSAGE_LIMIT = 500
"""Characters of foreign text kept in a message: enough for an API's error sentence, too few for a page."""


def shorten(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """`text` on one line, cut to `limit` characters with a mark that it was."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


class KadreError(Exception):
    """Base of every exception Kadre raises on purpose."""


class ProblemError(KadreError):
    """What a user wrote cannot be used; `problems` holds everything found, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ToolError(KadreError):
    """A tool call failed in a way the model should read. `unknown`: it was sent, its outcome is not known."""

    def __init__(self, message: str, *, unknown: bool = False) -> None:
        self.unknown = unknown
        super().__init__(message)


class ModelError(KadreError):
    """The model did not answer.

    `retryable`: the same request may succeed later; `status`: the HTTP status where there was one;
    `retry_after`: seconds the provider asked for. `reason` is CamelCase and stable.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "ModelFailed",
        retryable: bool = False,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.reason = reason
        self.retryable = retryable
        self.status = status
        self.retry_after = retry_after
        super().__init__(message)


class Refused(KadreError):
    """A request that is not served. `status` is the HTTP status, `reason` CamelCase and stable, `details` JSON."""

    status: ClassVar[int] = 400
    default_reason: ClassVar[str] = "BadRequest"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.reason = reason or self.default_reason
        self.retry_after = retry_after
        self.details = dict(details or {})
        super().__init__(message)


class BadRequest(Refused):
    """400: what was sent is malformed."""


class Unauthorized(Refused):
    """401: who the caller is is not known."""

    status = 401
    default_reason = "Unauthorized"


class Forbidden(Refused):
    """403: the caller may not."""

    status = 403
    default_reason = "Forbidden"


class NotFound(Refused):
    """404: no such thing."""

    status = 404
    default_reason = "NotFound"


class Conflict(Refused):
    """409: it exists, but is not in a state that allows this."""

    status = 409
    default_reason = "Conflict"


class TooLarge(Refused):
    """413: a bound on size was passed."""

    status = 413
    default_reason = "TooLarge"


class TooMany(Refused):
    """429: a bound on rate or queue length was passed; `retry_after` says when to come back."""

    status = 429
    default_reason = "TooManyRequests"


class NotSupportedYet(Refused):
    """501: part of the contract, not built yet."""

    status = 501
    default_reason = "NotSupportedYet"


class Unavailable(Refused):
    """503: not now."""

    status = 503
    default_reason = "Unavailable"


class Fenced(KadreError):
    """Another writer owns this run (its epoch or its next number is not ours): stop before the next effect."""
