"""The agent loop as a pure step: (state, what happened) -> (state, what to do next).

A driver makes the calls and writes the events; every decision about order and bounds is here, so that it can be tested
without a model, and so that a run can be rebuilt from its events after a restart by folding them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec

from kadre.engine import events as ev
from kadre.engine.messages import Message, ToolCall
from kadre.plan.types import Limits


class State(msgspec.Struct, frozen=True, gc=False):
    """Where a run is. `pending`: the calls of the last reply that have no result yet."""

    messages: tuple[Message, ...]
    steps: int = 0
    tool_calls: int = 0
    pending: tuple[ToolCall, ...] = ()


class CallModel(msgspec.Struct, frozen=True, gc=False):
    """Send `state.messages` to the model."""


class CallTools(msgspec.Struct, frozen=True, gc=False):
    """Make these calls, in parallel where limits allow."""

    calls: tuple[ToolCall, ...]


class Finish(msgspec.Struct, frozen=True, gc=False):
    """The last message is the answer."""


class Fail(msgspec.Struct, frozen=True, gc=False):
    """A bound was reached: the run ends as failed."""

    reason: str
    message: str


Command = CallModel | CallTools | Finish | Fail

CALL_MODEL = CallModel()
FINISH = Finish()


def replied(state: State, message: Message, limits: Limits) -> tuple[State, Command]:
    """The model answered: finish, or make the calls it asks for."""
    calls = message.tool_calls
    state = State(
        (*state.messages, message),
        state.steps + 1,
        state.tool_calls + len(calls),
        calls,
    )
    if not calls:
        return state, FINISH
    if state.tool_calls > limits.max_tool_calls:
        return state, Fail(
            "ToolCallLimit",
            f"the run asked for {state.tool_calls} tool calls and may make {limits.max_tool_calls}; "
            "raise maxToolCalls if it needs more",
        )
    if state.steps >= limits.max_steps:
        return state, Fail(
            "StepLimit",
            f"no answer after {state.steps} model calls; raise maxSteps if the task needs more",
        )
    return state, CallTools(calls)


def answered(state: State, results: Sequence[Message]) -> tuple[State, Command]:
    """Every pending call has a result, given in the order of the calls: ask the model again."""
    return State((*state.messages, *results), state.steps, state.tool_calls), CALL_MODEL


def tool_message(call: ToolCall, text: str) -> Message:
    """A call's result as the model reads it."""
    return Message("tool", text, tool_call_id=call.id, name=call.name)


class Resumed(msgspec.Struct, frozen=True, gc=False):
    """A run rebuilt from its events.

    `results`: known results of pending calls; `started`: ids of pending calls that were sent and have no recorded
    result; `decisions`: approval id -> decision; `approvals`: this run's own questions about the pending calls, not
    those of runs it delegated to, which are decided there; `delegated`: ids of calls that other runs answer; `worked`:
    seconds; `taken_up`: how often it has been gone on with because its process was gone.
    """

    state: State
    results: dict[str, Message]
    started: frozenset[str]
    approvals: tuple[ev.Approval, ...]
    decisions: dict[str, ev.ApprovalDecided]
    delegated: frozenset[str] = frozenset()
    worked: float = 0.0
    taken_up: int = 0


TAKEN_UP = "TakenUp"
"""The reason of the System event that a process begins with which goes on with a run that another one left."""


def resume(history: tuple[Message, ...], events: Sequence[ev.Event]) -> Resumed:
    """Fold a run's events onto the messages before it, up to the reply whose calls are still pending."""
    state = State(history)
    results: dict[str, Message] = {}
    started: set[str] = set()
    approvals: list[ev.Approval] = []
    decisions: dict[str, ev.ApprovalDecided] = {}
    for event in events:
        match event:
            case ev.UserMessage():
                state = State((*state.messages, *event.history, Message("user", event.content)))
            case ev.AssistantMessage():
                if state.pending:
                    state, _ = answered(state, [results[call.id] for call in state.pending])
                message = Message("assistant", event.content, event.tool_calls)
                calls = state.tool_calls + len(event.tool_calls)
                state = State((*state.messages, message), state.steps + 1, calls, event.tool_calls)
                results, started, approvals = {}, set(), []
            case ev.ToolStart():
                started.add(event.tool_call.id)
            case ev.ToolEnd():
                call = ToolCall(event.tool_call.id, event.name)
                results[call.id] = tool_message(call, result_text(event.tool_call))
                started.discard(call.id)
            case ev.ApprovalRequired():
                approvals.extend(approval for approval in event.approvals if approval.run_id == event.run_id)
            case ev.ApprovalDecided():
                decisions[event.approval_id] = event
            case _:
                pass
    delegated = frozenset(event.tool_call_id for event in events if isinstance(event, ev.DelegateStart))
    taken_up = sum(_goes_on(event) for event in events)
    return Resumed(state, results, frozenset(started), tuple(approvals), decisions, delegated, worked(events), taken_up)


def _goes_on(event: ev.Event) -> bool:
    return isinstance(event, ev.System) and event.reason == TAKEN_UP


def worked(events: Sequence[ev.Event]) -> float:
    """For how many seconds the run was at work, as far as its events tell.

    Waiting for a person is not work, nor is waiting for its turn, nor that nobody drove it.
    """
    seconds, asked = 0.0, set[str]()
    waits_for_its_turn = False
    for before, event in itertools.pairwise(events):
        match before:
            case ev.RunStarted():
                waits_for_its_turn = before.position > 0
            case ev.ApprovalRequired():
                asked.update(approval.id for approval in before.approvals)
            case ev.ApprovalDecided():
                asked.discard(before.approval_id)
            case _:
                pass
        if not (asked or waits_for_its_turn or _goes_on(event)):
            seconds += (event.time - before.time).total_seconds()
        waits_for_its_turn = waits_for_its_turn and not isinstance(before, ev.UserMessage)
    return max(0.0, seconds)


def result_text(call: ev.ToolCallState) -> str:
    """What the model reads of a call's outcome: its output, or the error said to be one; a note comes before it."""
    text = call.output if call.status == "complete" else f"Error: {call.error or call.output}"
    return f"[{call.note}]\n{text}" if call.note else text
