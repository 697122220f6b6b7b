"""A model's tool calls, before they are made and after: checked, told apart, their answers bounded.

Law: pure. Who may make a call, and when, is decided elsewhere.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kadre.base.errors import ToolError
from kadre.base.ids import new_id
from kadre.engine import events as ev
from kadre.engine import loop, policy
from kadre.engine.agent import Bound, Offer
from kadre.engine.masking import Masks
from kadre.engine.messages import Message, Question, ToolCall, ToolSpec
from kadre.engine.policy import ALLOWED, Verdict
from kadre.engine.tools import parameters
from kadre.plan.types import ApprovalPlan

MAX_NAME = 256
"""Characters of a call's id and of the name of its tool: no provider's are as long, and events keep them whole."""


class Prepared(msgspec.Struct):
    """A call the model asked for, checked: `problem` says why it cannot be sent."""

    call: ToolCall
    arguments: Any
    bound: Bound | None = None
    problem: str = ""
    verdict: Verdict = ALLOWED
    answer: str | None = None
    """What a person answered, which is its outcome: it is not sent."""
    note: str = ""
    """What the model is told of it before its outcome."""
    outside: str = ""
    """Where the text of its outcome comes from that nobody has vouched for."""

    @property
    def question(self) -> Question | None:
        """How a person is asked, where that is what the call does."""
        return None if self.bound is None else self.bound.spec.question

    @property
    def asks(self) -> bool:
        """Whether a person must decide before it is sent, or answers it."""
        return not self.problem and (self.verdict.action == "ask" or self.question is not None)

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again where its outcome is not known."""
        return self.bound is not None and self.bound.spec.idempotent

    def state(self, status: ev.ToolStatus, output: str = "", error: str = "") -> ev.ToolCallState:
        """The call as events tell it."""
        call = self.call
        return ev.ToolCallState(call.id, call.name, self.arguments, status, output, error, self.note, self.outside)


def judged(item: Prepared, plan: ApprovalPlan, outside: str, masks: Masks) -> Prepared:
    """The call with what becomes of it. `outside`: see CallContext; `masks`: of its agent."""
    if item.bound is None or item.problem or item.bound.free:
        return item
    spec = item.bound.spec
    try:
        item.arguments = filled(spec, item.arguments, masks)
    except ToolError as error:
        item.problem = str(error)
        return item
    secrets = () if _keeps_placeholders(spec) else masks.used(item.arguments)
    item.verdict = policy.decide(plan, spec, item.bound.name, item.arguments, outside, secrets)
    if item.verdict.action == "deny":
        item.problem = item.verdict.reason
    return item


def filled(spec: ToolSpec, arguments: dict[str, Any], masks: Masks) -> dict[str, Any]:
    """The arguments that the tool would be called with: what is decided is decided of these, defaults included.

    Secrets stay placeholders, and are held against the parameters as what they stand for. Raises ToolError, which the
    model can act on; of a tool that is not `filled`, its server says what is wrong.
    """
    if not spec.filled:
        return arguments
    if masks.knows(arguments):
        parameters.check(spec.parameters, revealed(spec, arguments, masks), masks.hide)
    return parameters.fill(spec.parameters, arguments)


def revealed(spec: ToolSpec, arguments: dict[str, Any], masks: Masks) -> dict[str, Any]:
    """The arguments with secrets in the place of their placeholders, where the tool is given them."""
    given: dict[str, Any] = arguments if _keeps_placeholders(spec) else masks.reveal(arguments)
    return given


def _keeps_placeholders(spec: ToolSpec) -> bool:
    """Whether what it is given is for a model or a person to read."""
    return spec.read_by_model or spec.question is not None


def prepare(call: ToolCall, offer: Offer) -> Prepared:
    """The call with its arguments parsed and the tool it names, or with what is wrong with it."""
    try:
        arguments = msgspec.json.decode(call.arguments or "{}")
    except (msgspec.DecodeError, RecursionError) as error:
        return Prepared(call, call.arguments, problem=f"the arguments are not valid JSON ({error})")
    if type(arguments) is not dict:
        return Prepared(call, arguments, problem="the arguments must be a JSON object")
    bound = offer.tools.get(call.name)
    if bound is None:
        known = ", ".join(offer.seen) or "none"
        return Prepared(call, arguments, problem=f"there is no tool {call.name!r}; the tools are: {known}")
    return Prepared(call, arguments, bound)


def distinct(message: Message, state: loop.State) -> Message:
    """The reply with ids that no other call of the run has, and no name or id that is not one.

    Some endpoints number the calls of each reply from 0, and a call's id is what its result, its approval and the run
    it delegates to go by.
    """
    used: set[str] = set()
    for earlier in reversed(state.messages if message.tool_calls else ()):
        if earlier.role == "user":
            break
        used.update(call.id for call in earlier.tool_calls)
    calls = []
    for call in message.tool_calls:
        new = call.id in used or len(call.id) > MAX_NAME
        calls.append(ToolCall(new_id("call") if new else call.id, call.name[:MAX_NAME], call.arguments))
        used.add(call.id)
    return message if calls == list(message.tool_calls) else msgspec.structs.replace(message, tool_calls=tuple(calls))


def cut(text: str, limit: int) -> str:
    """`text` in at most `limit` bytes of UTF-8, with a mark that it was cut; what UTF-8 does not have becomes `?`."""
    if len(text) <= limit and text.isascii():
        return text
    data = text.encode(errors="replace")
    if len(data) <= limit:
        return data.decode()
    kept = data[:limit].decode(errors="ignore")
    return f"{kept}\n[cut: {len(data) - len(kept.encode())} of {len(data)} bytes left out]"
