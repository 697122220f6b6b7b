"""Tools that are found by search: where their schemas together would take more of the model's context than they may.

What is sent with a request is derived from the run's messages alone, which its events tell: a run that is gone on with
by another process, or played again, is sent the same. The search knows words only and asks nobody, so that it finds
the same each time.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from kadre.base.errors import ToolError
from kadre.engine.messages import Message, ToolSpec
from kadre.engine.tools import parameters
from kadre.engine.tools.port import CallContext, ToolOutput

NAME = "find_tools"
MOST = 8
"""Tools that one search finds."""
MAX_QUERY = 500
"""Characters that are searched for."""
TOKEN_BYTES = 4
"""Bytes of a tool, as JSON, that are about a token."""
SEARCHED = 2000
"""Characters of a tool's description that are searched."""
NAME_WEIGHT = 3
"""How many words of a description one of a tool's name is worth."""
FOUND = "These tools can be called from now on:"
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")
# Of BM25, as everybody sets them.
_K, _B = 1.2, 0.75


class Sent(NamedTuple):
    """The tools of one request; `unsent`: tokens, about, that those would have taken which are left out."""

    specs: tuple[ToolSpec, ...]
    unsent: int = 0


def size(spec: ToolSpec) -> int:
    """Bytes of the tool as a model is sent it, about: each provider has a form of its own."""
    return len(msgspec.json.encode((spec.name, spec.description, spec.parameters)))


def over(groups: Sequence[Sequence[ToolSpec]], tokens: int, name: str = NAME) -> Finder | None:
    """What finds the tools that there is no room for in about that many tokens; None where there is room for all.

    `groups`: what comes from one place each. They are sent whole, the smallest first, while they fit: a few tools of
    one server stay in sight beside the hundreds of another.
    """
    sizes = [sum(map(size, group)) for group in groups]
    budget = tokens * TOKEN_BYTES
    if sum(sizes) <= budget:
        return None
    left, kept = budget, set[int]()
    for number in sorted(range(len(groups)), key=lambda number: sizes[number]):
        if sizes[number] > left:
            break
        left -= sizes[number]
        kept.add(number)
    always = [spec for number, group in enumerate(groups) if number in kept for spec in group]
    rest = [spec for number, group in enumerate(groups) if number not in kept for spec in group]
    return Finder(always, rest, budget, name)


class Finder:
    """A toolset of the one tool that finds others, and says what is sent with a request.

    `always`: the tools that are sent with each; `rest`: those that are once they are found, in `budget` bytes.
    """

    notice = ""
    """See Toolset."""

    def __init__(self, always: Sequence[ToolSpec], rest: Sequence[ToolSpec], budget: int, name: str = NAME) -> None:
        self.always = tuple(always)
        self.rest = {spec.name: spec for spec in rest}
        self._budget = budget
        self._sizes = {spec.name: size(spec) for spec in rest}
        self.spec = ToolSpec(
            name=name,
            description=_told(rest),
            parameters={
                "type": "object",
                "properties": {"query": {"type": "string", "maxLength": MAX_QUERY, "description": "What to look for"}},
                "required": ["query"],
                "additionalProperties": False,
            },
            read_only=True,
            idempotent=True,
            trusted=True,
            read_by_model=True,
        )
        self.unsent = max(0, sum(self._sizes.values()) - size(self.spec)) // TOKEN_BYTES
        """Tokens, about, that are saved while nothing was found."""
        self._index: _Index | None = None
        self._known: dict[tuple[str, ...], Sent] = {}

    # -- what is sent --------------------------------------------------------------------------------------------

    def sent(self, messages: Iterable[Message]) -> Sent:
        """What goes with these messages: also what was found in them, or called all the same, the latest first.

        The same tools are the same object each time, so that adapters can cache.
        """
        names = self._wanted(messages)
        known = self._known.get(names)
        if known is None:
            if len(self._known) >= 64:
                self._known.clear()
            unsent = self.unsent - sum(self._sizes[name] for name in names) // TOKEN_BYTES
            specs = (*self.always, self.spec, *(self.rest[name] for name in names))
            known = self._known[names] = Sent(specs, max(0, unsent))
        return known

    def _wanted(self, messages: Iterable[Message]) -> tuple[str, ...]:
        """In the order in which they came up first: what a provider has cached of a request stays its beginning."""
        order: dict[str, None] = {}
        latest: dict[str, None] = {}
        for message in messages:
            named = [call.name for call in message.tool_calls]
            if message.role == "tool" and message.name == self.spec.name:
                named += message.content.splitlines()
            for name in named:
                if name in self.rest:
                    order.setdefault(name)
                    latest.pop(name, None)
                    latest[name] = None
        left, kept = self._budget, set[str]()
        for name in reversed(latest):
            left -= self._sizes[name]
            if left < 0 and kept:
                break
            kept.add(name)
        return tuple(name for name in order if name in kept)

    # -- as a toolset --------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """See Toolset."""
        return True

    async def specs(self) -> Sequence[ToolSpec]:
        """See Toolset."""
        return (self.spec,)

    async def call(self, name: str, arguments: dict[str, Any], context: CallContext) -> ToolOutput:  # noqa: ARG002
        """See Toolset."""
        query = parameters.check(self.spec.parameters, arguments)["query"]
        if self._index is None:
            self._index = _Index(self.rest)
        found = self._index.search(query)
        if not found:
            raise ToolError(f"no tool has to do with {query!r}; say it in other words, or do without")
        return ToolOutput("\n".join([FOUND, *found]))

    async def aclose(self) -> None:
        """See Toolset."""


def _told(rest: Sequence[ToolSpec]) -> str:
    servers = Counter(spec.server or "others" for spec in rest)
    named = ", ".join(f"{server} ({number})" for server, number in servers.most_common(20))
    return (
        f"Finds tools that you have besides those you see, by what they do: there are {len(rest)} more, of {named}. "
        "Give a few words that their names or descriptions may have. What is found can be called in your next answer."
    )


class _Index:
    """Ranks tools by the words of their names and descriptions that a query has: BM25."""

    def __init__(self, tools: Mapping[str, ToolSpec]) -> None:
        self._words = {name: _words_of(spec) for name, spec in tools.items()}
        self._lengths = {name: sum(words.values()) for name, words in self._words.items()}
        self._mean = sum(self._lengths.values()) / max(1, len(self._lengths)) or 1.0
        self._in = Counter(word for words in self._words.values() for word in words)

    def search(self, query: str) -> list[str]:
        """Names of the best, the best first; of equal ones, that which is offered first."""
        wanted = dict.fromkeys(_words(query))
        scores = {name: self._score(name, wanted) for name in self._words}
        if query.strip() in scores:
            scores[query.strip()] = math.inf
        ranked = sorted((name for name, score in scores.items() if score > 0), key=lambda name: -scores[name])
        return ranked[:MOST]

    def _score(self, name: str, wanted: Iterable[str]) -> float:
        words, total = self._words[name], 0.0
        for word in wanted:
            often = words[word]
            if often:
                rare = math.log(1 + (len(self._words) - self._in[word] + 0.5) / (self._in[word] + 0.5))
                length = 1 - _B + _B * self._lengths[name] / self._mean
                total += rare * often * (_K + 1) / (often + _K * length)
        return total


def _words_of(spec: ToolSpec) -> Counter[str]:
    found = Counter(_words(spec.description[:SEARCHED]))
    properties = spec.parameters.get("properties")
    found.update(word for name in (properties if isinstance(properties, dict) else ()) for word in _words(name))
    for word in (*_words(spec.name), *_words(spec.server)):
        found[word] += NAME_WEIGHT
    return found


def _words(text: str) -> list[str]:
    """Its words, in lower case and without the ending that makes one many; parts of a name are words."""
    words = (word.lower() for word in _WORD.findall(text))
    return [word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words]
