"""How a refusal looks on the wire: one JSON shape for Kadre's own doors, OpenAI's shape for OpenAI's clients."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from starlette.responses import Response

from kadre.base.errors import KadreError, Refused
from kadre.engine.live import Live

_FAILED_STATUS = {"DeadlineExceeded": 504, "ModelTimeout": 504, "ModelRateLimited": 429, "InternalError": 500}
"""A run's error reason -> HTTP status; other reasons that begin with `Model` are a bad gateway, the rest a 500."""


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Any msgspec-encodable body as JSON."""
    return Response(msgspec.json.encode(body), status, headers, "application/json")


def refusal(error: Refused) -> Response:
    """`{"error": {"reason", "message", …details}}` with Retry-After where one is known."""
    body = {"error": {"reason": error.reason, "message": str(error), **error.details}}
    return json_response(body, error.status, retry_header(error))


def openai_refusal(error: Refused) -> Response:
    """OpenAI's error object, so that its client libraries raise their own exceptions."""
    body = openai_error(error.status, error.reason, str(error))
    body["error"].update(error.details)
    return json_response(body, error.status, retry_header(error))


def openai_error(status: int, reason: str, message: str) -> dict[str, Any]:
    """OpenAI's error object: its libraries choose the exception by the status, people read the type."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    kind = "rate_limit_error" if status == 429 else kind
    return {"error": {"message": message, "type": kind, "param": None, "code": reason}}


def retry_header(error: Refused) -> dict[str, str] | None:
    """Retry-After in whole seconds, rounded up: earlier would be refused again."""
    return None if error.retry_after is None else {"Retry-After": str(max(1, math.ceil(error.retry_after)))}


def failure(live: Live) -> tuple[int, str, str]:
    """HTTP status, reason and message of a run that did not complete."""
    error = live.error()
    status = live.finished.status if live.finished else "failed"
    if error is None:
        return (409 if status == "cancelled" else 503), f"Run{status.capitalize()}", f"the run was {status}"
    default = 502 if error.reason.startswith("Model") else 500
    return _FAILED_STATUS.get(error.reason, default), error.reason, error.message


def as_refusal(error: KadreError) -> Response:
    """Any of our errors that reached a door: a Refused as what it is, anything else as our own failure."""
    if isinstance(error, Refused):
        return refusal(error)
    return json_response({"error": {"reason": type(error).__name__, "message": str(error)}}, 500)
