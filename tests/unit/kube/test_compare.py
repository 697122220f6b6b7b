"""What counts as a difference between an object and what it is to be."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from kadre.base.quantities import quantity
from kadre.kube.compare import covers, digest
from kadre.kube.kinds import Object


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        ({"a": 1, "filled": "in"}, {"a": 1}),
        ({"ports": [{"port": 80, "protocol": "TCP"}]}, {"ports": [{"port": 80}]}),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, {"limits": {"cpu": "1000m", "memory": "1024Mi"}}),
        ({"target": {"averageValue": "100"}}, {"target": {"averageValue": "100000m"}}),
        ({"containers": [{"name": "sidecar"}, {"name": "agent", "image": "i"}]}, {"containers": [{"name": "agent"}]}),
        ({"list": []}, {"list": []}),
    ],
)
def test_what_others_fill_in_is_no_difference(live: Any, wanted: Any) -> None:
    assert covers(live, wanted)


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        ({}, {"a": 1}),
        ({"a": 2}, {"a": 1}),
        ({"ports": [{"port": 80}]}, {"ports": [{"port": 80}, {"port": 81}]}),
        ({"args": ["a", "b"]}, {"args": ["b", "a"]}),
        ({"args": ["a", "b"]}, {"args": ["a"]}),
        ({"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "A", "value": "1000m"}]}),
        ({"limits": {"cpu": "one"}}, {"limits": {"cpu": "1"}}),
        ({"list": ["x"]}, {"list": []}),
        ("text", {"a": 1}),
        ({"a": {"b": 1}}, {"a": [1]}),
        ({"selector": {"app": "a", "x": "y"}}, {"selector": {"app": "a"}}),
    ],
)
def test_what_is_missing_or_other_is_one(live: Any, wanted: Any) -> None:
    assert not covers(live, wanted)


@pytest.mark.parametrize(
    ("text", "number"),
    [("250m", "0.25"), ("1Gi", "1073741824"), ("2k", "2000"), (3, "3"), ("1e3", "1000"), ("5M", "5000000")],
)
def test_a_quantity_is_a_number_however_it_is_written(text: Any, number: str) -> None:
    assert quantity(text) == Decimal(number)


def test_what_is_no_quantity_is_refused() -> None:
    with pytest.raises(ValueError, match="no quantity"):
        quantity("much")


def test_a_digest_is_of_what_is_said_not_of_who_wrote_last() -> None:
    spec = {"replicas": 1}
    first: Object = {"metadata": {"name": "a", "resourceVersion": "1", "annotations": {"ours": "x"}}, "spec": spec}
    written = {**first["metadata"], "resourceVersion": "2", "generation": 3}
    rolled = {"annotations": {"deployment.kubernetes.io/revision": "2", "ours": "x"}}
    assert digest(first) == digest({"metadata": written | rolled, "spec": spec, "status": {"ready": 1}})
    assert digest(first) != digest({**first, "spec": {"replicas": 2}})
