"""Drives one run: asks the loop what to do, does it, and commits every event before anything that stands on it.

The only writer of its run. What was sent and not recorded ends `unknown`; a fenced writer stops at once.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Sequence

import msgspec

from kadre.base.clock import Clock
from kadre.base.errors import Fenced, KadreError, ModelError, ToolError, Unavailable, shorten
from kadre.base.tasks import all_of
from kadre.engine import calling, loop, policy
from kadre.engine import events as ev
from kadre.engine.agent import Bound, HostedAgent, Offer
from kadre.engine.approvals import Approvals
from kadre.engine.calling import Prepared
from kadre.engine.deadline import Deadline
from kadre.engine.life import Life
from kadre.engine.live import Live
from kadre.engine.memory import projection, spill
from kadre.engine.memory.exchange import Exchange
from kadre.engine.messages import Message, ToolCall, Usage
from kadre.engine.models.port import Model, ModelRequest, Reply, TextDelta
from kadre.engine.observe import Observer
from kadre.engine.opening import opening
from kadre.engine.recorder import Recorder
from kadre.engine.tools.port import CallContext, ToolOutput

log = logging.getLogger(__name__)

MOST_TAKEN_UP = 3
"""How often a run is gone on with whose process died: one that kills each process it runs in must not kill them all."""
END_RETRY_SECONDS = 5.0
"""How often a store that could not take a run's end is tried again: the next run of the session waits for it."""


class Runner:
    """One run being driven. `drive` is its whole life."""

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
        self.life = Life()
        self.recorder = Recorder(agent.journal, live, clock)
        self.deadline = Deadline(agent.plan.limits.deadline, resumed.worked if resumed is not None else 0.0)
        self.approvals = Approvals(self.recorder, self.deadline, clock, agent.plan.approvals, agent.masks)
        if resumed is not None:
            self.approvals.take_up(resumed.approvals, resumed.decisions)
        self._resumed = resumed
        self._clock = clock
        self._observer = observer
        self._chain = (*chain, str(agent.plan.key))
        self._usage = live.info.usage
        self._outside = ""
        """Where text came from that has entered the run and that nobody has vouched for: `policy.outside` of it."""
        self._why = ""

    # -- the life of a run ---------------------------------------------------------------------------------------

    async def drive(self, wait: bool) -> None:
        """Run to the end and commit it, or until another writer has claimed the run.

        `wait`: other runs of the session come first.
        """
        started = self._clock.monotonic()
        status: ev.RunStatus
        try:
            self.life.begin()
            status = await self._until_end(wait)
        except asyncio.CancelledError:
            if self.life.how == "left":
                self._finished("interrupted", self._clock.monotonic() - started, "Left")
                return
            status = self.life.how
        except Fenced:
            self._finished("interrupted", self._clock.monotonic() - started, "Fenced")
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the run ends and people are told
            self._failed(error)
            status = "failed"
        self.life.end()
        await self._end(status, self._clock.monotonic() - started)
        if status == "completed":
            self._remember()

    def _remember(self) -> None:
        """Have what is worth it kept for later sessions, with nobody waiting for it."""
        memories, info = self.agent.memories, self.live.info
        if memories is None or self.live.finished is None:
            return
        said = " ".join(event.content for event in self.live.events if isinstance(event, ev.UserMessage))
        exchange = Exchange(info.caller, info.run_id, said, self.live.answer(), self._clock.now(), self._outside)
        memories.keep_soon(exchange, functools.partial(self._called, self.agent.model))

    def _finished(self, status: ev.RunStatus, seconds: float, why: str) -> None:
        self._observer.run_finished(self.agent.plan, self.live.info.session_id, status, seconds, why)

    def _failed(self, error: Exception) -> None:
        """Tell people why the run cannot go on."""
        if isinstance(error, ModelError):
            self._tell_error(error.reason, str(error), error.retry_after)
        elif isinstance(error, KadreError):
            self._tell_error(getattr(error, "reason", type(error).__name__), str(error))
        else:
            log.error("run %s failed", self.live.info.run_id, exc_info=error)
            unexpected = f"Kadre failed in an unexpected way ({type(error).__name__}); see its log"
            self._tell_error("InternalError", unexpected)

    def _tell_error(self, reason: str, message: str, retry_after: float | None = None) -> None:
        self._why = reason
        self.recorder.emit(ev.Error, reason=reason, message=message, retry_after=retry_after)

    async def _end(self, status: ev.RunStatus, seconds: float) -> None:
        """Record the end. Where the store cannot take it, callers are told, and it is tried until the host ends."""
        self.approvals.close()
        self._close(status)
        self._finished(status, seconds, self._why)
        while not (self.live.lost and self.life.process_ends):  # its successor finds the run cut off
            try:
                await self._commit_end()
            except asyncio.CancelledError:
                continue  # it is ending: there is nothing left to cancel
            except Fenced:
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told
                self._lost(error)
                if not self.life.process_ends:
                    await self._clock.sleep(END_RETRY_SECONDS)
            else:
                return

    def _close(self, status: ev.RunStatus) -> None:
        recorder = self.recorder
        at = msgspec.structs.replace(self.live.info, last_seq=recorder.seq, usage=self._usage)
        why = f"the run ended ({status}) while this call was under way; whether it took effect is not known"
        recorder.add(projection.closing(at, (*self.live.events, *recorder.unwritten), status, why, self._clock.now()))

    async def _commit_end(self) -> None:
        try:
            await self.recorder.commit()
        except (Fenced, Unavailable):
            raise
        except Exception:
            run_id = self.live.info.run_id
            log.exception("what run %s did last cannot be recorded, and it ends without that", run_id)
            await self.recorder.shed()
            self._tell_error("InternalError", "what the run did last could not be recorded; see Kadre's log")
            self._close("failed")
            await self.recorder.commit()

    def _lost(self, error: Exception) -> None:
        """Tell those who wait for the end that it cannot be recorded now."""
        if self.live.lost is None:
            run_id = self.live.info.run_id
            log.error("the end of run %s could not be recorded", run_id, exc_info=error)
            unexpected = Unavailable(f"the end of run {run_id} could not be recorded; see Kadre's log")
            self.live.fail(error if isinstance(error, KadreError) else unexpected)

    async def _until_end(self, wait: bool) -> ev.RunStatus:
        if wait:
            await self.agent.journal.turn(self.live.info.run_id)
        async with self.deadline:
            if self._resumed is not None and not await self._is_taken_up(self._resumed):
                return "interrupted"
            offer = await self.agent.offer()
            for notice in offer.notices:
                self.recorder.emit(ev.System, reason=notice.reason, message=notice.message)
            command: loop.Command = loop.CALL_MODEL
            if self._resumed is None:
                state = await self._begin()
            else:
                if self._is_cut_off(self._resumed, offer):
                    return "interrupted"
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
                        self._tell_error(reason, message)
                        return "failed"

    async def _begin(self) -> loop.State:
        """The messages the model starts from: prompt, earlier runs of the session, what the caller said."""
        messages = await self._opening()
        for event in self.live.events:
            whole = await spill.restore(self.agent.journal, event) if event.blobs else event
            if isinstance(whole, ev.UserMessage):
                messages.extend(whole.history)
                messages.append(Message("user", whole.content))
        return loop.State(tuple(messages))

    async def _opening(self) -> list[Message]:
        """What the run's messages begin with; what of it came from outside is known from here on."""
        begun = await opening(self.agent, self.live, self.recorder, self._ask)
        own = [await spill.restore(self.agent.journal, event) for event in self.live.events]
        self._outside = policy.outside((*begun.history, *own, *self.recorder.unwritten))
        return begun.messages

    async def _is_taken_up(self, resumed: loop.Resumed) -> bool:
        """Whether the run is gone on with; told before anything is done for it that may end this process too."""
        if self.live.info.status == "waiting" and resumed.started <= resumed.delegated:
            return True  # nothing was under way but its waiting
        if resumed.taken_up >= MOST_TAKEN_UP:
            lost = f"{resumed.taken_up + 1} processes ended while they drove this run; it is not tried again"
            self._tell_error("TakenUpTooOften", lost)
            return False
        message = f"the process that drove the run is gone; another one goes on after event {self.recorder.seq}"
        await self.recorder.tell(ev.System, reason=loop.TAKEN_UP, message=message)
        return True

    def _is_cut_off(self, resumed: loop.Resumed, offer: Offer) -> bool:
        """Whether a call was sent whose outcome nobody knows, in a run whose process died while it worked."""
        sent = [call for call in resumed.state.pending if call.id in resumed.started and call.id not in resumed.results]
        lost = any(not calling.prepare(call, offer).repeatable for call in sent)
        return lost and self.live.info.status != "waiting"

    async def _resume(self, resumed: loop.Resumed, offer: Offer) -> tuple[loop.State, loop.Command]:
        """Go on with a run where its process ended."""
        before = await self._opening()
        state = msgspec.structs.replace(resumed.state, messages=(*before, *resumed.state.messages))
        if not state.pending:
            return state, loop.CALL_MODEL
        results = dict(resumed.results)
        todo = []
        for call in state.pending:
            if call.id in results:
                continue
            prepared = calling.prepare(call, offer)
            if call.id in resumed.started and not prepared.repeatable:
                lost = prepared.state("unknown", error=projection.OUTCOME_UNKNOWN)
                self.recorder.emit(ev.ToolEnd, name=call.name, tool_call=lost)
                results[call.id] = loop.tool_message(call, loop.result_text(lost))
            else:
                todo.append(prepared)
        for message in await self._approve_and_call(todo, resumed.approvals):
            results[message.tool_call_id] = message
        return loop.answered(state, [results[call.id] for call in state.pending])

    # -- the model -----------------------------------------------------------------------------------------------

    async def _call_model(self, state: loop.State, offer: Offer) -> tuple[loop.State, loop.Command]:
        plan = self.agent.plan
        sent = offer.sent(state.messages)
        request = ModelRequest(state.messages, sent.specs, self.live.stream)
        if self.recorder.unwritten:
            await self.recorder.commit()
        reply = await self._ask(self.agent.model, plan.model.model, request, sent.unsent)
        message = calling.distinct(reply.message, state)
        self.recorder.emit(
            ev.AssistantMessage,
            content=message.content,
            tool_calls=message.tool_calls,
            finish_reason=reply.finish_reason,
            outside=self._outside or msgspec.UNSET,
        )
        return loop.replied(state, message, plan.limits)

    async def _ask(self, model: Model, name: str, request: ModelRequest, unsent: int = 0) -> Reply:
        """One model call of the run; `unsent`: see UsageEvent. Raises ModelError."""
        reply = await self._called(model, request)
        self._usage += reply.usage
        if unsent:
            self._observer.tools_unsent(self.agent.plan, unsent)
        self.recorder.emit(ev.UsageEvent, model=name, usage=reply.usage, tools_unsent=unsent or msgspec.UNSET)
        return reply

    async def _called(self, model: Model, request: ModelRequest) -> Reply:
        """One model call, counted. Raises ModelError."""
        plan, started = self.agent.plan, self._clock.monotonic()
        reply: Reply | None = None
        try:
            async for piece in model.call(request):
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
        self.agent.tokens.charge(reply.usage.total_tokens)
        return reply

    def _token(self, text: str) -> None:
        live = self.live
        live.token(
            ev.Token(
                run_id=live.info.run_id,
                session_id=live.info.session_id,
                seq=self.recorder.seq,
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
        for item in prepared:
            calling.judged(item, self.agent.plan.approvals, self._outside, self.agent.masks)
        if asked or any(item.asks for item in prepared):
            await self.approvals.settle(prepared, asked)
        for item in prepared:
            self.recorder.emit(ev.ToolStart, name=item.call.name, tool_call=item.state("running"))
        await self.recorder.commit()
        if len(prepared) == 1:
            return [await self._call_one(prepared[0])]
        slots = asyncio.Semaphore(self.agent.plan.limits.max_parallel_tools)

        async def in_turn(item: Prepared) -> Message:
            await slots.acquire()
            message = await self._call_one(item)
            slots.release()  # not where it failed: the run is ending, and no further call may begin
            return message

        return await all_of([in_turn(item) for item in prepared])

    async def _call_one(self, item: Prepared) -> Message:
        call, bound = item.call, item.bound
        if item.problem or bound is None:
            state = item.state("error", error=item.problem)
        elif item.answer is not None:
            state = self._outcome(item, ToolOutput(item.answer))
        else:
            state = await self._send(item, bound)
        await self.recorder.tell(ev.ToolEnd, name=call.name, tool_call=state)
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
            outside=self._outside,
        )
        spec, masks = bound.spec, self.agent.masks
        given = calling.revealed(spec, item.arguments, masks)
        source = "" if spec.trusted else spec.server or spec.name
        try:
            output = await bound.toolset.call(bound.name, given, context)
        except ToolError as error:
            self._came(item, source)  # errors tell what a server said
            state = item.state("unknown" if error.unknown else "error", error=masks.hide(str(error)))
        except (Fenced, Unavailable, asyncio.CancelledError):
            raise  # this run's own journal, not the tool
        except Exception as error:
            log.exception("tool %s failed", item.call.name)
            self._came(item, source)
            failed = f"the tool failed: {type(error).__name__}: {shorten(masks.hide(str(error)))}"
            state = item.state("error", error=failed)
        else:
            self._came(item, source if output.outside is None else output.outside)
            state = self._outcome(item, output)
        seconds = self._clock.monotonic() - started
        self._observer.tool_called(self.agent.plan, item.call.name, seconds, state.status != "complete")
        return state

    def _came(self, item: Prepared, outside: str) -> None:
        """Note where the text of a call's outcome comes from."""
        item.outside = outside
        self._outside = self._outside or outside

    def _outcome(self, item: Prepared, output: ToolOutput) -> ev.ToolCallState:
        text = calling.cut(self.agent.masks.hide(output.content), self.agent.plan.limits.max_output_bytes)
        if output.is_error:
            return item.state("error", error=text)
        return item.state("complete", output=text)
