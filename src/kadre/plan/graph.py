"""Cycles in a graph of references, each told once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any, Protocol, TypeVar


class Node(Protocol):
    """What can be a node: hashable, and ordered so that a cycle always begins at the same one."""

    def __hash__(self) -> int: ...

    def __lt__(self, other: Any, /) -> bool: ...


K = TypeVar("K", bound=Node)


def cycle_through(start: K, edges: Callable[[K], Iterable[K]]) -> tuple[K, ...]:
    """The shortest cycle that `start` is on, as a path from its least node back to it; empty where there is none."""
    came_from: dict[K, K] = {}
    layer = [start]
    while layer:
        reached: list[K] = []
        for node in layer:
            for target in edges(node):
                if target == start:
                    return _least_first(_path(start, node, came_from))
                if target not in came_from:
                    came_from[target] = node
                    reached.append(target)
        layer = reached
    return ()


def cycles(nodes: Collection[K], edges: Callable[[K], Iterable[K]]) -> dict[K, tuple[K, ...]]:
    """Every node that is on a cycle, with one it is on. Nodes of one cycle share one answer where they can."""
    found: dict[K, tuple[K, ...]] = {}
    for node in _suspects(nodes, edges):
        if node not in found:
            path = cycle_through(node, edges)
            for member in path:
                found.setdefault(member, path)
    return found


def _suspects(nodes: Collection[K], edges: Callable[[K], Iterable[K]]) -> list[K]:
    """Nodes that are on a cycle or lead to one: the costlier search runs only where there is something to find."""
    order = TopologicalSorter({node: tuple(edges(node)) for node in nodes})
    try:
        order.prepare()
    except CycleError:
        blocked = set(nodes)
        while ready := order.get_ready():
            blocked.difference_update(ready)
            order.done(*ready)
        return sorted(blocked)
    return []


def _path(start: K, last: K, came_from: dict[K, K]) -> list[K]:
    return list(_back(start, last, came_from))[::-1]


def _back(start: K, node: K, came_from: dict[K, K]) -> Iterator[K]:
    while node != start:
        yield node
        node = came_from[node]
    yield start


def _least_first(loop: list[K]) -> tuple[K, ...]:
    least = loop.index(min(loop))
    turned = loop[least:] + loop[:least]
    return (*turned, turned[0])
