"""The chart's values: each is described, has the default that is told, and is spelt as the documents spell it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kadre.plan.providers import PROVIDERS
from scripts import chart_page
from tests.architecture import code

pytestmark = pytest.mark.requirement("chart-values-described")

SCHEMA = dict(chart_page.rows(chart_page.schema()))
DEFAULTS = chart_page.defaults()


def leaves(values: Any, path: str = "") -> Iterator[str]:
    """Paths of values, as far down as the schema names them."""
    if isinstance(values, dict) and values and SCHEMA.get(path, {"properties": True}).get("properties"):
        for name, value in values.items():
            yield from leaves(value, f"{path}.{name}" if path else name)
    else:
        yield path


def test_every_value_is_described() -> None:
    assert sorted(set(leaves(DEFAULTS)) - SCHEMA.keys()) == []
    assert [path for path, entry in SCHEMA.items() if not entry["description"].endswith(".")] == []


def test_every_value_has_a_default() -> None:
    named = {path for path, entry in SCHEMA.items() if not entry.get("properties")} - {"global"}
    assert sorted(named - set(leaves(DEFAULTS))) == []


def test_nothing_that_is_not_described_is_taken() -> None:
    groups = {"": chart_page.schema()} | {path: entry for path, entry in SCHEMA.items() if entry.get("properties")}
    assert [path for path, entry in groups.items() if entry.get("additionalProperties") is not False] == []


def test_every_provider_that_takes_a_key_or_an_address_can_be_given_them() -> None:
    given = {
        provider: defaults for provider, defaults in PROVIDERS.items() if defaults.key_env or defaults.endpoint_env
    }
    assert DEFAULTS["providers"].keys() == given.keys()
    for provider, defaults in given.items():
        value = DEFAULTS["providers"][provider]
        assert value.get("existingSecretKey", "") == defaults.key_env
        assert ("endpoint" in value) == bool(defaults.endpoint_env)


def test_every_value_is_used_by_a_template() -> None:
    """Read, not rendered: what a value does is tested against the cluster. Groups that are passed on whole count."""
    text = "".join(path.read_text() for path in (chart_page.CHART / "templates").rglob("*") if path.is_file())
    unused = []
    for path in leaves(DEFAULTS):
        group, _, name = path.rpartition(".")
        if not re.search(rf"\.{name}\b|\"{name}\"", text) and not re.search(rf"\.{group.rpartition('.')[2]}\b", text):
            unused.append(path)
    assert unused == []


def test_its_version_is_kadres() -> None:
    chart = yaml.safe_load((chart_page.CHART / "Chart.yaml").read_text(encoding="utf-8"))
    version = code.table("pyproject.toml")["project"]["version"]
    assert chart["appVersion"].replace("-dev", ".dev0") == version


@pytest.mark.parametrize("document", ["000", "001"])
def test_every_value_that_a_document_shows_is_known(document: str, seeds: Path) -> None:
    (page,) = seeds.glob(f"{document}_*.txt")
    text = page.read_text(encoding="utf-8")
    shown = [
        yaml.safe_load(block)
        for block in re.findall(r"^```yaml\n(# (?:In )?values\.yaml.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]
    assert shown
    assert [path for values in shown for path in leaves(values) if path not in SCHEMA] == []
