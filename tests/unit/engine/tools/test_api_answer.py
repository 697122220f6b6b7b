"""What a model reads of an API's answer."""

from __future__ import annotations

from typing import Any

import pytest

from kadre.base.errors import ToolError
from kadre.engine.tools import api_answer
from kadre.engine.tools.api_wire import Answer
from kadre.plan.types import ApiTool

TICKET = {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}


def read(body: bytes, kind: str = "application/json", status: int = 200, **more: Any) -> str:
    lost = more.pop("lost", False)
    large = more.pop("too_large", False)
    plan = ApiTool(name="t", endpoint="http://h", parameters={}, **more)
    headers = {"Content-Type": kind} if kind else {}
    return api_answer.output(plan, Answer(status, "Reason", headers, body, too_large=large), lost=lost).content


@pytest.mark.requirement("tool-output-schema")
def test_an_answer_that_is_as_its_schema_says_is_read_as_it_is() -> None:
    assert read(b'{"id": "T-1", "more": [1]}', output=TICKET) == '{"id": "T-1", "more": [1]}'
    assert read(b'\xef\xbb\xbf{"id": "T-1"}', "text/plain", output=TICKET) == '{"id": "T-1"}'


@pytest.mark.requirement("tool-output-schema")
@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"id": 1}', "is not as its output schema says: id: 1 is not of type 'string'"),
        (b"{}", "is not as its output schema says: id: is required"),
        (b"[]", r"is not as its output schema says: it: \[\] is not of type 'object'"),
        (b"<html>", "is not valid JSON"),
        (b'{"id": "T', "is not valid JSON"),
        (b"\xff", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"", "is empty, which its output schema does not allow"),
    ],
)
def test_one_that_is_not_says_so_and_whether_it_was_done(body: bytes, why: str) -> None:
    with pytest.raises(ToolError, match=f"t answered HTTP 200, but its answer {why}") as raised:
        read(body, output=TICKET)
    assert "carried out" not in str(raised.value)
    with pytest.raises(ToolError, match="it was carried out all the same: do not call it again") as raised:
        read(body, output=TICKET, method="POST")
    assert not raised.value.unknown


@pytest.mark.requirement("tool-output-schema")
def test_no_content_is_an_answer_whatever_the_schema() -> None:
    assert read(b"", "", 204, output=TICKET, method="DELETE") == "done: HTTP 204 Reason"


@pytest.mark.requirement("tool-api")
def test_text_is_text_and_anything_else_is_named() -> None:
    assert read("grün".encode("latin-1"), "text/plain; charset=latin-1") == "grün"
    assert read("grün".encode(), "text/html; charset=nonsense") == "grün"
    assert read(b"a\xffb", "") == "a�b"
    assert read(b"\x89PNG....", "image/png") == "[image/png, 8 bytes]"
    assert read(b'{"a": 1}', "application/problem+json") == '{"a": 1}'
    with pytest.raises(ToolError, match="is not valid JSON"):
        read(b"{", "application/json")


@pytest.mark.requirement("tool-api")
@pytest.mark.parametrize(
    "name", ["punycode", "idna", "undefined", "utf-7", "unicode_escape", "a\0b", "rot13", "\ud800"]
)
def test_a_codec_that_no_text_has_is_not_taken_whoever_names_it(name: str) -> None:
    assert read(b"a-\xff" * 100_000, f"text/plain; charset={name}", method="POST") == "a-�" * 100_000


@pytest.mark.requirement("tool-api")
@pytest.mark.parametrize(
    "name",
    ["UTF-8", "us-ascii", "iso-8859-15", "Windows-1252", "cp1250", "utf-16le", "Shift_JIS", "EUC-KR", "gbk", "big5"],
)
def test_one_that_texts_have_is(name: str) -> None:
    assert read("text".encode(name), f'text/plain; charset="{name}"') == "text"


@pytest.mark.requirement("tool-output-schema")
def test_more_than_can_be_checked_at_once_is_not_checked_and_says_so() -> None:
    body = b"[" + b"1," * (api_answer.MAX_CHECKED // 2) + b"1]"
    with pytest.raises(ToolError, match="has 256 KB, of which at most 256 are compared with its output schema"):
        read(body, output={"type": "array"})
    with pytest.raises(ToolError, match="it was carried out all the same"):
        read(body, output={"type": "array"}, method="POST")
    assert read(body) == body.decode()


@pytest.mark.requirement("tool-api")
def test_of_head_its_headers_are_read() -> None:
    assert read(b"", "text/csv", method="HEAD") == "HTTP 200 Reason\nContent-Type: text/csv"


@pytest.mark.requirement("tool-api")
def test_one_that_is_too_large_is_not_read() -> None:
    with pytest.raises(ToolError, match="is larger than 4 MB and was not read; ask for less"):
        read(b"x", too_large=True)


@pytest.mark.requirement("tool-api")
@pytest.mark.parametrize(
    ("method", "status", "lost", "unknown"),
    [
        *(("POST", status, False, False) for status in (400, 401, 404, 409, 422, 429, 501, 503)),
        *(("POST", status, False, True) for status in (500, 502, 504, 303)),
        *(("GET", status, True, False) for status in (404, 500, 503, 302)),
        *(("PUT", status, True, True) for status in (307, 429, 503)),
    ],
)
def test_a_refusal_says_whether_it_may_have_happened(method: str, status: int, lost: bool, unknown: bool) -> None:
    with pytest.raises(ToolError, match=f"t answered HTTP {status} Reason") as raised:
        read(b'{"error": "no"}', status=status, method=method, lost=lost)
    assert raised.value.unknown == unknown


@pytest.mark.requirement("tool-api")
def test_a_refusal_tells_the_apis_own_sentence_and_no_page() -> None:
    with pytest.raises(ToolError, match=r"HTTP 422 Reason \(check the arguments\): title is taken"):
        read(b"title is taken", "text/plain", 422)
    with pytest.raises(ToolError) as raised:
        read(b"<html>" * 1000, "text/html", 404)
    assert "<html>" not in str(raised.value)
    with pytest.raises(ToolError) as raised:
        read(b"x" * 10_000, "text/plain", 400)
    assert len(str(raised.value)) < 700
