"""What goes wrong with a model API is told with a stable reason, and without what must not be told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from multidict import CIMultiDict
from yarl import URL

from kadre.base.errors import MESSAGE_LIMIT, ModelError
from kadre.engine.models import failures
from kadre.engine.models.target import Target

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SENT = Target(
    URL("http://user:hunter22@model:8000/v1/chat/completions?token=abc"),
    CIMultiDict(
        {"Authorization": "Bearer sk-secret-key", "X-Team": "blue-team-token", "Content-Type": "application/json"}
    ),
)


def refusal(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> ModelError:
    return failures.of_status(status, CIMultiDict(headers or {}), body, SENT, NOW)


@pytest.mark.parametrize(
    ("status", "reason", "again"),
    [(400, "ModelBadRequest", False), (401, "ModelUnauthorized", False), (404, "ModelNotFound", False),
     (408, "ModelUnavailable", True), (429, "ModelRateLimited", True), (500, "ModelUnavailable", True),
     (503, "ModelUnavailable", True), (529, "ModelUnavailable", True), (418, "ModelFailed", False)],
)  # fmt: skip
def test_a_status_has_its_reason_and_says_whether_to_try_again(status: int, reason: str, again: bool) -> None:
    error = refusal(status)
    assert (error.reason, error.retryable, error.status) == (reason, again, status)


@pytest.mark.parametrize(
    "body",
    [b'{"error":{"message":"too many tokens","type":"x"}}', b'{"error":"too many tokens"}',
     b'{"message":"too many tokens"}', b'{"detail":"too many tokens"}'],
)  # fmt: skip
def test_an_apis_own_sentence_is_told(body: bytes) -> None:
    assert "answered 400: too many tokens" in str(refusal(400, body))


@pytest.mark.parametrize("body", [b"<html>stack trace</html>", b"[1]", b'{"error":{"message":["x"]}}', b"[" * 65536])
def test_a_body_of_any_other_shape_is_not_told(body: bytes) -> None:
    assert str(refusal(500, body)) == "http://model:8000/v1/chat/completions answered 500"


def test_nothing_secret_that_was_sent_comes_back() -> None:
    body = b'{"error":{"message":"bad key sk-secret-key of blue-team-token, wants application/json"}}'
    said = str(refusal(401, body))
    assert "bad key *** of ***, wants application/json" in said
    assert not any(secret in said for secret in ("hunter22", "token=abc", "sk-secret"))


def test_a_long_sentence_is_cut() -> None:
    assert len(str(refusal(400, b'{"message":"' + b"x" * 5000 + b'"}'))) < MESSAGE_LIMIT + 100


def test_a_spent_quota_is_not_tried_again() -> None:
    assert not refusal(429, b'{"error":{"message":"pay","code":"insufficient_quota"}}').retryable


def test_a_redirect_is_a_wrong_endpoint() -> None:
    assert refusal(307).reason == "ModelBadEndpoint"


@pytest.mark.parametrize(
    "said",
    ["registry.ollama.ai/library/smollm2:135m does not support tools", "tools param requires --jinja flag",
     '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'],
)  # fmt: skip
def test_an_endpoint_without_tools_is_recognised(said: str) -> None:
    error = failures.of_error(said, "", 400, place="x")
    assert (error.reason, error.retryable) == ("ModelToolsUnsupported", False)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": "Thu, 01 Jan 2026 00:00:07 GMT"}, 7.0),
        ({"Retry-After": "Wed, 31 Dec 2025 00:00:00 GMT"}, 0.0),
        ({"Retry-After": "-4"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"retry-after-ms": "250", "Retry-After": "9"}, 0.25),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert refusal(429, headers=headers).retry_after == seconds
