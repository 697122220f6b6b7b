"""What files say: every module says why it exists, and no file names a place that only one machine has."""

from __future__ import annotations

import ast
import re

from tests.architecture import code

# Spelt in pieces, so that this file is not among its own findings.
PLACES = {
    "a package registry's host": "|".join(
        [r"pypi\.(org|io)", "python" + r"hosted\.org", r"registry\.npm" + "js", "proxy" + r"\.golang", r"repo1?\.maven"]
    ),
    "an image registry's host": "|".join(["ghcr" + r"\.io", "docker" + r"\.io", r"quay" + r"\.io", r"gcr" + r"\.io"]),
    "a path of one machine": "|".join([r"(?<![\w.])/(root|home|work|Users)/" + r"\w"]),
}
# The lock file is a tool's; where a package comes from is its whole content.
EXEMPT = {"uv.lock"}
# Where the documents lie is known to the tests that read them and to nothing that is shipped.
SEEDS = re.compile(r"\.\./" + "shared")


def test_every_module_says_why_it_exists() -> None:
    assert [module.path for module in code.modules() if not ast.get_docstring(module.tree)] == []


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    found = []
    for path in code.files():
        if path in EXEMPT:
            continue
        try:
            text = (code.ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for what, pattern in PLACES.items():
            found += [f"{path}: {what}: {match.group()}" for match in re.finditer(pattern, text)]
    assert found == []


def test_only_tests_know_where_the_documents_lie() -> None:
    shipped = [path for path in code.files() if not path.startswith("tests/")]
    readable = [path for path in shipped if path.endswith((".py", ".md", ".yaml", ".toml", "Makefile", "run"))]
    assert [path for path in readable if SEEDS.search((code.ROOT / path).read_text(encoding="utf-8"))] == []


def test_what_a_module_exports_exists_and_is_sorted() -> None:
    wrong = []
    for module in code.modules("src"):
        names = {
            target.id: node.value
            for node in module.tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        if "__all__" not in names:
            continue
        exported = ast.literal_eval(names["__all__"])
        if list(exported) != sorted(exported) or set(exported) - _bound(module.tree):
            wrong.append(module.path)
    assert wrong == []


def _bound(tree: ast.Module) -> set[str]:
    """Names a module's top level defines or imports."""
    bound: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Assign):
            bound |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            bound.add(node.target.id)
    return bound
