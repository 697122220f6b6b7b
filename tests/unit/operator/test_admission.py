"""What the webhook refuses, what it warns of, and what it leaves alone: judged by reviews alone, nothing looked up."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from kadre.base.problems import Problem
from kadre.kube.kinds import Object
from kadre.operator import admission
from kadre.operator.admission import CREATED_BY, Request
from kadre.operator.children.plan_map import LIMIT

AGENT: Object = {
    "apiVersion": "kagent.dev/v1alpha1",
    "kind": "Agent",
    "metadata": {"name": "helper", "namespace": "team"},
    "spec": {"modelConfig": "nowhere"},
}
MISSING = Problem(
    "MissingModelConfig", "there is no ModelConfig m", "create it", "Agent team/helper", "spec.modelConfig"
)


def review(obj: Object | None, **request: Any) -> bytes:
    group, _, version = (obj or AGENT)["apiVersion"].partition("/")
    asked = {
        "uid": "u-1",
        "operation": "CREATE",
        "kind": {"group": group, "version": version, "kind": (obj or AGENT)["kind"]},
        "namespace": "team",
        "userInfo": {"username": "ada", "groups": ["people"]},
        "object": obj,
        **request,
    }
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}).encode()


def asked(obj: Object | None, **request: Any) -> Request:
    return admission.read(review(obj, **request))


def said(obj: Object | None, **request: Any) -> Object:
    """The response about an object by itself."""
    given = asked(obj, **request)
    answer = admission.validated(given, admission.judge(given))
    assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert answer["response"]["uid"] == "u-1"
    response: Object = answer["response"]
    return response


def agent(**spec: Any) -> Object:
    return {**AGENT, "spec": spec}


def test_an_object_that_may_become_right_is_accepted() -> None:
    assert said(AGENT) == {"uid": "u-1", "allowed": True}


@pytest.mark.requirement("webhook-validates")
def test_everything_that_is_wrong_is_told_at_once_with_its_field_and_fix() -> None:
    response = said(agent(agents=["helper", "other", "other"], nonsense=1))
    assert response["allowed"] is False
    status = response["status"]
    assert (status["code"], status["reason"]) == (422, "Invalid")
    first, *lines = status["message"].splitlines()
    assert first == "3 things are wrong:"
    assert any("spec.nonsense" in line for line in lines)
    assert "- spec.agents[0]: helper can't hand work to itself (remove it from the list)" in lines
    assert any("spec.agents[2]" in line for line in lines)


def test_one_thing_that_is_wrong_is_told_on_one_line() -> None:
    assert said(agent(agents=["helper"]))["status"]["message"] == (
        "spec.agents[0]: helper can't hand work to itself (remove it from the list)"
    )


@pytest.mark.parametrize(
    ("kind", "spec", "path"),
    [
        ("AgentTemplate", {"templateRef": "helper"}, "spec.templateRef"),
        ("Agent", {"agentNetwork": {"access": ["helper"]}}, "spec.agentNetwork.access[0]"),
        (
            "Workflow",
            {
                "steps": [
                    {"name": "a", "agent": "x", "dependsOn": ["b"]},
                    {"name": "b", "agent": "x", "dependsOn": ["a"]},
                ]
            },
            "spec.steps[0].dependsOn",
        ),
    ],
)
def test_what_names_itself_and_a_workflow_in_a_circle_are_refused(kind: str, spec: Object, path: str) -> None:
    response = said({**AGENT, "kind": kind, "spec": spec})
    assert response["allowed"] is False
    assert response["status"]["message"].startswith(f"{path}: ")


def test_far_more_problems_than_anybody_reads_are_counted() -> None:
    response = said(agent(agents=["helper"] * 300))
    lines = response["status"]["message"].splitlines()
    assert len(lines) == admission.MAX_ERRORS + 2
    assert lines[-1].startswith("- and ")


@pytest.mark.parametrize(
    ("obj", "request_"),
    [
        ({**AGENT, "metadata": {**AGENT["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}, {}),
        (AGENT, {"subResource": "status", "operation": "UPDATE"}),
        (None, {"operation": "DELETE"}),
        ({**AGENT, "kind": "Sandbox"}, {}),
        ({**AGENT, "apiVersion": "kagent.dev/v9"}, {}),
        ({**AGENT, "apiVersion": "other.dev/v1alpha1"}, {}),
    ],
    ids=["being deleted", "status", "deletion", "foreign kind", "foreign version", "foreign group"],
)
def test_what_is_not_ours_to_judge_passes_untouched(obj: Object | None, request_: dict[str, Any]) -> None:
    broken = None if obj is None else {**obj, "spec": {"agents": ["helper"]}}
    assert said(broken, **request_) == {"uid": "u-1", "allowed": True}
    assert admission.mutated(asked(broken, **request_))["response"] == {"uid": "u-1", "allowed": True}


def test_a_name_that_the_api_server_will_make_is_no_missing_name() -> None:
    nameless = {**AGENT, "metadata": {"generateName": "helper-"}}
    assert said(nameless)["allowed"] is True


def test_what_is_missing_elsewhere_is_a_warning() -> None:
    given = asked(AGENT)
    response = admission.validated(given, admission.judge(given), [MISSING])["response"]
    assert response["allowed"] is True
    assert response["warnings"] == ["Agent team/helper: spec.modelConfig: there is no ModelConfig m (create it)"]


def test_warnings_are_few_and_short_and_on_one_line_each() -> None:
    problems = [Problem("X", f"{number}: a\nb\x07c " + "long " * 200) for number in range(25)]
    texts = admission.warnings(problems)
    assert len(texts) == 10
    assert texts[-1] == "and 16 more, in the object's status"
    assert max(map(len, texts)) == 256
    assert all(text.isprintable() for text in texts)
    assert len(admission.warnings(problems[:10])) == 10
    assert admission.warnings([MISSING, MISSING]) == admission.warnings([MISSING])


def stamp(obj: Object, **request: Any) -> list[Object]:
    response = admission.mutated(asked(obj, **request))["response"]
    assert response["patchType"] == "JSONPatch"
    patch: list[Object] = json.loads(base64.b64decode(response["patch"]))
    return patch


@pytest.mark.requirement("webhook-mutating")
def test_a_new_object_says_who_created_it() -> None:
    whole = [{"op": "add", "path": "/metadata/annotations", "value": {CREATED_BY: "ada"}}]
    assert stamp(AGENT) == whole
    assert stamp({**AGENT, "metadata": {"name": "helper", "annotations": None}}) == whole
    assert stamp({**AGENT, "metadata": {"name": "helper", "annotations": {"a": "b"}}}) == [
        {"op": "add", "path": "/metadata/annotations/kagent.dev~1created-by", "value": "ada"}
    ]


def test_a_changed_object_is_not_stamped_anew() -> None:
    assert admission.mutated(asked(AGENT, operation="UPDATE"))["response"] == {"uid": "u-1", "allowed": True}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        review(AGENT).replace(b"admission.k8s.io/v1", b"admission.k8s.io/v1beta1"),
        review(AGENT).replace(b"AdmissionReview", b"Review"),
        review(AGENT).replace(b'"uid"', b'"other"'),
        review(None),
        review(None, operation="PATCH"),
        review(AGENT, object=[1]),
    ],
)
def test_what_is_no_review_is_told_so(body: bytes) -> None:
    with pytest.raises(ValueError, match="AdmissionReview"):
        admission.read(body)


@pytest.mark.parametrize("field", ["systemMessage", "systemPrompt"])
def test_a_prompt_that_no_plan_could_hold_is_refused(field: str) -> None:
    response = said(agent(**{field: "ä" * (LIMIT // 2)}))
    assert response["allowed"] is False
    message = response["status"]["message"]
    assert message.startswith(f"spec.{field}: the prompt alone takes 1048578 bytes")
    assert "shorten the prompt (spec.systemMessage" in message
    assert said(agent(**{field: "ä" * (LIMIT // 2 - 1)}))["allowed"] is True
