"""From files to plans: what of the surroundings they may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from kadre.base.problems import errors
from kadre.local.resolve import resolve

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
