"""Why pods do not come up, read from what Kubernetes says of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from kadre.kube.kinds import Object
from kadre.operator import pods
from kadre.operator.pods import PATIENCE, SAID_LIMIT
from kadre.operator.status import Trouble

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def trouble(these: Iterable[Object], seconds: float = 0.0) -> Trouble | None:
    """What is in their way that many seconds after they began."""
    return pods.trouble(these, BEGAN + timedelta(seconds=seconds))


def pod(name: str = "a-1", **status: object) -> Object:
    return {"metadata": {"name": name, "namespace": "d"}, "status": status}


def container(**said: object) -> Object:
    return pod(containerStatuses=[{"name": "agent", "ready": False, **said}])


def waiting(reason: str, message: str = "") -> Object:
    return container(state={"waiting": {"reason": reason, "message": message}})


def ended(**said: object) -> Object:
    back_off = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
    return container(state=back_off, restartCount=3, lastState={"terminated": said})


def test_pods_on_their_way_are_in_no_trouble() -> None:
    started = container(state={"running": {}})
    assert trouble([pod(phase="Pending"), waiting("ContainerCreating"), waiting("PodInitializing"), started]) is None


def test_a_pod_that_no_node_has_room_for() -> None:
    said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "1 Insufficient cpu."}
    found = trouble([pod("fine"), pod(conditions=[said])])
    assert found is not None
    assert (found.reason, found.message) == ("Unschedulable", "pod a-1: 1 Insufficient cpu.")
    assert "spec.resources" in found.fix


@pytest.mark.parametrize(
    ("reason", "told", "fix"),
    [
        ("ErrImagePull", "ImagePullBackOff", "image's name"),
        ("ImagePullBackOff", "ImagePullBackOff", "image's name"),
        ("InvalidImageName", "InvalidImageName", "image's name"),
        ("CreateContainerConfigError", "CreateContainerConfigError", "spec.env"),
    ],
)
def test_a_container_that_cannot_start(reason: str, told: str, fix: str) -> None:
    found = trouble([waiting(reason, "so it is")])
    assert found is not None
    assert (found.reason, found.message) == (told, "pod a-1: so it is")
    assert fix in found.fix


def test_a_container_that_ends_again_and_again_is_told_with_its_last_words() -> None:
    found = trouble([ended(reason="Error", exitCode=1, message="Traceback\nValueError: no\n")])
    assert found is not None
    assert found.reason == "CrashLoopBackOff"
    assert "(Error, exit code 1) and was started anew 3 times; its last words: ValueError: no" in found.message
    assert found.fix == "look at kubectl logs -n d a-1 --previous"


def test_an_error_of_ours_is_told_with_the_fix_that_it_names() -> None:
    log = (
        "2026-01-01 kadre.local.pod: d/a is served\n"
        "error: cannot listen on 0.0.0.0:80: Permission denied\n    fix: use another --metrics-port\n"
    )
    found = trouble([ended(reason="Error", exitCode=1, message=log)])
    assert found is not None
    assert found.message.endswith("; its last words: cannot listen on 0.0.0.0:80: Permission denied")
    assert found.fix == "use another --metrics-port"


def test_one_that_runs_for_a_moment_between_two_ends_is_still_in_trouble() -> None:
    between = container(state={"running": {}}, restartCount=1, lastState={"terminated": {"reason": "Error"}})
    found = trouble([between])
    assert found is not None
    assert found.reason == "CrashLoopBackOff"


def test_a_container_without_memory_enough() -> None:
    found = trouble([ended(reason="OOMKilled", exitCode=137)])
    assert found is not None
    assert found.fix == "raise spec.resources.limits.memory"


def test_a_container_that_was_told_to_end_because_it_fails_its_probe() -> None:
    found = trouble([ended(reason="Completed", exitCode=0)])
    assert found is not None
    assert found.fix == "it may fail its spec.healthCheck: look at kubectl describe pod -n d a-1"


def silent(path: str = "/health", port: int | str = "http", **said: object) -> Object:
    """A pod whose agent runs since BEGAN, and is not ready."""
    probe = {"httpGet": {"path": path, "port": port}}
    agent = {"name": "agent", "ports": [{"name": "http", "containerPort": 8080}], "readinessProbe": probe}
    proxy = {"name": "proxy", "readinessProbe": probe}
    states = [{"name": "proxy", "ready": False, "state": {"running": {"startedAt": "2025-12-31T00:00:00Z"}}}]
    states.append(
        {"name": "agent", "ready": False, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, **said}
    )
    return pod(containerStatuses=states) | {"spec": {"containers": [proxy, agent]}}


def test_a_container_that_runs_and_does_not_answer_what_its_author_has_it_asked() -> None:
    asked = silent("alive", 9999)
    assert trouble([asked], PATIENCE - 1) is None
    assert trouble([silent("alive", 9999, ready=True)], PATIENCE) is None
    found = trouble([asked], PATIENCE)
    assert found is not None
    assert found.reason == "Unhealthy"
    assert found.message == "pod a-1: its container runs and GET :9999/alive isn't answered with 200"
    assert found.fix == "correct spec.healthCheck, or take it out: an agent answers GET :8080/health"


def test_a_container_that_does_not_answer_what_every_agent_is_asked_says_itself_what_it_waits_for() -> None:
    for asked in (silent(), silent(port=8080)):
        found = trouble([asked], PATIENCE)
        assert found is not None
        assert (found.reason, found.fix) == ("Unhealthy", "look at kubectl logs -n d a-1: there is what it waits for")
        assert "GET :8080/health" in found.message


def test_an_agent_that_is_not_probed_is_not_said_to_be_silent() -> None:
    unprobed = silent()
    del unprobed["spec"]["containers"][1]["readinessProbe"]
    assert trouble([unprobed], PATIENCE) is None


def test_pods_on_their_way_out_and_those_that_recovered_are_nobodys_concern() -> None:
    leaving = ended(reason="Error", exitCode=1)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    recovered = ended(reason="Error", exitCode=1)
    recovered["status"]["containerStatuses"][0] |= {"ready": True, "state": {"running": {}}}
    assert trouble([leaving, recovered]) is None


def test_what_others_say_is_cut() -> None:
    found = trouble([waiting("ErrImagePull", "no\n" * 1000)])
    assert found is not None
    assert len(found.message) <= SAID_LIMIT + len("pod a-1: ")
    assert "\n" not in found.message


def first(**said: object) -> Object:
    """A pod in which a container that runs before the agent's is so."""
    made = container(state={"waiting": {"reason": "PodInitializing"}})
    made["status"]["initContainerStatuses"] = [{"name": "install", "ready": False, **said}]
    return made


def test_what_runs_first_is_said_while_it_runs_and_no_trouble_once_it_is_done() -> None:
    found = trouble([first(state={"running": {}})])
    assert found is not None
    assert (found.reason, found.message) == ("Initializing", "pod a-1: its container install runs before it")
    assert trouble([first(state={"terminated": {"exitCode": 0, "reason": "Completed"}})]) is None


def test_what_runs_first_and_fails_is_told_in_its_own_words() -> None:
    said = {"exitCode": 1, "reason": "Error", "message": "error: it cannot be installed\n  fix: correct its name"}
    found = trouble([first(state={"running": {}}, restartCount=1, lastState={"terminated": said})])
    assert found is not None
    assert found.reason == "CrashLoopBackOff"
    assert "it cannot be installed" in found.message
    assert found.fix == "correct its name"
