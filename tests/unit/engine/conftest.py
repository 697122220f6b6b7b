"""Fixtures of the engine's tests."""

from __future__ import annotations

import pytest

from tests.support.scene import Asking, Scene


@pytest.fixture
def scene() -> Scene:
    """A host with one store and a clock that stands still."""
    return Scene()


@pytest.fixture
def asking() -> type[Asking]:
    """Functions that a person must approve."""
    return Asking
