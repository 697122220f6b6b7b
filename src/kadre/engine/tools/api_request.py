"""What is sent to a REST API: made of a tool's plan and the arguments, which have been checked.

Law: pure. What the model gives stays a value, whatever is in it: a part of a path is one part, a part of a query one
value, and in the place of a host it is letters of a host.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlencode

import msgspec
from multidict import CIMultiDict
from yarl import URL

from kadre.base.errors import ToolError
from kadre.base.urls import sure_of_host
from kadre.plan.types import ApiTool

READS = frozenset({"GET", "HEAD"})
MAX_URL = 16_384
"""Characters of a URL with what the model put in it: servers refuse longer ones, most at 8 KB."""
_IN_QUERY = READS | {"DELETE"}
_NAME = re.compile(r"\{([^{}]*)\}")
_PARTS = re.compile(r"(?i)(https?://[^/?]*)([^?]*)\??(.*)", re.DOTALL)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252})?")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
# What has a meaning in a URL and stays as its author wrote it.
_KEPT = "/%:@!$&'()*+,;=~"
_OPEN = frozenset({"accept", "accept-encoding", "accept-language", "user-agent"})
_FORM = "application/x-www-form-urlencoded"


class Request(msgspec.Struct, frozen=True):
    """One request, before anybody says who calls."""

    method: str
    url: URL
    headers: CIMultiDict[str]
    body: bytes = b""
    written: bool = True
    """Its host is what its author wrote, and no argument is part of it."""

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.method in READS


def make(plan: ApiTool, arguments: Mapping[str, Any], key: str) -> Request:
    """The request. `key`: names the call, the same where it is made again. Raises ToolError: nothing was called."""
    parts = _PARTS.fullmatch(plan.endpoint)
    if parts is None:
        raise ToolError(f"{plan.name} cannot be called: its endpoint is no http or https URL")
    origin, path, query = parts.groups()
    secret = plan.login is not None or bool(plan.secret_headers)
    if secret and not sure_of_host(plan.endpoint):
        raise ToolError(f"{plan.name} cannot be called: an argument would say which host is sent its secret")
    inside = set(_NAME.findall(plan.endpoint))
    rest = {name: value for name, value in arguments.items() if name not in inside and value is not None}
    headers = CIMultiDict({"Accept": "application/json", "User-Agent": "kadre"})
    headers.update(plan.headers)
    headers["Accept-Encoding"] = "identity"  # what is packed costs more to bound than it saves
    body = b""
    pairs = [_filled(query, arguments, _value)] if query else []
    queried = rest if plan.method in _IN_QUERY else {name: rest.pop(name) for name in plan.query if name in rest}
    pairs += [urlencode(_pairs(queried), quote_via=quote)] if queried else []
    if plan.method not in _IN_QUERY and inside.union(plan.query).issuperset(plan.parameters.get("properties", ())):
        headers.popall("Content-Type", None)
    elif plan.method not in _IN_QUERY:
        body = _body(rest, headers.setdefault("Content-Type", "application/json"))
    if plan.method not in READS:
        plain = key.isascii() and key.isprintable()
        headers["Idempotency-Key"] = key if plain else hashlib.sha256(key.encode(errors="replace")).hexdigest()
    written = URL(_filled(origin, arguments, _label if secret else _host))
    url = URL.build(
        scheme=written.scheme,
        authority=written.raw_authority,
        path=_path(path or "/", arguments),
        query_string="&".join(pairs),
        encoded=True,
    )
    if len(str(url)) > MAX_URL:
        raise ToolError(f"nothing was called: the URL would have {len(str(url))} characters of at most {MAX_URL}")
    return Request(plan.method, url, headers, body, written="{" not in origin)


def _filled(template: str, arguments: Mapping[str, Any], encode: Any) -> str:
    """The template with its parameters' values in their places."""
    made, end = "", 0
    for found in _NAME.finditer(template):
        made += quote(template[end : found.start()], safe=_KEPT + "[]")
        made += encode(found.group(1), _text(arguments.get(found.group(1))))
        end = found.end()
    return made + quote(template[end:], safe=_KEPT + "[]")


def _path(template: str, arguments: Mapping[str, Any]) -> str:
    segments = template.split("/")
    made = [_filled(segment, arguments, _segment) for segment in segments]
    for segment, filled in zip(segments, made, strict=True):
        if segment != filled and unquote(filled) in {"", ".", ".."}:
            names = ", ".join(_NAME.findall(segment))
            raise ToolError(f"nothing was called: {names}: {unquote(filled)!r} cannot be a part of a URL's path")
    return "/".join(made)


def _segment(name: str, value: str) -> str:
    """One part of a path, and no way to another."""
    parts = re.split(r"[/\\]", value)
    if not value or {".", ".."} & set(parts):
        raise ToolError(f"nothing was called: {name}: {value[:100]!r} cannot be a part of a URL's path")
    if not value.isprintable():
        raise ToolError(f"nothing was called: {name}: has a control character in it, which a URL cannot have")
    return quote(value, safe="", errors="replace")


def _value(_: str, value: str) -> str:
    return quote(value, safe="", errors="replace")


def _host(name: str, value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ToolError(f"nothing was called: {name}: {value[:100]!r} cannot be in the place of a host")
    return value


def _label(name: str, value: str) -> str:
    """One label of a host: what its author wrote after it stays the domain that is called."""
    if not _LABEL.fullmatch(value):
        raise ToolError(f"nothing was called: {name}: {value[:100]!r} is not one label of a host's name")
    return value


def _text(value: Any) -> str:
    """A value as URLs and forms have it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return msgspec.json.encode(value).decode()


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """Of a list each item is a pair of its own."""
    return [
        (name, _text(each).encode(errors="replace"))
        for name, value in values.items()
        for each in (value if isinstance(value, list) else [value])
    ]


def _body(values: Mapping[str, Any], kind: str) -> bytes:
    if kind.partition(";")[0].strip().lower() == _FORM:
        return urlencode(_pairs(values)).encode()
    return msgspec.json.encode(values)


def open_headers(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Those that say nothing of who calls: for another origin than the author wrote."""
    return CIMultiDict({name: value for name, value in headers.items() if name.lower() in _OPEN})
