"""What has the API server ask the webhook, noticed where it goes, and warn where there is nothing to ask for."""

from __future__ import annotations

import asyncio
import base64

import pytest

from kadre.kube.kinds import Kind, Object
from tests.apiserver import chart
from tests.apiserver.conftest import KNOWN, SECONDS, World, when
from tests.apiserver.test_uninstalled import LOCAL, at_work
from tests.apiserver.test_webhook import HOOKS, configurations, figures, native, warned
from tests.cluster.processes import free_ports

GROUP = "admissionregistration.k8s.io"
POLICY = Kind(GROUP, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", namespaced=False)
BINDING = Kind(GROUP, "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", namespaced=False)
AT_ONCE = 10.0
"""Seconds: the certificate is looked at every thirty, whatever happens."""


async def trusting(world: World, kind: Kind, name: str) -> None:
    """Wait until the API server is told whom to trust."""

    def told(obj: Object) -> bool:
        return all(hook["clientConfig"].get("caBundle") for hook in obj["webhooks"])

    async with asyncio.timeout(AT_ONCE):
        await when(world.client, kind, {"metadata": {"name": name}}, told)


@pytest.mark.requirement("webhook-validates", "webhook-mutating")
async def test_a_configuration_that_is_deleted_is_told_of_once_and_trusts_at_once_when_it_comes_back(
    world: World,
) -> None:
    release = f"kagent-{world.namespace}"
    name, (port,) = f"{release}-webhook", free_ports(1)
    made = configurations(release, world.namespace, port)
    for each in made:
        await world.client.create(KNOWN[each["apiVersion"], each["kind"]], each)
    try:
        async with at_work(world, f"--metrics-bind-address={LOCAL}:{port}") as process:
            for kind in HOOKS:
                await trusting(world, kind, name)

            def figure(value: int) -> bool:
                told = figures(port)
                return all(f'kadre_webhook_configured{{kind="{kind.kind}"}} {value}.0' in told for kind in HOOKS)

            await asyncio.to_thread(process.until, lambda: figure(1))
            for kind in HOOKS:
                await world.client.delete(kind, "", name)
            await asyncio.to_thread(process.until, lambda: figure(0), AT_ONCE)
            for each in made:
                await world.client.create(KNOWN[each["apiVersion"], each["kind"]], each)
            for kind in HOOKS:
                await trusting(world, kind, name)
            await asyncio.to_thread(process.until, lambda: figure(1), AT_ONCE)
            lines = process.log.read_text().splitlines()
            for kind in HOOKS:
                assert len([line for line in lines if f"the {kind.kind} {name} is gone" in line]) == 1
    finally:
        for kind in HOOKS:
            await world.client.delete(kind, "", name)


@pytest.mark.requirement("webhook-validates")
async def test_an_upgrade_leaves_whom_the_api_server_trusts(world: World) -> None:
    release, config = f"kagent-{world.namespace}", f"--kubeconfig={world.plane.kubeconfig}"
    name = f"{release}-webhook"
    words = [release, str(chart.CHART), "-n", world.namespace, config, "--no-hooks"]

    async def helm(*words: str) -> None:
        done = await asyncio.to_thread(chart.helm, *words)
        assert done.returncode == 0, done.stderr

    await helm("install", *words)
    try:
        bundle = base64.b64encode(b"somebody").decode()
        for kind in HOOKS:
            await world.client.apply(kind, _trusts(kind, name, await world.client.get(kind, "", name), bundle))
        await helm("upgrade", *words, "--set=controller.logLevel=debug,watchNamespaces={default}")
        for kind in HOOKS:
            (hook,) = (await world.client.get(kind, "", name))["webhooks"]
            assert hook["clientConfig"]["caBundle"] == bundle
    finally:
        await helm("uninstall", release, "-n", world.namespace, config, "--no-hooks")


def _trusts(kind: Kind, name: str, there: Object, bundle: str) -> Object:
    hooks = [{"name": each["name"], "clientConfig": {"caBundle": bundle}} for each in there["webhooks"]]
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "webhooks": hooks}


@pytest.mark.requirement("webhook-validates", "chart-confined")
async def test_what_a_confined_installation_does_not_watch_is_warned_of_by_its_policy(world: World) -> None:
    release, agent = f"kagent-{world.namespace}", native("Agent", "helper", modelConfig="small")

    async def told() -> list[str]:
        # The API server forgets other installations' policies a moment after they have gone.
        return [warning for warning in await warned(world, agent) if f"'{release}-webhook'" in warning]

    async def confined(namespace: str) -> None:
        made = {each["kind"]: each for each in chart.rendered("kagent", release, f"watchNamespaces={{{namespace}}}")}
        for kind in (POLICY, BINDING):
            await world.client.apply(kind, made[kind.kind])

    try:
        await confined("team")
        async with asyncio.timeout(SECONDS):
            while not (warnings := await told()):  # the API server learns of it a moment later
                pass
        assert f"the namespace {world.namespace} is not watched by the installation in kagent: nothing" in warnings[0]
        assert f"add it to watchNamespaces of the release {release}" in warnings[0]
        await confined(world.namespace)
        async with asyncio.timeout(SECONDS):
            while await told():
                pass
    finally:
        for kind in (BINDING, POLICY):
            await world.client.delete(kind, "", f"{release}-webhook")
