"""What `capabilities` offer and what is asked for."""

from __future__ import annotations

import pytest

from kadre.plan.capabilities import allowed, classes, grant


@pytest.mark.parametrize(
    ("tool", "read_only", "expected"),
    [
        ("pods_list", True, {"read", "query"}),
        ("pods_delete", None, {"write"}),
        ("pods_delete", False, {"write"}),
        ("pods_exec", None, {"exec"}),
        ("podsExec", None, {"exec"}),
        ("pods-run", False, {"exec"}),
        ("RunShell", None, {"exec"}),
        ("execute_sql", None, {"exec"}),
        ("drainNode", None, {"admin"}),
        ("create_role", None, {"admin"}),
        ("auth_shell", None, {"exec", "admin"}),
        ("get_role", True, {"read", "query", "admin"}),
        ("query", None, {"write", "query"}),
        ("prune", None, {"write"}),
        ("controller_scale", None, {"write"}),
    ],
)
def test_a_tool_belongs_to_the_classes_its_server_and_its_name_tell(
    tool: str, read_only: bool | None, expected: set[str]
) -> None:
    assert classes(tool, read_only) == expected


def test_read_offers_only_what_is_known_to_only_read() -> None:
    assert allowed(["read"], "pods_list", True)
    assert not allowed(["read"], "pods_list", None)
    assert not allowed(["read"], "pods_delete", False)


def test_write_does_not_reach_to_exec_or_admin() -> None:
    assert allowed(["write"], "resources_create_or_update", None)
    assert not allowed(["write"], "pods_exec", None)
    assert not allowed(["write"], "node_drain", None)
    assert allowed(["exec"], "pods_exec", None)
    assert allowed(["admin"], "node_drain", None)


def test_query_offers_reading_tools_and_the_tool_named_query() -> None:
    assert allowed(["query"], "list_tables", True)
    assert allowed(["query"], "query", None)
    assert not allowed(["query"], "drop_table", None)


def test_a_name_or_a_glob_offers_what_it_matches_whatever_its_class() -> None:
    assert allowed(["pods_exec"], "pods_exec", None)
    assert allowed(["pods_*"], "pods_exec", False)
    assert not allowed(["pods_*"], "nodes_drain", None)
    assert not allowed(["pods"], "pods_list", True)


def test_a_listed_capability_is_an_allow_rule_and_hides_the_rest() -> None:
    assert grant(["read", "write"], "pods_delete", read_only=None, granted=False) == "class"
    assert grant(["read"], "pods_delete", read_only=None, granted=False) == "hidden"
    assert grant(["read"], "pods_delete", read_only=None, granted=True) == "hidden"


def test_a_tool_that_is_listed_by_its_name_is_allowed_by_it_and_one_that_a_pattern_covers_is_not() -> None:
    assert grant(["write", "pods_delete"], "pods_delete", read_only=None, granted=False) == "name"
    assert grant(["pods_*"], "pods_delete", read_only=None, granted=True) == "class"


def test_a_server_named_as_a_resource_is_allowed_whole() -> None:
    assert grant([], "echo", read_only=None, granted=True) == "name"


def test_a_bare_endpoint_may_read_and_asks_for_everything_else() -> None:
    assert grant((), "pods_list", read_only=True, granted=False) == "class"
    assert grant((), "pods_list", read_only=None, granted=False) == "none"
    assert grant((), "pods_delete", read_only=False, granted=False) == "none"
