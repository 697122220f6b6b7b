"""The reference is complete and true: what is generated is up to date, what is written by hand leaves nothing out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from scripts import gen
from tests.architecture import code

pytestmark = pytest.mark.requirement("reference-complete")

PAGES = gen.pages()
VARIABLE = re.compile(r"\bKADRE_[A-Z][A-Z_]*[A-Z]\b")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def _page(name: str) -> str:
    return (code.ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")


def _strings(*folders: str) -> Iterator[str]:
    """Every text in the code of these folders, docstrings included."""
    for module in code.modules(*folders):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


@pytest.mark.parametrize("path", sorted(PAGES))
def test_a_generated_file_is_what_the_generator_writes(path: str) -> None:
    written = (code.ROOT / path).read_text(encoding="utf-8")
    assert written == PAGES[path], f"{path} is out of date: run `make gen` and read what it changed"


def test_every_address_is_documented() -> None:
    routes = {
        node.args[0].value
        for module in code.modules("src/kadre/server")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and code.dotted(node.func) == "Route"
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }
    assert len(routes) > 10
    assert sorted(route for route in routes if f"{route}`" not in _page("http.md")) == []


def test_every_metric_is_documented() -> None:
    names = {text for text in _strings("src/kadre/server") if re.fullmatch(r"(agent|llm|tool)_[a-z_]+", text)}
    names = {name for name in names if name.endswith(("_total", "_seconds", "_sessions", "_per_second"))}
    assert len(names) > 5
    assert sorted(name for name in names if name not in _page("http.md")) == []


def test_every_setting_is_documented() -> None:
    used = {name for text in _strings("src") for name in VARIABLE.findall(text)}
    documented = set(VARIABLE.findall(_page("settings.md") + _page("cli.md")))
    assert sorted(used - documented) == []


def test_no_setting_is_documented_that_does_not_exist() -> None:
    used = {name for text in _strings("src", "tests") for name in VARIABLE.findall(text)}
    assert sorted(set(VARIABLE.findall(_page("settings.md"))) - used) == []


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for path in code.files():
        if not path.endswith(".md"):
            continue
        here = code.ROOT / path
        for target in LINK.findall(here.read_text(encoding="utf-8")):
            file, _, anchor = target.partition("#")
            if "://" in target:
                continue
            found = (here.parent / file) if file else here
            if not found.exists() or (anchor and anchor not in _anchors(found.read_text(encoding="utf-8"))):
                broken.append(f"{path}: {target}")
    assert broken == []


def _anchors(text: str) -> set[str]:
    """The anchors a page's headings get."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_library_has_its_reason() -> None:
    project = code.table("pyproject.toml")["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in wanted}
    table = (code.ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## Libraries")[2]
    told = {name for row in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE) for name in re.split(r"[ ,()`]+", row)}
    assert sorted(names - told) == []
