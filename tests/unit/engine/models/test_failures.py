"""What goes wrong with a model API is told with a stable reason, and without what must not be told."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from multidict import CIMultiDict
from yarl import URL

from kadre.base.errors import MESSAGE_LIMIT, ModelError
from kadre.engine.models import failures
from kadre.engine.models.target import Target
from kadre.server import errors

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
KEY = "sk-very-secret-key"
TEAM = "blue-team-token"
SENT = Target(
    URL("http://me:pass@model/v1/chat?key=hush"),
    CIMultiDict({"Authorization": f"Bearer {KEY}", "X-Team": TEAM, "Content-Type": "application/json"}),
    "the API key in the Secret openai",
)


def refused(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> ModelError:
    return failures.of_status(status, CIMultiDict(headers or {}), body, SENT, NOW)


@pytest.mark.parametrize(
    ("status", "reason", "retryable"),
    [
        (400, "ModelBadRequest", False),
        (401, "ModelUnauthorized", False),
        (403, "ModelUnauthorized", False),
        (404, "ModelNotFound", False),
        (408, "ModelUnavailable", True),
        (413, "ModelBadRequest", False),
        (418, "ModelFailed", False),
        (429, "ModelRateLimited", True),
        (500, "ModelUnavailable", True),
        (503, "ModelUnavailable", True),
        (529, "ModelUnavailable", True),
        (307, "ModelBadEndpoint", False),
    ],
)
def test_a_status_has_a_reason_and_tells_whether_to_try_again(status: int, reason: str, retryable: bool) -> None:
    error = refused(status)
    assert (error.reason, error.retryable, error.status) == (reason, retryable, status)


def test_a_spent_quota_is_not_tried_again() -> None:
    error = refused(429, b'{"error":{"message":"no money","code":"insufficient_quota"}}')
    assert (error.reason, error.retryable) == ("ModelRateLimited", False)


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"so it is","type":"x"}}',
        b'{"error":"so it is"}',
        b'{"message":"so it is"}',
        b'{"Message":"so it is"}',
        b'{"detail":"so it is"}',
    ],
)
def test_the_apis_own_sentence_is_told_in_whatever_shape_it_comes(body: bytes) -> None:
    assert str(refused(400, body)) == "http://model/v1/chat answered 400: so it is"


@pytest.mark.parametrize("body", [b"<html>long page</html>", b"", b"[" * 100_000, b'{"error":{"message":[1]}}', b"7"])
def test_anything_else_in_an_error_body_is_dropped(body: bytes) -> None:
    assert str(refused(500, body)) == "http://model/v1/chat answered 500"


def test_nothing_secret_that_was_sent_comes_back() -> None:
    said = f"Incorrect API key provided: {KEY} of {TEAM}, wants application/json"
    text = "http://model/v1/chat answered 401: Incorrect API key provided: *** of ***, wants application/json"
    error = refused(401, f'{{"error":{{"message":"{said}"}}}}'.encode())
    assert str(error) == f"{text} (check the API key in the Secret openai)"


def test_a_long_sentence_is_cut() -> None:
    assert len(str(refused(400, b'{"message":"' + b"x" * 5000 + b'"}'))) < MESSAGE_LIMIT + 100


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "-3"}, 0.0),
        ({"retry-after-ms": "250", "Retry-After": "7"}, 0.25),
        ({"Retry-After": "Sat, 21 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"Retry-After": "Sat, 21 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "Sat, 21 Nov 99999999999999999999 12:00:30 GMT"}, None),
        ({"Retry-After": "Sat, 21 Nov 2026 12:00:30 +9999999999999"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert refused(429, headers=headers).retry_after == seconds


@pytest.mark.parametrize(
    "said",
    [
        "registry.ollama.ai/library/smollm2:135m does not support tools",
        "tools param requires --jinja flag",
        "This model doesn't support tool use in streaming mode.",
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
    ],
)
def test_a_model_without_tools_has_a_reason_of_its_own(said: str) -> None:
    body = b'{"error":{"message":"%s"}}' % said.replace('"', "'").encode()
    assert refused(400, body).reason == "ModelToolsUnsupported"


def test_the_doors_know_the_reasons_they_map() -> None:
    mapped = {reason for reason in errors._FAILED_STATUS if reason.startswith("Model")}
    assert mapped == {failures.TIMEOUT, failures.RATE_LIMITED}
