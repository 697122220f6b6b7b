"""A pool's objects, and where an agent on its way between a pool and pods of its own is served."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kadre.kube import kinds
from kadre.kube.kinds import Kind, Object
from kadre.operator.children import pool as parts
from kadre.operator.children import pools
from kadre.operator.children.common import PoolSettings, Settings
from kadre.operator.children.pool import Pool
from kadre.operator.children.pools import Served
from kadre.operator.children.rooted import Member
from kadre.operator.moves import served
from kadre.operator.reconcilers.pool import Seat
from kadre.operator.status import Rollout
from kadre.plan.types import AgentKey, AgentPlan, ModelPlan

SETTINGS = Settings(image="kadre:test", home="team", journal_secret="chats", pools=PoolSettings(least=2, most=5))
POOL = Pool("team", "default", "uid-of-root", ("a-key",), ("two", "one"), shared=True)
READY = Rollout(wanted=1, replicas=1, updated=1, ready=1, available=1)
NONE = Rollout(wanted=1)


def made(pool: Pool = POOL, settings: Settings = SETTINGS) -> dict[Kind, list[Object]]:
    found: dict[Kind, list[Object]] = {}
    for child in parts.children(pool, settings):
        found.setdefault(child.kind, []).append(child.manifest)
    return found


def test_every_object_of_a_pool_belongs_to_its_root_and_none_to_an_agent() -> None:
    for manifests in made().values():
        for each in manifests:
            (owner,) = each["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["name"], owner["uid"]) == ("ConfigMap", "kadre-pool-default", "uid-of-root")
            assert each["metadata"]["labels"]["kagent.dev/pool"] == "default"
    root = parts.root(POOL, [Member("Agent", "kagent.dev/v1alpha1", name, f"uid-{name}") for name in ("b", "a")])
    assert [each["name"] for each in root["metadata"]["ownerReferences"]] == ["a", "b"]
    assert not any(each.get("controller") for each in root["metadata"]["ownerReferences"])
    assert parts.is_root(root)
    assert not parts.is_root({"metadata": {"name": "kadre-pool-default", "labels": {}}})


def test_its_pods_keep_to_the_restricted_standard_and_have_the_installations_journal() -> None:
    (deployment,) = made()[kinds.DEPLOYMENT]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["args"][:2] == ["pool", "--pool=default"]
    assert "--journal=/var/run/kadre/journal" in container["args"]
    assert [each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each] == ["chats"]
    assert "--code-runner=http://kagent-code-runner.team.svc:8080" in container["args"]
    assert pod["serviceAccountName"] == "kadre-pool-default"


def test_it_has_more_pods_than_one_only_where_they_share_all_conversations() -> None:
    assert made()[kinds.AUTOSCALER][0]["spec"]["maxReplicas"] == 5
    assert "replicas" not in made()[kinds.DEPLOYMENT][0]["spec"]
    alone = made(POOL._replace(shared=False))
    assert kinds.AUTOSCALER not in alone
    assert alone[kinds.DEPLOYMENT][0]["spec"]["replicas"] == 1
    fixed = made(settings=replace(SETTINGS, pools=PoolSettings(least=2, most=2)))
    assert (kinds.AUTOSCALER in fixed, fixed[kinds.DEPLOYMENT][0]["spec"]["replicas"]) == (False, 2)


def test_what_a_pod_may_do_names_every_secret_and_nothing_more() -> None:
    (role,) = made()[kinds.ROLE]
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]},
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "verbs": ["patch"],
            "resourceNames": ["kadre-pool-default.served"],
        },
        {
            "apiGroups": ["rbac.authorization.k8s.io"],
            "resources": ["roles"],
            "verbs": ["list", "watch"],
            "resourceNames": ["kadre-pool-default"],
        },
        {"apiGroups": ["kagent.dev"], "resources": ["plans"], "verbs": ["serve"], "resourceNames": ["one", "two"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["a-key"]},
    ]
    (without,) = made(POOL._replace(secrets=(), plans=()))[kinds.ROLE]
    assert without["rules"] == role["rules"][:3]


@pytest.mark.requirement("pool-serves-what-is-made")
def test_what_pods_may_serve_is_read_from_the_one_rule_that_only_who_has_the_right_can_write() -> None:
    (role,) = made()[kinds.ROLE]
    assert parts.accepted(role) == {"one", "two"}
    rule = {"apiGroups": ["kagent.dev"], "resources": ["plans"], "verbs": ["serve"], "resourceNames": ["three"]}
    assert parts.accepted({"rules": [rule, *role["rules"]]}) == {"one", "two", "three"}
    others: list[Object] = [
        rule | {"apiGroups": ["example.com"]},
        rule | {"resources": ["agents"]},
        rule | {"verbs": ["get"]},
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
    ]
    assert parts.accepted({"rules": others}) == parts.accepted({"rules": None}) == parts.accepted({}) == frozenset()


@pytest.mark.requirement("pool-serves-what-is-made")
def test_a_role_that_pods_cannot_follow_does_not_say_that_nothing_may_be_served() -> None:
    (role,), (empty,) = made()[kinds.ROLE], made(POOL._replace(plans=()))[kinds.ROLE]
    assert parts.told_to_serve(role) == frozenset({"one", "two"})
    assert parts.told_to_serve(empty) == frozenset()
    before = [rule for rule in role["rules"] if rule["resources"] in (["configmaps"], ["secrets"])]
    assert parts.told_to_serve({"rules": before}) is parts.told_to_serve({"rules": None}) is None


def test_the_pools_of_a_plan_are_read_from_its_labels() -> None:
    labels: dict[str, Any] = {**pools.labels(["b", "a"]), "team": "x"}
    assert pools.pools_of({"metadata": {"labels": labels}}) == ("a", "b")
    assert pools.pools_of({"metadata": {}}) == ()


def test_its_pods_can_ask_other_agents_whether_one_of_theirs_does_or_not() -> None:
    (without,) = made()[kinds.DEPLOYMENT]
    assert "--gateway-url" not in str(without)
    (deployment,) = made(settings=replace(SETTINGS, gateway_service="kagent"))[kinds.DEPLOYMENT]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    asks = {"--gateway-url=http://kagent.team.svc", "--gateway-token=/var/run/kadre/gateway/token"}
    assert asks <= {*container["args"]}
    tokens = [each["projected"]["sources"][0] for each in pod["volumes"] if "projected" in each]
    assert [each["serviceAccountToken"]["audience"] for each in tokens] == ["kagent-gateway", "kagent-code-runner"]
    assert "/var/run/kadre/gateway" in [each["mountPath"] for each in container["volumeMounts"]]


def test_of_a_plan_what_only_pods_of_its_own_would_use_is_left_out() -> None:
    runtime = {"mode": "Pooled", "pool": "p"}
    model = ModelPlan(provider="scripted", model="m")
    plan = AgentPlan(key=AgentKey("team", "a"), model=model, workload={"runtime": runtime, "replicas": 3})
    assert pools.pooled(plan).workload == {"runtime": runtime}


def test_of_what_pods_tell_that_which_cannot_be_read_is_nothing() -> None:
    assert pools.served({"one": '{"plans": {"a": "1"}}', "two": "{", "three": '{"plans": 1}'}) == {
        "one": Served({"a": "1"})
    }


def test_an_agent_is_settled_in_a_pool_when_every_pod_that_is_ready_has_its_plan() -> None:
    told = {"one": Served({"a": "new"}), "two": Served({"a": "old"}), "starts": Served({})}
    half = Seat(pods=frozenset({"one", "two"}), served=told).of("a", "new")
    assert (half.wanted, half.updated, half.available, half.settled) == (2, 1, 2, False)
    assert Seat(pods=frozenset({"one"}), served=told).of("a", "new").settled
    assert not Seat().of("a", "new").settled
    refused = Seat(pods=frozenset({"one"}), served={"one": Served({"a": "old"}, {"a": ("new", "no journal")})})
    assert refused.of("a", "new").pods is not None
    assert refused.of("a", "old").pods is None
    # Until a pod is ready, what is in the pods' way is in the agents'.
    assert Seat(rollout=replace(NONE, trouble="quota")).of("a", "new").trouble == "quota"


@pytest.mark.parametrize(
    ("before", "wanted", "own", "seats", "where", "ready"),
    [
        ("", "", READY, {}, "", True),
        ("", "p", None, {"p": NONE}, "", False),
        ("", "p", None, {"p": READY}, "p", True),
        ("p", "p", None, {"p": NONE}, "p", False),
        ("", "p", READY, {"p": NONE}, "", True),
        ("", "p", READY, {"p": READY}, "p", True),
        ("p", "", None, {"p": READY}, "p", True),
        ("p", "", NONE, {"p": READY}, "p", True),
        ("p", "", READY, {"p": READY}, "", True),
        ("p", "q", None, {"p": READY, "q": NONE}, "p", True),
        ("p", "q", None, {"p": READY, "q": READY}, "q", True),
    ],
)
def test_messages_go_where_it_was_until_where_it_is_to_be_answers(
    before: str, wanted: str, own: Rollout | None, seats: dict[str, Rollout], where: str, ready: bool
) -> None:
    seen, found = served(before, wanted, own, seats.__getitem__)
    assert seen is not None
    assert (found, seen.available > 0) == (where, ready)
    assert seen.settled is (ready and where == wanted)
