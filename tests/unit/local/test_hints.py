"""What `kadre up` says to type next, which must work as it is written."""

from __future__ import annotations

import pytest

from kadre.local import hints
from kadre.plan.types import KAOS_GROUP, NATIVE_GROUP, AgentKey, AgentPlan, AgentTool, ModelPlan


def plan(name: str, *helpers: str) -> AgentPlan:
    tools = tuple(AgentTool(name=helper, agent=AgentKey("default", helper)) for helper in helpers)
    return AgentPlan(key=AgentKey("default", name), model=ModelPlan(provider="scripted", model="m"), tools=tools)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("localhost", "http://localhost:8080"),
        ("::1", "http://[::1]:8080"),
        ("::", "http://[::1]:8080"),
    ],
)
def test_the_address_that_is_shown_can_be_called(host: str, url: str) -> None:
    assert hints.base_url(host, 8080) == url


def test_the_agent_to_begin_with_is_one_that_no_other_hands_work_to() -> None:
    assert hints.entrance([plan("accountant"), plan("coordinator", "accountant", "librarian"), plan("librarian")]) == (
        "coordinator"
    )
    assert hints.entrance([plan("b"), plan("a")]) == "a"
    assert hints.entrance([]) == "NAME"


def test_an_agent_whose_name_others_have_is_shown_by_more_than_it() -> None:
    def named(namespace: str, group: str = NATIVE_GROUP) -> AgentPlan:
        return AgentPlan(key=AgentKey(namespace, "same", group), model=ModelPlan(provider="scripted", model="m"))

    assert hints.entrance([named("b"), named("a")]) == "a/same"
    assert hints.entrance([named("a"), named("a", KAOS_GROUP)]) == "a/same.kagent.dev"


def test_the_command_that_is_shown_finds_a_server_on_another_port() -> None:
    assert hints.chat_command("a", "http://127.0.0.1:8080") == "kadre chat a"
    assert hints.chat_command("a", "http://127.0.0.1:8100") == "kadre chat a --server http://127.0.0.1:8100"
