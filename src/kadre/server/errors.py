"""How a refusal looks on the wire: one JSON shape for Kadre's own doors, OpenAI's shape for OpenAI's clients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from kadre.base.errors import KadreError, Refused
from kadre.engine.live import Live
from kadre.plan.names import RESERVED

OPENAI_PATHS = ("/v1/chat/completions", "/v1/models")
"""How the addresses end that are served to OpenAI's clients."""

_FAILED_STATUS = {"DeadlineExceeded": 504, "ModelTimeout": 504, "ModelRateLimited": 429, "InternalError": 500}
"""A run's error reason -> HTTP status; other reasons that begin with `Model` are a bad gateway, the rest a 500."""


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Any msgspec-encodable body as JSON."""
    return Response(msgspec.json.encode(body), status, headers, "application/json")


def answer(path: str, status: int, error: Mapping[str, Any], headers: dict[str, str] | None = None) -> Response:
    """A refusal in the shape that callers of that address read. `error`: reason, message and details."""
    if speaks_openai(path):
        told = dict(error)
        body = openai_error(status, told.pop("reason"), told.pop("message"))
        body["error"].update(told)
        return json_response(body, status, headers)
    return json_response({"error": error}, status, headers)


def speaks_openai(path: str) -> bool:
    """Whether OpenAI's clients call that address, one that nothing is served at included."""
    first, *rest = path.removeprefix("/").split("/")
    if first in RESERVED and not path.endswith(OPENAI_PATHS):
        return first == "v1"
    return first == "v1" or "v1" in rest[:2]


def openai_error(status: int, reason: str, message: str) -> dict[str, Any]:
    """OpenAI's error object: its libraries choose the exception by the status, people read the type."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    kind = "rate_limit_error" if status == 429 else kind
    return {"error": {"message": message, "type": kind, "param": None, "code": reason}}


def retry_header(seconds: float | None) -> dict[str, str]:
    """Retry-After in whole seconds, rounded up: earlier would be refused again. None: not known, no header."""
    return {} if seconds is None else {"Retry-After": str(max(1, math.ceil(seconds)))}


class Failure(msgspec.Struct, frozen=True):
    """How a run that did not complete is told over HTTP. `retry_after`: seconds, where the provider said so."""

    status: int
    reason: str
    message: str
    retry_after: float | None = None


def failure(live: Live) -> Failure:
    """What became of a run that ended and did not complete."""
    error = live.error()
    status = live.finished.status if live.finished else "failed"
    if error is None:
        return Failure(409 if status == "cancelled" else 503, f"Run{status.capitalize()}", f"the run was {status}")
    default = 502 if error.reason.startswith("Model") else 500
    return Failure(_FAILED_STATUS.get(error.reason, default), error.reason, error.message, error.retry_after)


def as_refusal(error: KadreError, path: str) -> Response:
    """Any of our errors that reached a door: a Refused as what it is, anything else as our own failure."""
    if isinstance(error, Refused):
        told = {"reason": error.reason, "message": str(error), **error.details}
        return answer(path, error.status, told, retry_header(error.retry_after))
    return answer(path, 500, {"reason": type(error).__name__, "message": str(error)})
