"""What becomes of a call: an author's rules, what allows a tool, and text from outside."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kadre.base.clock import FakeClock
from kadre.engine import events as ev
from kadre.engine import policy
from kadre.engine.messages import Message, ToolSpec
from kadre.plan.types import ApprovalPlan, ApprovalRule

pytestmark = pytest.mark.requirement("approval-policy")
WRITE = ToolSpec(name="create_issue", server="github")
READ = ToolSpec(name="list_issues", server="github", read_only=True)
UNKNOWN = ToolSpec(name="create_issue", server="github", ask=True)
BY_CLASS = ToolSpec(name="create_issue", server="github", by_class=True)


def plan(*rules: dict[str, Any]) -> ApprovalPlan:
    return ApprovalPlan(rules=tuple(ApprovalRule(**rule) for rule in rules))


def action(made: ApprovalPlan, spec: ToolSpec = WRITE, outside: str = "", **arguments: Any) -> str:
    return policy.decide(made, spec, spec.name, arguments, outside).action


def test_without_rules_what_is_allowed_is_made_and_the_rest_is_asked_for() -> None:
    assert action(plan()) == "allow"
    assert action(plan(), UNKNOWN) == "ask"


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({}, True),
        ({"tools": ("create_issue",)}, True),
        ({"tools": ("create_*", "other")}, True),
        ({"tools": ("github",)}, True),
        ({"tools": ("github/create_*",)}, True),
        ({"tools": ("gitlab/*", "issue")}, False),
        ({"capabilities": ("write", "exec")}, True),
        ({"capabilities": ("read",)}, False),
        ({"tools": ("create_issue",), "capabilities": ("exec",)}, False),
        ({"arguments": {"title": "^Fix"}}, True),
        ({"arguments": {"title": "^fix"}}, False),
        ({"arguments": {"title": "^Fix", "labels": '"urgent"'}}, True),
        ({"arguments": {"options.notify": "true"}}, True),
        ({"arguments": {"options.gone": ""}}, False),
        ({"arguments": {"gone": ""}}, False),
    ],
)
def test_a_rule_holds_where_all_its_conditions_do(condition: dict[str, Any], holds: bool) -> None:
    arguments: dict[str, Any] = {"title": "Fix it", "labels": ["urgent"], "options": {"notify": True}}
    made = plan({"action": "deny", **condition})
    assert (action(made, **arguments) == "deny") is holds


def test_to_refuse_writes_is_to_refuse_all_that_is_not_known_to_only_read() -> None:
    for name in ("run_migration", "create_token", "create_issue"):
        spec = ToolSpec(name=name, server="github")
        for kind in ("deny", "ask"):
            assert action(plan({"action": kind, "capabilities": ("write",)}), spec) == kind
    exec_tool = ToolSpec(name="run_migration", server="github", ask=True)
    assert action(plan({"action": "allow", "capabilities": ("write",)}), exec_tool) == "ask"
    assert action(plan({"action": "deny", "capabilities": ("write",)}), READ) == "allow"


def test_a_tool_that_runs_code_is_of_the_class_exec_whatever_its_name() -> None:
    code = ToolSpec(name="calculator", server="calculator", read_only=True, runs_code=True)
    assert action(plan({"action": "deny", "capabilities": ("exec",)}), code) == "deny"
    assert action(plan({"action": "deny", "capabilities": ("read",)}), code) == "allow"


def test_the_first_rule_that_holds_decides() -> None:
    made = plan(
        {"action": "allow", "tools": ("create_issue",), "arguments": {"repo": "^mine/"}},
        {"action": "ask", "tools": ("create_issue",), "arguments": {"repo": "^ours/"}, "message": "it is ours"},
        {"action": "deny", "tools": ("create_issue",), "message": "not there"},
    )
    assert action(made, UNKNOWN, repo="mine/a") == "allow"
    assert policy.decide(made, WRITE, "create_issue", {"repo": "ours/a"}, "") == policy.Verdict("ask", "it is ours")
    refused = policy.decide(made, WRITE, "create_issue", {"repo": "theirs/a"}, "")
    assert (refused.action, refused.reason) == ("deny", "create_issue is not allowed: not there")
    assert action(made, READ) == "allow"


def test_an_argument_that_can_be_read_in_two_ways_is_neither_a_way_past_a_rule_nor_into_one() -> None:
    decoy: dict[str, Any] = {"target": {"namespace": "prod"}, "target.namespace": "dev"}
    turned: dict[str, Any] = {"target": {"namespace": "dev"}, "target.namespace": "prod"}
    for kind in ("deny", "ask"):
        made = plan({"action": kind, "arguments": {"target.namespace": "^prod$"}})
        assert action(made, **decoy) == kind
        assert action(made, **turned) == kind
        assert action(made, target={"namespace": "dev"}) == "allow"
    allows = plan({"action": "allow", "arguments": {"target.namespace": "^dev$"}})
    assert action(allows, UNKNOWN, **decoy) == "ask"
    assert action(allows, UNKNOWN, target={"namespace": "dev"}) == "allow"
    deep = plan({"action": "deny", "arguments": {"a.b.c": "x"}})
    one: dict[str, Any] = {"a": {"b.c": "x"}}
    other: dict[str, Any] = {"a.b": {"c": "x"}}
    assert action(deep, **one) == action(deep, **other) == "deny"


def test_a_default_that_a_server_declares_may_be_meant_and_allows_nothing() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "env": {"type": "string", "default": "prod"},
            "to": {"type": "object", "properties": {"zone": {"type": "string", "default": "eu"}}},
        },
    }
    spec = ToolSpec(name="create_issue", server="github", parameters=schema, ask=True)
    zone: dict[str, Any] = {"to": {}}
    for kind in ("deny", "ask"):
        assert action(plan({"action": kind, "arguments": {"env": "^prod$"}}), spec) == kind
        assert action(plan({"action": kind, "arguments": {"to.zone": "^eu$"}}), spec, **zone) == kind
    elsewhere = {
        "type": "object",
        "properties": {"to": {"$ref": "#/$defs/To"}},
        "$defs": {"To": schema["properties"]["to"]},
    }
    referring = msgspec.structs.replace(spec, parameters=elsewhere)
    assert action(plan({"action": "deny", "arguments": {"to.zone": "^eu$"}}), referring, **zone) == "deny"
    allowed = msgspec.structs.replace(spec, ask=False)
    for given in ("dev", "test"):
        assert action(plan({"action": "deny", "arguments": {"env": "^prod$"}}), allowed, env=given) == "allow"
    assert action(plan({"action": "allow", "arguments": {"env": "^prod$"}}), spec) == "ask"
    for strange in ({"properties": ["env"], "required": 3}, {"properties": {"env": True}}, {}):
        odd = msgspec.structs.replace(allowed, parameters=strange)
        assert action(plan({"action": "deny", "arguments": {"env": "^prod$"}}), odd, env=None) == "allow"


def test_a_tool_is_not_offered_where_every_call_would_be_refused() -> None:
    whole = {"action": "deny", "tools": ("create_*",)}
    some = {"action": "deny", "tools": ("create_*",), "arguments": {"repo": "x"}}
    kept = {"action": "ask", "tools": ("create_issue",), "arguments": {"repo": "x"}}
    assert not policy.offered(plan(whole), WRITE, "create_issue")
    assert policy.offered(plan(whole), READ, "list_issues")
    assert policy.offered(plan(some), WRITE, "create_issue")
    assert not policy.offered(plan(some, whole), WRITE, "create_issue")
    assert policy.offered(plan(kept, whole), WRITE, "create_issue")


@pytest.mark.requirement("text-from-outside")
def test_after_text_from_outside_what_only_a_class_allows_is_asked_for_and_says_why() -> None:
    told = policy.decide(plan(), BY_CLASS, "create_issue", {}, "tickets")
    assert told.action == "ask"
    assert told.lapsed
    assert told.reason == "text from tickets has entered the run, and create_issue may change something"
    assert action(plan(), BY_CLASS) == "allow"
    assert action(plan(), WRITE, "tickets") == "allow"  # its author named it
    assert action(plan(), READ, "tickets") == "allow"


@pytest.mark.requirement("text-from-outside")
def test_a_grant_that_says_trusted_holds_after_text_from_outside() -> None:
    trusted = ToolSpec(name="create_issue", server="github", by_class=True, trusted=True)
    assert action(plan(), trusted, "tickets") == "allow"


@pytest.mark.requirement("text-from-outside")
def test_an_allow_rule_holds_after_text_from_outside_where_it_names_the_tool_and_not_where_a_pattern_covers_it() -> (
    None
):
    assert action(plan({"action": "allow", "tools": ("create_issue",)}), UNKNOWN, "tickets") == "allow"
    assert action(plan({"action": "allow", "tools": ("github/create_issue",)}), UNKNOWN, "tickets") == "allow"
    for loose in ({"tools": ("create_*",)}, {"tools": ("github",)}, {"capabilities": ("write",)}, {}):
        assert action(plan({"action": "allow", **loose}), UNKNOWN, "tickets") == "ask"
        assert action(plan({"action": "allow", **loose}), UNKNOWN) == "allow"


@pytest.mark.requirement("text-from-outside")
def test_whatever_is_asked_for_after_text_from_outside_is_not_made_because_nobody_answers() -> None:
    asks = plan({"action": "ask", "tools": ("create_issue",)})
    for made, spec in ((plan(), UNKNOWN), (asks, WRITE)):
        assert policy.decide(made, spec, "create_issue", {}, "tickets").lapsed
        assert not policy.decide(made, spec, "create_issue", {}, "").lapsed
    reads = plan({"action": "ask", "tools": ("list_issues",)})
    assert not policy.decide(reads, READ, "list_issues", {}, "tickets").lapsed


def event(kind: Any, **fields: Any) -> Any:
    return kind(run_id="r", session_id="s", seq=1, time=FakeClock().now(), **fields)


@pytest.mark.requirement("text-from-outside")
def test_that_text_came_from_outside_is_read_from_the_run_s_events() -> None:
    def ended(outside: str) -> Any:
        return event(ev.ToolEnd, name="t", tool_call=ev.ToolCallState("c", "t", {}, "complete", "x", outside=outside))

    own = [event(ev.RunStarted, agent="a"), event(ev.UserMessage, content="hi"), ended("")]
    assert policy.outside(own) == ""
    assert policy.outside([*own, ended("web"), ended("tickets")]) == "web"
    assert policy.outside([event(ev.RunStarted, agent="a", outside="mail"), *own]) == "mail"
    brought = event(ev.UserMessage, content="hi", history=(Message("tool", "x", tool_call_id="c"),))
    assert policy.outside([brought]) == policy.CALLER


def test_the_digest_is_of_the_name_and_the_arguments_in_any_order() -> None:
    assert policy.digest("a", {"x": 1, "y": {"p": 1, "q": 2}}) == policy.digest("a", {"y": {"q": 2, "p": 1}, "x": 1})
    assert policy.digest("a", {"x": 1}) != policy.digest("b", {"x": 1})
    assert policy.digest("a", {"x": 1}) != policy.digest("a", {"x": 2})
    assert policy.digest("a", {}).startswith("sha256:")
