"""Secrets that an agent's plan reads, kept from its model: in what tools answer each is a placeholder.

A placeholder stays the same while the secret is renewed, and a tool can be called with it: it becomes the value just
before the call. Events, and the model, have the placeholder alone.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from kadre.engine import spelling
from kadre.engine.secrets import SecretReader
from kadre.engine.spelling import Form
from kadre.plan.types import AgentPlan, SecretRef

SHORTEST = 6
"""Characters of a secret, or a part of one, that is looked for: shorter ones are in any text."""
CUT = "…"
"""What `shorten` ends a text with that it has cut."""
MOST_CUTS = 64
"""Of a text that are looked at: the last, where what cut it is our own."""
MOST_TEXTS = 64
"""Of a secret that is a JSON document."""
_KNOWN = frozenset(
    {"auth_provider_x509_cert_url", "auth_uri", "client_x509_cert_url", "token_uri", "type", "universe_domain"}
)
"""Keys of JSON documents whose texts are the same in everybody's, and in any page about them: of Google's accounts."""
_NO_SECRETS = frozenset({"ca", "user_secret"})
"""Fields whose values may be known: an authority's certificate, a user's name."""


class Masks:
    """The secrets of one agent. `secrets` None: there are none.

    `played`: of a run that was recorded where they may have been there; one that is not here counts as one that is.
    """

    def __init__(
        self, plan: AgentPlan | None = None, secrets: SecretReader | None = None, *, played: bool = False
    ) -> None:
        refs = dict(_refs(plan)) if plan is not None and secrets is not None else {}
        self._readers = {name: functools.partial(secrets.read, ref) for name, ref in refs.items()} if secrets else {}
        names = "|".join(map(re.escape, self._readers))
        self._any = re.compile(rf"\[secret:(?:{names})(?::\d+)?\]") if played and names else None
        """Any placeholder of theirs, where those count whose secrets are not known."""
        self._read: dict[str, str] = {}
        self._values: dict[str, str] = {}
        """By placeholder: of every secret, and of the parts of one that are secret by themselves."""
        self._forms: list[tuple[str, list[tuple[Form, str]]]] = []
        """How values may be written, each with its placeholder, by a needle that is in whatever has one of them."""

    def hide(self, text: str) -> str:
        """The text with placeholders in the place of secrets."""
        if self._readers:
            self._look()
        return self._hide(text)

    def _hide(self, text: str) -> str:
        found = [
            (start, -end, placeholder)
            for needle, forms in self._forms
            if needle in text
            for form, placeholder in forms
            if form.needle in text
            for start, end in form.spans(text)
        ]
        if CUT in text:
            found += self._halves(text)
        return _covered(text, found) if found else text

    def _halves(self, text: str) -> Iterator[tuple[int, int, str]]:
        """What is left of secrets amid which somebody has cut a long text: their beginnings, before the mark of it."""
        for at, (placeholder, value) in itertools.product(_cuts(text), self._values.items()):
            flat = " ".join(value.split())
            start = text.find(flat[:SHORTEST], max(0, at - len(flat)), at)
            while start != -1 and not flat.startswith(text[start:at]):
                start = text.find(flat[:SHORTEST], start + 1, at)
            if start != -1:
                yield start, -at, placeholder

    def hidden(self, inside: Any) -> Any:
        """The same for all texts in JSON."""
        if self._readers:
            self._look()
        return self._hidden(inside)

    def _hidden(self, inside: Any) -> Any:
        if isinstance(inside, str):
            return self._hide(inside)
        if isinstance(inside, dict):
            return {self._hide(key): self._hidden(value) for key, value in inside.items()}
        return [self._hidden(value) for value in inside] if isinstance(inside, list) else inside

    def used(self, arguments: Any) -> tuple[str, ...]:
        """The placeholders that are in the arguments."""
        if not self._readers:
            return ()
        self._look()
        texts = list(_texts(arguments))
        found = [each for each in self._values if any(each in text for text in texts)]
        if self._any is not None:
            found += [each for text in texts for each in self._any.findall(text)]
        return tuple(dict.fromkeys(found))

    def knows(self, arguments: Any) -> bool:
        """Whether the arguments can be told from what stands in them: no placeholder is of a secret that is away."""
        return self._any is None or all(each in self._values for each in self.used(arguments))

    def reveal(self, arguments: Any) -> Any:
        """The arguments with secrets in the place of their placeholders."""
        for placeholder in self.used(arguments):
            if placeholder in self._values:
                arguments = _replaced(arguments, placeholder, self._values[placeholder])
        return arguments

    def _look(self) -> None:
        """Read all of them: they may have been renewed."""
        read = {name: reader() or "" for name, reader in self._readers.items()}
        if read == self._read:
            return
        self._read, self._values = read, {}
        for name, value in read.items():
            for number, part in enumerate(_parts(value.strip())):
                self._values[f"[secret:{name}:{number}]" if number else f"[secret:{name}]"] = part
        self._forms = _by_needle((form, name) for name, value in self._values.items() for form in spelling.forms(value))


NO_MASKS = Masks()


def _by_needle(forms: Iterable[tuple[Form, str]]) -> list[tuple[str, list[tuple[Form, str]]]]:
    """The forms, those together whose needles have that of one in them: a part of a secret and the whole of it."""
    found: list[tuple[str, list[tuple[Form, str]]]] = []
    for form, placeholder in sorted(forms, key=lambda entry: len(entry[0].needle)):
        there = next((each for needle, each in found if needle in form.needle), None)
        if there is None:
            found.append((form.needle, [(form, placeholder)]))
        else:
            there.append((form, placeholder))
    return found


def _cuts(text: str) -> Iterator[int]:
    """Where the text was cut, the last place first."""
    at = len(text)
    for _ in range(MOST_CUTS):
        at = text.rfind(CUT, 0, at)
        if at == -1:
            return
        yield at


def _covered(text: str, spans: list[tuple[int, int, str]]) -> str:
    """The text with placeholders over the spans (from, minus to): over one within another, that of the other."""
    parts, at = [], 0
    for start, minus_end, placeholder in sorted(spans, key=lambda span: span[:2]):
        if -minus_end > at:
            parts += [text[at:start], placeholder]
            at = -minus_end
    return "".join((*parts, text[at:]))


def _refs(inside: Any) -> Iterator[tuple[str, SecretRef]]:
    """Every secret that a plan names, by the name it goes by."""
    if isinstance(inside, SecretRef):
        yield (f"{inside.name}/{inside.key}" if inside.name else inside.env), inside
    elif isinstance(inside, msgspec.Struct):
        for name in inside.__struct_fields__:
            if name not in _NO_SECRETS:
                yield from _refs(getattr(inside, name))
    elif isinstance(inside, dict):
        for value in inside.values():
            yield from _refs(value)
    elif isinstance(inside, tuple | list):
        for value in inside:
            yield from _refs(value)


def _parts(value: str) -> Iterator[str]:
    """The value, then what is secret in it by itself: the texts of a JSON document, and what `_shown` finds in each."""
    inner = _document(value)
    found = [value, *(part for text in inner or (value,) for part in (text, *_shown(text)))]
    yield from (part for part in dict.fromkeys(found) if len(part) >= SHORTEST)


def _shown(value: str) -> Iterator[str]:
    """What is shown to others for a secret: of `Bearer TOKEN`, `USER:PASSWORD`, `scheme://USER:PASSWORD@…`."""
    words = value.split()
    if len(words) == 2:  # a scheme of HTTP's, and what is shown to it
        yield words[1]
    with contextlib.suppress(ValueError):
        yield unquote(urlsplit(value).password or "") if "://" in value else value.partition(":")[2]


def _document(value: str) -> list[str]:
    """The texts in a JSON document, in its order: the longest where there are many."""
    if not value.startswith(("{", "[")):
        return []
    try:
        found = list(dict.fromkeys(_texts(msgspec.json.decode(value), _KNOWN)))
    except (msgspec.DecodeError, RecursionError):
        return []
    longest = sorted(found, key=len, reverse=True)[:MOST_TEXTS]
    return [text for text in found if text in longest]


def _texts(inside: Any, without: Collection[str] = ()) -> Iterator[str]:
    if isinstance(inside, str):
        yield inside
    elif isinstance(inside, dict):
        for key, value in inside.items():
            if key not in without:
                yield from _texts(value, without)
    elif isinstance(inside, list):
        for value in inside:
            yield from _texts(value, without)


def _replaced(inside: Any, old: str, new: str) -> Any:
    if isinstance(inside, str):
        return inside.replace(old, new)
    if isinstance(inside, dict):
        return {key: _replaced(value, old, new) for key, value in inside.items()}
    return [_replaced(value, old, new) for value in inside] if isinstance(inside, list) else inside
