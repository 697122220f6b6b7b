"""Status in KAOS's own shape."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kadre.base.problems import Problem
from kadre.kube.kinds import Object
from kadre.operator import kaos
from kadre.operator.status import Facts, Rollout, of_agent

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SERVERS = ({"kind": "ModelAPI", "name": "ollama"}, {"kind": "MCPServer", "name": "echo"})
UP = Rollout(wanted=1, replicas=1, updated=1, ready=1, available=1)
DOWN = Rollout(wanted=1, replicas=1, updated=1)


def shown(facts: Facts, rollout: Rollout | None, **of: Object) -> Object:
    """The status of an agent, `of`: its servers' own by name."""
    state = kaos.waiting(SERVERS, lambda _, name: of.get(name))
    assert state is not None
    with_servers = Facts(facts.problems, facts.notices, (*facts.dependencies, state), fields={"url": "http://a"})
    return kaos.shaped(of_agent({}, with_servers, rollout, 3, NOW), {"linkedResources": kaos.linked(SERVERS)})


READY: Object = {"ready": True}


def test_an_agent_that_answers_is_ready() -> None:
    status = shown(Facts(), UP, ollama=READY, echo=READY)
    assert (status["phase"], status["ready"], status["endpoint"]) == ("Ready", True, "http://a")
    assert status["deployment"] == {"replicas": 1, "readyReplicas": 1}
    assert status["linkedResources"] == {"modelAPI": "ollama", "mcpServer/echo": "echo"}
    assert status["observedGeneration"] == 3


def test_one_whose_server_does_not_answer_waits_and_says_for_which() -> None:
    status = shown(Facts(), DOWN, ollama=READY, echo={"ready": False, "message": "installing"})
    assert (status["phase"], status["ready"]) == ("Waiting", False)
    assert status["message"] == "waits for MCPServer echo: installing"


def test_one_that_answers_stays_ready_while_a_server_is_away() -> None:
    status = shown(Facts(), UP, ollama=READY)
    assert status["phase"] == "Ready"
    (lacking,) = [each for each in status["conditions"] if each["type"] == "DependenciesReady"]
    assert (lacking["status"], "echo" in lacking["message"]) == ("False", True)


@pytest.mark.parametrize(("reason", "phase"), [("MissingModelAPI", "Waiting"), ("NameTaken", "Failed")])
def test_what_is_not_there_yet_is_waited_for_and_what_is_wrong_has_failed(reason: str, phase: str) -> None:
    problem = Problem(reason, "it is so", "do this")
    assert shown(Facts((problem,)), None, ollama=READY, echo=READY)["phase"] == phase


def test_what_was_counted_last_is_known_again() -> None:
    status = shown(Facts(), UP, ollama=READY, echo=READY)
    assert kaos.native(status)["readyReplicas"] == 1
