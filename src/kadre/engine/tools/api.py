"""A REST API as a tool.

A call of GET or HEAD reads, any other writes, and its author, who named it, has allowed that. It is sent once, and
again only where nothing was sent, or where sending it again changes nothing. All of a call has one time to end in.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from kadre.base.clock import Clock, SystemClock
from kadre.base.errors import ToolError
from kadre.base.retry import Backoff
from kadre.engine.messages import ToolSpec
from kadre.engine.secrets import SecretReader
from kadre.engine.tools import api_answer, api_request, parameters
from kadre.engine.tools.api_login import Login
from kadre.engine.tools.api_request import READS, Request
from kadre.engine.tools.api_wire import Answer, Failed, Sending, Wire
from kadre.engine.tools.port import CallContext, ToolOutput
from kadre.plan.types import ApiTool

FIRST_WAIT, LONGEST_WAIT = 0.25, 8.0
"""Seconds before a retry; an API that wants to be left alone for longer is not asked again in this call."""
CHECKED_HERE = 8 << 10
"""Bytes of an answer that are compared with a schema at once; of a larger one, in a thread."""
_AGAIN = frozenset({408, 425, 429, 502, 503, 504})


class ApiToolset:
    """One operation of an API as one tool. `wire`: sends its requests, and is closed with it."""

    notice = ""
    """See Toolset."""

    def __init__(
        self,
        plan: ApiTool,
        secrets: SecretReader,
        *,
        wire: Wire | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._plan = plan
        self._clock = clock or SystemClock()
        self._wire = wire or Wire()
        self._login = Login(plan, secrets, self._wire, self._clock)
        self._repeatable = plan.method in READS or plan.idempotent
        self._backoff = Backoff(attempts=plan.retries + 1, first=FIRST_WAIT, limit=LONGEST_WAIT)
        self._specs = (
            ToolSpec(
                name=plan.name,
                description=plan.description or f"Calls {plan.method} {plan.endpoint.partition('?')[0]}",
                parameters=plan.parameters,
                read_only=plan.method in READS,
                idempotent=self._repeatable,
                filled=True,
                server=plan.name,
            ),
        )

    @property
    def ready(self) -> bool:
        """See Toolset."""
        return True

    async def specs(self) -> Sequence[ToolSpec]:
        """See Toolset."""
        return self._specs

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:  # noqa: ARG002
        """See Toolset."""
        given = parameters.check(self._plan.parameters, arguments)
        request = api_request.make(self._plan, given, context.key)
        call = _Call(request)
        try:
            try:
                async with asyncio.timeout(self._plan.timeout):
                    answer = await self._answer(call)
            except TimeoutError as error:
                raise self._late(call) from error
            # Others' calls go on while a large one is checked: by its bound, it takes a second at most.
            large = self._plan.output is not None and len(answer.body) > CHECKED_HERE
            read = functools.partial(api_answer.output, self._plan, answer, lost=call.lost)
            result = await asyncio.to_thread(read) if large else read()
        except ToolError as error:
            raise ToolError(self._login.quiet(str(error)), unknown=error.unknown) from error
        return ToolOutput(self._login.quiet(result.content))

    async def aclose(self) -> None:
        """See Toolset."""
        await self._wire.aclose()

    async def _answer(self, call: _Call) -> Answer:
        """The answer to the first request that has one and need not be sent again. Raises ToolError."""
        attempt = 1
        while True:
            try:
                answer = await self._once(call)
            except Failed as error:
                call.lost = call.lost or error.sent
                again = not error.final and (self._repeatable or not error.sent)
                delay = self._backoff.delay(attempt) if again else None
                if delay is None:
                    raise self._failure(call, error) from error
            else:
                again = answer.status in _AGAIN and self._repeatable
                delay = self._backoff.delay(attempt, self._asked(answer)) if again else None
                if delay is None:
                    return answer
            await self._clock.sleep(delay)
            attempt += 1

    async def _once(self, call: _Call) -> Answer:
        """One answer, or a second one with another token. Raises Failed, and ToolError where nothing was sent."""
        call.sending = Sending()
        headers = await self._login.headers()
        answer = await self._wire.send(call.request, headers, call.sending)
        if answer.status == 401 and self._login.refused(headers):
            call.sending = Sending()
            answer = await self._wire.send(call.request, await self._login.headers(), call.sending)
        return answer

    def _asked(self, answer: Answer) -> float | None:
        """Seconds for which the API wants to be left alone; None: it does not say."""
        text = answer.headers.get("Retry-After", "").strip()
        if not text:
            return None
        try:
            seconds = float(text) if text[:1].isdigit() else self._until(text)
        except ValueError:
            return None
        return max(0.0, seconds) if math.isfinite(seconds) else None

    def _until(self, date: str) -> float:
        then = parsedate_to_datetime(date)
        return ((then if then.tzinfo else then.replace(tzinfo=UTC)) - self._clock.now()).total_seconds()

    def _failure(self, call: _Call, error: Failed) -> ToolError:
        if not call.request.reads and call.lost:
            end = "it was sent, and whether it happened is not known: look before you call it again"
            return ToolError(f"{self._plan.name}: {error}; {end}", unknown=True)
        return ToolError(f"{self._plan.name}: {error}; nothing was changed")

    def _late(self, call: _Call) -> ToolError:
        message = f"{self._plan.name} did not answer within {self._plan.timeout:g} s"
        if not call.request.reads and (call.lost or call.sending.begun):
            end = "whether it happened is not known: look before you call it again"
            return ToolError(f"{message}; {end}", unknown=True)
        return ToolError(f"{message}; nothing was changed")


class _Call:
    """One call on its way. `lost`: a request of it may have arrived that was not answered."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.sending = Sending()
        self.lost = False
