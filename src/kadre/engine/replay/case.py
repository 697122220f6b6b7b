"""What is kept of a run to be played again: a case. Made of a run's events alone; compared as plain data.

Law: pure. Ids, times and tokens are left out, which differ between two runs that behave the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from kadre.base.errors import BadRequest, TooLarge
from kadre.engine import events as ev
from kadre.engine.agent import Offer
from kadre.engine.messages import Message, ToolCall, ToolSpec
from kadre.plan.types import KAOS_GROUP

API_VERSION, KIND = "kadre.dev/v1alpha1", "Case"
MAX_BYTES = 8 * 1024 * 1024
"""Of a case's JSON: more than that nobody reads, and no file of cases may have."""
ENDED = "CaseEnded"
"""The reason of the error by which a played run ends whose model is asked more often than it was."""


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of a case's parts: what is not written is left out, what is misspelt is refused."""


class Asked(Part, frozen=True, kw_only=True):
    """What became of the question about a call. `asked`: by the played run, of a call that nobody was asked about."""

    decision: Literal["allow", "deny", "asked"]
    by: str = ""
    note: str = ""
    arguments: dict[str, Any] | None = None
    """Those that the call was made with instead of its own."""
    answer: str | None = None
    """To a question."""


class Call(Part, frozen=True, kw_only=True):
    """A tool call and its outcome: `output`, or `error`; `unknown`: whether it happened is not known.

    `arguments` is the object, or the text where the model wrote none.
    """

    tool: str
    arguments: Any = {}
    approval: Asked | None = None
    output: str | None = None
    error: str | None = None
    unknown: bool = False


class Reply(Part, frozen=True, kw_only=True):
    """What the model answered once. `finish_reason`: only where it was cut short."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    finish_reason: str = ""


class Tool(Part, frozen=True, kw_only=True):
    """A tool as it was offered to the model. `server`: the name by which the agent's author refers to it.

    `original`: its name there, where another tool of the agent has the same.
    """

    name: str
    server: str = ""
    original: str = ""
    description: str = ""
    parameters: dict[str, Any] = {}
    read_only: bool | None = None
    idempotent: bool = False
    ask: bool = False


class Failure(Part, frozen=True, kw_only=True):
    """Why the run failed."""

    reason: str
    message: str


class Expect(Part, frozen=True, kw_only=True):
    """What a person who writes a case asks of it. `tools`: the calls that are made, in order."""

    status: str = ""
    tools: tuple[str, ...] | None = None
    response: str = ""
    """A text that the answer contains."""
    matches: str = ""
    """A pattern (RE2) that is found in the answer."""


class Recorded(Part, frozen=True, kw_only=True):
    """Where a case comes from, for people; the played run begins at that time."""

    run: str
    session: str
    time: datetime


class Case(Part, frozen=True, kw_only=True):
    """A run to be played again. What is left out of `prompt`, `tools`, `model` and `history` is not compared.

    Without `replies` the agent's own model answers, which must be a scripted one; `outputs` is what tools answer then.
    """

    api_version: str = msgspec.field(default=API_VERSION, name="apiVersion")
    kind: str = KIND
    metadata: dict[str, Any] = {}
    manifests: tuple[str, ...] = ()
    """Files and folders that declare the agent, from the folder of the case."""
    agent: str
    """`namespace/name`, or its name where one agent has it."""
    model: str = ""
    recorded: Recorded | None = None
    prompt: str | None = None
    tools: tuple[Tool, ...] | None = None
    history: tuple[Message, ...] | None = None
    """Earlier messages of the session."""
    brought: tuple[Message, ...] = ()
    """Earlier messages by the caller's own account."""
    message: str
    replies: tuple[Reply, ...] | None = None
    outputs: dict[str, str] = {}
    status: str = ""
    error: Failure | None = None
    expect: Expect | None = None


def short(agent: str) -> str:
    """An agent's key as people write it."""
    return agent.removesuffix(f".{KAOS_GROUP}")


def of_events(agent: str, events: Sequence[ev.Event]) -> Case:
    """The case that a run's events make, which are whole. Raises BadRequest where the run has not ended."""
    said = next((event for event in events if isinstance(event, ev.UserMessage)), None)
    finished = events[-1] if events else None
    if said is None or not isinstance(finished, ev.RunFinished):
        raise BadRequest("the run has not ended yet; record it when it has", reason="RunNotEnded")
    errors = [event for event in events if isinstance(event, ev.Error)]
    return Case(
        agent=short(agent),
        model=_model(events),
        recorded=Recorded(run=said.run_id, session=said.session_id, time=events[0].time),
        brought=said.history,
        message=said.content,
        replies=_replies(events),
        status=finished.status,
        error=Failure(reason=errors[-1].reason, message=errors[-1].message) if errors else None,
    )


def _model(events: Sequence[ev.Event]) -> str:
    """The name of the model that answered first; whoever summed up what was said before was asked before it."""
    found = ""
    for event in events:
        match event:
            case ev.UsageEvent():
                found = event.model
            case ev.AssistantMessage():
                return found
            case ev.Summary() | ev.System(reason="NotSummedUp"):
                found = ""
            case _:
                pass
    return found


def _replies(events: Sequence[ev.Event]) -> tuple[Reply, ...]:
    """Every answer of the model with what came of its calls. A call's id may come again in a later answer."""
    replies: list[Reply] = []
    asked: ev.AssistantMessage | None = None
    since: list[ev.Event] = []
    for event in events:
        if isinstance(event, ev.AssistantMessage):
            if asked is not None:
                replies.append(_reply(asked, since))
            asked, since = event, []
        else:
            since.append(event)
    if asked is not None:
        replies.append(_reply(asked, since))
    return tuple(replies)


def _reply(said: ev.AssistantMessage, since: Sequence[ev.Event]) -> Reply:
    ends = {event.tool_call.id: event.tool_call for event in since if isinstance(event, ev.ToolEnd)}
    decided = {event.approval_id: event for event in since if isinstance(event, ev.ApprovalDecided)}
    asked = {
        approval.tool_call.id: _asked(decided.get(approval.id))
        for event in since
        if isinstance(event, ev.ApprovalRequired)
        for approval in event.approvals
        if approval.run_id == event.run_id
    }
    natural = "tool_calls" if said.tool_calls else "stop"
    return Reply(
        text=said.content,
        calls=tuple(_call(call, ends.get(call.id), asked.get(call.id)) for call in said.tool_calls),
        finish_reason="" if said.finish_reason in (natural, "stop") else said.finish_reason,
    )


def _asked(decided: ev.ApprovalDecided | None) -> Asked:
    if decided is None:
        return Asked(decision="asked")
    changed = decided.arguments if isinstance(decided.arguments, dict) else None
    return Asked(decision=decided.decision, by=decided.by, note=decided.note, arguments=changed, answer=decided.answer)


def _call(call: ToolCall, end: ev.ToolCallState | None, asked: Asked | None) -> Call:
    told: dict[str, Any] = {"tool": call.name, "arguments": parsed(call.arguments), "approval": asked}
    if end is None:
        return Call(**told)
    if end.status == "complete":
        return Call(**told, output=end.output)
    return Call(**told, error=end.error or end.output, unknown=end.status == "unknown")


def parsed(arguments: str) -> Any:
    """The object that the text is, or the text itself."""
    try:
        value = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        return arguments
    return value if isinstance(value, dict) else arguments


def offered(offer: Offer) -> tuple[Tool, ...]:
    """Tools as a case keeps them."""
    return tuple(
        Tool(
            name=spec.name,
            server=spec.server,
            original="" if offer.tools[spec.name].name == spec.name else offer.tools[spec.name].name,
            description=spec.description,
            parameters=spec.parameters,
            read_only=spec.read_only,
            idempotent=spec.idempotent,
            ask=spec.ask,
        )
        for spec in offer.specs
    )


def spec_of(tool: Tool) -> ToolSpec:
    """The tool as its server offered it."""
    return ToolSpec(
        name=tool.original or tool.name,
        server=tool.server,
        description=tool.description,
        parameters=tool.parameters,
        read_only=tool.read_only,
        idempotent=tool.idempotent,
        ask=tool.ask,
    )


def plain(case: Case) -> dict[str, Any]:
    """The case as plain data, its fields in their order. Raises TooLarge."""
    told: dict[str, Any] = {"apiVersion": case.api_version, "kind": case.kind, **msgspec.to_builtins(case)}
    if len(msgspec.json.encode(told)) > MAX_BYTES:
        raise TooLarge(f"the run is larger than the {MAX_BYTES // 1024 // 1024} MiB that a case may have")
    return told


def of_plain(told: Mapping[str, Any]) -> Case:
    """The case of plain data. Raises msgspec.ValidationError, which says where it is none."""
    return msgspec.convert(told, Case)
