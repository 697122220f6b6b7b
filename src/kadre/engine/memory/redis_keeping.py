"""What a Redis server keeps of what it has acknowledged, as far as it says so: Redis is as durable as its file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec

from kadre.base.problems import Problem
from kadre.engine.memory.redis_link import Link, Refusal

AS_FSYNC = {
    "always": "",
    "everysec": "up to a second of what it acknowledged is lost where its machine fails",
    "no": "what it acknowledged in the half minute before is lost where its machine fails",
}
"""What each value of appendfsync may lose. Where its process alone dies, none loses anything."""


class Keeping(msgspec.Struct, frozen=True):
    """The server's settings that count here; None: it does not say."""

    appends: bool | None = None
    """appendonly: whether every write goes to a file."""
    fsync: str | None = None
    """appendfsync: when that file is flushed."""
    evicts: str | None = None
    """maxmemory-policy; `noeviction` refuses writes instead of forgetting."""
    limited: bool = False
    """Whether maxmemory is set: until then there is nothing to forget for."""

    @property
    def durable(self) -> bool:
        """Whether what was acknowledged survives the server's process, as far as the server says."""
        return bool(self.appends) and not (self.limited and self._forgets("allkeys"))

    def _forgets(self, which: str) -> bool:
        return self.evicts is not None and self.evicts.startswith(which)

    def problems(self, name: str) -> Iterator[Problem]:
        """What it may lose, and how that is mended; `name`: of the journal."""
        if self.appends is None:
            message = f"{name}: the server does not say whether it keeps what it acknowledged (appendonly)"
            fix = "let the user ask it INFO, or see that appendonly is yes"
            yield Problem("JournalMayForget", message, fix=fix, severity="warning")
        elif not self.appends:
            message = f"{name}: the server writes no file (appendonly no): conversations are lost where it restarts"
            yield Problem("JournalMayForget", message, fix="set appendonly yes on the server", severity="warning")
        elif loss := AS_FSYNC.get(self.fsync or "", AS_FSYNC["everysec"]):
            message = f"{name}: appendfsync is {self.fsync or 'not told, everysec where nobody changed it'}: {loss}"
            yield Problem(
                "JournalMayForget", message, fix="where that counts, set appendfsync always", severity="warning"
            )
        if loss := self._evicted():
            when = "when its memory is full" if self.limited else "once maxmemory is set and that is full"
            message = f"{name}: the server throws {loss} away {when} (maxmemory-policy {self.evicts})"
            yield Problem("JournalMayForget", message, fix="set maxmemory-policy noeviction", severity="warning")

    def _evicted(self) -> str:
        if self._forgets("allkeys"):
            return "conversations"
        return "large values that wait for their event" if self._forgets("volatile") else ""


async def look(link: Link) -> Keeping:
    """What the server says of itself. What this user may not ask for is None."""
    told: dict[str, str] = {}
    for words in (("INFO",), ("CONFIG", "GET", "append*"), ("CONFIG", "GET", "maxmemory*")):
        with contextlib.suppress(Refusal):
            told.update(_read(await link.ask(*words)))
    appends = told.get("appendonly", told.get("aof_enabled"))
    limited = told.get("maxmemory", "0") != "0"
    policy = told.get("maxmemory-policy", told.get("maxmemory_policy"))
    return Keeping(
        appends=None if appends is None else appends in ("yes", "1"),
        fsync=told.get("appendfsync"),
        evicts=policy,
        limited=limited,
    )


def _read(answer: bytes | dict[bytes, bytes]) -> dict[str, str]:
    if isinstance(answer, dict):
        return {name.decode(): value.decode() for name, value in answer.items()}
    lines = (line.partition(":") for line in answer.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}
