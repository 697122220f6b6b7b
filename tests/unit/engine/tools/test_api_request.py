"""What is sent to a REST API: what a model gives stays a value, whatever is in it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from kadre.base.errors import ToolError
from kadre.engine.tools import api_request
from kadre.engine.tools.api_request import Request
from kadre.plan.types import ApiTool, SecretRef

pytestmark = pytest.mark.requirement("tool-api-path", "tool-api")


def made(endpoint: str, arguments: dict[str, Any], **more: Any) -> Request:
    names = arguments | dict.fromkeys(more.pop("known", ()))
    parameters = {"type": "object", "properties": {name: {} for name in names}}
    return api_request.make(ApiTool(name="t", endpoint=endpoint, parameters=parameters, **more), arguments, "run-1/c")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("ABCD1234", "/c/ABCD1234/x"),
        ("a b", "/c/a%20b/x"),
        ("a/b", "/c/a%2Fb/x"),
        ("a\\b", "/c/a%5Cb/x"),
        ("?q=1#f", "/c/%3Fq%3D1%23f/x"),
        ("%2e%2e", "/c/%252e%252e/x"),
        ("%2F", "/c/%252F/x"),
        ("..a", "/c/..a/x"),
        ("@evil.example", "/c/%40evil.example/x"),
        (";p=1", "/c/%3Bp%3D1/x"),
        ("é", "/c/%C3%A9/x"),
        (7, "/c/7/x"),
        (7.0, "/c/7/x"),
        (1.5, "/c/1.5/x"),
        (True, "/c/true/x"),
    ],
)
def test_a_value_in_a_path_is_one_part_of_it(value: Any, path: str) -> None:
    url = made("http://h:8080/c/{id}/x", {"id": value}).url
    assert url.raw_path == path
    assert (url.host, url.port, url.raw_query_string, url.fragment) == ("h", 8080, "", "")


@pytest.mark.parametrize(
    "value", ["..", ".", "", "../admin", "a/../..", "..\\x", "a\\..", "/..", "a\r\nb", "a\x00", "\ud800"]
)
def test_a_value_that_leads_elsewhere_is_refused(value: str) -> None:
    with pytest.raises(ToolError, match="nothing was called: id: ") as refused:
        made("http://h/c/{id}", {"id": value})
    assert not refused.value.unknown


def test_two_values_make_no_way_up_together() -> None:
    assert made("http://h/{a}-{b}", {"a": "x", "b": "y"}).url.raw_path == "/x-y"
    with pytest.raises(ToolError, match="cannot be a part of a URL's path"):
        made("http://h/c/{a}{b}", {"a": ".", "b": "."})


@given(st.text(max_size=30))
def test_no_text_leaves_its_place(text: str) -> None:
    try:
        url = made("http://h:81/v1/{id}/end?k={id}", {"id": text}).url
    except ToolError:
        return
    sent = URL(str(url))  # as whoever reads it again, which takes dots for steps
    assert (sent.scheme, sent.host, sent.port) == ("http", "h", 81)
    assert len(sent.raw_path.split("/")) == 4
    assert sent.raw_path.startswith("/v1/")
    assert sent.raw_path.endswith("/end")
    assert list(sent.query) == ["k"]


def test_what_is_not_in_the_path_is_the_query_of_what_has_no_body() -> None:
    arguments = {"id": "a", "q": "x&y=z#", "tags": ["a b", "c"], "on": True, "filter": {"k": 1}, "none": None}
    for method in ("GET", "HEAD", "DELETE"):
        request = made("http://h/c/{id}?fixed=1", arguments, method=method)
        assert str(request.url) == (
            "http://h/c/a?fixed=1&q=x%26y%3Dz%23&tags=a%20b&tags=c&on=true&filter=%7B%22k%22%3A1%7D"
        )
        assert request.body == b""
        assert "Content-Type" not in request.headers


def test_what_is_not_in_the_path_is_the_body_otherwise() -> None:
    request = made("http://h/c/{id}", {"id": "a", "n": 1, "tags": ["é"]}, method="POST")
    assert request.body == '{"n":1,"tags":["é"]}'.encode()
    assert request.headers["content-type"] == "application/json"
    assert request.url == URL("http://h/c/a")
    form = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
    request = made("http://h/c", {"n": 1, "tags": ["a b", "é"]}, method="PUT", headers=form)
    assert request.body == b"n=1&tags=a+b&tags=%C3%A9"
    assert request.headers.getall("Content-Type") == ["application/x-www-form-urlencoded; charset=utf-8"]


def test_a_parameter_may_be_of_the_query_beside_a_body() -> None:
    request = made("http://h/c", {"dry": True, "n": 1}, method="POST", query=("dry", "gone"))
    assert (str(request.url), request.body) == ("http://h/c?dry=true", b'{"n":1}')
    request = made("http://h/c", {"dry": True}, method="POST", query=("dry",))
    assert (str(request.url), request.body) == ("http://h/c?dry=true", b"")


def test_a_body_is_there_where_there_are_parameters_for_it() -> None:
    assert made("http://h/c", {}, method="POST", known=["n"]).body == b"{}"
    request = made("http://h/c/{id}/close", {"id": "1"}, method="POST", headers={"Content-Type": "application/json"})
    assert (request.body, request.headers.get("Content-Type")) == (b"", None)


def test_a_write_names_its_call() -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert made("http://h/", {}, method=method).headers["Idempotency-Key"] == "run-1/c"
    for method in ("GET", "HEAD"):
        assert "Idempotency-Key" not in made("http://h/", {}, method=method).headers
    plan = ApiTool(name="t", endpoint="http://h", parameters={}, method="POST")
    keys = [api_request.make(plan, {}, key).headers["Idempotency-Key"] for key in ("r/é", "r/\n", "r/é")]
    assert keys[0] == keys[2] != keys[1]
    assert all(len(key) == 64 for key in keys)


def test_an_authors_header_takes_the_place_of_ours() -> None:
    headers = made("http://h/", {}, headers={"accept": "text/plain", "accept-encoding": "br"}).headers
    assert headers.getall("Accept") == ["text/plain"]
    assert headers.getall("Accept-Encoding") == ["identity"]


def test_a_host_that_an_argument_names_is_told_apart() -> None:
    request = made("https://{region}.api.example/v1", {"region": "eu"})
    assert (str(request.url), request.written) == ("https://eu.api.example/v1", False)
    assert made("http://h:{port}/", {"port": 81}).written is False
    assert made("http://h/{host}", {"host": "x"}).written is True


@pytest.mark.parametrize("value", ["a/b", "a@b", "a:80", "", "evil.example/?", "a#", "[::1]", "-a", "a b", "é", "a\n"])
def test_what_is_no_part_of_a_host_is_refused_there(value: str) -> None:
    with pytest.raises(ToolError, match="cannot be in the place of a host"):
        made("http://{host}/x", {"host": value})


def test_a_secret_goes_to_no_host_that_an_argument_names() -> None:
    keyed: Any = {"secret_headers": {"X-Key": SecretRef(name="n", key="k")}}
    for endpoint in ("https://{host}/v1/me", "https://{host}.example/", "https://api.example.com:{host}/"):
        with pytest.raises(ToolError, match="an argument would say which host is sent its secret"):
            made(endpoint, {"host": "evil"}, **keyed)
    region = "https://{region}.api.example.com/v1"
    assert made(region, {"region": "eu-1"}, **keyed).url.host == "eu-1.api.example.com"
    for value in ("a.b", "a.", "-a", "a-", "evil.example", "é", "a\n", "a" * 64):
        with pytest.raises(ToolError, match="is not one label of a host's name"):
            made(region, {"region": value}, **keyed)


def test_a_url_is_bounded() -> None:
    with pytest.raises(ToolError, match="the URL would have"):
        made("http://h/", {"q": "x" * 20_000})


def test_what_an_author_writes_stays() -> None:
    assert str(made("http://h/a/%2e/ü;v=1?x=[1]&y=a%20b", {}).url) == "http://h/a/%2e/%C3%BC;v=1?x=[1]&y=a%20b"
    assert str(made("http://h", {"q": 1}).url) == "http://h/?q=1"
    assert str(made("HTTP://[fd00::1]:81?k={v}", {"v": "a&b"}).url) == "http://[fd00::1]:81/?k=a%26b"
