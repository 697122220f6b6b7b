"""Sessions in which something was said: looked for in the conversations themselves, the latest used first.

Bounded by sessions, runs and time, and it tells whether it stopped before the end. No store does anything for it that
is not done anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from kadre.base.clock import Clock
from kadre.engine import events as ev
from kadre.engine.memory.port import Journal, SessionInfo

MAX_QUERY = 200
"""Characters that are looked for."""
MAX_SESSIONS = 1000
"""Sessions that are looked through, the latest used."""
MAX_RUNS = 200
"""Runs of each that are, the latest."""
SECONDS = 5.0
AROUND = 60
"""Characters that are told before and after what was found."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A session, and where in it: the beginning and end of what was said around the latest place."""

    session: SessionInfo
    excerpt: str = ""


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What was found; `complete`: nothing was left unlooked at."""

    found: Sequence[Found]
    complete: bool


async def search(
    journal: Journal, text: str, clock: Clock, *, agent: str | None = None, caller: str | None = None, limit: int = 100
) -> Search:
    """At most `limit` sessions whose title or conversation has the text, whatever its case.

    A conversation is what users and the model said, in runs that have ended. Of texts too large for an event the
    beginning counts.
    """
    wanted, ends = text.casefold(), clock.monotonic() + SECONDS
    sessions = await journal.sessions(agent=agent, caller=caller, limit=MAX_SESSIONS + 1)
    found: list[Found] = []
    for number, session in enumerate(sessions):
        if number == MAX_SESSIONS or clock.monotonic() > ends:
            return Search(found=found, complete=False)
        excerpt = session.title if wanted in session.title.casefold() else await _said(journal, session, wanted)
        if excerpt:
            found.append(Found(session=session, excerpt=excerpt))
            if len(found) == limit:
                return Search(found=found, complete=number + 1 == len(sessions))
    return Search(found=found, complete=True)


async def _said(journal: Journal, session: SessionInfo, wanted: str) -> str:
    events = await journal.history(session.agent, session.session_id, session.runs + 1, MAX_RUNS)
    return await asyncio.to_thread(_looked_through, events, wanted)  # long ones take a while, and turns go on


def _looked_through(events: Sequence[ev.Event], wanted: str) -> str:
    for event in reversed(events):
        if isinstance(event, ev.UserMessage | ev.AssistantMessage):
            place = event.content.casefold().find(wanted)
            if place >= 0:
                return _excerpt(event.content, place, len(wanted))
    return ""


def _excerpt(text: str, place: int, length: int) -> str:
    """What is around the place, on one line."""
    start, end = max(0, place - AROUND), place + length + AROUND
    shown = " ".join(text[start:end].split())
    return f"{'…' if start else ''}{shown}{'…' if end < len(text) else ''}"
