"""A session from its beginning to its end, told as it is read: JSON, a message a line, or text for people."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any

import msgspec

from kadre.base.errors import NotFound
from kadre.engine import events as ev
from kadre.engine.memory import conversation, pages, spill
from kadre.engine.memory.port import Journal, RunInfo, SessionInfo, age
from kadre.engine.messages import Message

PAGE = 1000
"""Runs that are listed at once."""
GONE = "*What was said before that is not kept any more.*"
_encode = msgspec.json.Encoder().encode


def none(session_id: str) -> NotFound:
    """What is said of a session that is not there, or is another's."""
    return NotFound(f"there is no session {session_id!r}", reason="NoSuchSession")


async def as_json(journal: Journal, session: SessionInfo) -> AsyncIterator[bytes]:
    """The session's JSON. `complete`: nothing of it is forgotten. Raises NotFound where it is forgotten meanwhile."""
    head = {"session_id": session.session_id, "agent": session.agent, "title": session.title}
    yield _encode(head)[:-1] + b',"messages":['
    comma = b"\n"
    async for message in _messages(journal, session):
        yield comma + _encode(message)
        comma = b",\n"
    yield b'\n],"runs":['
    comma, orders = b"\n", set[int]()
    async for run in _runs(journal, session):
        yield comma + _encode(run)
        comma = b",\n"
        orders.add(run.order)
    yield b'\n],"complete":%s}\n' % _encode(_are_all(orders, session))


async def as_markdown(journal: Journal, session: SessionInfo) -> AsyncIterator[bytes]:
    """The same as text. What was said stands as it was said; calls and what they gave are code."""
    name = f"Session {session.session_id} of {session.agent}"
    yield (f"# {session.title}\n\n{name}" if session.title else f"# {name}").encode()
    async for message in _messages(journal, session):
        yield f"\n\n{_part(msgspec.to_builtins(message))}".encode()
    orders = {run.order async for run in _runs(journal, session)}
    yield ("\n" if _are_all(orders, session) else f"\n\n{GONE}\n").encode()


def _are_all(orders: Collection[int], session: SessionInfo) -> bool:
    """Whether these are all runs that the session had: later ones may have come meanwhile, and early ones have gone."""
    return all(order in orders for order in range(1, session.runs + 1))


async def _messages(journal: Journal, session: SessionInfo) -> AsyncIterator[Message]:
    """What was said in runs that have ended, whole: as it was said, whatever the model is told of it by now."""
    begun = False
    async for run in pages.said(journal, session.agent, session.session_id, session.runs + 1):
        whole: list[ev.Event] = []
        for event in run:
            if isinstance(event, ev.Summary):
                continue
            told = await spill.restore(journal, event)
            if begun and isinstance(told, ev.UserMessage):  # what the caller brought repeats what is already here
                told = msgspec.structs.replace(told, history=())
            whole.append(told)
        for message in conversation.told(whole):
            begun = True
            yield message


async def _runs(journal: Journal, session: SessionInfo) -> AsyncIterator[RunInfo]:
    """The session's runs, the latest first. Raises NotFound where there is none any more."""
    before = None
    while True:
        page = await journal.runs(agent=session.agent, session_id=session.session_id, before=before, limit=PAGE)
        for run in page:
            yield run
        if before is None and not page:
            raise none(session.session_id)
        if len(page) < PAGE:
            return
        before = age(page[-1])


def _part(message: Mapping[str, Any]) -> str:
    content = message.get("content", "")
    if message["role"] == "tool":
        return f"### {message.get('name', 'tool')} answered\n\n{_fenced(content)}"
    who = {"user": "User", "assistant": "Assistant"}.get(message["role"], message["role"])
    calls = [
        f"Calls `{call['name']}`:\n\n{_fenced(call['arguments'], 'json')}" for call in message.get("tool_calls", ())
    ]
    return "\n\n".join([f"## {who}", *([content] if content else []), *calls])


def _fenced(text: str, language: str = "") -> str:
    """A block of code, its fence longer than any in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"
