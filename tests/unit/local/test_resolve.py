"""From files to plans: what of the surroundings they may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kadre.base.problems import errors
from kadre.local import resolve as resolving
from kadre.local.resolve import resolve
from kadre.local.resolved import Resolved
from kadre.plan.types import ApiTool, ModelPlan, Override

AGENT = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: a}
spec:
  model: {provider: openai, name: m, apiKeySecretRef: {name: any, key: KEY}}
"""


@pytest.mark.parametrize(("key", "found"), [("GITHUB_TOKEN", False), ("OPENAI_API_KEY", True)])
def test_of_the_environment_a_manifest_gets_its_providers_key_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, found: bool
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv(key, "of the shell")
    (tmp_path / "a.yaml").write_text(AGENT.replace("KEY", key))
    made = resolve((str(tmp_path),))
    assert [problem.reason for problem in errors(made.problems)] == ([] if found else ["MissingSecret"])
    assert made.env == {}
    assert made.exported.get(key) == ("of the shell" if found else None)
    (tmp_path / ".env").write_text(f"{key}=of the file\n")
    made = resolve((str(tmp_path),))
    assert (errors(made.problems), made.env) == ([], {key: "of the file"})


SCRIPTED = """
apiVersion: kagent.dev/v1alpha1
kind: ModelConfig
metadata: {name: mine}
spec: {provider: scripted, model: m, rules: rules.yaml}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: a}
spec: {modelConfig: mine}
"""


@pytest.mark.parametrize("by_flag", [False, True])
def test_a_file_of_rules_is_no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_flag: bool) -> None:
    monkeypatch.chdir(tmp_path)
    agent = SCRIPTED.replace("rules: rules.yaml", "temperature: 0.5") if by_flag else SCRIPTED
    (tmp_path / "a.yaml").write_text(agent)
    (tmp_path / "rules.yaml").write_text("- say: one\n")
    model = ModelPlan(provider="scripted", model="scripted", rules="rules.yaml")
    override = Override(model=model) if by_flag else Override()

    def made() -> Resolved:
        return resolve((str(tmp_path),), override)

    first = made()
    assert first.problems == []
    (tmp_path / "rules.yaml").write_text("- say: two\n")
    second = made()
    assert second.problems == []
    assert first.fingerprint != second.fingerprint
    assert first.plans != second.plans  # so that its agent is made anew
    (tmp_path / "rules.yaml").write_text("- say: two\n  match: '('\n")
    (problem,) = made().problems
    assert (problem.severity, problem.source.file.rpartition("/")[2]) == ("error", "rules.yaml")
    assert "regular expression" in problem.message
    (tmp_path / "rules.yaml").unlink()
    (problem,) = made().problems
    assert "the rules file cannot be read" in problem.message


def test_the_folder_of_the_rules_is_watched(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "a.yaml").write_text(SCRIPTED.replace("rules.yaml", "../rules.txt"))
    (tmp_path / "rules.txt").write_text("- say: one\n")
    made = resolve((str(tmp_path / "agents"),))
    assert {Path(folder).resolve() for folder in made.folders} == {tmp_path, tmp_path / "agents"}
    assert {Path(file).name for file in made.files} == {"a.yaml", "rules.txt"}


SHOP = """
openapi: 3.0.3
paths:
  /orders:
    get: {operationId: listOrders}
"""
DESK = """
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {name: shop}
spec:
  type: api
  api: {endpoint: "http://shop:8080/v1", fromOpenAPI: {file: apis/shop.yaml}}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: a}
spec: {model: {provider: scripted, name: m}, tools: [shop]}
"""


@pytest.mark.requirement("tool-api-openapi")
def test_an_openapi_file_beside_the_manifest_becomes_tools_and_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "apis").mkdir()
    (tmp_path / "a.yaml").write_text(DESK)
    shop = tmp_path / "apis" / "shop.yaml"
    shop.write_text(SHOP)
    first = resolve((str(tmp_path),))
    assert first.problems == []
    (tool,) = first.plans[0].tools
    assert isinstance(tool, ApiTool)
    assert (tool.name, tool.endpoint) == ("listOrders", "http://shop:8080/v1/orders")
    shop.write_text(SHOP.replace("listOrders", "allOrders"))
    second = resolve((str(tmp_path / "a.yaml"),))
    assert [each.name for each in second.plans[0].tools] == ["allOrders"]
    assert first.fingerprint != second.fingerprint
    assert {Path(folder).resolve() for folder in second.folders} == {tmp_path, tmp_path / "apis"}
    assert str(shop) in second.files


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the OpenAPI document cannot be read: No such file or directory"),
        (b"\xff\xfe", "the OpenAPI document is not UTF-8"),
        (b"paths: [", "this is not YAML"),
        (b"swagger: '2.0'", "this is no OpenAPI 3 document"),
    ],
)
def test_an_openapi_file_that_cannot_be_used_is_told_at_its_place(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    (tmp_path / "a.yaml").write_text(DESK.replace("apis/shop.yaml", "shop.txt"))
    if content is not None:
        (tmp_path / "shop.txt").write_bytes(content)
    (problem,) = errors(resolve((str(tmp_path),)).problems)
    assert said in problem.message
    assert problem.source.file.rpartition("/")[2] in {"a.yaml", "shop.txt"}
    assert problem.source.line > 0


def test_an_openapi_file_may_be_just_as_large_as_a_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "MAX_FILE", 1000)
    (tmp_path / "a.yaml").write_text(DESK.replace("apis/shop.yaml", "shop.txt"))
    (tmp_path / "shop.txt").write_text(SHOP + "#" * 1000)
    (problem,) = errors(resolve((str(tmp_path),)).problems)
    assert (problem.reason, problem.path) == ("UnusableFile", "spec.api.fromOpenAPI.file")


def test_an_openapi_file_that_is_a_pipe_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(DESK.replace("apis/shop.yaml", "shop.txt"))
    os.mkfifo(tmp_path / "shop.txt")  # of which nobody writes into the other end
    (problem,) = errors(resolve((str(tmp_path),)).problems)
    assert problem.message == "the OpenAPI document is a folder, a pipe or a device"
