"""What a running `kadre up` can list, and the columns each has, in the manner of `kubectl get`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from kadre.base.clock import SystemClock
from kadre.cli import output, render
from kadre.cli.options import Format
from kadre.engine import events as ev

Item = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """`value` of an item at a moment; `wide`: only with `-o wide`."""

    title: str
    value: Callable[[Item, datetime], str]
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """One kind of thing. `plural` is its address and the key of the list there; `key` names one of them."""

    singular: str
    plural: str
    key: str
    columns: Sequence[Column]
    names: frozenset[str] = frozenset()
    """Other names of the kind, beside singular and plural."""

    def show(self, items: Sequence[Item], form: str) -> None:
        """Print items as a table (`wide` too), as names, or as JSON or YAML."""
        if form in set(Format):
            output.show(output.document({self.plural: list(items)}, Format(form)))
        elif form == "name":
            for item in items:
                output.show(f"{self.singular}/{item[self.key]}")
        else:
            output.show(self.table(items, SystemClock().now(), wide=form == "wide"))

    def show_one(self, item: Item, form: str) -> None:
        """Print one item that was asked for by name."""
        if form in set(Format):
            output.show(output.document(item, Format(form)))
        elif "messages" in item and form != "name":  # a session by name is what was said in it
            for message in item["messages"]:
                if message.get("content"):  # an assistant that only calls tools says nothing
                    output.show(render.printable(f"{message['role']}: {message['content']}"))
        else:
            self.show([item], form)

    def table(self, items: Sequence[Item], now: datetime, *, wide: bool) -> str:
        """The items in aligned columns."""
        columns = [column for column in self.columns if wide or not column.wide]
        rows = [[column.value(item, now) for column in columns] for item in items]
        return output.table([column.title for column in columns], rows)


def approvals(run: Item) -> str:
    """The calls a run waits with: `ID  call`."""
    waiting = msgspec.convert(run["approvals"], list[ev.Approval])
    return "\n".join(render.printable(f"{approval.id}  {render.call(approval.tool_call)}") for approval in waiting)


def approval(item: Item) -> str:
    """One approval, whole: what is asked, why, and how it is decided."""
    asked = msgspec.convert(item, ev.Approval)
    lines = [
        f"{asked.id} of {item['agent']}, run {asked.run_id}, asked for {item['caller'] or 'somebody unknown'}",
        f"{asked.tool_call.name}",
        *(f"    {line}" for line in render.arguments(asked.tool_call).split("\n")),
        f"why: {asked.reason}",
        f"when nobody decides by {asked.expires.astimezone():%Y-%m-%d %H:%M:%S}: {_expiry(asked)}",
        f"digest: {asked.digest}",
    ]
    way = "answer ID TEXT" if asked.kind == "question" else "allow ID [--arguments JSON]"
    lines.append(f"decide: kadre approvals {way.replace('ID', asked.id)}, or: kadre approvals deny {asked.id}")
    return "\n".join(map(render.printable, lines))


def _expiry(asked: ev.Approval) -> str:
    if asked.kind == "question":
        return f"the answer is {asked.default!r}" if asked.default is not None else "an error for the model"
    return "it is allowed" if asked.on_expiry == "allow" else "it is denied"


def _asked(item: Item, _: datetime) -> str:
    return _text(render.call(msgspec.convert(item["tool_call"], ev.ToolCallState)))


def _left(item: Item, now: datetime) -> str:
    return output.age(datetime.fromisoformat(item["expires"]).astimezone(UTC) - now)


def _field(title: str, name: str, *, wide: bool = False) -> Column:
    return Column(title, lambda item, _: _text(item.get(name)), wide)


def _age(title: str, name: str) -> Column:
    return Column(title, lambda item, now: output.age(now - datetime.fromisoformat(item[name]).astimezone(UTC)))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "<none>"
    return "<none>" if value in (None, "") else render.printable(" ".join(str(value).split()))


def _notices(item: Item, _: datetime) -> str:
    return _text([notice["reason"] for notice in item.get("notices") or ()])


def _tools(item: Item, _: datetime) -> str:
    """What the agent can use, the agents it hands work to after its servers, as `kadre up` shows them.

    A cluster's gateway tells of none: it knows an agent by its status.
    """
    if "tools" not in item:
        return "<unknown>"
    return _text([*item["tools"], *(agent.rpartition("/")[2].partition(".")[0] for agent in item["agents"])])


def _tokens(item: Item, _: datetime) -> str:
    return str(item["usage"]["total_tokens"])


AGENTS = Listing(
    "agent",
    "agents",
    "name",
    (
        _field("NAMESPACE", "namespace"),
        _field("NAME", "name"),
        _field("MODEL", "model"),
        Column("TOOLS", _tools),
        _field("STATUS", "status"),
        _field("RUNNING", "running"),
        _field("GROUP", "group", wide=True),
        _field("PROVIDER", "provider", wide=True),
        _field("AGENTS", "agents", wide=True),
        Column("NOTICES", _notices, wide=True),
        _field("DESCRIPTION", "description", wide=True),
    ),
    frozenset({"ag"}),
)

RUNS = Listing(
    "run",
    "runs",
    "run_id",
    (
        _field("RUN", "run_id"),
        _field("AGENT", "agent"),
        _field("SESSION", "session_id"),
        _field("STATUS", "status"),
        Column("TOKENS", _tokens),
        _age("AGE", "created"),
        _field("CALLER", "caller", wide=True),
        _field("PARENT", "parent_run_id", wide=True),
    ),
)

SESSIONS = Listing(
    "session",
    "sessions",
    "session_id",
    (
        _field("SESSION", "session_id"),
        _field("AGENT", "agent"),
        _field("RUNS", "runs"),
        _age("LAST USED", "updated"),
        _field("TITLE", "title"),
        _field("CALLER", "caller", wide=True),
    ),
)

FOUND = Listing(
    "session", "sessions", "session_id", (*SESSIONS.columns[:2], *SESSIONS.columns[3:], _field("SAID", "excerpt"))
)
"""Sessions that were searched for."""

APPROVALS = Listing(
    "approval",
    "approvals",
    "id",
    (
        _field("APPROVAL", "id"),
        _field("AGENT", "agent"),
        _field("KIND", "kind"),
        Column("CALL", _asked),
        _age("ASKED", "asked"),
        Column("LEFT", _left),
        _field("RUN", "root_run_id", wide=True),
        _field("SESSION", "session_id", wide=True),
        _field("CALLER", "caller", wide=True),
        _field("REASON", "reason", wide=True),
    ),
)

MEMORIES = Listing(
    "memory",
    "memories",
    "id",
    (_field("MEMORY", "id"), _age("KEPT", "kept"), _field("TEXT", "text"), _field("RUN", "run_id", wide=True)),
)

LISTINGS = (AGENTS, RUNS, SESSIONS)


def named(kind: str) -> Listing | None:
    """The listing of that name, however kubectl would let it be written."""
    word = kind.lower()
    return next((each for each in LISTINGS if word in {each.singular, each.plural, *each.names}), None)
