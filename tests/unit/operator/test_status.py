"""What is said of an agent: one word for people, conditions for tools, and nothing new where nothing is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from kadre.api.conditions import State
from kadre.base.problems import Problem
from kadre.kube.kinds import Object
from kadre.operator.status import (
    Facts,
    News,
    Rollout,
    Trouble,
    dependencies,
    hindered,
    leaving,
    news,
    of_agent,
    of_other,
    rollout,
)
from kadre.plan.types import Dependency, Notice

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FACTS = Facts(fields={"model": "scripted/m"}, durable=State("Durable", "False", "JournalInPod", "in the pod"))
RUNS = Rollout(generation=1, observed=1, wanted=2, replicas=2, updated=2, ready=2, available=2, revision=3)
MISSING = Problem("MissingModelConfig", "there is no ModelConfig m", "create it", "Agent d/a", "spec.modelConfig")

ROOM = Trouble("Unschedulable", "pod a-1: 0/1 nodes are available: 1 Insufficient cpu.", "lower spec.resources")


def conditions(status: Object) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}


def said(deployment: Rollout | None, facts: Facts = FACTS, before: Object | None = None) -> dict[str, Any]:
    return of_agent(before or {}, facts, deployment, 4, NOW)


def test_an_agent_whose_pods_are_all_there_is_ready() -> None:
    status = said(RUNS)
    assert conditions(status) == {"Ready": ("True", "Available"), "Durable": ("False", "JournalInPod")}
    assert (status["phase"], status["replicas"], status["readyReplicas"], status["revision"]) == ("Ready", 2, 2, 3)
    assert (status["observedGeneration"], status["model"]) == (4, "scripted/m")


def test_an_agent_goes_on_being_ready_while_a_new_plan_rolls_out() -> None:
    rolling = replace(RUNS, generation=2, observed=2, updated=1, replicas=3)
    assert conditions(said(rolling))["Ready"] == ("True", "RollingOut")
    assert conditions(said(rolling))["Reconciling"] == ("True", "RollingOut")


def test_an_agent_without_its_first_pod_is_starting() -> None:
    status = said(replace(RUNS, available=0, ready=0))
    assert conditions(status)["Ready"] == ("False", "Starting")
    assert status["phase"] == "Pending"


def test_an_agent_goes_on_being_ready_while_pods_are_added() -> None:
    adding = replace(RUNS, wanted=5, replicas=5, updated=5)
    status = said(adding, before=said(RUNS))
    assert conditions(status)["Ready"] == ("True", "Scaling")
    assert conditions(status)["Reconciling"] == ("True", "Scaling")
    assert status["conditions"][0]["message"] == "2 of 5 pods are available"
    assert (status["phase"], news(said(RUNS), status)) == ("Ready", [])
    stuck = said(replace(adding, pods=ROOM), before=status)
    assert conditions(stuck)["Ready"] == ("True", "Scaling")
    assert conditions(stuck)["Reconciling"] == ("True", "Unschedulable")
    refused = said(replace(adding, trouble="pods are forbidden: quota"), before=status)
    assert conditions(refused) | {"Durable": ()} == {
        "Ready": ("True", "Scaling"),
        "Stalled": ("True", "DeploymentFailed"),
        "Durable": (),
    }


def test_an_agent_that_loses_a_pod_is_not_ready_until_it_has_all_unless_it_is_scaled_and_has_its_fewest() -> None:
    adding = replace(RUNS, wanted=5, replicas=5, updated=5, ready=3, available=3)
    lost = said(replace(adding, ready=2, available=2), before=said(adding, before=said(RUNS)))
    assert conditions(lost)["Ready"] == ("False", "Starting")
    assert conditions(said(replace(adding, ready=4, available=4), before=lost))["Ready"] == ("False", "Starting")
    scaled = replace(FACTS, least=2)
    assert conditions(said(replace(adding, ready=2, available=2), scaled, lost))["Ready"] == ("True", "Scaling")
    assert conditions(said(replace(adding, ready=1, available=1), scaled, lost))["Ready"] == ("False", "Starting")


def test_a_scaled_agent_with_its_fewest_pods_is_ready_while_the_api_server_fails_too() -> None:
    five = replace(RUNS, wanted=5, replicas=5, updated=5, ready=5, available=5)
    before = said(five, replace(FACTS, least=2))
    lost = replace(five, ready=2, available=2)
    assert conditions(hindered(before, "500", "etcd", lost, 4, NOW, 2))["Ready"] == ("True", "Scaling")
    assert conditions(hindered(before, "500", "etcd", lost, 4, NOW))["Ready"] == ("False", "Starting")


def test_an_agent_that_begins_anew_from_no_pod_is_starting() -> None:
    none = said(replace(RUNS, wanted=0, replicas=0, updated=0, ready=0, available=0))
    assert conditions(none)["Ready"] == ("True", "ScaledToZero")
    one = replace(RUNS, wanted=1, replicas=1, updated=1, ready=0, available=0)
    assert conditions(said(one, before=none))["Ready"] == ("False", "Starting")


def test_a_deployment_that_does_not_get_on_is_stalled_in_its_own_words() -> None:
    status = said(replace(RUNS, available=1, trouble="pods are forbidden: quota"))
    assert conditions(status)["Stalled"] == ("True", "DeploymentFailed")
    assert "quota" in status["conditions"][0]["message"]
    assert status["phase"] == "Degraded"


def test_a_deployment_that_does_not_get_on_is_told_with_what_to_do() -> None:
    message = 'pods "a-" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=2, limited: pods=2'
    failed = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    deployment = {
        "metadata": {"generation": 1, "name": "a", "namespace": "d"},
        "spec": {"replicas": 3, "template": {"metadata": {}}},
        "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "conditions": [failed]},
    }
    ready, stalled = said(rollout(deployment))["conditions"][:2]
    assert (ready["reason"], stalled["type"], stalled["reason"]) == ("DeploymentFailed", "Stalled", "DeploymentFailed")
    assert message in stalled["message"]
    assert "raise the ResourceQuota compute of namespace d)" in stalled["message"]
    assert "raise the ResourceQuota compute of namespace d)" in ready["message"]
    # Where somebody has looked at its pods there is something better to do.
    seen = said(replace(rollout(deployment), pods=ROOM))["conditions"][1]
    assert (seen["reason"], "(lower spec.resources)" in seen["message"]) == ("Unschedulable", True)


def test_an_agent_that_answers_while_it_is_stalled_says_so_of_itself_and_is_told_as_something_to_mend() -> None:
    rolling = replace(RUNS, generation=2, observed=2, updated=1, replicas=3)
    for stalled, reason in (
        (replace(rolling, trouble="has timed out progressing", fix="look there"), "DeploymentFailed"),
        (replace(rolling, trouble="has timed out progressing", pods=ROOM), "Unschedulable"),
    ):
        status = said(stalled, before=said(rolling))
        assert conditions(status)["Ready"] == ("True", "RollingOut")
        assert conditions(status)["Stalled"] == ("True", reason)
        assert [(item.reason, item.good) for item in news(said(rolling), status)] == [(reason, False)]
    # Of one that does not answer it is told once.
    down = said(replace(rolling, available=0, ready=0, trouble="has timed out progressing"))
    assert [(item.reason, item.good) for item in news(said(rolling), down)] == [("DeploymentFailed", False)]


def test_what_is_in_the_way_of_its_pods_is_said_with_the_fix_long_before_it_is_stalled() -> None:
    status = said(replace(RUNS, available=0, ready=0, pods=ROOM))
    assert conditions(status)["Ready"] == ("False", "Unschedulable")
    assert conditions(status)["Reconciling"] == ("True", "Unschedulable")
    assert status["conditions"][0]["message"] == (
        "0 of 2 pods are available: pod a-1: 0/1 nodes are available: 1 Insufficient cpu. (lower spec.resources)"
    )
    assert [(item.reason, item.good) for item in news({}, status)] == [("Unschedulable", False)]
    late = said(replace(RUNS, available=0, ready=0, pods=ROOM, trouble="timed out progressing"))
    assert conditions(late)["Stalled"] == ("True", "Unschedulable")
    assert "timed out progressing" in late["conditions"][0]["message"]


def test_a_new_plan_whose_pods_do_not_come_up_is_told_while_the_old_one_goes_on() -> None:
    status = said(replace(RUNS, generation=2, observed=2, updated=1, replicas=3, pods=ROOM))
    assert conditions(status)["Ready"] == ("True", "RollingOut")
    assert conditions(status)["Reconciling"] == ("True", "Unschedulable")
    assert [(item.reason, item.good) for item in news(said(RUNS), status)] == [("Unschedulable", False)]


def test_what_the_api_server_answers_is_said_beside_what_was_known_and_once_for_the_same_answer() -> None:
    before = said(RUNS, replace(FACTS, dependencies=(State("ModelResolved", "True", "Resolved"),)))
    status = hindered(before, "500 InternalError", "webhook at 10.0.0.1 is away", RUNS, 5, NOW)
    assert conditions(status) == conditions(before) | {"Reconciling": ("True", "ApiServerError")}
    assert (status["observedGeneration"], status["model"], status["phase"]) == (4, "scripted/m", "Ready")
    # What is ready is what was acted on, whatever its author wants by now.
    assert [each["observedGeneration"] for each in status["conditions"][:2]] == [4, 5]
    assert "500 InternalError: webhook at 10.0.0.1" in status["conditions"][1]["message"]
    assert hindered(status, "500 InternalError", "webhook at 10.0.0.2 is away", RUNS, 5, NOW) == status
    assert hindered(status, "429 TooManyRequests", "busy", RUNS, 5, NOW) == status
    first = hindered({}, "409 Conflict", "it is there already", None, 1, NOW)
    assert conditions(first) == {"Ready": ("False", "ApiServerError"), "Reconciling": ("True", "ApiServerError")}


def test_what_its_author_must_mend_is_said_with_the_fix() -> None:
    status = said(None, Facts(problems=(MISSING,)))
    assert conditions(status) == {"Ready": ("False", "MissingModelConfig"), "Stalled": ("True", "MissingModelConfig")}
    message = status["conditions"][0]["message"]
    assert message == "Agent d/a: spec.modelConfig: there is no ModelConfig m (create it)"
    assert status["phase"] == "Failed"


def test_an_agent_that_served_goes_on_though_its_new_spec_is_wrong() -> None:
    assert said(RUNS, Facts(problems=(MISSING,)))["phase"] == "Degraded"


def test_nothing_is_new_where_nothing_has_changed() -> None:
    first = said(RUNS)
    later = of_agent(first, FACTS, RUNS, 4, NOW + timedelta(hours=1))
    assert later == first


def test_a_condition_keeps_its_time_until_its_status_moves() -> None:
    first = said(replace(RUNS, available=0))
    later = of_agent(first, FACTS, RUNS, 4, NOW + timedelta(hours=1))
    assert later["conditions"][0]["lastTransitionTime"] == "2026-01-01T01:00:00Z"
    assert later["conditions"][1]["lastTransitionTime"] == "2026-01-01T00:00:00Z"


def test_what_is_not_built_yet_is_said() -> None:
    status = said(RUNS, replace(FACTS, notices=("tracing is not supported yet",)))
    assert conditions(status)["Supported"] == ("False", "NotSupportedYet")
    assert status["phase"] == "Ready"


def test_people_are_told_how_a_change_ended() -> None:
    starting = said(replace(RUNS, available=0))
    assert news({}, starting) == []
    assert news(starting, said(RUNS)) == [News("Available", "2 of 2 pods are available", good=True)]
    assert news(said(RUNS), said(RUNS)) == []
    (told,) = news(said(RUNS), said(RUNS, Facts(problems=(MISSING,))))
    assert (told.reason, told.good) == ("MissingModelConfig", False)


def test_other_kinds_say_whether_they_can_be_used() -> None:
    assert conditions(of_other({}, Facts(), "", 1, NOW)) == {"Ready": ("True", "Valid")}
    assert conditions(of_other({}, Facts((MISSING,)), "", 1, NOW))["Stalled"] == ("True", "MissingModelConfig")


def test_other_kinds_say_what_is_not_built_yet() -> None:
    told = conditions(of_other({}, Facts(notices=("tools of type code are not supported yet",)), "", 1, NOW))
    assert told == {"Ready": ("True", "Valid"), "Supported": ("False", "NotSupportedYet")}
    never = conditions(of_other({}, Facts(), "nothing runs them", 1, NOW))
    assert never == {"Ready": ("False", "NotSupportedYet"), "Supported": ("False", "NotSupportedYet")}


def test_each_thing_that_an_agent_refers_to_has_a_condition() -> None:
    lacking = Problem("MissingTool", "there is no Tool search", "create it", "Agent d/a", "spec.tools[0].name")
    unsure = Problem("UnsupportedParameter", "topK is not sent", "remove it", severity="warning")
    later = Notice(reason="NotSupportedYet", message="tools of type code are not supported yet")
    followed = [
        Dependency(kind="model", found="openai/gpt-4o", problems=(unsure,)),
        Dependency(kind="tool", name="search", problems=(lacking,)),
        Dependency(kind="tool", name="Run code!", notices=(later,)),
        Dependency(kind="agent", name="writer"),
    ]
    states = {state.type: (state.status, state.reason, state.message) for state in dependencies(followed, "Agent d/a")}
    assert states == {
        "tool/search": ("False", "MissingTool", "spec.tools[0].name: there is no Tool search (create it)"),
        "tool/Run-code": ("False", "NotSupportedYet", "tools of type code are not supported yet"),
        "ModelResolved": ("True", "Resolved", "topK is not sent (remove it)"),
        "agent/writer": ("True", "Resolved", ""),
    }


def test_of_very_many_dependencies_those_that_lack_something_are_told() -> None:
    lacking = Problem("MissingTool", "there is no Tool", "create it")
    followed = [Dependency(kind="tool", name=f"t{number}") for number in range(200)]
    followed.append(Dependency(kind="tool", name="last", problems=(lacking,)))
    states = dependencies(followed, "Agent d/a")
    assert (len(states), states[0].type) == (64, "tool/last")


def test_a_deployment_is_kept_as_a_few_numbers() -> None:
    failed = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "too slow"}
    deployment = {
        "metadata": {
            "namespace": "d",
            "name": "a",
            "generation": 2,
            "annotations": {"deployment.kubernetes.io/revision": "7"},
        },
        "spec": {"replicas": 3, "template": {"metadata": {"annotations": {"kagent.dev/template-hash": "abc"}}}},
        "status": {"observedGeneration": 2, "replicas": 4, "updatedReplicas": 1, "conditions": [failed]},
    }
    fix = "look at kubectl describe replicaset -n d -l app=a"
    assert rollout(deployment) == Rollout(2, 2, 3, 4, 1, 0, 0, 7, "abc", trouble="too slow", fix=fix)


def left(*finalizers: str, live: Rollout | None = RUNS) -> tuple[Object, str]:
    """The status of an agent that was stalled, and is being deleted; and what it says of that."""
    stalled = said(replace(RUNS, available=1, trouble="quota"))
    status = leaving(stalled, finalizers, live, 5, NOW)
    assert conditions(status) == {"Ready": ("False", "Terminating"), "Durable": ("False", "JournalInPod")}
    assert (status["phase"], status["observedGeneration"], status["model"]) == ("Terminating", 5, "scripted/m")
    assert news(stalled, status) == []  # somebody asked for it
    return status, status["conditions"][0]["message"]


def test_an_agent_on_its_way_out_says_who_holds_it_and_what_becomes_of_its_pods() -> None:
    status, message = left("acme.io/audit", "acme.io/bill")
    assert (status["replicas"], status["readyReplicas"]) == (2, 2)
    assert message == (
        "it is being deleted; its objects go after it, and until then its pods answer; it is held by acme.io/audit,"
        " acme.io/bill (whoever set a finalizer takes it away when it is done)"
    )


def test_an_agent_whose_objects_go_first_or_are_to_stay_says_so() -> None:
    assert left("foregroundDeletion")[1] == "it is being deleted; its objects go first"
    assert "its objects go first; it is held by acme.io/audit (" in left("acme.io/audit", "foregroundDeletion")[1]
    assert left("orphan")[1] == "it is being deleted; its objects stay, and are nobody's"
    status, message = left("acme.io/audit", live=None)
    assert "replicas" not in status
    assert "pods answer" not in message
