"""Where a model's requests go, and what an error may tell people of it."""

from __future__ import annotations

import msgspec
from multidict import CIMultiDict
from yarl import URL

from kadre.base.errors import ProblemError
from kadre.base.problems import Problem


class Target(msgspec.Struct, frozen=True):
    """An address and the headers for it. `key` says, for people, which key the headers hold: never its value."""

    url: URL
    headers: CIMultiDict[str]
    key: str = "the model's API key"


def address(endpoint: str, path: str) -> URL:
    """`path` (percent-encoded, with its leading slash) below the model's endpoint. Raises ProblemError."""
    try:
        base = str(URL(endpoint)).rstrip("/")
        return URL(base + path, encoded=True)  # not encoded anew: a signature covers the bytes that are sent
    except ValueError as error:
        message = f"the model's endpoint {endpoint!r} is not an address: {error}"
        fix = "write it as in http://vllm.models.svc:8000/v1"
        raise ProblemError([Problem("InvalidValue", message, fix)]) from error


def place(url: URL) -> str:
    """The address without what may be secret in it."""
    return str(url.with_user(None).with_query(None) if url.absolute else url)
