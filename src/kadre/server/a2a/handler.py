"""What A2A asks for, over the port to agents: the SDK reads the requests of each transport and calls this.

Errors that A2A has a name for are raised as the SDK's. Every other refusal is left to the transport, to be answered as
HTTP has it: a client that is told 429 with Retry-After comes back, one that is told of an internal error does not.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from a2a import types
from a2a.server.context import ServerCallContext
from a2a.server.events import Event
from a2a.server.request_handlers.request_handler import RequestHandler
from a2a.utils import errors
from a2a.utils.constants import DEFAULT_LIST_TASKS_PAGE_SIZE, MAX_LIST_TASKS_PAGE_SIZE
from a2a.utils.proto_utils import validate_proto_required_fields
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message as Proto
from starlette.requests import Request
from starlette.types import Scope

from kadre.base.errors import BadRequest, KadreError, NotFound, Refused
from kadre.base.tasks import all_of
from kadre.engine import events as ev
from kadre.plan.types import AgentKey
from kadre.server.a2a import tasks
from kadre.server.asking import Agents, Answered, Told

SCOPE = "scope"
"""In a call's state: the ASGI scope of the request, whose caller is known."""
AGENT = "agent"
"""In a call's state: whom the request is for."""
ADMIT = "admit"
"""In a call's state, in the place of both: gives them for a tenant, once. Raises Refused."""
REFUSED = "refused"
"""In a call's state: what was refused in a way that A2A has no name for."""
READS_AT_ONCE = 8
_STATUSES = {state: status for status, state in tasks.STATES.items() if status != "interrupted"}


class Handler(RequestHandler):
    """Agents, asked by A2A."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def on_message_send(self, params: types.SendMessageRequest, context: ServerCallContext) -> types.Task:
        """See RequestHandler: returns when the run has ended or waits for a person, or at once where that is asked."""
        scope, agent = await _asked(params, context)
        with _as_a2a(context):
            history = _history(params.configuration)
            text = await self._text(params.message, context)
            config, session = params.configuration, params.message.context_id
            if config.return_immediately:
                run_id = _run_id(await self._agents.begin(scope, agent, text, session))
                if config.HasField("task_push_notification_config"):
                    await self._notified(run_id, config.task_push_notification_config, context, begun=True)
            elif config.HasField("task_push_notification_config"):
                run_id = await self._settled(params, text, context)
            else:
                run_id = _run_id(await self._agents.ask(scope, agent, text, session))
            return await self._task(run_id, context, history)

    async def on_message_send_stream(
        self, params: types.SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event]:
        """See RequestHandler."""
        await _asked(params, context)
        with _as_a2a(context):
            text = await self._text(params.message, context)
            async with contextlib.aclosing(self._streamed(params, text, context)) as told:
                async for event in told:
                    yield event

    async def on_subscribe_to_task(
        self, params: types.SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event]:
        """See RequestHandler: the task as it is, then what comes."""
        await _asked(params, context)
        with _as_a2a(context):
            run = await self._read(params.id, context)
            if run["status"] in ev.ENDED:
                raise errors.UnsupportedOperationError(f"task {params.id} has ended ({run['status']}); get it instead")
            events = self._agents.follow(context.state[SCOPE], run["run_id"], run["last_seq"])
            async with contextlib.aclosing(events):
                async for event in self._followed(run, events, context):
                    yield event

    async def on_get_task(self, params: types.GetTaskRequest, context: ServerCallContext) -> types.Task:
        """See RequestHandler."""
        await _asked(params, context)
        with _as_a2a(context):
            return await self._task(params.id, context, _history(params))

    async def on_list_tasks(
        self, params: types.ListTasksRequest, context: ServerCallContext
    ) -> types.ListTasksResponse:
        """See RequestHandler. `total_size` counts the page: how many there are in all is not known without reading."""
        scope, agent = await _asked(params, context)
        size = params.page_size if params.HasField("page_size") else DEFAULT_LIST_TASKS_PAGE_SIZE
        if not 1 <= size <= MAX_LIST_TASKS_PAGE_SIZE:
            raise errors.InvalidParamsError(f"pageSize must be from 1 to {MAX_LIST_TASKS_PAGE_SIZE}")
        query = {"agent": agent.short, "limit": str(size)}
        status = _STATUSES.get(params.status)
        if params.context_id:
            query["session_id"] = params.context_id
        if params.page_token:
            query["before"] = params.page_token
        if status is not None and status != "failed":  # of which there are two kinds here
            query["status"] = status
        with _as_a2a(context):
            told = _checked(await self._agents.runs(scope, query)).body
            found = [run for run in told["runs"] if not params.status or tasks.STATES[run["status"]] == params.status]
            if params.HasField("status_timestamp_after"):
                after = params.status_timestamp_after.ToDatetime(UTC)
                found = [run for run in found if datetime.fromisoformat(run["updated"]) >= after]
            listed = await self._listed(found, params, context)
        return types.ListTasksResponse(
            tasks=listed, next_page_token=told["next"] or "", page_size=size, total_size=len(listed)
        )

    async def on_cancel_task(self, params: types.CancelTaskRequest, context: ServerCallContext) -> types.Task:
        """See RequestHandler."""
        scope, _ = await _asked(params, context)
        with _as_a2a(context):
            run = await self._read(params.id, context)
            if run["status"] in ev.ENDED:
                raise errors.TaskNotCancelableError(f"task {params.id} has ended ({run['status']})")
            _checked(await self._agents.cancel(scope, params.id))
            return await self._task(params.id, context, None)

    async def on_create_task_push_notification_config(
        self, params: types.TaskPushNotificationConfig, context: ServerCallContext
    ) -> types.TaskPushNotificationConfig:
        """See RequestHandler. What it is sent to prove who sends is not shown again."""
        await _asked(params, context)
        with _as_a2a(context):
            await self._read(params.task_id, context)
            return await self._notified(params.task_id, params, context)

    async def on_get_task_push_notification_config(
        self, params: types.GetTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> types.TaskPushNotificationConfig:
        """See RequestHandler."""
        scope, _ = await _asked(params, context)
        with _as_a2a(context):
            await self._read(params.task_id, context)
            told = _checked(await self._agents.webhooks(scope, params.task_id, "GET", params.id))
            return _config(params.task_id, told.body)

    async def on_list_task_push_notification_configs(
        self, params: types.ListTaskPushNotificationConfigsRequest, context: ServerCallContext
    ) -> types.ListTaskPushNotificationConfigsResponse:
        """See RequestHandler. A task has few: there is one page."""
        scope, _ = await _asked(params, context)
        with _as_a2a(context):
            await self._read(params.task_id, context)
            told = _checked(await self._agents.webhooks(scope, params.task_id, "GET")).body
            configs = [_config(params.task_id, each) for each in told["webhooks"]]
        return types.ListTaskPushNotificationConfigsResponse(configs=configs)

    async def on_delete_task_push_notification_config(
        self, params: types.DeleteTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> None:
        """See RequestHandler."""
        scope, _ = await _asked(params, context)
        with _as_a2a(context):
            await self._read(params.task_id, context)
            _checked(await self._agents.webhooks(scope, params.task_id, "DELETE", params.id))

    async def on_get_extended_agent_card(
        self, params: types.GetExtendedAgentCardRequest, context: ServerCallContext
    ) -> types.AgentCard:
        """See RequestHandler: a card tells everybody all there is to tell."""
        del params, context
        raise errors.ExtendedAgentCardNotConfiguredError

    async def _text(self, message: types.Message, context: ServerCallContext) -> str:
        """What the agent is asked. Raises A2AError for what it cannot read, and for what is said to a task."""
        if message.task_id:
            run = await self._read(message.task_id, context)
            ended = run["status"] in ev.ENDED
            how = (
                "send a message of its own to the same context"
                if ended
                else f"a person decides at {_link(context, run)}, no message does"
            )
            raise errors.UnsupportedOperationError(
                f"task {message.task_id} is {run['status']} and takes no message; {how}"
            )
        parts = []
        for part in message.parts:
            match part.WhichOneof("content"):
                case "text":
                    parts.append(part.text)
                case "data":
                    parts.append(MessageToJson(part.data, indent=None))
                case _:
                    raise errors.ContentTypeNotSupportedError("agents are asked in text; files are not taken")
        if not any(part.strip() for part in parts):
            raise errors.InvalidParamsError("the message has no text")
        return "\n".join(parts)

    async def _read(self, run_id: str, context: ServerCallContext) -> Mapping[str, Any]:
        """The run, where it is the agent's. Raises TaskNotFoundError."""
        run = _checked(await self._agents.read(context.state[SCOPE], run_id)).body
        if run["agent"] != str(context.state[AGENT]):
            raise errors.TaskNotFoundError(f"there is no task {run_id!r}")
        return run

    async def _task(self, run_id: str, context: ServerCallContext, history: int | None) -> types.Task:
        run = await self._read(run_id, context)
        return tasks.task(run, _link(context, run), history)

    async def _streamed(
        self, params: types.SendMessageRequest, text: str, context: ServerCallContext
    ) -> AsyncGenerator[types.Task | tasks.Update]:
        """A run that is begun, as its followers are told of it, and whom the sender wants to be told."""
        events = self._agents.stream(*await _asked(params, context), text, params.message.context_id)
        async with contextlib.aclosing(events):
            begun = msgspec.to_builtins(await anext(events))
            if params.configuration.HasField("task_push_notification_config"):
                config = params.configuration.task_push_notification_config
                await self._notified(begun["run_id"], config, context, begun=True)
            run = {**begun, "status": "queued", "updated": begun["time"]}
            async for event in self._followed(run, events, context):
                yield event

    async def _settled(self, params: types.SendMessageRequest, text: str, context: ServerCallContext) -> str:
        """The id of a run that is begun, when it has ended or waits for a person; its webhook is told meanwhile."""
        async with contextlib.aclosing(self._streamed(params, text, context)) as told:
            tasks_told = [each.id async for each in told if isinstance(each, types.Task)]
        return tasks_told[0]

    async def _notified(
        self,
        run_id: str,
        config: types.TaskPushNotificationConfig,
        context: ServerCallContext,
        *,
        begun: bool = False,
    ) -> types.TaskPushNotificationConfig:
        """Have a webhook told of the run. `begun`: for it, and ended again where there can be no such webhook."""
        scope = context.state[SCOPE]
        proof = config.authentication
        sent = {"id": config.id, "url": config.url, "token": config.token}
        sent |= {"scheme": proof.scheme, "credentials": proof.credentials}
        try:
            return _config(run_id, _checked(await self._agents.webhooks(scope, run_id, "POST", sent=sent)).body)
        except Refused:
            if begun:
                await self._agents.cancel(scope, run_id)
            raise

    async def _followed(
        self, run: Mapping[str, Any], events: AsyncIterator[ev.Event], context: ServerCallContext
    ) -> AsyncIterator[types.Task | tasks.Update]:
        """The run as it is, then what these events make of it."""
        link = _link(context, run)
        yield tasks.task(run, link)
        telling = tasks.Telling(run, link)
        async for event in events:
            for update in telling.tell(await self._whole(event, context)):
                yield update
            if telling.over:
                return

    async def _whole(self, event: ev.Event, context: ServerCallContext) -> ev.Event:
        """The event; where it keeps only the beginning of what the model said, with all of it."""
        if not isinstance(event, ev.AssistantMessage) or not event.blobs:
            return event
        run = await self._read(event.run_id, context)
        return msgspec.structs.replace(event, content=run["response"])

    async def _listed(
        self, runs: list[Mapping[str, Any]], params: types.ListTasksRequest, context: ServerCallContext
    ) -> list[types.Task]:
        """The tasks that these runs are; each is read where more of it is asked for than lists have."""
        if params.include_artifacts or params.history_length > 0:
            read: dict[str, Mapping[str, Any]] = {}
            waiting = iter(runs)

            async def work() -> None:
                for run in waiting:
                    with contextlib.suppress(errors.TaskNotFoundError, NotFound):  # forgotten meanwhile
                        read[run["run_id"]] = await self._read(run["run_id"], context)

            await all_of([work() for _ in range(READS_AT_ONCE)])
            runs = [read[run["run_id"]] for run in runs if run["run_id"] in read]
        history = params.history_length
        return [tasks.task(run, _link(context, run), history, artifacts=params.include_artifacts) for run in runs]


async def _asked(params: Proto, context: ServerCallContext) -> tuple[Scope, AgentKey]:
    """Who asks whom. Raises A2AError where they may not, or something is missing."""
    validate_proto_required_fields(params)
    if ADMIT in context.state:
        with _as_a2a(context):
            context.state[SCOPE], context.state[AGENT] = await context.state.pop(ADMIT)(getattr(params, "tenant", ""))
    return context.state[SCOPE], context.state[AGENT]


def _history(params: types.GetTaskRequest | types.SendMessageConfiguration) -> int | None:
    """How much of it is wanted. Raises InvalidParamsError."""
    if not params.HasField("history_length"):
        return None
    if params.history_length < 0:
        raise errors.InvalidParamsError("historyLength must be 0 or more")
    return params.history_length


def _config(run_id: str, told: Mapping[str, str]) -> types.TaskPushNotificationConfig:
    made = types.TaskPushNotificationConfig(task_id=run_id, id=told["id"], url=told["url"])
    if told["scheme"]:
        made.authentication.scheme = told["scheme"]
    return made


def _link(context: ServerCallContext, run: Mapping[str, Any]) -> str:
    base = str(Request(context.state[SCOPE]).base_url).rstrip("/")
    return f"{base}/runs/{run['run_id']}/approve"


def _run_id(told: Told) -> str:
    """The run that an answer is of, though it has failed. Raises Refused where there is none."""
    error = told.body.get("error") or {}
    return str(told.body.get("run_id") or error.get("run_id") or _checked(told).body["run_id"])


def _checked(told: Told) -> Told:
    """It, where it is no refusal. Raises Refused."""
    if told.status >= BadRequest.status:
        raise Answered(told)
    return told


@contextlib.contextmanager
def _as_a2a(context: ServerCallContext) -> Iterator[None]:
    """Have refusals raised as A2A's errors; what A2A has no name for is kept for the transport."""
    try:
        yield
    except Refused as error:
        if error.status == NotFound.status:
            raise errors.TaskNotFoundError(str(error)) from error
        if error.status == BadRequest.status:
            raise errors.InvalidParamsError(str(error)) from error
        context.state[REFUSED].append(error)
        raise errors.InternalError(str(error)) from error
    except KadreError as error:
        raise errors.InternalError(str(error)) from error
