"""Which agents somebody waits for just now: what may scale them up from none asks for it.

An agent is wanted from when a message for it comes, whether it has a pod or not, until the answer has ended.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from kadre.plan.types import AgentKey

Name = tuple[str, str]
"""An agent's namespace and name, as whoever scales it knows it."""


class Wanted:
    """Counts messages that wait or are being answered, by agent."""

    def __init__(self) -> None:
        self._messages: Counter[Name] = Counter()
        self._watching: dict[Name, set[asyncio.Event]] = {}

    def begins(self, agent: AgentKey) -> Callable[[], None]:
        """A message for it has come; what to call once when it has been answered, or is not going to be."""
        name = (agent.namespace, agent.name)
        self._messages[name] += 1
        for news in self._watching.get(name, ()):
            news.set()
        return partial(self._ended, name)

    def _ended(self, name: Name) -> None:
        self._messages[name] -= 1
        if not self._messages[name]:
            del self._messages[name]

    def __contains__(self, name: Name) -> bool:
        return name in self._messages

    @contextmanager
    def watched(self, name: Name) -> Iterator[asyncio.Event]:
        """Set with each message for that agent, and now where there is one."""
        news = asyncio.Event()
        self._watching.setdefault(name, set()).add(news)
        if name in self:
            news.set()
        try:
            yield news
        finally:
            self._watching[name].discard(news)
            if not self._watching[name]:
                del self._watching[name]
