"""What becomes of a call: it is made, asked about or refused, and whether its tool is offered at all.

Law: pure, and the one place where that is decided. An author's rules come first, in their order; then what allows the
tool; and what a class or a pattern allows ends when text has entered the run that nobody has vouched for, because the
author meant the model's own wishes by it, and the text may be somebody else's. What another server says of its own
tools is such text, from the first request on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

from kadre.base import patterns
from kadre.engine import events as ev
from kadre.engine.messages import ToolSpec
from kadre.engine.tools import parameters
from kadre.plan.capabilities import classes
from kadre.plan.types import ApprovalPlan, ApprovalRule

CALLER = "the caller's account of the conversation"
"""Where results of tools come from that a caller brings along."""


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of a call, and why; `lapsed`: text from outside may be what wants it, so that nobody's silence
    allows it."""

    action: Literal["allow", "ask", "deny"]
    reason: str = ""
    lapsed: bool = False


_GLOB = frozenset("*?[")
ALLOWED = Verdict("allow")
NAMED = Verdict("allow", "a rule allows it by its name")


def decide(
    plan: ApprovalPlan,
    spec: ToolSpec,
    own: str,
    arguments: dict[str, Any],
    outside: str,
    secrets: Sequence[str] = (),
) -> Verdict:
    """What becomes of the call of a tool.

    `own`: its name at its server; `outside`: what `outside` found in the run; `secrets`: that the call would be given,
    which is asked for unless a rule allows the tool by its name: a model may have been told to send them away.
    """
    verdict = _decided(plan, spec, own, arguments, outside)
    if verdict.action == "ask" and (outside or spec.beside) and _is_doubted(spec):
        verdict = msgspec.structs.replace(verdict, lapsed=True)
    if not secrets or verdict.action == "deny" or verdict is NAMED:
        return verdict
    given = f"{spec.name} would be given {', '.join(secrets)}"
    return Verdict("ask", f"{verdict.reason}; {given}" if verdict.reason else given, lapsed=True)


def _decided(plan: ApprovalPlan, spec: ToolSpec, own: str, arguments: dict[str, Any], outside: str) -> Verdict:
    for rule in plan.rules:
        if _is_about(rule, spec, own) and _fits(rule, arguments if rule.action == "allow" else _meant(spec, arguments)):
            return _ruled(rule, spec, own, outside)
    if spec.ask:
        return Verdict("ask", f"{spec.name} may change something, and its author has not allowed it in advance")
    return _lapsed(spec, outside) if spec.by_class else ALLOWED


def offered(plan: ApprovalPlan, spec: ToolSpec, own: str) -> bool:
    """Whether the model is told of the tool: not where every call of it would be refused."""
    for rule in plan.rules:
        if _is_about(rule, spec, own):
            if rule.action != "deny":
                return True
            if not rule.arguments:
                return False
    return True


def outside(events: Iterable[ev.Event]) -> str:
    """Where text first came from that entered a run by these events and that nobody has vouched for; else empty.

    `events`: whole ones, not as `spill` leaves them. What a model said that had read such text counts as that text
    does: it may be told when what it was read from is not any more.
    """
    for event in events:
        match event:
            case ev.ToolEnd() if event.tool_call.outside:
                return event.tool_call.outside
            case ev.Recalled() if any(memory.outside for memory in event.memories):
                return next(memory.outside for memory in event.memories if memory.outside)
            case ev.RunStarted() | ev.UserMessage() | ev.AssistantMessage() | ev.Summary() if event.outside:
                return event.outside
            case ev.UserMessage() if any(message.role == "tool" for message in event.history):
                return CALLER
            case _:
                pass
    return ""


def digest(name: str, arguments: Any) -> str:
    """What tells a call from every other one: the same for arguments in another order."""
    return "sha256:" + hashlib.sha256(msgspec.json.encode([name, arguments], order="sorted")).hexdigest()


def _ruled(rule: ApprovalRule, spec: ToolSpec, own: str, came: str) -> Verdict:
    if rule.action == "deny":
        why = rule.message or "its author's rules do not allow it"
        return Verdict("deny", f"{spec.name} is not allowed: {why}")
    if rule.action == "ask":
        return Verdict("ask", rule.message or f"its author wants to be asked about {spec.name}")
    names = {f"{spec.server}/{own}", *_own_names(spec, own)}.intersection(rule.tools)
    return NAMED if any(not _GLOB.intersection(name) for name in names) else _lapsed(spec, came)


def _lapsed(spec: ToolSpec, came: str) -> Verdict:
    """Of what a class or a pattern allows."""
    if not (came or spec.beside) or not _is_doubted(spec):
        return ALLOWED
    read = (
        f"text from {came} has entered the run" if came else f"the model has read what {spec.beside} says of its tools"
    )
    return Verdict("ask", f"{read}, and {spec.name} may change something", lapsed=True)


def _is_doubted(spec: ToolSpec) -> bool:
    """Whether text from outside that wants the tool called matters."""
    return not spec.read_only and not spec.trusted


def _is_about(rule: ApprovalRule, spec: ToolSpec, own: str) -> bool:
    if rule.tools and not any(_means(rule, tool, spec, own) for tool in rule.tools):
        return False
    return not rule.capabilities or bool(_classes(rule, spec, own).intersection(rule.capabilities))


def _means(rule: ApprovalRule, tool: str, spec: ToolSpec, own: str) -> bool:
    """Whether `tool`, a name or a glob of the rule, means this one.

    A server gives its tools what names it likes. A rule that allows means none by a name that another tool or server of
    the agent has too, nor by one that reads as another server's `server/tool`; any other rule means all of them.
    """
    if rule.action != "allow":
        bare = [spec.name, own]
    elif _GLOB.intersection(tool):
        bare = [name for name in (spec.name, own) if "/" not in name]
    else:
        bare = _own_names(spec, own)
    whole = [spec.server, f"{spec.server}/{own}"] if spec.server else []
    return any(fnmatchcase(name, tool) for name in (*whole, *bare))


def _own_names(spec: ToolSpec, own: str) -> list[str]:
    """Those by which nothing else of the agent can be meant."""
    return [name for name in (spec.name, own) if "/" not in name and name not in spec.shared]


def _classes(rule: ApprovalRule, spec: ToolSpec, own: str) -> frozenset[str]:
    """The tool's classes. Who refuses writes, or wants to be asked, means all that is not known to only read."""
    found = classes(own, spec.read_only)
    if spec.runs_code:
        found = found - {"read", "query"} | {"exec"}
    return found | {"write"} if rule.action != "allow" and not spec.read_only else found


def _meant(spec: ToolSpec, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with the defaults that the tool's server declares, by which it may go where one is left out."""
    return arguments if spec.filled else parameters.meant(spec.parameters, arguments)


def _fits(rule: ApprovalRule, arguments: dict[str, Any]) -> bool:
    """Whether the arguments are what the rule is about.

    An argument that can be read in two ways is what a rule that allows is about where both are, and what any other is
    about where one is: which of them the tool reads is not known.
    """
    enough = all if rule.action == "allow" else any
    for field, pattern in rule.arguments.items():
        values = list(_values(arguments, field))
        if not values or not enough(patterns.found(pattern, _text(value)) for value in values):
            return False
    return True


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _values(inside: Any, field: str) -> Iterator[Any]:
    """All that `a.b` may be: the argument of that name, and the field `b` of the argument `a`."""
    if not isinstance(inside, dict):
        return
    if inside.get(field) is not None:
        yield inside[field]
    for dot in (at for at, character in enumerate(field) if character == "."):
        yield from _values(inside.get(field[:dot]), field[dot + 1 :])
