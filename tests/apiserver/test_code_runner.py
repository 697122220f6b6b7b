"""The code runner of a namespace: there for as long as an agent has code run, and for its agents alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kadre.base.errors import ToolError
from kadre.engine import http_client
from kadre.engine.tools.code_elsewhere import RunnerSandbox
from kadre.kube import kinds
from kadre.kube.client import Scope
from kadre.kube.kinds import Object
from kadre.operator.children import code_runner as parts
from kadre.operator.children.common import CodeRunnerSettings, Settings
from kadre.operator.controller import Operator
from tests.apiserver.conftest import AGENT, World, operating
from tests.apiserver.test_faults import idle
from tests.apiserver.test_upgrades import easy_node
from tests.support.code_runner import running

pytestmark = pytest.mark.requirement("tool-code-cluster")
SETTINGS = Settings(image="kadre:test")
OFF = replace(SETTINGS, code_runner=CodeRunnerSettings(enabled=False))
MADE = (kinds.CONFIG_MAP, kinds.SERVICE, kinds.DEPLOYMENT, kinds.NETWORK_POLICY)
AGENT_YAML = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: {name}}}
spec:
  model: {{provider: scripted, name: script}}
  tools: {tools}
  {more}
"""
POOLED = "runtime: {mode: Pooled}"


def coding(name: str, more: str = "") -> str:
    return AGENT_YAML.format(name=name, tools="[{name: python, type: code}]", more=more)


def plain(name: str) -> str:
    return AGENT_YAML.format(name=name, tools="[]", more="")


async def objects(world: World) -> set[tuple[str, str]]:
    """Every object of a code runner."""
    found = set()
    for kind in MADE:
        for each in (await world.client.list(kind, Scope(world.namespace))).items:
            if each["metadata"].get("labels", {}).get("app") == parts.NAME:
                found.add((kind.kind, each["metadata"]["name"]))
    return found


async def token(world: World, account: str = "default", audience: str = "kagent-code-runner") -> str:
    """One of an account's, as a kubelet asks for it."""
    spec = {"spec": {"audiences": [audience], "expirationSeconds": 600}}
    path = f"/api/v1/namespaces/{world.namespace}/serviceaccounts/{account}/token"
    found: str = (await world.client.ask(path, spec))["status"]["token"]
    return found


def owners(root: Object) -> set[str]:
    return {each["name"] for each in root["metadata"].get("ownerReferences") or ()}


async def test_it_is_there_for_as_long_as_an_agent_has_code_run(world: World, operator: Operator) -> None:
    async with easy_node(world):
        await world.apply(plain("without") + "---" + coding("first") + "---" + coding("second", POOLED))
        await world.when(kinds.DEPLOYMENT, parts.NAME, lambda _: True)
        await world.when(kinds.CONFIG_MAP, parts.NAME, lambda obj: owners(obj) == {"first", "second"})
        assert await objects(world) == {(kind.kind, parts.NAME) for kind in MADE} | {("ConfigMap", parts.KEYS)}
        told = await world.condition(AGENT, "first", "CodeRunner", "Available")
        assert told["status"] == "True"
        status = (await world.client.get(AGENT, world.namespace, "without"))["status"]
        assert "CodeRunner" not in {each["type"] for each in status["conditions"]}
        pod = (await world.client.get(kinds.DEPLOYMENT, world.namespace, "first"))["spec"]["template"]["spec"]
        assert f"--code-runner=http://{parts.NAME}.{world.namespace}.svc:8080" in pod["containers"][0]["args"]
        await world.apply(plain("first"))
        await world.when(kinds.CONFIG_MAP, parts.NAME, lambda obj: owners(obj) == {"second"})
        assert (kinds.DEPLOYMENT.kind, parts.NAME) in await objects(world)
        await world.client.delete(AGENT, world.namespace, "second")
        for kind in MADE:
            await world.gone(kind, parts.NAME, parts.KEYS)


async def test_pods_of_before_have_it_for_as_long_as_they_run(world: World, operator: Operator) -> None:
    async with easy_node(world):
        await world.apply(coding("first"))
        await world.condition(AGENT, "first", "Ready", "Available")
    coded = await world.client.get(kinds.DEPLOYMENT, world.namespace, "first")
    root = await world.when(kinds.CONFIG_MAP, parts.NAME, lambda obj: owners(obj) == {"first"})
    await world.apply(plain("first"))  # nobody runs the pods that take the place of those
    await world.when(AGENT, "first", lambda obj: obj["status"].get("revision") == 2)
    await idle(operator)
    kept = await world.client.get(kinds.CONFIG_MAP, world.namespace, parts.NAME)
    assert kept["metadata"]["uid"] == root["metadata"]["uid"]
    assert "deletionTimestamp" not in kept["metadata"]
    async with easy_node(world):
        await world.gone(kinds.CONFIG_MAP, parts.NAME)
        # What `kubectl rollout undo` does: pods have code run again, whatever the agent says.
        undone = {"template": coded["spec"]["template"]}
        await world.change(kinds.DEPLOYMENT, "first", lambda obj: obj["spec"].update(undone))
        await world.condition(AGENT, "first", "RolledBack", "RolloutUndone")
        again = await world.when(kinds.CONFIG_MAP, parts.NAME, lambda obj: owners(obj) == {"first"})
        assert again["metadata"]["uid"] != root["metadata"]["uid"]


async def test_what_is_changed_or_taken_away_is_put_back(world: World, operator: Operator) -> None:
    await world.apply(coding("first"))
    policy = await world.when(kinds.NETWORK_POLICY, parts.NAME, lambda _: True)
    await world.when(kinds.DEPLOYMENT, parts.NAME, lambda _: True)
    await world.change(kinds.NETWORK_POLICY, parts.NAME, lambda obj: obj["spec"].update(ingress=[{}], egress=[{}]))
    await world.when(kinds.NETWORK_POLICY, parts.NAME, lambda obj: obj["spec"] == policy["spec"])
    keys = await world.client.get(kinds.CONFIG_MAP, world.namespace, parts.KEYS)
    await world.change(kinds.CONFIG_MAP, parts.KEYS, lambda obj: obj.update(data={"jwks.json": '{"keys": []}'}))
    await world.when(kinds.CONFIG_MAP, parts.KEYS, lambda obj: obj["data"] == keys["data"])
    await world.client.delete(kinds.CONFIG_MAP, world.namespace, parts.NAME)
    await world.when(
        kinds.CONFIG_MAP,
        parts.NAME,
        lambda obj: owners(obj) == {"first"} and "deletionTimestamp" not in obj["metadata"],
    )


async def test_a_controller_that_begins_leaves_it_to_those_who_need_it(world: World) -> None:
    async with operating(world.plane.kubeconfig, SETTINGS):
        await world.apply(coding("first") + "---" + coding("second"))
        before = await world.when(kinds.CONFIG_MAP, parts.NAME, lambda obj: owners(obj) == {"first", "second"})
        made = await world.when(kinds.DEPLOYMENT, parts.NAME, lambda _: True)
    await world.client.delete(AGENT, world.namespace, "second")
    async with operating(world.plane.kubeconfig, SETTINGS):
        root = await world.when(kinds.CONFIG_MAP, parts.NAME, lambda obj: owners(obj) == {"first"})
        assert root["metadata"]["uid"] == before["metadata"]["uid"]
        now = await world.client.get(kinds.DEPLOYMENT, world.namespace, parts.NAME)
        assert now["metadata"]["uid"] == made["metadata"]["uid"]


async def test_an_installation_that_runs_no_code_has_none_and_says_so(world: World) -> None:
    async with operating(world.plane.kubeconfig, SETTINGS):
        await world.apply(coding("first"))
        await world.when(kinds.DEPLOYMENT, parts.NAME, lambda _: True)
    async with operating(world.plane.kubeconfig, OFF):
        await world.gone(kinds.DEPLOYMENT, parts.NAME)
        told = await world.condition(AGENT, "first", "tool/python", "NotSupportedYet")
        assert "codeRunner.enabled=true" in told["message"]
        await world.gone(kinds.CONFIG_MAP, parts.NAME, parts.KEYS)


async def test_what_somebody_else_has_in_its_place_stays_and_is_told(world: World, operator: Operator) -> None:
    await world.apply(
        f"{{apiVersion: v1, kind: Service, metadata: {{name: {parts.NAME}}}, spec: {{ports: [{{port: 80}}]}}}}"
    )
    await world.apply(coding("first"))
    told = await world.condition(AGENT, "first", "CodeRunner", "NameTaken")
    assert f"delete the Service {parts.NAME}" in told["message"]
    assert (await world.client.get(kinds.SERVICE, world.namespace, parts.NAME))["spec"]["ports"][0]["port"] == 80
    await world.client.delete(kinds.SERVICE, world.namespace, parts.NAME)
    await world.when(kinds.DEPLOYMENT, parts.NAME, lambda _: True)


async def test_pods_of_the_namespace_are_known_by_their_tokens_and_nobody_else_is(
    world: World, operator: Operator, tmp_path: Path
) -> None:
    await world.apply(coding("first"))
    keys = await world.when(kinds.CONFIG_MAP, parts.KEYS, lambda _: True)
    await world.when(kinds.SERVICE_ACCOUNT, "first", lambda _: True)
    with running(tmp_path, namespace=world.namespace, keys=keys["data"][parts.KEYS_FILE]) as runner:
        async with http_client.session() as http:
            sandbox = RunnerSandbox(http, runner.url, runner.token)
            runner.token.write_text(await token(world, "first"))
            assert (await sandbox.run("6 * 7", 10.0)).output == "42\n"
            for other in (await token(world, "first", "https://kubernetes.default.svc"), runner.cluster.token()):
                runner.token.write_text(other)
                with pytest.raises(ToolError, match="no token that this cluster has made for this"):
                    await sandbox.run("6 * 7", 10.0)
            elsewhere = World(world.client, "default", world.plane)
            runner.token.write_text(await token(elsewhere))
            with pytest.raises(ToolError, match="a pod of another namespace"):
                await sandbox.run("6 * 7", 10.0)
