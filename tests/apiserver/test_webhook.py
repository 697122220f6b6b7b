"""The admission webhook, asked by a real API server: what it refuses and warns of, and what certificate it has."""

from __future__ import annotations

import asyncio
import base64
import datetime
import io
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from kadre.base.clock import FakeClock
from kadre.kube import access, kinds
from kadre.kube.client import Client
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Kind, Object
from kadre.operator import own_certificate
from kadre.operator.admission import CREATED_BY
from kadre.operator.certificates import EVERY, Files, Source, Tls
from kadre.operator.children.common import Settings
from kadre.operator.controller import Operator
from kadre.operator.own_certificate import LIFE, Shared
from kadre.operator.webhook import MAX_BODY, Webhook, listen
from tests.apiserver.conftest import AGENT, KNOWN, MODEL_CONFIG, SECONDS, World
from tests.apiserver.test_agents import MODEL_YAML
from tests.cluster.processes import free_ports

LOCAL = "127.0.0.1"
TEMPLATE = KNOWN["kagent.dev/v1alpha1", "AgentTemplate"]
HEAD = {"apiVersion": AGENT.api_version, "kind": AGENT.kind}
HOOKS = {kinds.VALIDATING_WEBHOOKS: "validate", kinds.MUTATING_WEBHOOKS: "mutate"}
ITSELF = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: helper}
spec:
  modelConfig: small
  agents: [helper, other, other]
"""


def configuration(kind: Kind, name: str, namespace: str, port: int) -> Object:
    """As the chart has it, except that this machine is called and one namespace is asked about."""
    does = HOOKS[kind]
    operations = ["CREATE", "UPDATE"] if does == "validate" else ["CREATE"]
    rule = {"apiGroups": ["kagent.dev", "kaos.tools"], "apiVersions": ["v1alpha1"], "resources": ["*"]}
    hook = {
        "name": f"{does}.kagent.dev",
        "clientConfig": {"url": f"https://{LOCAL}:{port}/{does}"},
        "rules": [{**rule, "operations": operations}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "failurePolicy": "Ignore",
        "timeoutSeconds": 5,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "webhooks": [hook]}


class Hooked:
    """A test's webhook: its configurations in the cluster, and who serves it."""

    def __init__(self, world: World, operator: Operator, clock: FakeClock) -> None:
        self.world = world
        self.operator = operator
        self.clock = clock
        self.name = f"kagent-{world.namespace}"
        (self.port,) = free_ports(1)

    def shared(self, client: Client | None = None) -> Shared:
        """A replica's certificate, made by itself or by another replica."""
        secret = Key(self.world.namespace, "kagent-webhook")
        return Shared(client or self.world.client, secret, self.name, [LOCAL], self.clock)

    async def configure(self) -> None:
        """Have the API server ask."""
        for kind in HOOKS:
            await self.world.client.create(kind, configuration(kind, self.name, self.world.namespace, self.port))

    async def serve(self, stack: AsyncExitStack, source: Source) -> Tls:
        """Answer, as the controller's process does."""
        tls = Tls(source)
        await listen(stack, Webhook(self.operator.cluster), tls, LOCAL, self.port, self.clock)
        return tls

    async def asked(self) -> None:
        """Wait until the API server asks: it learns of webhooks, and whom to trust there, a moment after all others."""
        async with asyncio.timeout(SECONDS):
            while not (await self.stamped("probe") and await self.refused("probe")):
                pass

    async def unasked(self) -> None:
        """Wait until the API server does without."""
        async with asyncio.timeout(SECONDS):
            while await self.stamped("probe"):
                pass

    async def stamped(self, name: str) -> bool:
        """Whether a new object came by the webhook that stamps."""
        metadata = {"name": name, "namespace": self.world.namespace}
        spec = {"provider": "scripted", "model": "m"}
        await self.world.client.delete(MODEL_CONFIG, self.world.namespace, name)
        made = await self.world.client.create(
            MODEL_CONFIG,
            {"apiVersion": MODEL_CONFIG.api_version, "kind": "ModelConfig", "metadata": metadata, "spec": spec},
        )
        return CREATED_BY in (made["metadata"].get("annotations") or {})

    async def refused(self, name: str) -> bool:
        """Whether the webhook that validates refuses a wrong object."""
        wrong = native("AgentTemplate", name, templateRef=name)
        wrong["metadata"]["namespace"] = self.world.namespace
        try:
            await self.world.client.create(TEMPLATE, wrong)
        except ApiError as error:
            if not error.refused:
                raise
            return True
        await self.world.client.delete(TEMPLATE, self.world.namespace, name)
        return False

    async def renewed(self, first: bytes) -> None:
        """Let time pass until another certificate is served."""
        async with asyncio.timeout(SECONDS):
            while await self.shown() == first:
                await self.clock.advance(EVERY)

    async def shown(self) -> bytes:
        """The certificate that a new connection gets."""
        anybody = ssl.create_default_context()
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection(LOCAL, self.port, ssl=anybody)
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        await asyncio.sleep(0)
        return certificate

    async def bundles(self) -> list[list[str]]:
        """The authorities that the API server trusts, by webhook, each as PEM."""
        found = [await self.world.client.get(kind, "", self.name) for kind in HOOKS]
        texts = [base64.b64decode(each["webhooks"][0]["clientConfig"]["caBundle"]).decode() for each in found]
        return [re.findall(r"-----BEGIN .*?-----END CERTIFICATE-----", text, re.DOTALL) for text in texts]


@pytest.fixture
async def hooked(world: World, operator: Operator) -> AsyncIterator[Hooked]:
    async with asyncio.timeout(SECONDS):
        for informer in operator.cluster.informers():
            await informer.synced.wait()
    # A time at which a first certificate is valid today, and so is the one that is made two months later.
    made = Hooked(world, operator, FakeClock(datetime.datetime.now(datetime.UTC) - LIFE * 0.8))
    await made.configure()
    try:
        yield made
    finally:
        for kind in HOOKS:
            await world.client.delete(kind, "", made.name)


@pytest.fixture
async def served(hooked: Hooked) -> AsyncIterator[Hooked]:
    async with AsyncExitStack() as stack:
        await hooked.serve(stack, hooked.shared())
        await hooked.asked()
        yield hooked


async def warned(world: World, obj: Object) -> list[str]:
    """Apply an object; the warnings in the API server's answer."""
    found = access.by_kubeconfig(world.plane.kubeconfig)
    kind = KNOWN[obj["apiVersion"], obj["kind"]]
    path = kind.path(world.namespace, obj["metadata"]["name"])
    query = {"fieldManager": "tests", "force": "true"}
    headers = {"Content-Type": "application/apply-patch+yaml"}
    assert found.tls is not None
    connector = aiohttp.TCPConnector(ssl=found.tls)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.patch(f"{found.server}{path}", params=query, json=obj, headers=headers) as answer,
    ):
        assert answer.status in {200, 201}, await answer.text()
        return answer.headers.getall("Warning", [])


def native(kind: str, name: str, **spec: object) -> Object:
    return {"apiVersion": "kagent.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


@pytest.mark.requirement("webhook-validates")
async def test_what_can_never_become_right_is_refused_with_everything_that_is_wrong(served: Hooked) -> None:
    with pytest.raises(ApiError) as refused:
        await served.world.apply(ITSELF)
    assert refused.value.refused
    message = str(refused.value)
    assert 'admission webhook "validate.kagent.dev" denied the request' in message
    assert "spec.agents[0]: helper can't hand work to itself (remove it from the list)" in message
    assert "spec.agents[2]: " in message
    assert await served.world.get(AGENT, "helper") is None


@pytest.mark.requirement("webhook-validates")
async def test_what_is_missing_is_warned_of_and_accepted(served: Hooked) -> None:
    (warning,) = await warned(served.world, native("Agent", "helper", modelConfig="small"))
    assert "there is no ModelConfig small" in warning
    assert await served.world.get(AGENT, "helper") is not None
    await served.world.apply(MODEL_YAML)
    await served.world.condition(MODEL_CONFIG, "small", "Ready", "Valid")
    assert await warned(served.world, native("Agent", "another", modelConfig="small")) == []


async def test_a_circle_through_other_objects_is_warned_of_and_accepted(served: Hooked) -> None:
    world = served.world
    await world.apply(MODEL_YAML)
    await world.condition(MODEL_CONFIG, "small", "Ready", "Valid")
    assert len(await warned(world, native("Agent", "first", modelConfig="small", agents=["second"]))) == 1
    await world.condition(AGENT, "first", "Stalled", "MissingAgent")
    (warning,) = await warned(world, native("Agent", "second", modelConfig="small", agents=["first"]))
    assert "in a circle: first → second → first" in warning
    await warned(world, native("AgentTemplate", "one", templateRef="two"))
    await world.condition(TEMPLATE, "one", "Stalled", "MissingTemplate")
    (warning,) = await warned(world, native("AgentTemplate", "two", templateRef="one"))
    assert "each other's: one → two → one" in warning


@pytest.mark.requirement("webhook-mutating")
async def test_an_object_says_who_created_it_and_goes_on_to(served: Hooked) -> None:
    (made,) = await served.world.apply(MODEL_YAML)
    assert made["metadata"]["annotations"] == {CREATED_BY: "admin"}
    noted = MODEL_YAML.replace("{name: small}", "{name: noted, annotations: {a: b}}")
    (made,) = await served.world.apply(noted)
    assert made["metadata"]["annotations"] == {"a": "b", CREATED_BY: "admin"}
    (again,) = await served.world.apply(noted.replace("model: script", "model: other"))
    assert again["metadata"]["annotations"] == {"a": "b", CREATED_BY: "admin"}


async def test_without_the_webhook_objects_are_accepted(hooked: Hooked) -> None:
    async with AsyncExitStack() as stack:
        await hooked.serve(stack, hooked.shared())
        await hooked.asked()
        with pytest.raises(ApiError):
            await hooked.world.apply(ITSELF)
    await hooked.unasked()
    await hooked.world.apply(ITSELF)
    await hooked.world.condition(AGENT, "helper", "Stalled", "DuplicateName")


async def test_while_the_cluster_is_not_known_nothing_is_warned_of(hooked: Hooked) -> None:
    hooked.operator = Operator(hooked.world.client, Settings(image="kadre:test"))  # one that does not run
    async with AsyncExitStack() as stack:
        await hooked.serve(stack, hooked.shared())
        await hooked.asked()
        assert await warned(hooked.world, native("Agent", "helper", modelConfig="small")) == []


async def test_a_new_certificate_is_made_in_time_and_served_without_a_restart(served: Hooked) -> None:
    first, (trusted, _) = await served.shown(), await served.bundles()
    assert len(trusted) == 1
    await served.clock.advance(LIFE.total_seconds() * 2 / 3)
    await served.renewed(first)
    for bundle in await served.bundles():
        assert len(bundle) == 2
        assert bundle[1] == trusted[0]  # another replica may serve with it for a while
    await served.asked()
    with pytest.raises(ApiError):
        await served.world.apply(ITSELF)


async def test_replicas_share_one_certificate(hooked: Hooked) -> None:
    world = hooked.world
    async with Client(access.by_kubeconfig(world.plane.kubeconfig), "another") as other:
        sources = [hooked.shared(), hooked.shared(other)]
        first = await agreed(sources)
        secret = await world.client.get(kinds.SECRET, world.namespace, "kagent-webhook")
        assert secret["type"] == "kubernetes.io/tls"
        assert base64.b64decode(secret["data"]["tls.crt"]) == first
        (authority,), _ = await hooked.bundles()
        assert base64.b64decode(secret["data"]["ca.crt"]).decode().strip() == authority.strip()
        await hooked.clock.advance(LIFE.total_seconds() * 0.7)
        second = await agreed(sources)
        assert second != first
        assert await agreed(sources) == second


async def agreed(sources: Sequence[Source]) -> bytes:
    """What replicas that look at the same time both serve with."""
    one, two = await asyncio.gather(*[source.current() for source in sources])
    assert one == two
    return one.certificate


async def test_a_secret_of_somebody_else_is_left_alone(hooked: Hooked) -> None:
    world = hooked.world
    theirs = {"metadata": {"name": "kagent-webhook", "namespace": world.namespace}, "stringData": {"k": "v"}}
    await world.client.create(kinds.SECRET, theirs)
    with pytest.raises(OSError, match="somebody else's"):
        await hooked.shared().current()
    assert await Tls(hooked.shared()).refresh() < EVERY


async def test_a_certificate_from_files_is_read_again_when_they_change(hooked: Hooked, tmp_path: Path) -> None:
    today = datetime.datetime.now(datetime.UTC)
    one, two = (own_certificate.make([LOCAL], today, LIFE) for _ in range(2))
    put(tmp_path, one.pair.certificate, one.pair.key)
    async with AsyncExitStack() as stack:
        tls = await hooked.serve(stack, Files(tmp_path))
        first = await hooked.shown()
        put(tmp_path, two.pair.certificate, one.pair.key)  # half of the change
        assert await tls.refresh() < EVERY
        assert await hooked.shown() == first
        put(tmp_path, two.pair.certificate, two.pair.key)
        await hooked.renewed(first)


def put(folder: Path, certificate: bytes, key: bytes) -> None:
    (folder / "tls.crt").write_bytes(certificate)
    (folder / "tls.key").write_bytes(key)


async def test_what_is_no_review_is_answered_by_400_and_what_is_too_large_by_413(served: Hooked) -> None:
    trust = ssl.create_default_context(cadata="\n".join((await served.bundles())[0]))
    connector = aiohttp.TCPConnector(ssl=trust)
    async with aiohttp.ClientSession(f"https://{LOCAL}:{served.port}", connector=connector) as session:
        for path in ("/validate", "/mutate"):
            async with session.post(path, data=b"{}") as answer:
                assert answer.status == 400
                assert "AdmissionReview" in await answer.text()
            async with session.post(path, data=io.BytesIO(bytes(MAX_BODY + 1))) as answer:
                assert answer.status == 413


async def test_an_object_on_its_way_out_and_what_is_reported_of_it_pass(hooked: Hooked) -> None:
    world = hooked.world
    text = ITSELF.replace("{name: helper}", "{name: helper, finalizers: [kagent.dev/test]}")
    await world.apply(text)  # while nobody serves
    async with AsyncExitStack() as stack:
        await hooked.serve(stack, hooked.shared())
        await hooked.asked()
        with pytest.raises(ApiError):
            await world.apply(text.replace("modelConfig: small", "modelConfig: other"))
        await world.client.apply(AGENT, {**world.named("helper"), **HEAD, "status": {"phase": "Failed"}}, "status")
        await world.client.delete(AGENT, world.namespace, "helper")
        leaving = await world.when(AGENT, "helper", lambda obj: "deletionTimestamp" in obj["metadata"])
        leaving["metadata"]["finalizers"] = []
        await world.client.replace(AGENT, leaving)
        await world.gone(AGENT, "helper")
