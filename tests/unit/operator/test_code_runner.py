"""The objects of a namespace's code runner, and what its agents know it by."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import yaml

from kadre.kube import kinds
from kadre.kube.kinds import Kind, Object
from kadre.operator.children import code_runner as parts
from kadre.operator.children.common import CodeRunnerSettings, Owner, Settings
from kadre.operator.children.deployment import deployment
from kadre.operator.children.rooted import Member
from kadre.operator.reconcilers.code_runner import Seen
from kadre.operator.status import Rollout, Trouble
from kadre.plan.types import AgentKey, AgentPlan, CodeTool, ModelPlan

pytestmark = pytest.mark.requirement("tool-code-cluster")
SETTINGS = Settings(image="kadre:test", home="kagent")
KEYS = {"keys": [{"kid": "a", "kty": "RSA"}]}
RUNNER = "http://kagent-code-runner.team.svc:8080"


def made(settings: Settings = SETTINGS) -> dict[Kind, Object]:
    return {child.kind: child.manifest for child in parts.children("team", "uid-of-root", KEYS, settings)}


def pod(settings: Settings = SETTINGS) -> Any:
    return made(settings)[kinds.DEPLOYMENT]["spec"]["template"]["spec"]


def agent(*tools: CodeTool) -> Any:
    """An agent's pod."""
    plan = AgentPlan(key=AgentKey("team", "helper"), model=ModelPlan(provider="scripted", model="m"), tools=tools)
    owner = Owner(plan, "Agent", "kagent.dev/v1alpha1", "uid")
    return deployment(owner, SETTINGS, replicas=1, scaled=False).manifest["spec"]["template"]["spec"]


def test_all_of_it_belongs_to_a_root_that_belongs_to_every_agent_that_needs_it() -> None:
    for manifest in made().values():
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("ConfigMap", "kagent-code-runner", "uid-of-root")
        assert owner["controller"] is True
    members = [Member("Agent", "kagent.dev/v1alpha1", name, f"uid-{name}") for name in ("b", "a")]
    root = parts.root("team", members)
    assert [each["name"] for each in root["metadata"]["ownerReferences"]] == ["a", "b"]
    assert parts.is_root(root)
    assert not parts.is_root({"metadata": {"name": "kagent-code-runner", "labels": {}}})


def test_its_pod_has_no_secret_no_right_no_variable_and_nothing_to_write_to_but_one_bounded_folder() -> None:
    (container,) = pod()["containers"]
    assert pod()["automountServiceAccountToken"] is False
    assert pod()["enableServiceLinks"] is False
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"env", "envFrom"} & container.keys()
    assert pod()["volumes"] == [
        {"name": "work", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}},
        {"name": "keys", "configMap": {"name": "kagent-code-runner.keys"}},
    ]
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "2560Mi"}
    assert made()[kinds.CONFIG_MAP]["data"] == {"jwks.json": '{"keys":[{"kid":"a","kty":"RSA"}]}'}


def test_agents_pods_come_in_and_nothing_goes_out() -> None:
    spec = made()[kinds.NETWORK_POLICY]["spec"]
    assert (spec["policyTypes"], spec["egress"]) == (["Ingress", "Egress"], [])
    (rule,) = spec["ingress"]
    assert rule["ports"] == [{"port": 8080, "protocol": "TCP"}]
    (callers,) = rule["from"]
    (expression,) = callers["podSelector"]["matchExpressions"]
    assert expression == {
        "key": "app.kubernetes.io/name",
        "operator": "In",
        "values": ["kadre-agent", "kadre-pool"],
    }
    assert "namespaceSelector" not in callers
    assert spec["podSelector"] == {"matchLabels": made()[kinds.SERVICE]["spec"]["selector"]}


def test_what_the_installation_says_of_it_is_heeded() -> None:
    sizes = CodeRunnerSettings(unfenced=True, resources={"limits": {"memory": "1Gi"}})
    (container,) = pod(dataclasses.replace(SETTINGS, code_runner=sizes))["containers"]
    assert container["resources"] == {"limits": {"memory": "1Gi"}}
    assert "--without-landlock" in container["args"]
    assert "--without-landlock" not in pod()["containers"][0]["args"]


def test_an_agent_with_a_code_tool_has_a_token_for_it_and_no_other_has() -> None:
    with_code, without = agent(CodeTool(name="python")), agent()
    (container,) = with_code["containers"]
    assert f"--code-runner={RUNNER}" in container["args"]
    assert "--code-runner-token=/var/run/kadre/code-runner/token" in container["args"]
    (volume,) = [each for each in with_code["volumes"] if each["name"] == "code-runner-token"]
    (source,) = volume["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "kagent-code-runner"
    assert with_code["automountServiceAccountToken"] is False
    assert "code-runner" not in yaml.safe_dump(without)


def test_agents_tell_why_no_code_is_run() -> None:
    wait = Rollout(wanted=1, trouble="")
    stuck = dataclasses.replace(wait, pods=Trouble("CrashLoopBackOff", "it ended: no Landlock", "look at its log"))
    ready = dataclasses.replace(wait, available=1)
    told = [(state.status, state.reason) for state in (Seen(each).state for each in (None, wait, stuck, ready))]
    assert told == [
        ("False", "Starting"),
        ("False", "Starting"),
        ("False", "CrashLoopBackOff"),
        ("True", "Available"),
    ]
    assert Seen(stuck).state.message == "code of models is not run: it ended: no Landlock (look at its log)"
