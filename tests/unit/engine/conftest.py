"""Fixtures of the engine's tests."""

from __future__ import annotations

import pytest

from tests.support.scene import Asking, Pen, Scene


@pytest.fixture
def scene() -> Scene:
    """A host with one store and a clock that stands still."""
    return Scene()


@pytest.fixture
def asking() -> type[Asking]:
    """Functions that a person must approve."""
    return Asking


@pytest.fixture
def pen() -> Pen:
    """A function that writes."""
    return Pen()
