"""Sizes stay small, types stay honest: the budgets of budgets.toml."""

from __future__ import annotations

import re

from tests.architecture import code

BUDGETS = code.table("tests/architecture/budgets.toml")
RAISES = {(entry["file"], entry.get("function", "")): entry for entry in BUDGETS.get("raise", [])}
# A type ignore names its code and, after a second comment sign or a dash, its reason.
IGNORE = re.compile(r"#\s*type:\s*ignore(?P<code>\[[\w, -]+\])?(?P<reason>.*)")


def _sizes() -> dict[tuple[str, str], int]:
    sizes = {}
    for module in code.modules():
        sizes[module.path, ""] = len(module.text.splitlines())
        for name, function in module.functions():
            assert function.end_lineno is not None
            sizes[module.path, name] = function.end_lineno - function.lineno + 1
    return sizes


def _budget(function: str) -> int:
    return int(BUDGETS["function_lines" if function else "file_lines"])


def test_files_and_functions_are_within_their_budget_or_a_raise_says_why() -> None:
    over = {
        f"{path} {function}".strip(): lines
        for (path, function), lines in _sizes().items()
        if lines > RAISES.get((path, function), {}).get("lines", _budget(function))
    }
    assert over == {}


def test_a_raise_has_a_reason_and_is_still_needed() -> None:
    sizes = _sizes()
    idle = [key for key, entry in RAISES.items() if not entry["reason"] or sizes.get(key, 0) <= _budget(key[1])]
    assert idle == []


def test_functions_take_few_parameters() -> None:
    over = {}
    for module in code.modules("src", "scripts", "benchmarks"):
        for name, function in module.functions():
            arguments = function.args
            names = [arg.arg for arg in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
            count = len([name for name in names if name not in {"self", "cls"}])
            if count > BUDGETS["parameters"]:
                over[f"{module.path} {name}"] = count
    assert over == {}


def test_type_ignores_are_rare_and_each_says_what_and_why() -> None:
    lines = 0
    ignores = []
    bare = []
    for module in code.modules("src", "tests", "scripts", "benchmarks"):
        if module.path.startswith("tests/architecture/"):
            continue  # this file speaks of them
        for number, line in enumerate(module.text.splitlines(), 1):
            lines += 1
            if found := IGNORE.search(line):
                ignores.append(f"{module.path}:{number}")
                if not found["code"] or not found["reason"].strip(" -#"):
                    bare.append(ignores[-1])
    assert bare == []
    assert len(ignores) <= lines / 1000 * BUDGETS["type_ignores_per_1000_lines"], ignores
