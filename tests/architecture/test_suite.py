"""The tests' own manners: they wait for events, not for time, and leave nothing out in silence."""

from __future__ import annotations

import ast

from tests.architecture import code

SLEEPS = {"time.sleep", "asyncio.sleep", "anyio.sleep"}
SKIPS = {"pytest.skip", "pytest.xfail", "pytest.importorskip", "pytest.mark.skip", "pytest.mark.skipif",
         "pytest.mark.xfail", "unittest.skip"}  # fmt: skip
MOCKS = {"unittest", "mock", "pytest_mock"}
# The one place that may skip: it turns a part that is absent into a skip, or a failure.
SKIPPER = "tests/conftest.py"


def test_no_test_sleeps() -> None:
    found = [
        f"{module.path}:{node.lineno}"
        for module in code.modules("tests")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and code.dotted(node.func) in SLEEPS and not _yields(node)
    ]
    assert found == []


def _yields(call: ast.Call) -> bool:
    """`asyncio.sleep(0)` waits for no time: it lets other tasks run once."""
    return len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0


def test_a_skip_names_the_part_that_is_missing() -> None:
    found = [
        f"{module.path}:{node.lineno}"
        for module in code.modules("tests")
        if module.path != SKIPPER
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and code.dotted(node) in SKIPS
    ]
    assert found == []


def test_nothing_of_ours_is_mocked() -> None:
    found = []
    for module in code.modules("tests"):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            found += [f"{module.path}:{node.lineno}" for name in names if name.split(".")[0] in MOCKS]
    assert found == []
