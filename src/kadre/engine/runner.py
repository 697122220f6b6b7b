"""Drives one run: asks the loop what to do, does it, and commits every event before anything that stands on it.

The only writer of its run. What was sent and not recorded ends `unknown`; a fenced writer stops at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal, TypeVar

from kadre.base.clock import Clock
from kadre.base.errors import Fenced, KadreError, ModelError, NotFound, ToolError, Unavailable, shorten
from kadre.base.ids import new_id
from kadre.base.tasks import all_of, first_of
from kadre.engine import calling, loop
from kadre.engine import events as ev
from kadre.engine.agent import Bound, HostedAgent, Offer
from kadre.engine.calling import Prepared
from kadre.engine.live import Live
from kadre.engine.memory import conversation, spill
from kadre.engine.memory.port import RunInfo
from kadre.engine.messages import Message, ToolCall, Usage
from kadre.engine.models.port import ModelRequest, Reply, TextDelta
from kadre.engine.observe import Observer
from kadre.engine.tools.port import CallContext, ToolOutput

log = logging.getLogger(__name__)

APPROVAL_EXPIRY = timedelta(hours=1)
"""How long a question to a person stays open before it is denied: the wait of a lunch, not of a weekend."""

END_RETRY_SECONDS = 5.0
"""How often a store that could not take a run's end is tried again: the next run of the session waits for it."""

Decision = Literal["allow", "deny"]
E = TypeVar("E", bound=ev.EventBase)


class Runner:
    """One run being driven. `drive` is its whole life; the other methods are called from beside it."""

    def __init__(
        self,
        agent: HostedAgent,
        live: Live,
        clock: Clock,
        observer: Observer,
        chain: tuple[str, ...] = (),
        resumed: loop.Resumed | None = None,
    ) -> None:
        self.agent = agent
        self.live = live
        self.stopped: Literal["cancelled", "interrupted", "left"] = "interrupted"
        """How the run ends when its task is cancelled; `left`: not at all, the next process goes on with it."""
        self.task: asyncio.Task[None] | None = None
        self._unwanted = self._cancellable = False
        self._clock = clock
        self._observer = observer
        self._chain = (*chain, str(agent.plan.key))
        self._seq = live.info.last_seq
        self._out: list[ev.Event] = []
        self._commit_lock = asyncio.Lock()
        self._in_flight: dict[str, Prepared] = {}
        self._usage = Usage()
        self._why = ""
        self._deadline: asyncio.Timeout | None = None
        self._paused = 0
        self._left = 0.0
        self._resumed = resumed
        self._pending = {approval.id: approval for approval in resumed.approvals} if resumed else {}
        self._decided = asyncio.Event()
        self._decisions = dict(resumed.decisions) if resumed else {}

    # -- the life of a run ---------------------------------------------------------------------------------------

    async def drive(self, wait: bool) -> None:
        """Run to the end and commit it. `wait`: other runs of the session come first."""
        started = self._clock.monotonic()
        status: ev.RunStatus = "failed"
        self._cancellable = True
        try:
            if self._unwanted:
                raise asyncio.CancelledError
            status = await self._until_end(wait)
        except asyncio.CancelledError:
            if self.task is not None:
                self.task.uncancel()
            if self.stopped == "left":
                return
            status = self.stopped
        except TimeoutError:
            limit = self.agent.plan.limits.deadline
            self._error("DeadlineExceeded", f"the run took longer than its deadline of {limit:g} s")
        except ModelError as error:
            self._error(error.reason, str(error), error.retry_after)
        except Fenced:
            self.live.fail(Unavailable("the run is driven elsewhere now", reason="Fenced"))
            self._observer.run_finished(self.agent.plan, "interrupted", self._clock.monotonic() - started, "Fenced")
            return
        except KadreError as error:
            self._error(getattr(error, "reason", type(error).__name__), str(error))
        except Exception as error:
            log.exception("run %s failed", self.live.info.run_id)
            self._error("InternalError", f"Kadre failed in an unexpected way ({type(error).__name__}); see its log")
        await self._end(status, self._clock.monotonic() - started)

    def stop(self, status: Literal["cancelled", "interrupted"]) -> None:
        """Have the run end that way: now, or as soon as it begins."""
        self.stopped = status
        self._unwanted = True
        if self._cancellable and self.task is not None:  # cancelled before its first step, it would never end the run
            self.task.cancel()

    async def _end(self, status: ev.RunStatus, seconds: float) -> None:
        for approval_id in [key for key in self._pending if key not in self._decisions]:
            self._emit(
                ev.ApprovalDecided, approval_id=approval_id, decision="deny", by="end", note=f"the run was {status}"
            )
        self._pending.clear()  # a decision that comes now comes too late
        for prepared in list(self._in_flight.values()):
            unknown = f"the run ended ({status}) while this call was under way; whether it took effect is not known"
            self._emit(ev.ToolEnd, name=prepared.call.name, tool_call=prepared.state("unknown", error=unknown))
        self._emit(ev.RunFinished, status=status, usage=self._usage)
        self._observer.run_finished(self.agent.plan, status, seconds, self._why)
        try:
            while self._out:
                with contextlib.suppress(asyncio.CancelledError):  # it is ending: there is nothing left to cancel
                    await self._commit()
        except KadreError as error:
            log.exception("the end of run %s (%s) could not be recorded", self.live.info.run_id, status)
            self.live.fail(error)
            if isinstance(error, Unavailable):
                self._cancellable = False
                await self._end_later()

    async def _end_later(self) -> None:
        """Try until the store takes the end; cancelled with the host, whose successor finds the run cut off."""
        while self._out:
            await self._clock.sleep(END_RETRY_SECONDS)
            with contextlib.suppress(Unavailable):
                await self._commit()

    async def _until_end(self, wait: bool) -> ev.RunStatus:
        if wait:
            await self.agent.journal.turn(self.live.info.run_id)
        async with asyncio.timeout(self.agent.plan.limits.deadline) as self._deadline:
            offer = await self.agent.offer()
            for notice in offer.notices:
                self._emit(ev.System, reason=notice.reason, message=notice.message)
            command: loop.Command = loop.CALL_MODEL
            if self._resumed is None:
                state = await self._begin()
            else:
                state, command = await self._resume(self._resumed, offer)
            while True:
                match command:
                    case loop.CallModel():
                        state, command = await self._call_model(state, offer)
                    case loop.CallTools(calls):
                        state, command = loop.answered(state, await self._call_tools(calls, offer))
                    case loop.Finish():
                        return "completed"
                    case loop.Fail(reason, message):
                        self._error(reason, message)
                        return "failed"

    async def _begin(self) -> loop.State:
        """The messages the model starts from: prompt, earlier runs of the session, what the caller said."""
        messages = await opening(self.agent, self.live.info)
        for event in self.live.events:
            whole = await spill.restore(self.agent.journal, event) if event.blobs else event
            if isinstance(whole, ev.UserMessage):
                messages.extend(whole.history)
                messages.append(Message("user", whole.content))
        return loop.State(tuple(messages))

    async def _resume(self, resumed: loop.Resumed, offer: Offer) -> tuple[loop.State, loop.Command]:
        """Go on with a run that was waiting when its process ended."""
        state = resumed.state
        if not state.pending:
            return state, loop.CALL_MODEL
        results = dict(resumed.results)
        todo = []
        for call in state.pending:
            if call.id in results:
                continue
            prepared = calling.prepare(call, offer)
            if call.id in resumed.started and not (prepared.bound and prepared.bound.spec.idempotent):
                lost = "the process ended while this call was under way; whether it took effect is not known"
                self._emit(ev.ToolEnd, name=call.name, tool_call=prepared.state("unknown", error=lost))
                results[call.id] = loop.tool_message(call, f"Error: {lost}")
            else:
                todo.append(prepared)
        for message in await self._approve_and_call(todo, resumed.approvals):
            results[message.tool_call_id] = message
        return loop.answered(state, [results[call.id] for call in state.pending])

    # -- the model -----------------------------------------------------------------------------------------------

    async def _call_model(self, state: loop.State, offer: Offer) -> tuple[loop.State, loop.Command]:
        plan, live = self.agent.plan, self.live
        started = self._clock.monotonic()
        request = ModelRequest(state.messages, offer.specs, live.stream)
        reply: Reply | None = None
        if self._out:
            await self._commit()
        try:
            async for piece in self.agent.model.call(request):
                if type(piece) is TextDelta:
                    self._token(piece.text)
                elif type(piece) is Reply:
                    reply = piece
        except ModelError as error:
            self._observer.model_called(plan, self._clock.monotonic() - started, Usage(), error.reason)
            raise
        if reply is None:
            raise ModelError("the model ended its answer without a reply", reason="ModelStreamBroken")
        self._observer.model_called(plan, self._clock.monotonic() - started, reply.usage, "")
        self._usage += reply.usage
        self.agent.tokens.charge(reply.usage.total_tokens)
        self._emit(ev.UsageEvent, model=plan.model.model, usage=reply.usage)
        message = calling.distinct(reply.message, state)
        self._emit(
            ev.AssistantMessage,
            content=message.content,
            tool_calls=message.tool_calls,
            finish_reason=reply.finish_reason,
        )
        return loop.replied(state, message, plan.limits)

    def _token(self, text: str) -> None:
        live = self.live
        live.token(
            ev.Token(
                run_id=live.info.run_id,
                session_id=live.info.session_id,
                seq=self._seq,
                time=self._clock.now(),
                offset=live.offset,
                content=text,
            )
        )

    # -- tools ---------------------------------------------------------------------------------------------------

    async def _call_tools(self, calls: Sequence[ToolCall], offer: Offer) -> list[Message]:
        prepared = [calling.prepare(call, offer) for call in calls]
        results = {message.tool_call_id: message for message in await self._approve_and_call(prepared, ())}
        return [results[call.id] for call in calls]

    async def _approve_and_call(self, prepared: list[Prepared], asked: Sequence[ev.Approval]) -> list[Message]:
        denied = await self._ask(prepared, asked) if any(p.bound and p.bound.spec.ask for p in prepared) else {}
        for item in prepared:
            self._emit(ev.ToolStart, name=item.call.name, tool_call=item.state("running"))
            if item.problem == "" and item.call.id not in denied:
                self._in_flight[item.call.id] = item
        await self._commit()
        if len(prepared) == 1:
            return [await self._call_one(prepared[0], denied)]
        slots = asyncio.Semaphore(self.agent.plan.limits.max_parallel_tools)

        async def in_turn(item: Prepared) -> Message:
            await slots.acquire()
            message = await self._call_one(item, denied)
            slots.release()  # not where it failed: the run is ending, and no further call may begin
            return message

        return await all_of([in_turn(item) for item in prepared])

    async def _call_one(self, item: Prepared, denied: dict[str, str]) -> Message:
        call, bound = item.call, item.bound
        problem = item.problem or denied.get(call.id, "")
        if problem or bound is None:
            state = item.state("error", error=problem)
        else:
            state = await self._send(item, bound)
        self._in_flight.pop(call.id, None)
        self._emit(ev.ToolEnd, name=call.name, tool_call=state)
        await self._commit()
        return loop.tool_message(call, loop.result_text(state))

    async def _send(self, item: Prepared, bound: Bound) -> ev.ToolCallState:
        started = self._clock.monotonic()
        info = self.live.info
        context = CallContext(
            run_id=info.run_id,
            session_id=info.session_id,
            key=f"{info.run_id}/{item.call.id}",
            tool_call_id=item.call.id,
            caller=info.caller,
            depth=len(self._chain),
            chain=self._chain,
        )
        try:
            output = await bound.toolset.call(bound.name, item.arguments, context)
        except ToolError as error:
            state = item.state("unknown" if error.unknown else "error", error=str(error))
        except (Fenced, asyncio.CancelledError):
            raise
        except Exception as error:
            log.exception("tool %s failed", item.call.name)
            state = item.state("error", error=f"the tool failed: {type(error).__name__}: {shorten(str(error))}")
        else:
            state = self._outcome(item, output)
        seconds = self._clock.monotonic() - started
        self._observer.tool_called(self.agent.plan, item.call.name, seconds, state.status != "complete")
        return state

    def _outcome(self, item: Prepared, output: ToolOutput) -> ev.ToolCallState:
        text = calling.cut(output.content, self.agent.plan.limits.max_output_bytes)
        if output.is_error:
            return item.state("error", error=text)
        return item.state("complete", output=text)

    # -- approvals -----------------------------------------------------------------------------------------------

    async def _ask(self, prepared: list[Prepared], asked: Sequence[ev.Approval]) -> dict[str, str]:
        """Wait until a person has decided every call that needs it; returns call id -> why it was denied."""
        known = {approval.tool_call.id: approval for approval in asked}
        expires = self._clock.now() + APPROVAL_EXPIRY
        fresh = []
        for item in prepared:
            if item.bound is not None and item.bound.spec.ask and item.call.id not in known:
                reason = f"{item.call.name} may change something, and its author has not allowed it in advance"
                own = self.live.info.run_id
                known[item.call.id] = ev.Approval(new_id("apr"), own, item.state("pending"), reason, expires)
                fresh.append(known[item.call.id])
        self._pending.update((approval.id, approval) for approval in fresh)
        if fresh:
            self._emit(ev.ApprovalRequired, approvals=tuple(fresh))
            await self._commit()
        await self._wait_for_decisions([approval.id for approval in known.values()])
        denied = {}
        for call_id, approval in known.items():
            decision = self._decisions[approval.id]
            if decision.decision == "deny":
                note = f": {decision.note}" if decision.note else ""
                denied[call_id] = f"this call was denied by {decision.by}{note}"
        return denied

    async def _wait_for_decisions(self, ids: list[str]) -> None:
        self.pause()
        try:
            while undecided := [key for key in ids if key not in self._decisions]:
                left = min((self._pending[key].expires - self._clock.now()).total_seconds() for key in undecided)
                self._decided.clear()
                if left > 0:
                    await first_of(self._decided.wait(), self._clock.sleep(left))
                for key in undecided:
                    if self.asks(key) and self._pending[key].expires <= self._clock.now():
                        await self.decide(key, "deny", "expiry", "nobody answered in time")
        finally:
            self.unpause()

    async def decide(self, approval_id: str, decision: Decision, by: str, note: str = "") -> None:
        """Record a person's decision; committed when it returns. Raises NotFound where it is not open."""
        if not self.asks(approval_id):
            raise NotFound(f"there is no open approval {approval_id!r}", reason="NoSuchApproval")
        self._decisions[approval_id] = self._emit(
            ev.ApprovalDecided, approval_id=approval_id, decision=decision, by=by, note=note
        )
        try:
            await self._commit()
        finally:
            self._decided.set()  # where it could not be recorded the run must find out, not wait for another

    def asks(self, approval_id: str) -> bool:
        """Whether this run itself waits for that decision."""
        return approval_id in self._pending and approval_id not in self._decisions

    async def bubble(self, event: ev.ApprovalRequired | ev.ApprovalDecided) -> None:
        """Tell a child run's question, or its answer, in this run too: only the root is watched by people.

        Once: a child that is followed again after a restart says it again.
        """
        if isinstance(event, ev.ApprovalRequired):
            asked = (told.approvals for told in self.live.events if isinstance(told, ev.ApprovalRequired))
            if event.approvals not in asked:
                self._emit(ev.ApprovalRequired, approvals=event.approvals)
        elif event.approval_id in {approval.id for approval in self.live.pending_approvals()}:
            self._emit(
                ev.ApprovalDecided,
                approval_id=event.approval_id,
                decision=event.decision,
                by=event.by,
                note=event.note,
            )
        await self._commit()

    def pause(self) -> None:
        """Stop the deadline's clock while a person is waited for."""
        self._paused += 1
        deadline = self._deadline
        if self._paused == 1 and deadline is not None and (when := deadline.when()) is not None:
            self._left = when - asyncio.get_running_loop().time()
            deadline.reschedule(None)

    def unpause(self) -> None:
        """Let the deadline's clock go on."""
        self._paused -= 1
        if self._paused == 0 and self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time() + self._left)

    # -- events --------------------------------------------------------------------------------------------------

    async def record(self, kind: type[E], **fields: Any) -> None:
        """Emit and commit an event told from beside the loop, such as a delegation."""
        self._emit(kind, **fields)
        await self._commit()

    def _emit(self, kind: type[E], **fields: Any) -> E:
        self._seq += 1
        info = self.live.info
        event = kind(run_id=info.run_id, session_id=info.session_id, seq=self._seq, time=self._clock.now(), **fields)
        self._out.append(event)  # type: ignore[arg-type]  # every EventBase subclass is in the Event union
        return event

    def _error(self, reason: str, message: str, retry_after: float | None = None) -> None:
        self._why = reason
        self._emit(ev.Error, reason=reason, message=message, retry_after=retry_after)

    async def _commit(self) -> None:
        """Make what was emitted durable, then visible. Two callers at once keep the order of their events."""
        async with self._commit_lock:
            if not self._out:
                return
            batch, self._out = self._out, []
            journal, info = self.agent.journal, self.live.info
            kept: list[ev.Event] = []
            try:
                kept = [await spill.spill(journal, event) if spill.is_large(event) else event for event in batch]
                await journal.append(info.run_id, batch[0].seq - 1, kept, info.epoch)
            except KadreError:
                self._out[:0] = batch  # still to be told: the run's end tries once more
                raise
            except asyncio.CancelledError:
                try:
                    recorded = await self._recorded(batch[-1].seq)  # it is, or it is not; both must be told on
                except KadreError:
                    recorded = False
                if recorded:
                    self._publish(batch, kept)
                else:
                    self._out[:0] = batch
                raise
            self._publish(batch, kept)

    async def _recorded(self, seq: int) -> bool:
        """Whether the journal has the run's events up to that one; cancelled again, it asks again."""
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                run = await self.agent.journal.run(self.live.info.run_id)
                return run is not None and run.last_seq >= seq

    def _publish(self, batch: Sequence[ev.Event], kept: Sequence[ev.Event]) -> None:
        for whole, event in zip(batch, kept, strict=True):
            if whole is not event and type(whole) is ev.AssistantMessage:
                self.live.whole = whole
        self.live.publish(kept)


async def opening(agent: HostedAgent, info: RunInfo) -> list[Message]:
    """What a run's messages begin with: the prompt, then earlier runs of its session within the plan's max_history."""
    plan = agent.plan
    messages = [Message("system", plan.system_prompt)] if plan.system_prompt else []
    if info.order > 1:
        limit = plan.memory.max_history
        events = await agent.journal.history(str(plan.key), info.session_id, info.order, limit)
        whole = [await spill.restore(agent.journal, event) if event.blobs else event for event in events]
        messages.extend(conversation.messages(whole, limit))
    return messages
