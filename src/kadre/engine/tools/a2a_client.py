"""Speaks A2A to a remote agent, by the official SDK; loaded only where an agent has such a tool.

The author says where the agent is. Its card says by which path and in which version it is asked, never at which other
host: secrets go where the author sent them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from http import HTTPStatus
from urllib.parse import urlsplit, urlunsplit

import httpx
from a2a import types
from a2a.client import A2ACardResolver, A2AClientError, Client, ClientConfig, ClientFactory
from a2a.utils.errors import A2AError
from google.protobuf import json_format

from kadre.base.errors import ToolError, shorten
from kadre.base.retry import Backoff
from kadre.base.tasks import Tasks
from kadre.engine.tools.mcp_target import shown
from kadre.engine.tools.port import ToolOutput

logging.getLogger("a2a").setLevel(logging.CRITICAL)  # what fails is told to whoever asked

BINDINGS = ["JSONRPC", "HTTP+JSON"]
MAX_BYTES = 8 << 20
"""Of one answer, a stream as a whole included."""
CONNECT_SECONDS = 10.0
CANCEL_SECONDS = 10.0
POLL = Backoff(attempts=1_000_000, first=0.5, limit=5.0)
"""Between two looks at a task whose agent does not stream."""
OVER = frozenset(
    {
        types.TaskState.TASK_STATE_COMPLETED,
        types.TaskState.TASK_STATE_FAILED,
        types.TaskState.TASK_STATE_CANCELED,
        types.TaskState.TASK_STATE_REJECTED,
    }
)
_LATER = frozenset({429, 503})
ASKS = frozenset({types.TaskState.TASK_STATE_INPUT_REQUIRED, types.TaskState.TASK_STATE_AUTH_REQUIRED})


class Remote:
    """One remote agent. `tasks` outlive a call that is cancelled: the agent is told that nobody waits any more."""

    def __init__(self, name: str, url: str, tasks: Tasks) -> None:
        self._name = name
        self._url = url
        self._tasks = tasks

    async def about(self, headers: Mapping[str, str]) -> str:
        """What its card says of it. Raises ToolError."""
        async with self._http(headers) as http:
            card = await self._card(http)
        skills = [skill.description or skill.name for skill in card.skills]
        return card.description or "; ".join(skills)

    async def ask(self, message: str, message_id: str, headers: Mapping[str, str], seconds: float) -> ToolOutput:
        """Its answer. Raises ToolError: with `unknown` where it may have done what it was asked."""
        said = types.Message(message_id=message_id, role=types.Role.ROLE_USER, parts=[types.Part(text=message)])
        request = types.SendMessageRequest(message=said)
        request.configuration.accepted_output_modes.extend(["text/plain", "application/json"])
        request.configuration.return_immediately = True  # one that does not stream is looked at again
        task = types.Task()
        try:
            async with asyncio.timeout(seconds), self._client(headers) as client:
                answer = await self._asked(client, request, task)
        except BaseException as error:
            self._abandon(task, headers)
            if isinstance(error, TimeoutError):
                message = f"{self._name} did not answer within {seconds:.0f} s; what became of it is not known"
                raise ToolError(message, unknown=True) from error
            raise
        if task.status.state in ASKS:
            self._abandon(task, headers)
        return ToolOutput(answer)

    async def _asked(self, client: Client, request: types.SendMessageRequest, task: types.Task) -> str:
        """The answer's text; `task` is kept as what is known of the task. Raises ToolError."""
        with self._told():
            async for event in client.send_message(request):
                if event.HasField("message"):
                    return _text(event.message.parts)
                _taken(event, task)
            looks = 0
            while task.status.state not in OVER | ASKS:
                looks += 1
                await asyncio.sleep(POLL.delay(looks) or POLL.limit)
                task.CopyFrom(await client.get_task(types.GetTaskRequest(id=task.id)))
        said = _text(task.status.message.parts)
        if task.status.state in ASKS:
            wants = said or "it does not say what"
            raise ToolError(
                f"{self._name} asks for something before it goes on, which cannot be answered within this call: {wants}"
                " Ask it again with all of it in one message, or have a person see to it."
            )
        if task.status.state != types.TaskState.TASK_STATE_COMPLETED:
            state = types.TaskState.Name(task.status.state).removeprefix("TASK_STATE_").lower()
            raise ToolError(f"{self._name} ended as {state}: {shorten(said) or 'it does not say why'}")
        answers = [text for artifact in task.artifacts if (text := _text(artifact.parts))]
        return "\n\n".join(answers) or said or _last_word(task)

    def _abandon(self, task: types.Task, headers: Mapping[str, str]) -> None:
        if task.id and task.status.state not in OVER:
            self._tasks.spawn("cancel", self._cancel(task.id, headers))

    async def _cancel(self, task_id: str, headers: Mapping[str, str]) -> None:
        with contextlib.suppress(ToolError, TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS), self._client(headers) as client:
                with self._told():
                    await client.cancel_task(types.CancelTaskRequest(id=task_id))

    @contextlib.asynccontextmanager
    async def _client(self, headers: Mapping[str, str]) -> AsyncIterator[Client]:
        async with self._http(headers) as http:
            card = await self._card(http)
            config = ClientConfig(httpx_client=http, supported_protocol_bindings=BINDINGS)
            try:
                client = ClientFactory(config).create(card)
            except ValueError as error:
                spoken = " and ".join(BINDINGS)
                raise ToolError(f"{self._name} is asked by {spoken}, and its card names neither") from error
            yield client

    def _http(self, headers: Mapping[str, str]) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers=dict(headers),
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),  # the call's own time bounds the rest
            transport=_Bounded(httpx.AsyncHTTPTransport(verify=_authorities())),
            trust_env=False,
        )

    async def _card(self, http: httpx.AsyncClient) -> types.AgentCard:
        base, path = self._url, None
        if urlsplit(base).path.endswith(".json"):
            base, _, path = base.rpartition("/")
        try:
            card = await A2ACardResolver(http, base).get_agent_card(path)
        except (A2AClientError, TooLong) as error:
            raise self._unreached(error) from error
        for interface in card.supported_interfaces:
            interface.url = _at(self._url, interface.url)
        return card

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Have what goes wrong while the agent is asked raised as ToolError."""
        try:
            yield
        except A2AClientError as error:
            raise self._failed(error, error.__cause__) from error
        except A2AError as error:
            raise ToolError(f"{self._name} refuses: {shorten(str(error))}") from error
        except (httpx.HTTPError, TooLong, ValueError, json_format.Error) as error:
            raise self._failed(error, error) from error

    def _failed(self, error: Exception, cause: BaseException | None) -> ToolError:
        where = f"{self._name} at {shown(self._url)}"
        if cause is None:
            return ToolError(f"{self._name} refuses: {shorten(str(error))}")
        if isinstance(cause, httpx.HTTPStatusError):
            return self._refused(cause.response.status_code)
        if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout):
            return ToolError(f"{where} cannot be reached; check that it is there")
        if isinstance(cause, TooLong):
            return ToolError(f"{where} answers with more than {MAX_BYTES >> 20} MiB", unknown=True)
        what = type(cause).__name__
        message = f"{where} broke off, or answers what is no A2A ({what}); what became of it is not known"
        return ToolError(message, unknown=True)

    def _refused(self, status: int) -> ToolError:
        where = f"{self._name} at {shown(self._url)}"
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return ToolError(f"{where} does not let this agent in ({status}); check the headers of the tool")
        later = status in _LATER
        how = "try again later" if later else "check the endpoint of the tool"
        return ToolError(f"{where} answers {status}; {how}", unknown=status >= 500 and not later)

    def _unreached(self, error: Exception) -> ToolError:
        """Its card cannot be had, so it was not asked anything."""
        status = getattr(error, "status_code", None)
        if status is not None:
            return ToolError(str(self._refused(status)))
        where = shown(self._url)
        if isinstance(error.__cause__, httpx.RequestError):
            return ToolError(f"{self._name} at {where} cannot be reached; check that it is there")
        return ToolError(f"{self._name}: what is at {where} is no agent's card; check the endpoint of the tool")


class TooLong(httpx.StreamError):
    """An answer is larger than it may be."""

    def __init__(self) -> None:
        super().__init__("the answer is too long")


class _Counted(httpx.AsyncByteStream):
    """An answer's bytes, up to the most that there may be."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > MAX_BYTES:
                raise TooLong
            yield chunk

    async def aclose(self) -> None:
        """See httpx."""
        await self._stream.aclose()


class _Bounded(httpx.AsyncBaseTransport):
    """Gives answers of as many bytes as they may have. None is packed: what comes is what is counted."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx."""
        request.headers["accept-encoding"] = "identity"
        answer = await self._inner.handle_async_request(request)
        answer.headers.pop("content-encoding", None)
        if isinstance(answer.stream, httpx.AsyncByteStream):
            answer.stream = _Counted(answer.stream)
        return answer

    async def aclose(self) -> None:
        """See httpx."""
        await self._inner.aclose()


@functools.cache
def _authorities() -> ssl.SSLContext:
    """Whom this machine trusts, read once: it takes longer than a call."""
    return ssl.create_default_context()


def _at(base: str, named: str) -> str:
    """The address that a card names, at the host that the author named and not less protected than there."""
    home, there = urlsplit(base), urlsplit(named)
    if there.hostname == home.hostname and there.scheme in {"https", home.scheme}:
        return named
    return urlunsplit(there._replace(scheme=home.scheme, netloc=home.netloc))


def _taken(event: types.StreamResponse, task: types.Task) -> None:
    """Bring what is known of a task up to what was told of it."""
    match event.WhichOneof("payload"):
        case "task":
            task.CopyFrom(event.task)
        case "status_update":
            task.id = event.status_update.task_id
            task.status.CopyFrom(event.status_update.status)
        case "artifact_update":
            told = event.artifact_update
            task.id = told.task_id
            known = next((each for each in task.artifacts if each.artifact_id == told.artifact.artifact_id), None)
            if known is None:
                task.artifacts.append(told.artifact)
            elif told.append:
                known.parts.extend(told.artifact.parts)
            else:
                known.CopyFrom(told.artifact)


def _text(parts: Iterable[types.Part]) -> str:
    """What a model can read of it: text that came in pieces is one."""
    found = []
    for part in parts:
        match part.WhichOneof("content"):
            case "text":
                found.append(part.text)
            case "data":
                found.append(json_format.MessageToJson(part.data, indent=None))
            case _:
                found.append(f"[a file that is not shown: {part.filename or part.media_type or 'without a name'}]")
    return "".join(found)


def _last_word(task: types.Task) -> str:
    said = [_text(message.parts) for message in task.history if message.role == types.Role.ROLE_AGENT]
    return said[-1] if said else ""
