"""Secrets of the installation: agents that name no key use them, in its namespace and where they are shared."""

from __future__ import annotations

import base64
from dataclasses import replace
from itertools import count

import pytest

from kadre.kube import access, kinds
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Object
from kadre.operator import sharing
from kadre.operator.children.common import KeySecret, Settings
from kadre.operator.sharing import COPIED_FROM, ROLE
from tests.apiserver import chart
from tests.apiserver.conftest import AGENT, World, operating
from tests.apiserver.test_late import until
from tests.support.between import between

AGENT_YAML = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: helper}
spec:
  model: {provider: openai, name: gpt-4o}
"""
_numbers = count()


def secret(value: str, name: str = "kagent-openai") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "data": {"OPENAI_API_KEY": base64.b64encode(value.encode()).decode()},
    }


def settings(world: World, *share: str) -> Settings:
    return Settings(
        image="kadre:test",
        home=world.namespace,
        provider_secrets={"openai": KeySecret("kagent-openai", "OPENAI_API_KEY")},
        share_with=share,
    )


def holds(obj: Object, value: str) -> bool:
    return bool(obj["data"] == secret(value)["data"])


@pytest.fixture
async def team(world: World) -> World:
    """A namespace besides the installation's."""
    namespace = f"sharing-{next(_numbers)}"
    await world.client.create(kinds.NAMESPACE, {"metadata": {"name": namespace}})
    return World(world.client, namespace, world.plane)


async def put(world: World, obj: Object) -> None:
    await world.client.apply(kinds.SECRET, obj | {"metadata": obj["metadata"] | {"namespace": world.namespace}})


def mounted(deployment: Object) -> list[str]:
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    return [each["secret"]["secretName"] for each in volumes if "secret" in each]


@pytest.mark.requirement("chart-providers")
async def test_an_agent_without_a_key_uses_the_installations_and_is_told_where_it_is_missing(world: World) -> None:
    async with operating(world.plane.kubeconfig, settings(world)):
        await world.apply(AGENT_YAML)
        told = await world.condition(AGENT, "helper", "Ready", "MissingSecret")
        command = f"kubectl create secret generic kagent-openai -n {world.namespace} --from-literal=OPENAI_API_KEY=…"
        assert command in told["message"]
        assert mounted(await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)) == ["kagent-openai"]
        await put(world, secret("sk-first"))
        await world.condition(AGENT, "helper", "Ready", "Starting")


async def test_an_agent_elsewhere_is_told_to_have_the_secret_in_its_own_namespace(world: World, team: World) -> None:
    await put(world, secret("sk-first"))
    async with operating(world.plane.kubeconfig, settings(world)):
        await team.apply(AGENT_YAML)
        told = await team.condition(AGENT, "helper", "Ready", "MissingSecret")
        assert f"kubectl create secret generic kagent-openai -n {team.namespace} " in told["message"]
        assert await team.get(kinds.SECRET, "kagent-openai") is None
        await put(team, secret("sk-own"))
        await team.condition(AGENT, "helper", "Ready", "Starting")


@pytest.mark.requirement("secrets-shared")
async def test_a_shared_secret_is_copied_follows_its_original_and_goes_with_it(world: World, team: World) -> None:
    async with operating(world.plane.kubeconfig, settings(world, team.namespace)):
        await team.apply(AGENT_YAML)
        told = await team.condition(AGENT, "helper", "Ready", "MissingSecret")
        assert f"kubectl create secret generic kagent-openai -n {world.namespace} " in told["message"]
        await put(world, secret("sk-first"))
        await team.condition(AGENT, "helper", "Ready", "Starting")
        copy = await team.when(kinds.SECRET, "kagent-openai", lambda obj: holds(obj, "sk-first"))
        assert copy["metadata"]["labels"][COPIED_FROM] == world.namespace
        await put(world, secret("sk-second"))
        await team.when(kinds.SECRET, "kagent-openai", lambda obj: holds(obj, "sk-second"))
        await put(team, secret("sk-meddled"))
        await team.when(kinds.SECRET, "kagent-openai", lambda obj: holds(obj, "sk-second"))
        await world.client.delete(kinds.SECRET, world.namespace, "kagent-openai")
        await team.gone(kinds.SECRET, "kagent-openai")


@pytest.mark.requirement("secrets-shared")
async def test_a_copy_that_was_made_before_its_role_comes_to_belong_to_it(
    world: World, team: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "CLOSED_SECONDS", 0.1)
    await put(world, secret("sk-first"))
    async with operating(world.plane.kubeconfig, settings(world, team.namespace)):
        await team.when(kinds.SECRET, "kagent-openai", lambda obj: "ownerReferences" not in obj["metadata"])
        name = ROLE.format("kagent-openai")
        kind = {"apiVersion": kinds.ROLE.api_version, "kind": kinds.ROLE.kind}
        role = await team.client.create(kinds.ROLE, {**kind, **team.named(name), "rules": []})
        copy = await team.when(kinds.SECRET, "kagent-openai", lambda obj: "ownerReferences" in obj["metadata"])
        assert copy["metadata"]["ownerReferences"] == [{**kind, "name": name, "uid": role["metadata"]["uid"]}]


@pytest.mark.requirement("secrets-shared")
async def test_a_secret_that_may_not_be_read_yet_is_shared_once_it_may(
    world: World, team: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sharing, "CLOSED_SECONDS", 0.1)
    await put(world, secret("sk-first"))
    async with between(access.by_kubeconfig(world.plane.kubeconfig)) as (bad, way):
        bad.refused["GET", "/secrets/kagent-openai"] = 403
        async with operating(way, settings(world, team.namespace)) as operator:
            await until(lambda: "is not shared with" in caplog.text)
            bad.refused.clear()
            await team.when(kinds.SECRET, "kagent-openai", lambda obj: holds(obj, "sk-first"))
            assert operator.controller.failed == 0


async def test_a_secret_of_the_teams_own_is_never_taken(world: World, team: World) -> None:
    await put(team, secret("sk-own"))
    await put(world, secret("sk-first"))
    async with operating(world.plane.kubeconfig, settings(world, team.namespace)):
        event = await team.some(kinds.EVENT, lambda obj: obj["regarding"]["kind"] == "Secret")
        assert (event["reason"], event["type"]) == ("NameTaken", "Warning")
        await team.apply(AGENT_YAML)
        await team.condition(AGENT, "helper", "Ready", "Starting")
        assert holds(await team.client.get(kinds.SECRET, team.namespace, "kagent-openai"), "sk-own")


async def test_what_only_some_namespaces_lack_is_shared_with_the_others(world: World, team: World) -> None:
    await put(world, secret("sk-first"))
    async with operating(world.plane.kubeconfig, settings(world, "no-such-namespace", team.namespace)):
        await team.when(kinds.SECRET, "kagent-openai", lambda obj: holds(obj, "sk-first"))
        with pytest.raises(ApiError, match="not found"):
            await world.client.get(kinds.SECRET, "no-such-namespace", "kagent-openai")


@pytest.mark.requirement("secrets-shared")
async def test_the_charts_rights_are_enough_and_a_copy_goes_with_the_role_it_belongs_to(
    world: World, team: World
) -> None:
    config = await chart.controller(world, "kagent", f"shareSecretsWith={{{team.namespace}}}")
    await put(world, secret("sk-first"))
    async with operating(config, settings(world, team.namespace)):
        await team.when(kinds.SECRET, "kagent-openai", lambda obj: holds(obj, "sk-first"))
        await put(world, secret("sk-second"))
        await team.when(kinds.SECRET, "kagent-openai", lambda obj: holds(obj, "sk-second"))
    # As `helm upgrade` does where the namespace is no longer shared with.
    await team.client.delete(kinds.ROLE, team.namespace, ROLE.format("kagent-openai"))
    await team.gone(kinds.SECRET, "kagent-openai")


@pytest.mark.requirement("secrets-shared")
async def test_the_installations_journal_is_mounted_where_it_is_shared_and_missed_by_name(
    world: World, team: World
) -> None:
    given = replace(settings(world, team.namespace), provider_secrets={}, journal_secret="chats")
    async with operating(world.plane.kubeconfig, given):
        await team.apply(AGENT_YAML.replace("openai", "scripted"))
        told = await team.condition(AGENT, "helper", "Durable", "MissingSecret")
        assert f"kubectl create secret generic chats -n {world.namespace} --from-literal=url=" in told["message"]
        assert mounted(await team.when(kinds.DEPLOYMENT, "helper", lambda _: True)) == ["chats"]
        await put(world, secret("postgresql://", "chats"))
        await team.condition(AGENT, "helper", "Durable", "InstalledJournal")
