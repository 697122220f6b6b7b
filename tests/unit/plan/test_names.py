"""Names derived for models and for environments."""

from __future__ import annotations

import re

import pytest

from kadre.plan.names import secret_variable, tool_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [("researcher", "researcher"), ("my.agent", "my_agent"), ("team/agent one", "team_agent_one"), ("a_b-c", "a_b-c")],
)
def test_a_tool_name_keeps_what_every_provider_accepts(name: str, expected: str) -> None:
    assert tool_name(name) == expected


@pytest.mark.parametrize("name", ["a" * 65, "é", "a" * 300, "."])
def test_a_tool_name_fits_every_provider(name: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool_name(name))


def test_two_long_names_that_begin_alike_stay_apart() -> None:
    assert tool_name("a" * 80 + "1") != tool_name("a" * 80 + "2")


def test_a_secret_has_a_variable_for_the_laptop() -> None:
    assert secret_variable("crm-api-token", "token") == "CRM_API_TOKEN_TOKEN"
    assert secret_variable("kagent-openai", "OPENAI_API_KEY") == "OPENAI_API_KEY"
    assert secret_variable("a.b", "") == "A_B"
