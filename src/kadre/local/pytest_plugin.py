"""Cases as tests of pytest: files whose names end in `.kadre.yaml` are collected, each is a test that plays it.

Loaded by every pytest where Kadre is installed, so that it loads nothing itself until there is a case to play.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kadre.local.testing import Tester

SUFFIX = ".kadre.yaml"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The settings, and the flag that rewrites cases."""
    parser.addini(
        "kadre_manifests",
        "Files and folders that declare the agents of *.kadre.yaml, from the folder of this file",
        type="paths",
        default=[],
    )
    parser.addini("kadre_model", "The model that cases were recorded with, as for kadre up --model", default="")
    group = parser.getgroup("kadre", "cases of Kadre's agents")
    group.addoption("--kadre-update", action="store_true", help="write how agents behave now into the cases")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A case, where the file is one by its name."""
    if not file_path.name.endswith(SUFFIX):
        return None
    return CaseFile.from_parent(parent, path=file_path)


class CaseFile(pytest.File):
    """One file."""

    def collect(self) -> Iterator[pytest.Item]:
        """The case in it."""
        yield CaseItem.from_parent(self, name=self.path.name.removesuffix(SUFFIX))


class CaseItem(pytest.Item):
    """One case."""

    def runtest(self) -> None:
        """Play it. Raises Changed."""
        from kadre.base.errors import KadreError

        tester = _tester(self.config)
        if self.config.getoption("--kadre-update"):
            try:
                tester.update(self.path)
            except KadreError as error:
                raise Changed(str(error)) from error
        verdict = tester.test(self.path)
        if not verdict.passed:
            raise Changed(verdict.why)

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """The difference alone: nobody needs to see how we found it."""
        return str(excinfo.value) if isinstance(excinfo.value, Changed) else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """See pytest.Item."""
        return self.path, None, f"case {self.name}"


class Changed(AssertionError):
    """The agent does otherwise than the case has it."""


_TESTER: pytest.StashKey[Tester] = pytest.StashKey()


def _tester(config: pytest.Config) -> Tester:
    """One for all cases: manifests are read once."""
    if _TESTER not in config.stash:
        from kadre.local.settings import UpSettings
        from kadre.local.testing import Tester

        manifests = tuple(map(str, config.getini("kadre_manifests")))
        override = UpSettings(model=config.getini("kadre_model")).override()
        config.stash[_TESTER] = Tester(manifests, override)
    return config.stash[_TESTER]
