"""Where conversations are kept in a cluster: what the pod gets, and what is said of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kadre.kube.kinds import DEPLOYMENT
from kadre.operator import status
from kadre.operator.children import journal
from kadre.operator.children.agent import children
from kadre.operator.children.common import Owner, Settings
from kadre.plan.types import AgentKey, AgentPlan, MemoryPlan, ModelPlan, PostgresPlan, RedisPlan, SecretRef

GIVEN = Settings(home="kagent", journal_secret="kadre-journal", share_with=("team",))
OWN = MemoryPlan(type="postgres", postgres=PostgresPlan(url=SecretRef(namespace="team", name="mine", key="dsn")))


def plan(memory: MemoryPlan | None = None, namespace: str = "team", **workload: Any) -> AgentPlan:
    return AgentPlan(
        key=AgentKey(namespace, "helper"),
        model=ModelPlan(provider="scripted", model="m"),
        memory=memory or MemoryPlan(),
        workload=workload,
    )


def pod(made: AgentPlan) -> tuple[dict[str, str], list[str]]:
    """The Secrets of its volumes by where they are mounted, and its arguments."""
    found = children(Owner(made, "Agent", "kagent.dev/v1alpha1", "u"), GIVEN)
    (deployment,) = [child.manifest for child in found if child.kind is DEPLOYMENT]
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    secrets = {each["name"]: each["secret"]["secretName"] for each in spec["volumes"] if "secret" in each}
    mounts = {m["mountPath"]: secrets[m["name"]] for m in container["volumeMounts"] if m["name"] in secrets}
    return mounts, container["args"]


def test_an_agent_without_a_memory_gets_the_installations_journal_where_that_is_shared() -> None:
    mounts, args = pod(plan())
    assert mounts == {"/var/run/kadre/journal": "kadre-journal"}
    assert "--journal=/var/run/kadre/journal" in args
    elsewhere = pod(plan(namespace="other"))
    assert (elsewhere[0], [arg for arg in elsewhere[1] if "journal" in arg]) == ({}, [])


def test_an_agents_own_memory_goes_before_the_installations_journal() -> None:
    mounts, args = pod(plan(OWN))
    assert mounts == {"/var/run/kadre/secrets/mine": "mine"}
    assert not [arg for arg in args if "journal" in arg]


@pytest.mark.parametrize(
    ("made", "settings", "said"),
    [
        (plan(OWN), Settings(), ("True", "OwnJournal")),
        (plan(MemoryPlan(type="redis", redis=RedisPlan(host="r"))), Settings(), ("True", "OwnJournal")),
        (plan(), GIVEN, ("True", "InstalledJournal")),
        (plan(), Settings(), ("False", "JournalInPod")),
        (plan(MemoryPlan(type="sqlite")), GIVEN, ("False", "JournalInPod")),
        (plan(replicas=2), Settings(), ("False", "JournalNotShared")),
        (plan(scaling={"minReplicas": 1, "maxReplicas": 4}), Settings(), ("False", "JournalNotShared")),
    ],
)
def test_the_status_says_whether_conversations_outlive_the_pod(
    made: AgentPlan, settings: Settings, said: tuple[str, str]
) -> None:
    state = journal.durable(made, settings, lambda _: True)
    assert (state.status, state.reason) == said
    assert ("journal.existingSecret" in state.message) == (state.status == "False")


def test_an_installations_journal_without_its_secret_is_told_with_what_to_do() -> None:
    state = journal.durable(plan(), GIVEN, lambda _: False)
    assert (state.status, state.reason) == ("False", "MissingSecret")
    assert "pods wait for the Secret team/kadre-journal" in state.message
    assert "kubectl create secret generic kadre-journal -n kagent --from-literal=url=postgresql://" in state.message


def test_replicas_that_know_their_own_conversations_only_are_warned_of() -> None:
    def told(made: AgentPlan) -> list[tuple[str, bool]]:
        facts = status.Facts(durable=journal.durable(made, Settings(), lambda _: True))
        return [(item.reason, item.good) for item in status.news({}, status.of_agent({}, facts, None, 1, now))]

    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert (told(plan(replicas=2)), told(plan())) == ([("JournalNotShared", False)], [])
