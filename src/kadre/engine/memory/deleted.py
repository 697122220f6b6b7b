"""That a session was deleted, for whoever still drives a run of it and takes what is not there for lost.

A mark in the journal's own words: a blob that no event names, kept for an hour and forgotten as any other such blob. It
has the session's name, which tells nobody what was said there, as its digest only.
"""

from __future__ import annotations

import hashlib

from kadre.base.errors import NotFound
from kadre.engine.memory.port import Journal


def mark(agent: str, session_id: str) -> bytes:
    """What is put before the session goes: whoever looks for its run later finds the one or the other."""
    return b"deleted:" + hashlib.sha256(f"{agent}|{session_id}".encode()).digest()


async def is_deleted(journal: Journal, agent: str, session_id: str) -> bool:
    """Whether the session was deleted within the last hour, or a little longer, in a journal that processes share."""
    try:
        await journal.get_blob("sha256:" + hashlib.sha256(mark(agent, session_id)).hexdigest())
    except NotFound:
        return False
    return True
