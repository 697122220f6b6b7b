"""The table of promises and the tests, held against each other both ways.

Read from the tests' source and not from a collection, so that the answer is the same for one file and for the whole
suite, on one process and on several. That a marker names a promise that exists is checked while collecting.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from pathlib import Path

from tests.architecture import code

TABLE = code.table("tests/requirements.toml")
PROMISES = {promise["id"]: promise for promise in TABLE["promise"]}
FIELDS = {"id", "text", "document", "quote", "state", "until", "tests"}
# Where a test stands for a promise or for nothing. Below, a unit test may simply be of the code.
PROMISING = ("tests/doors", "tests/docs", "tests/e2e")


def _marks(decorators: list[ast.expr]) -> set[str]:
    """Promises named by `@pytest.mark.requirement(...)` among these expressions."""
    return {
        argument.value
        for mark in decorators
        if isinstance(mark, ast.Call) and code.dotted(mark.func) == "pytest.mark.requirement"
        for argument in mark.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def _tests(module: code.Module) -> dict[str, set[str]]:
    """Every test function of a module with the promises it names, by itself, its class or its module."""
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and any(code.dotted(target) == "pytestmark" for target in node.targets):
            everywhere = _marks(node.value.elts if isinstance(node.value, ast.List) else [node.value])
            break
    else:
        everywhere = set()
    found = {}
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            inherited, members = everywhere | _marks(node.decorator_list), node.body
        else:
            inherited, members = everywhere, [node]
        for member in members:
            if isinstance(member, code.Function) and member.name.startswith("test_"):
                found[f"{module.path}::{member.name}"] = inherited | _marks(member.decorator_list)
    return found


def _proof() -> tuple[dict[str, list[str]], set[str]]:
    """Promise -> what proves it, by a marker or by the table; and what the table names that is no test."""
    named = {test: promises for module in code.modules("tests") for test, promises in _tests(module).items()}
    files = {test.partition("::")[0] for test in named}
    proof = defaultdict(list)
    for test, promises in named.items():
        for promise in promises:
            proof[promise].append(test)
    told = [(name, entry) for name, promise in PROMISES.items() for entry in promise.get("tests", ())]
    for name, entry in told:
        if entry in named or entry in files:
            proof[name].append(entry)
    return proof, {entry for _, entry in told} - named.keys() - files


def test_every_promise_is_well_formed_and_told_once() -> None:
    assert [name for name, count in Counter(promise["id"] for promise in TABLE["promise"]).items() if count > 1] == []
    assert [name for name, promise in PROMISES.items() if promise.keys() - FIELDS] == []
    states = {name: (promise["state"], promise.get("until")) for name, promise in PROMISES.items()}
    wrong = [
        name
        for name, (state, until) in states.items()
        if (state, until) != ("kept", None) and not (state == "gap" and until in TABLE["subjects"])
    ]
    assert wrong == []


def test_a_kept_promise_has_a_test() -> None:
    proof, lost = _proof()
    assert lost == set()
    assert [name for name, promise in PROMISES.items() if promise["state"] == "kept" and not proof[name]] == []


def test_a_gap_that_a_test_proves_is_a_gap_no_more() -> None:
    proof, _ = _proof()
    assert {name: proof[name] for name, promise in PROMISES.items() if promise["state"] == "gap" and proof[name]} == {}


def test_a_test_at_the_doors_or_of_the_documents_keeps_a_promise() -> None:
    told = {entry for promise in PROMISES.values() for entry in promise.get("tests", ())}
    idle = [
        test
        for module in code.modules(*PROMISING)
        for test, promises in _tests(module).items()
        if not promises and told.isdisjoint({test, module.path})
    ]
    assert idle == []


def test_what_a_promise_quotes_stands_in_its_document(seeds: Path) -> None:
    documents = {path.name[:3]: path.read_text(encoding="utf-8", errors="replace") for path in seeds.iterdir()}
    assert len(documents) == 5
    lost = [
        name
        for name, promise in PROMISES.items()
        if promise["document"] != "product" and promise["quote"] not in documents[promise["document"]]
    ]
    assert lost == []
