"""What is told of a kubeconfig that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from kadre.kube.access import Access, by_kubeconfig


def test_a_kubeconfig_that_is_no_yaml_is_told_by_its_line_and_quoted_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text('users:\n- name: me\n  user:\n    token: "SECRET-TOKEN\\q"\n')
    with pytest.raises(LookupError, match="line 4") as told:
        by_kubeconfig(file)
    assert "SECRET" not in str(told.value)
    assert told.value.__cause__ is None


def test_an_identity_does_not_show_its_token() -> None:
    assert "SECRET" not in repr(Access("https://here", None, token="SECRET"))
