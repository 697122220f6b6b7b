"""Writing a manifest in a test: a spec in, what the loader makes of it out."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import pytest

from kadre.api.manifest import Loaded, load
from kadre.api.resource import KAOS, NATIVE

Load = Callable[..., Loaded]


@pytest.fixture
def load_spec() -> Load:
    """`load_spec("Agent", "model: {…}")`: the manifest of one object named `it`, loaded."""

    def _load(kind: str, spec: str, *, version: str = NATIVE, name: str = "it") -> Loaded:
        body = textwrap.indent(textwrap.dedent(spec).strip("\n"), "  ")
        return load(f"apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: {name}\nspec:\n{body}\n", "it.yaml")

    return _load


@pytest.fixture
def load_kaos(load_spec: Load) -> Load:
    """`load_spec` for kinds of kaos.tools."""

    def _load(kind: str, spec: str, **more: str) -> Loaded:
        return load_spec(kind, spec, version=KAOS, **more)

    return _load
