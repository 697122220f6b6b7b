"""A live session with an MCP server, by the official SDK.

Imported when the first server is connected to, never before: it loads the SDK. The SDK negotiates the protocol
version, keeps requests and answers together and checks messages; what is added here is which address is tried, what an
error means for a caller, and text for a model.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlsplit, urlunsplit

import mcp_types as types
import msgspec
from mcp import Client, MCPError
from mcp.client import Transport
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.message import SessionMessage

from kadre.base.errors import ToolError, shorten
from kadre.base.tasks import Tasks
from kadre.engine.messages import ToolSpec
from kadre.engine.tools import mcp_bounds, mcp_http, mcp_list
from kadre.engine.tools.mcp_bounds import MESSAGE_LIMIT, End
from kadre.engine.tools.mcp_process import Tail, serving, speaking
from kadre.engine.tools.mcp_target import Address, CallFailed, Command, Target, Why, shown
from kadre.engine.tools.port import ToolOutput

if TYPE_CHECKING:
    # The SDK gives no public name to what its public `Transport` yields; at run time nothing of it is needed.
    from mcp.client._transport import ReadStream, TransportStreams

PING_TIMEOUT = 5.0
_RELISTEN = 5.0
"""Seconds before a lost stream of change events is opened again."""
# JSON-RPC codes after which the call may have had its effect, and those after which it cannot have.
_UNKNOWN = frozenset({types.CONNECTION_CLOSED, types.REQUEST_TIMEOUT, types.PARSE_ERROR, mcp_http.LOST})
_UNSENT = frozenset({mcp_http.UNSENT, mcp_http.EXPIRED, mcp_http.BUSY})
_INFO = types.Implementation(name="kadre", version="1")

_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
log = logging.getLogger(__name__)

# The SDK logs each failure that it also reports, with a stack: callers are told, in one line.
logging.getLogger("mcp").setLevel(logging.CRITICAL)
logging.getLogger("client").setLevel(logging.CRITICAL)


class Session:
    """One initialised connection, for many calls at once.

    `ended` is set when the other side has gone, `idle` while no call is under way.
    """

    def __init__(self, name: str, client: Client, ended: End) -> None:
        self._name = name
        self.ended = ended
        self.idle = asyncio.Event()
        self.idle.set()
        self._calls = 0
        self._session = client.session

    async def tools(self, seconds: float) -> tuple[tuple[ToolSpec, ...], str]:
        """Every tool the server lists, and what people should know of those left out, if any. Raises CallFailed.

        At most that many seconds, `mcp_bounds.MAX_TOOLS`, and `mcp_bounds.LIST_LIMIT` bytes in all.
        """
        listing = mcp_list.Listing(self._name)
        cursor: str | None = None
        try:
            async with asyncio.timeout(seconds):
                for _ in range(mcp_bounds.MAX_PAGES):
                    params = types.PaginatedRequestParams(cursor=cursor) if cursor else None
                    page = await self._session.list_tools(params=params)
                    cursor = page.next_cursor
                    listing.add(map(self._spec, page.tools), more=bool(cursor))
                    if not cursor or listing.notice:
                        break
        except TimeoutError:
            raise CallFailed(f"no answer within {seconds:g} s", why="late") from None
        except MCPError as error:
            raise self._failure(error) from error
        except ValueError as error:
            raise CallFailed(f"the server's list of tools is malformed: {shorten(str(error), 200)}") from error
        if cursor and not listing.notice:
            listing.stop(f"the server's list of tools has more than {mcp_bounds.MAX_PAGES} pages")
        return tuple(listing.specs.values()), listing.notice

    def _spec(self, tool: types.Tool) -> ToolSpec:
        hints = tool.annotations
        parameters = {"type": "object", **tool.input_schema}
        if parameters["type"] != "object" or not _is_schema(parameters):
            # A provider refuses the whole request for one such schema, and the agent would be mute.
            log.warning(
                "%s: the tool %s has no valid JSON schema; it is offered with any arguments", self._name, tool.name
            )
            parameters = {"type": "object"}
        return ToolSpec(
            name=tool.name,
            description=tool.description or tool.title or "",
            parameters=parameters,
            read_only=hints.read_only_hint if hints else None,
            idempotent=bool(hints and hints.idempotent_hint),
            listed=True,
        )

    async def call(self, name: str, arguments: dict[str, Any], seconds: float) -> ToolOutput:
        """Call a tool, waiting at most that many seconds. Raises CallFailed."""
        # Not `call_tool`: it would hold an answer back because it strays from the tool's own schema.
        request = types.CallToolRequest(params=types.CallToolRequestParams(name=name, arguments=arguments))
        self._calls += 1
        self.idle.clear()
        try:
            result = await self._session.send_request(request, types.CallToolResult, seconds)
        except MCPError as error:
            if error.code == types.REQUEST_TIMEOUT:
                message = f"{name} gave no answer within {seconds:g} s"
                raise CallFailed(message, unknown=True, why="late") from error
            if error.code == types.CONNECTION_CLOSED:
                why = self.ended.why or ("" if self.ended.is_set() else shorten(error.message, 200))
                message = f"the connection ended before {name} had answered{': ' if why else ''}{why}"
                large: Why = "large" if mcp_bounds.says_too_large(why) else ""
                raise CallFailed(message, unknown=True, broken=self.ended.is_set(), why=large) from error
            raise self._failure(error) from error
        except ValueError as error:
            raise CallFailed(f"{name} answered in a form that is not understood", unknown=True) from error
        finally:
            self._calls -= 1
            if not self._calls:
                self.idle.set()
        return ToolOutput(_text(result), bool(result.is_error))

    async def alive(self) -> bool:
        """Whether anything comes back for a ping, be it an error: False means that the server is stuck."""
        with suppress(MCPError, ValueError):
            try:
                async with asyncio.timeout(PING_TIMEOUT):
                    await self._session.send_request(types.PingRequest(), types.EmptyResult)
            except TimeoutError:
                return False
        return True

    def _failure(self, error: MCPError) -> CallFailed:
        unsent = error.code in _UNSENT
        broken = error.code == mcp_http.EXPIRED or self.ended.is_set()
        message, unknown = shorten(error.message) or f"error {error.code}", error.code in _UNKNOWN
        why: Why = "away" if error.code == mcp_http.AWAY else ""
        if unknown and mcp_bounds.says_too_large(message):
            why = "large"
        return CallFailed(message, unknown=unknown, broken=broken, unsent=unsent, why=why)


@asynccontextmanager
async def connected(name: str, target: Target, changed: Callable[[], None], seconds: float) -> AsyncIterator[Session]:
    """A session with the target; `changed` is called when its tools may have. Enter and leave it in one task.

    Raises ToolError where no session comes about within that many seconds: CallFailed where nobody listens there.
    """
    ended = End()
    watch = _Watch(name, changed, ended)
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(seconds):
                if isinstance(target, Address):
                    client = await _by_address(stack, target, watch)
                else:
                    client = await _by_command(stack, target, watch)
        except TimeoutError:
            raise ToolError(f"{name}: no answer from the MCP server within {seconds:g} s") from None
        except CallFailed as error:
            raise error.of(name) from error
        except ToolError as error:
            raise ToolError(f"{name}: {error}") from error
        except Exception as error:
            raise ToolError(f"{name}: {_said(_innermost(error))}") from error
        tasks = Tasks(f"mcp/{name}")
        tasks.spawn("changes", _listen(client, changed))
        stack.push_async_callback(tasks.aclose)
        yield Session(name, client, ended)


class _Watch(NamedTuple):
    """What is watched of one server's connection."""

    name: str
    changed: Callable[[], None]
    ended: End


async def _by_address(stack: AsyncExitStack, target: Address, watch: _Watch) -> Client:
    def sse_http(*_: object, **__: object) -> mcp_http.SseClient:
        return mcp_http.SseClient(target.url, target.headers, watch.ended)

    tried, refused = [], False
    for url, kind in candidates(target):
        try:
            async with AsyncExitStack() as attempt:
                if kind == "http":
                    http = await attempt.enter_async_context(mcp_http.Client(target.url, target.headers))
                    transport: Transport = streamable_http_client(
                        url, http_client=http, max_sse_event_size=MESSAGE_LIMIT
                    )
                else:
                    transport = sse_client(url, httpx_client_factory=sse_http)
                client = await _enter(attempt, transport, watch)
                stack.push_async_exit(attempt.pop_all())
                return client
        except Exception as raised:  # noqa: BLE001 - each transport has its own; all mean "not here, not so"
            watch.ended.clear()
            error = _innermost(raised)
            tried.append(f"{shown(url)} ({_said(error)})")
            refused = isinstance(error, mcp_http.NOT_SENT)
            if isinstance(error, MCPError) and error.code == mcp_http.UNSENT:
                refused = True
                break
    message = f"no MCP server at {' nor '.join(tried)}"
    raise CallFailed(message, unsent=True) if refused else ToolError(message)


async def _by_command(stack: AsyncExitStack, target: Command, watch: _Watch) -> Client:
    ended = watch.ended
    tail = await stack.enter_async_context(Tail(watch.name))
    try:
        if target.serves == "http":
            url = await stack.enter_async_context(serving(target, tail, ended))
            return await _by_address(stack, Address(url), watch)
        return await _enter(stack, speaking(target, tail, ended), watch)
    except FileNotFoundError as error:
        raise ToolError(f"there is no program {target.command}") from error
    except Exception as error:
        said = await tail.read()
        raise ToolError(f"its process does not start: {said or ended.why or _said(_innermost(error))}") from error
    finally:
        tail.release()


async def _enter(stack: AsyncExitStack, transport: Transport, watch: _Watch) -> Client:
    def seen(message: SessionMessage | Exception) -> None:
        if isinstance(message, SessionMessage):
            mcp_list.leave_out_malformed(watch.name, message.message, lambda: client.session.protocol_version)

    async def on_message(message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            watch.changed()

    watched = _watched(transport, watch.ended, seen)
    client = Client(watched, message_handler=on_message, client_info=_INFO, cache=None)
    return await stack.enter_async_context(client)


def candidates(target: Address) -> list[tuple[str, str]]:
    """The addresses to try, in order, each with its transport."""
    kinds = ("http", "sse") if target.transport == "auto" else (target.transport,)
    parts = urlsplit(target.url)
    if parts.path in ("", "/"):
        path = {"http": "/mcp", "sse": "/sse"}
        return [(urlunsplit(parts._replace(path=path[kind])), kind) for kind in kinds]
    if target.transport == "auto" and parts.path.rstrip("/").endswith("/sse"):
        kinds = ("sse", "http")
    return [(target.url, kind) for kind in kinds]


def _innermost(error: BaseException) -> BaseException:
    """The first exception of a group of groups: the SDK's task groups wrap what happened."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _said(error: BaseException) -> str:
    return shorten(str(error), 300) or type(error).__name__


class _Watched:
    """A transport's incoming stream that tells when it ends: the SDK has no other word for it than failing calls.
    `seen` is called with each message before the SDK is."""

    def __init__(
        self,
        inner: ReadStream[SessionMessage | Exception],
        ended: End,
        seen: Callable[[SessionMessage | Exception], None],
    ) -> None:
        self._inner = inner
        self._ended = ended
        self._seen = seen

    async def receive(self) -> SessionMessage | Exception:
        message = await self._inner.receive()
        self._seen(message)
        return message

    async def aclose(self) -> None:
        await self._inner.aclose()

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            message = await self._inner.__anext__()
        except BaseException:
            self._ended.set()
            raise
        self._seen(message)
        return message

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:  # noqa: PYI036 - handed on as they are
        return await self._inner.__aexit__(*error)


@asynccontextmanager
async def _watched(
    transport: Transport, ended: End, seen: Callable[[SessionMessage | Exception], None]
) -> AsyncIterator[TransportStreams]:
    async with transport as (read, write):
        yield _Watched(read, ended, seen), write


async def _listen(client: Client, changed: Callable[[], None]) -> None:
    """Newer servers tell of changes on a stream that must be asked for; older ones say so unasked."""
    tools = client.server_capabilities.tools
    if client.session.discover_result is None or tools is None or not tools.list_changed:
        return
    while True:
        try:
            async with client.listen(tools_list_changed=True) as events:
                async for _ in events:
                    changed()
        except SubscriptionLost:
            pass
        except MCPError as error:
            if error.code not in _UNKNOWN | _UNSENT | {mcp_http.AWAY}:
                return
        # What happened between two streams is not told.
        changed()
        await asyncio.sleep(_RELISTEN)


def _is_schema(value: Any) -> bool:
    """Whether it is a JSON schema, by the words providers look at: a whole check takes milliseconds a tool."""
    if not isinstance(value, dict):
        return isinstance(value, bool)
    kinds, properties = value.get("type", []), value.get("properties", {})
    required, items = value.get("required", []), value.get("items", True)
    return (
        _are(str, [kinds] if isinstance(kinds, str) else kinds)
        and (kinds in _TYPES if isinstance(kinds, str) else _TYPES.issuperset(kinds))
        and isinstance(properties, dict)
        and _are(str, required)
        and all(_is_schema(inner) for inner in properties.values())
        and all(_is_schema(inner) for inner in (items if isinstance(items, list) else [items]))
    )


def _are(kind: type, values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _text(result: types.CallToolResult) -> str:
    """The result as a model reads it: its texts, a name for everything that is none, else its structured content."""
    parts = [_part(block) for block in result.content]
    if not parts and result.structured_content is not None:
        return msgspec.json.encode(result.structured_content).decode()
    return "\n".join(parts)


def _part(block: types.ContentBlock) -> str:
    match block:
        case types.TextContent():
            return block.text
        case types.ImageContent() | types.AudioContent():
            return f"[{block.type} {block.mime_type}, {_size(block.data)}]"
        case types.ResourceLink():
            return f"[resource {block.name}: {block.uri}]"
        case types.EmbeddedResource():
            inner = block.resource
            if isinstance(inner, types.TextResourceContents):
                return inner.text
            return f"[resource {inner.uri}, {_size(inner.blob)}]"


def _size(base64: str) -> str:
    return f"{len(base64) * 3 // 4} bytes"
