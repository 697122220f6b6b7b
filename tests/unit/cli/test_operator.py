"""`kadre operator` says what is wrong with its flags before it looks for a cluster."""

from __future__ import annotations

import re

import pytest

from tests.unit.cli.conftest import Command

WRONG = [
    ("--provider-secret", "openai=kagent-openai", "write it as openai=NAME/KEY"),
    ("--provider-secret", "kagent-openai", "write it as PROVIDER=…"),
    ("--provider-secret", "opnai=a/b", "did you mean openai?"),
    ("--provider-endpoint", "gpustack=", "write it as PROVIDER=…"),
    ("--provider-endpoint", "gpustack=gpustack:80", "gpustack: an endpoint is an http or https URL"),
    ("--provider-endpoint", "gpustack=http://u:s3cret@gpustack", "gpustack: the URL says who logs in"),
]


@pytest.mark.parametrize(("flag", "value", "said"), WRONG)
def test_a_providers_flag_that_is_misspelt_is_told_with_its_form(
    command: Command, flag: str, value: str, said: str
) -> None:
    code, _, told = command("operator", flag, value)
    assert code == 2
    assert said in re.sub(r"[\s│]+", " ", told)
    assert "s3cret" not in told
