"""What every test shares: no sockets in unit tests, and parts of a machine that a test says it needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SEEDS = ROOT.parent / "shared" / "seeds"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Unit tests open no sockets: asyncio's own pair aside, a connection is a failure."""
    for item in items:
        if "unit" in item.path.relative_to(ROOT / "tests").parts:
            item.add_marker(pytest.mark.disable_socket)


@pytest.fixture
def seeds() -> Path:
    """The folder of the documents Kadre implements; a test that reads them is skipped where they are absent."""
    if not SEEDS.is_dir():
        if os.environ.get("KADRE_REQUIRE"):
            pytest.fail("the documents are required here (KADRE_REQUIRE) and absent")
        pytest.skip("the documents are not beside this checkout")
    return SEEDS
