"""What is set with kubectl on an object of ours is taken over; what others add beside us is theirs."""

from __future__ import annotations

from typing import Any

import pytest

from kadre.kube.hands import taken_over
from kadre.kube.kinds import Object

WANTED: Object = {
    "spec": {
        "selector": {"app": "a"},
        "template": {
            "metadata": {"labels": {"app": "a"}},
            "spec": {"containers": [{"name": "agent", "image": "i", "ports": [{"containerPort": 8080}]}]},
        },
    }
}
AGENT = 'k:{"name":"agent"}'
OURS: Object = {"f:spec": {"f:selector": {}, "f:template": {"f:metadata": {"f:labels": {"f:app": {}}}}}}


def entry(manager: str, fields: Object, operation: str = "Update", **more: str) -> Object:
    return {"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsV1": fields, **more}


def taken(*others: Object) -> list[Object] | None:
    mine = entry("kadre", OURS, "Apply")
    return taken_over({"metadata": {"managedFields": [*others, mine]}}, WANTED, "kadre")


def in_pod(fields: Object) -> Object:
    return {"f:spec": {"f:template": {"f:spec": fields}}}


@pytest.mark.parametrize(
    "added",
    [
        {"f:nodeSelector": {}},
        {"f:hostNetwork": {}},
        {"f:containers": {'k:{"name":"sidecar"}': {".": {}, "f:name": {}, "f:image": {}}}},
        {"f:containers": {AGENT: {"f:env": {".": {}, 'k:{"name":"A"}': {".": {}, "f:name": {}}}}}},
    ],
)
@pytest.mark.parametrize("manager", ["kubectl", "kubectl-edit", "kubectl-patch"])
def test_what_hands_have_added_becomes_ours(added: Any, manager: str) -> None:
    found = taken(entry(manager, in_pod(added)))
    assert found is not None
    (mine,) = found
    assert mine["fieldsV1"]["f:spec"]["f:template"]["f:spec"] == added
    assert mine["fieldsV1"]["f:spec"]["f:selector"] == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"f:spec": {"f:selector": {}}},
        in_pod({"f:containers": {AGENT: {".": {}, "f:image": {}}}}),
        in_pod({"f:containers": {AGENT: {"f:ports": {'k:{"containerPort":8080,"protocol":"TCP"}': {".": {}}}}}}),
        {"f:spec": {"f:replicas": {}, "f:paused": {}}},
        {"f:spec": {"f:template": {"f:metadata": {"f:annotations": {".": {}, "f:restartedAt": {}}}}}},
        {"f:metadata": {"f:labels": {"f:team": {}}}},
    ],
)
def test_what_we_want_too_and_what_works_an_object_stays_whose_it_is(fields: Any) -> None:
    assert taken(entry("kubectl-edit", fields)) is None


def test_only_what_was_added_changes_hands() -> None:
    fields = in_pod({"f:hostNetwork": {}, "f:containers": {AGENT: {"f:image": {}}}})
    found = taken(entry("kubectl-edit", {**fields, "f:metadata": {"f:labels": {"f:team": {}}}}))
    assert found is not None
    mine, theirs = found
    assert mine["fieldsV1"]["f:spec"]["f:template"]["f:spec"] == {"f:hostNetwork": {}}
    left = in_pod({"f:containers": {AGENT: {"f:image": {}}}})
    assert theirs["fieldsV1"] == {**left, "f:metadata": {"f:labels": {"f:team": {}}}}


@pytest.mark.parametrize(
    "other",
    [
        entry("reloader", in_pod({"f:hostNetwork": {}})),
        entry("kubectl", {"f:spec": {"f:hostNetwork": {}}}, subresource="scale"),
        {**entry("kubectl-edit", in_pod({"f:hostNetwork": {}})), "apiVersion": "apps/v1beta1"},
    ],
)
def test_what_others_add_beside_us_is_theirs(other: Object) -> None:
    assert taken(other) is None


def test_of_an_object_that_we_never_applied_nothing_is_taken() -> None:
    there = {"metadata": {"managedFields": [entry("kubectl-edit", in_pod({"f:hostNetwork": {}}))]}}
    assert taken_over(there, WANTED, "kadre") is None
