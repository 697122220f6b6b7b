"""An API's answer, for a model: its text, or what went wrong and whether something may have happened.

Law: pure.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from kadre.base import schemas
from kadre.base.errors import ToolError, shorten
from kadre.engine.tools.api_request import READS
from kadre.engine.tools.api_wire import MAX_ANSWER, Answer
from kadre.engine.tools.port import ToolOutput
from kadre.plan.types import ApiTool

# Statuses by which a server, or a proxy before it, says that nothing was done.
_NOTHING_DONE = frozenset({501, 503, 505})
# Any other codec of Python's that an answer names is none that texts have, or takes minutes for a megabyte.
_CHARSET = re.compile(
    r"utf-?8|utf-?16(-?[lb]e)?|(us-)?ascii|latin-?1|iso-8859-([1-9]|1[013-6])|(cp|windows-)125[0-8]"
    r"|shift-jis|euc-(jp|kr)|gb2312|gbk|gb18030|big5|koi8-[ru]"
)
MAX_CHECKED = 256 << 10
"""Bytes of an answer that are compared with its output schema: a second's work. A model reads less than that."""
_SHOWN = ("Content-Type", "Content-Length", "Last-Modified", "ETag")
_HINTS = {
    400: "check the arguments",
    401: "whoever runs this agent has to check its authentication",
    403: "whoever runs this agent has to check what its authentication is good for",
    404: "check the arguments: what they name is not there",
    409: "what is there is in a state that does not allow this",
    422: "check the arguments",
    429: "it is called too often: later",
    503: "it is not there now: later",
}


def output(plan: ApiTool, answer: Answer, *, lost: bool = False) -> ToolOutput:
    """What the model reads of it. `lost`: a request before this one may have arrived. Raises ToolError."""
    if not 200 <= answer.status < 300:
        raise _refusal(plan, answer, lost)
    if plan.method == "HEAD":
        shown = [f"{name}: {shorten(answer.headers[name], 200)}" for name in _SHOWN if name in answer.headers]
        return ToolOutput("\n".join([f"HTTP {answer.status} {answer.reason}".rstrip(), *shown]))
    if answer.too_large:
        raise _useless(plan, answer, f"is larger than {MAX_ANSWER >> 20} MB and was not read; ask for less")
    if not answer.body.strip():
        if plan.output is not None and answer.status != 204:
            raise _useless(plan, answer, "is empty, which its output schema does not allow")
        return ToolOutput(f"done: HTTP {answer.status} {answer.reason}".rstrip())
    return ToolOutput(_text(plan, answer))


def _text(plan: ApiTool, answer: Answer) -> str:
    kind, _, more = answer.headers.get("Content-Type", "").partition(";")
    kind = kind.strip().lower()
    is_json = kind == "application/json" or kind.endswith("+json")
    if is_json or plan.output is not None:
        if plan.output is not None and len(answer.body) > MAX_CHECKED:
            size = f"{len(answer.body) >> 10} KB, of which at most {MAX_CHECKED >> 10} are compared"
            raise _useless(plan, answer, f"has {size} with its output schema; ask for less")
        value = _json(plan, answer)
        wrong = schemas.violations(plan.output, value, "it") if plan.output is not None else []
        if wrong:
            raise _useless(plan, answer, f"is not as its output schema says: {'; '.join(wrong)}")
        return answer.body.decode("utf-8-sig")
    if kind and not kind.startswith("text/") and kind not in {"application/xml", "application/yaml"}:
        return f"[{shorten(kind, 100)}, {len(answer.body)} bytes]"
    return answer.body.decode(_charset(more), errors="replace")


def _json(plan: ApiTool, answer: Answer) -> Any:
    try:
        return msgspec.json.decode(answer.body.decode("utf-8-sig"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _useless(plan, answer, f"is not valid JSON ({shorten(str(error), 200)})") from error


def _charset(parameters: str) -> str:
    """The codec that it names, where it is one that texts have."""
    for each in parameters.split(";"):
        name, _, value = each.partition("=")
        if name.strip().lower() == "charset":
            wanted = value.strip().strip("\"'").lower().replace("_", "-")
            return wanted if _CHARSET.fullmatch(wanted) else "utf-8"
    return "utf-8"


def _useless(plan: ApiTool, answer: Answer, why: str) -> ToolError:
    """It was done, and nobody can read what came of it."""
    done = "" if plan.method in READS else "; it was carried out all the same: do not call it again for the same thing"
    return ToolError(f"{plan.name} answered HTTP {answer.status}, but its answer {why}{done}")


def _refusal(plan: ApiTool, answer: Answer, lost: bool) -> ToolError:
    status, writes = answer.status, plan.method not in READS
    said = f"{plan.name} answered HTTP {status} {answer.reason}".rstrip()
    if 300 <= status < 400:
        # 303 is how a server says that it has done it, and where to read of it.
        unknown = writes and (lost or status == 303)
        why = "redirects of writes are not followed" if writes else "it does not say where to"
        return ToolError(f"{said}: {why}; its author has to write the address that answers itself", unknown=unknown)
    body = shorten(answer.body.decode(errors="replace")) if _readable(answer) else ""
    unknown = writes and (lost or (status >= 500 and status not in _NOTHING_DONE))
    end = "; whether it happened is not known: look before you call it again" if unknown else ""
    hint = f" ({_HINTS[status]})" if status in _HINTS else ""
    return ToolError(f"{said}{hint}{': ' if body else ''}{body}{end}", unknown=unknown)


def _readable(answer: Answer) -> bool:
    kind = answer.headers.get("Content-Type", "text/plain").lower()
    return "json" in kind or kind.startswith("text/plain")
