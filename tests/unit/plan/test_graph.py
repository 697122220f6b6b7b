"""Cycles are found, told from their least node, and told once."""

from __future__ import annotations

from kadre.plan.graph import cycle_through, cycles

Graph = dict[str, list[str]]


def through(graph: Graph, start: str) -> str:
    return "→".join(cycle_through(start, lambda node: graph.get(node, [])))


def every(graph: Graph) -> dict[str, str]:
    return {node: "→".join(path) for node, path in cycles(graph.keys(), lambda node: graph.get(node, [])).items()}


def test_a_cycle_is_told_from_its_least_node_whoever_asks() -> None:
    graph = {"b": ["c"], "c": ["a"], "a": ["b"]}
    assert {through(graph, node) for node in graph} == {"a→b→c→a"}


def test_a_node_that_only_leads_to_a_cycle_is_on_none() -> None:
    graph = {"start": ["a"], "a": ["b"], "b": ["a"]}
    assert through(graph, "start") == ""
    assert every(graph) == {"a": "a→b→a", "b": "a→b→a"}


def test_a_node_that_names_itself_is_a_cycle() -> None:
    assert through({"a": ["a"]}, "a") == "a→a"


def test_two_ways_to_one_node_are_no_cycle() -> None:
    graph = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}
    assert every(graph) == {}


def test_the_shortest_cycle_is_told() -> None:
    graph = {"a": ["b", "d"], "b": ["c"], "c": ["a"], "d": ["a"]}
    assert through(graph, "a") == "a→d→a"
    assert through(graph, "b") == "a→b→c→a"


def test_every_separate_cycle_is_found() -> None:
    graph = {"a": ["b"], "b": ["a"], "x": ["y"], "y": ["x"], "lone": ["a", "x", "missing"]}
    assert every(graph) == {"a": "a→b→a", "b": "a→b→a", "x": "x→y→x", "y": "x→y→x"}


def test_a_long_chain_needs_no_deep_stack() -> None:
    chain: Graph = {f"{i:05}": [f"{i + 1:05}"] for i in range(20_000)}
    assert every(chain) == {}
    chain["20000"] = ["00000"]
    assert len(cycle_through("00000", lambda node: chain[node])) == 20_002
