"""Secrets that an agent's plan reads, kept from its model: in what tools answer each is a placeholder.

A placeholder stays the same while the secret is renewed, and a tool can be called with it: it becomes the value just
before the call. Events, and the model, have the placeholder alone.
"""

from __future__ import annotations

import contextlib
import functools
import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec

from kadre.engine.secrets import SecretReader
from kadre.plan.types import AgentPlan, SecretRef

SHORTEST = 6
"""Characters of a secret, or a part of one, that is looked for: shorter ones are in any text."""
_NO_SECRETS = frozenset({"ca", "user_secret"})
"""Fields whose values may be known: an authority's certificate, a user's name."""


class Masks:
    """The secrets of one agent. `secrets` None: there are none."""

    def __init__(self, plan: AgentPlan | None = None, secrets: SecretReader | None = None) -> None:
        refs = dict(_refs(plan)) if plan is not None and secrets is not None else {}
        self._readers = {name: functools.partial(secrets.read, ref) for name, ref in refs.items()} if secrets else {}
        self._read: dict[str, str] = {}
        self._values: dict[str, str] = {}
        """By placeholder: of every secret, and of the parts of one that are secret by themselves."""
        self._forms: list[tuple[str, str]] = []
        """How a value may be written, and its placeholder: the longest first, for one may be in another."""

    def hide(self, text: str) -> str:
        """The text with placeholders in the place of secrets."""
        if self._readers:
            self._look()
        for form, placeholder in self._forms:
            if form in text:
                text = text.replace(form, placeholder)
        return text

    def used(self, arguments: Any) -> tuple[str, ...]:
        """The placeholders that are in the arguments."""
        if not self._readers:
            return ()
        self._look()
        texts = list(_texts(arguments))
        return tuple(each for each in self._values if any(each in text for text in texts))

    def reveal(self, arguments: Any) -> Any:
        """The arguments with secrets in the place of their placeholders."""
        for placeholder in self.used(arguments):
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
        forms = {form: placeholder for placeholder, value in self._values.items() for form in _forms(value)}
        self._forms = sorted(forms.items(), key=lambda entry: len(entry[0]), reverse=True)


NO_MASKS = Masks()


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
    """The value, then what is secret in it by itself: of `Bearer TOKEN`, `USER:PASSWORD`, `scheme://USER:PASSWORD@…`."""
    found, words = [value], value.split()
    if len(words) == 2:  # a scheme of HTTP's, and what is shown to it
        found.append(words[1])
    with contextlib.suppress(ValueError):
        found.append(unquote(urlsplit(value).password or "") if "://" in value else value.partition(":")[2])
    yield from (part for part in dict.fromkeys(found) if len(part) >= SHORTEST)


def _forms(value: str) -> Iterator[str]:
    """How tools write a value: as it is, within JSON, within a URL, as Kubernetes shows Secrets."""
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield quote(value, safe="")
    encoded = b64encode(value.encode()).decode()
    yield encoded
    yield encoded.rstrip("=")


def _texts(inside: Any) -> Iterator[str]:
    if isinstance(inside, str):
        yield inside
    elif isinstance(inside, dict):
        for value in inside.values():
            yield from _texts(value)
    elif isinstance(inside, list):
        for value in inside:
            yield from _texts(value)


def _replaced(inside: Any, old: str, new: str) -> Any:
    if isinstance(inside, str):
        return inside.replace(old, new)
    if isinstance(inside, dict):
        return {key: _replaced(value, old, new) for key, value in inside.items()}
    return [_replaced(value, old, new) for value in inside] if isinstance(inside, list) else inside
