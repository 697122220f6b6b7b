"""What went wrong with a model API, as a ModelError: a stable reason, whether to try again, and a sentence for people.

Reasons: ModelTimeout, ModelStreamBroken, ModelUnavailable (5xx, no connection), ModelRateLimited, ModelUnauthorized,
ModelKeyMissing, ModelNotFound, ModelBadRequest, ModelBadEndpoint, ModelLibraryMissing, ModelToolsUnsupported,
ModelAnswerInvalid, ModelAnswerTooLarge, ModelFailed.
Foreign text is kept only where it is an API's own error sentence, shortened, and without what our headers held.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from kadre.base.errors import ModelError, shorten
from kadre.engine.models import target
from kadre.engine.models.target import Target

TIMEOUT = "ModelTimeout"
STREAM_BROKEN = "ModelStreamBroken"
UNAVAILABLE = "ModelUnavailable"
RATE_LIMITED = "ModelRateLimited"
TOOLS_UNSUPPORTED = "ModelToolsUnsupported"

_REASONS = {
    400: "ModelBadRequest",
    401: "ModelUnauthorized",
    403: "ModelUnauthorized",
    404: "ModelNotFound",
    413: "ModelBadRequest",
    422: "ModelBadRequest",
    429: RATE_LIMITED,
}
_HINTS = {
    401: "check {key}",
    403: "check {key}, and access to this model",
    404: "check the model's name and endpoint",
}
_OPEN_HEADERS = frozenset({"content-type", "accept", "accept-encoding", "anthropic-version"})
_NO_TOOLS = (
    "does not support tools",  # Ollama
    "does not support function calling",
    "tool choice requires --enable-auto-tool-choice",  # vLLM
    "tools param requires --jinja",  # llama.cpp
    "tool use is not supported",
    "doesn't support tool use",  # Bedrock
    "tools are not supported",
    "tool calling is not supported",
)


def worth_a_retry(error: ModelError) -> bool:
    """Whether to try again at once by ourselves. Not after a time limit: the caller has waited through all of it."""
    return error.retryable and error.reason != TIMEOUT


def too_large(limit: int) -> ModelError:
    """The answer passed the bound on its size."""
    return ModelError(f"the model's answer is larger than {limit} bytes", reason="ModelAnswerTooLarge")


def stream_broken(detail: str) -> ModelError:
    """The answer stopped before its end."""
    message = f"the model's answer broke off: {detail}; send the message again"
    return ModelError(message, reason=STREAM_BROKEN, retryable=True)


def cut_short(sent: Target) -> ModelError:
    """The stream ended before the answer did."""
    return stream_broken(f"{target.place(sent.url)} closed the stream before its end")


def empty(sent: Target) -> ModelError:
    """An answer without a message in it."""
    return ModelError(f"{target.place(sent.url)} answered without a message", reason="ModelAnswerInvalid")


def page(sent: Target) -> ModelError:
    """A web page in place of an answer: some proxy's, or a site's front page."""
    message = f"{target.place(sent.url)} answered with a web page; check the model's endpoint"
    return ModelError(message, reason="ModelAnswerInvalid")


def timed_out(seconds: float) -> ModelError:
    """Nothing came for as long as the plan allows."""
    return ModelError(
        f"the model sent nothing for {seconds:g} s; raise the model's timeout if it needs longer",
        reason=TIMEOUT,
        retryable=True,
    )


def of_transport(error: Exception, url: URL, seconds: float) -> ModelError:
    """A failure below HTTP, or of HTTP itself."""
    place = target.place(url)
    match error:
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return ModelError(
                f"the model's endpoint {shorten(place, 200)!r} is not an http or https URL",
                reason="ModelBadEndpoint",
            )
        case aiohttp.ConnectionTimeoutError():
            return _unavailable(f"no connection to {place}: it did not answer in time")
        case TimeoutError():
            return timed_out(seconds)
        case aiohttp.ClientPayloadError():
            return stream_broken(f"{place} closed the connection in the middle of it")
        case aiohttp.ServerDisconnectedError():
            return _unavailable(f"{place} closed the connection without an answer")
        case aiohttp.ClientConnectorError():
            why = shorten(str(error.os_error), 200)
            return _unavailable(f"no connection to {place}: {why} (check that it runs, and the model's endpoint)")
        case aiohttp.ClientResponseError():
            return ModelError(f"{place} does not speak HTTP as it should", reason="ModelAnswerInvalid")
        case _:
            return _unavailable(f"the connection to {place} failed: {shorten(str(error), 200)}")


def of_status(status: int, headers: Mapping[str, str], body: bytes, sent: Target, now: datetime) -> ModelError:
    """An answer other than 200. `sent`: our request, whose secret header values must not come back in a message."""
    place = target.place(sent.url)
    if 300 <= status < 400:
        return ModelError(
            f"{place} redirects elsewhere, which is not followed; write the final address as the endpoint",
            reason="ModelBadEndpoint",
            status=status,
        )
    said, code = error_sentence(body)
    return of_api(said, code, status, sent, retry_after(headers, now))


def of_api(said: str, code: str, status: int | None, sent: Target, after: float | None = None) -> ModelError:
    """An API's own error in answer to what was sent, from its status or out of a stream. See `of_error`."""
    safe = _without_secrets(said, sent.headers)
    return of_error(safe, code, status, place=target.place(sent.url), retry_after=after, key=sent.key)


def of_error(
    said: str,
    code: str,
    status: int | None,
    *,
    place: str,
    retry_after: float | None = None,
    key: str = "the model's API key",
) -> ModelError:
    """An API's own error. `said` and `code` may be empty; `status` is None where none is known."""
    text = f"{place} answered {status}" if status else f"{place} failed"
    if said:
        text += f": {shorten(said)}"
    if status in _HINTS:
        text += f" ({_HINTS[status].format(key=key)})"
    if status is not None and any(mark in said for mark in _NO_TOOLS):
        return ModelError(text, reason=TOOLS_UNSUPPORTED, status=status)
    # A spent quota also comes as 429, and does not come back within seconds.
    limited = status == 429 and code != "insufficient_quota"
    down = status is not None and (status >= 500 or status == 408)
    reason = _REASONS.get(status or 0) or (UNAVAILABLE if down else "ModelFailed")
    return ModelError(text, reason=reason, retryable=limited or down, status=status, retry_after=retry_after)


def error_sentence(body: bytes) -> tuple[str, str]:
    """(message, code) of an error body in any of the usual shapes; empty where it has none of them."""
    try:
        value: Any = msgspec.json.decode(body)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return "", ""
    return error_fields(value.get("error", value)) if isinstance(value, dict) else ("", "")


def error_fields(error: Any) -> tuple[str, str]:
    """(message, code) of an error object as APIs write it: `{message, code|type}`, `{detail}`, or a bare string."""
    if isinstance(error, str):
        return error, ""
    if not isinstance(error, dict):
        return "", ""
    said = error.get("message") or error.get("Message") or error.get("detail") or ""
    code = error.get("code") or error.get("type") or ""
    return (said if isinstance(said, str) else ""), str(code)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds the other side asks to wait: `retry-after-ms`, or Retry-After as seconds or as an HTTP date."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("Retry-After", "").strip()
    seconds = _number(text)
    if seconds is not None or not text:
        return seconds
    try:
        when = parsedate_to_datetime(text)
        return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds())
    except (ValueError, OverflowError):  # no date, or one far beyond any calendar
        return None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None


def _unavailable(message: str) -> ModelError:
    return ModelError(message, reason=UNAVAILABLE, retryable=True)


def _without_secrets(text: str, sent: Mapping[str, str]) -> str:
    for name, value in sent.items():
        if name.lower() in _OPEN_HEADERS:
            continue
        for part in value.split():
            if len(part) >= 8:  # shorter ones are words such as Bearer
                text = text.replace(part, "***")
    return text
