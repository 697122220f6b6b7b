"""Plays a case: a host of its own, the agent as it is declared now, and what was recorded in place of all it asks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from kadre.base.clock import FakeClock
from kadre.base.errors import KadreError, ModelError
from kadre.engine import events as ev
from kadre.engine.accepting import Ask
from kadre.engine.agent import HostedAgent
from kadre.engine.approvals import NOTHING, Said
from kadre.engine.host import Host
from kadre.engine.live import Live
from kadre.engine.masking import Masks
from kadre.engine.memory import conversation, spill
from kadre.engine.memory.inmemory import InMemoryJournal
from kadre.engine.messages import Message, ToolCall, ToolSpec
from kadre.engine.models.port import Model, Reply
from kadre.engine.models.replay import Overheard, ReplayModel
from kadre.engine.replay import case as cases
from kadre.engine.replay import declared
from kadre.engine.replay.case import Case
from kadre.engine.secrets import SecretReader
from kadre.engine.tools.allowed import Allowed
from kadre.engine.tools.port import Toolset
from kadre.engine.tools.recorded import Outcome, RecordedTools
from kadre.plan.capabilities import grant
from kadre.plan.types import AgentPlan, McpTools, UnsupportedTool

SECONDS = 60.0
"""For which a case may be played: nothing is waited for in it, so that more is stuck."""
_ALLOWED = "kadre test"
"""Who allows what nobody was asked about, so that the rest can be compared."""
_LIMITS = frozenset({"StepLimit", "ToolCallLimit"})
"""Reasons of failures that are the loop's own, and come again by themselves."""
_STOPPED = frozenset({"cancelled", "interrupted"})
_CUT_SHORT = _STOPPED | {"failed"}
"""How a run may end that waits for a person."""
_CUT = re.compile(r"\n\[cut: \d+ of \d+ bytes left out\]\Z")


class Stuck(KadreError):
    """A case whose run does not come to its end."""


async def play(case: Case, plan: AgentPlan, own: Model | None = None, secrets: SecretReader | None = None) -> Case:
    """What the agent makes of the case, in the form of a case. `own`: its model, for a case that has no replies.

    `secrets` that are there are kept from the model as when it was recorded; of the others the placeholders are.
    Raises Stuck.
    """
    clock = FakeClock(case.recorded.time) if case.recorded else FakeClock()
    journal = InMemoryJournal(clock=clock)
    model = Overheard(own if own is not None and case.replies is None else ReplayModel(_replies(case), _end(case)))
    host = Host([journal], clock=clock)
    live: Live | None = None
    try:
        async with asyncio.timeout(SECONDS):
            masks = Masks(plan, secrets or declared.NoSecrets(), played=True)
            agent = HostedAgent(_roomy(plan, case), model, await _toolsets(case, plan), journal, clock, masks)
            await host.replace({plan.key: agent})
            history = conversation.last(_earlier(case, masks), plan.memory.max_history)
            ask = Ask(agent=plan.key, message=case.message, history=(*history, *case.brought), run_id="run-played")
            live = await host.start(ask)
            await _decide(host, live, case)
            events = [await spill.restore(journal, event) for event in live.events]
            offer = await agent.offer()
    except TimeoutError as error:
        message = f"the case is stuck: its run has not ended after {SECONDS:g} s, though nothing in it takes time"
        raise Stuck(f"{message}; it waits for {_awaited(live, model)}") from error
    finally:
        await host.aclose(0)
    found = msgspec.structs.replace(cases.of_events(str(plan.key), events), tools=cases.offered(offer))
    return _played(case, plan, found, model.requests[0].messages if model.requests else None)


def _awaited(live: Live | None, model: Overheard) -> str:
    """What a run waits for that does not go on."""
    events = live.events if live is not None else ()
    ended = {event.tool_call.id for event in events if isinstance(event, ev.ToolEnd)}
    under_way = [event.name for event in events if isinstance(event, ev.ToolStart) and event.tool_call.id not in ended]
    if under_way:
        return f"the tool {under_way[0]}"
    if model.requests:
        return f"answer {len(model.requests)} of the model: mend its script, or the case"
    return "its agent to begin"


def _earlier(case: Case, masks: Masks) -> list[Message]:
    """Earlier messages, the first known for a summary where it is one: it stays when others are left out."""
    found = [
        msgspec.structs.replace(message, content=masks.hide(message.content)) if message.role == "tool" else message
        for message in case.history or ()
    ]
    if found and found[0].content.startswith(conversation.SUMMED):
        found[0] = conversation.Summed(found[0].role, found[0].content)
    return found


def _roomy(plan: AgentPlan, case: Case) -> AgentPlan:
    """The plan, with room for outputs that were cut when they were recorded: they have a mark that says so."""
    outputs = [call.output or call.error or "" for reply in case.replies or () for call in reply.calls]
    most = plan.limits.max_output_bytes
    # What is larger than the limit without its mark was cut by another one, and is cut anew.
    cut = [len(each.encode()) for each in outputs if _CUT.search(each) and len(_CUT.sub("", each).encode()) <= most]
    room = max([most, *cut])
    limits = msgspec.structs.replace(plan.limits, max_output_bytes=room)
    return msgspec.structs.replace(plan, limits=limits)


# -- what was recorded ---------------------------------------------------------------------------------------------


def _id(reply: int, call: int) -> str:
    return f"call-{reply}-{call}"


def _replies(case: Case) -> list[Reply]:
    found = []
    for number, reply in enumerate(case.replies or ()):
        calls = tuple(
            ToolCall(_id(number, index), call.tool, _written(call.arguments)) for index, call in enumerate(reply.calls)
        )
        natural = "tool_calls" if calls else "stop"
        message = Message("assistant", reply.text, calls)
        found.append(Reply(message, finish_reason=reply.finish_reason or natural))
    return found


def _written(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def _end(case: Case) -> ModelError:
    """What a model says that is asked once more than it was: as it failed then, where it did."""
    failed = case.error
    if failed is not None and failed.reason not in _LIMITS:
        return ModelError(failed.message, reason=failed.reason)
    asked = len(case.replies or ()) + 1
    return ModelError(f"the model is asked {asked} times, and was {asked - 1}; record it again", reason=cases.ENDED)


def _outcomes(case: Case) -> dict[str, Outcome]:
    return {
        _id(number, index): Outcome(call.output, call.error or "", call.unknown)
        for number, reply in enumerate(case.replies or ())
        for index, call in enumerate(reply.calls)
        if call.output is not None or call.error is not None
    }


async def _toolsets(case: Case, plan: AgentPlan) -> list[Toolset]:
    """A toolset for each of the plan's tools. What a plan does not say, its server offers as it did then, as far as it
    is allowed now."""
    outcomes, known = _outcomes(case), _known(case)
    alone = {tool.name for tool in plan.tools if declared.is_declared(tool)}
    unplaced = [spec for spec in known if not spec.server and spec.name not in alone]
    found: list[Toolset] = []
    for tool in plan.tools:
        if isinstance(tool, McpTools):
            here = [spec for spec in unplaced if _offers(tool, spec)]
            unplaced = [spec for spec in unplaced if spec not in here]
            specs = [spec for spec in known if spec.server == tool.name]
            served = [msgspec.structs.replace(spec, ask=False, server=tool.name) for spec in (*specs, *here)]
            replayed = RecordedTools(served, outcomes, case.outputs)
            found.append(Allowed(replayed, tool.capabilities, tool.granted, trusted=tool.trusted))
        elif not isinstance(tool, UnsupportedTool):
            before = next((spec for spec in known if tool.name in (spec.server, spec.name)), None)
            depth = plan.limits.max_depth
            found.append(await declared.toolset(tool, depth, before, outcomes, case.outputs))
    return found


def _offers(tool: McpTools, spec: ToolSpec) -> bool:
    return grant(tool.capabilities, spec.name, read_only=spec.read_only, granted=tool.granted) != "hidden"


def _known(case: Case) -> list[ToolSpec]:
    """The tools there were; where the case does not say, those that were called.

    What is not known of a tool is taken to have been so that it was asked about, or not, as it was.
    """
    if case.tools is not None:
        return [cases.spec_of(tool) for tool in case.tools]
    found: dict[str, ToolSpec] = {name: ToolSpec(name=name, read_only=True) for name in case.outputs}
    for reply in case.replies or ():
        for call in reply.calls:
            asked = call.approval is not None
            found.setdefault(call.tool, ToolSpec(name=call.tool, read_only=None if asked else True))
    return list(found.values())


async def _decide(host: Host, live: Live, case: Case) -> None:
    """Follow the run to its end, and decide what it asks as it was decided then."""
    recorded = {
        _id(number, index): call.approval
        for number, reply in enumerate(case.replies or ())
        for index, call in enumerate(reply.calls)
        if call.approval is not None
    }
    while await live.wait_decision() is None:
        asked_now = [(approval, recorded.get(approval.tool_call.id)) for approval in live.pending_approvals()]
        # Those that were decided come first: the others were open still when the run ended.
        for approval, asked in sorted(asked_now, key=lambda each: _was_open(each[1])):
            if _was_open(asked):
                await host.cancel(live.info.run_id)
                break
            said = _said(case, approval, asked)
            if asked is not None and asked.by == "expiry":  # it was the agent's files that decided
                said = Said(answer=approval.default)
                await host.approve(live.info.run_id, approval.id, approval.on_expiry, asked.by, asked.note, said)
            elif asked is None or asked.decision == "asked":
                await host.approve(live.info.run_id, approval.id, "allow", _ALLOWED, said=said)
            else:
                await host.approve(live.info.run_id, approval.id, asked.decision, asked.by, asked.note, said)


def _was_open(asked: cases.Asked | None) -> bool:
    """Whether nobody had decided it when the run ended."""
    return asked is not None and asked.by == "end"


def _said(case: Case, approval: ev.Approval, asked: cases.Asked | None) -> Said:
    """What was said besides the decision; a question that nobody answered then has what its tool always answers."""
    if approval.kind == "question":
        if asked is not None and asked.decision == "deny":
            return NOTHING
        answer = asked.answer if asked is not None else None
        return Said(answer=case.outputs.get(approval.tool_call.name, "") if answer is None else answer)
    return NOTHING if asked is None or asked.arguments is None else Said(arguments=asked.arguments)


# -- what became of it ---------------------------------------------------------------------------------------------


def _played(case: Case, plan: AgentPlan, found: Case, messages: Sequence[Message] | None) -> Case:
    """The played run, with what it was made of where that was not played. `messages`: what the model got first."""
    if messages is None:  # it got nothing: as it would have been
        prompt = [Message("system", plan.system_prompt)] if plan.system_prompt else []
        messages = (*prompt, *(case.history or ()), *case.brought, Message("user", case.message))
    prompted = bool(messages) and messages[0].role == "system"
    earlier = messages[int(prompted) : len(messages) - 1 - len(case.brought)]
    ended_as_it_was = found.error is not None and found.error.reason == cases.ENDED and case.status in _STOPPED
    if case.status in _CUT_SHORT and _open_calls(case) and _open_calls(case) == _open_calls(found):
        found = _ended_as(found, case)  # it was ended here where it ended then, by whatever it was
    return msgspec.structs.replace(
        found,
        agent=case.agent,
        metadata=case.metadata,
        manifests=case.manifests,
        recorded=case.recorded,
        model=plan.model.model,
        prompt=messages[0].content if prompted else "",
        history=tuple(earlier),
        brought=case.brought,
        replies=_unasked(found.replies or ()),
        outputs=case.outputs,
        status=case.status if ended_as_it_was or _stopped(case, found) else found.status,
        error=None if ended_as_it_was else found.error,
        expect=case.expect,
    )


def _open_calls(case: Case) -> set[tuple[int, int]]:
    """The calls about which nobody had decided when the run ended."""
    return {
        (number, index)
        for number, reply in enumerate(case.replies or ())
        for index, call in enumerate(reply.calls)
        if _was_open(call.approval)
    }


def _ended_as(found: Case, case: Case) -> Case:
    """The played run with the end of the case, for one that was ended in the same place."""

    def noted(call: cases.Call) -> cases.Call:
        if call.approval is None or call.approval.by != "end":
            return call
        note = f"the run was {case.status}"
        return msgspec.structs.replace(call, approval=msgspec.structs.replace(call.approval, note=note))

    replies = tuple(
        msgspec.structs.replace(reply, calls=tuple(map(noted, reply.calls))) for reply in found.replies or ()
    )
    return msgspec.structs.replace(found, replies=replies, status=case.status, error=case.error)


def _stopped(case: Case, found: Case) -> bool:
    """Whether both were ended by others, where it does not matter by whom."""
    return case.status in _STOPPED and found.status in _STOPPED


def _unasked(replies: Sequence[cases.Reply]) -> tuple[cases.Reply, ...]:
    """The replies, with what nobody was asked about then marked as asked."""
    return tuple(
        msgspec.structs.replace(
            reply,
            calls=tuple(
                msgspec.structs.replace(call, approval=cases.Asked(decision="asked"))
                if call.approval is not None and call.approval.by == _ALLOWED
                else call
                for call in reply.calls
            ),
        )
        for reply in replies
    )
