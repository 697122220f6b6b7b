"""The admission webhook, asked by a real API server: what it refuses and warns of, and what certificate it has."""

from __future__ import annotations

import asyncio
import base64
import datetime
import io
import json
import re
import ssl
import sys
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from kadre.base.clock import FakeClock
from kadre.base.tasks import Tasks
from kadre.kube import access, kinds
from kadre.kube.client import Client
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Kind, Object
from kadre.operator import own_certificate
from kadre.operator.admission import CREATED_BY
from kadre.operator.certificates import EVERY, Files, Source, Tls
from kadre.operator.children.common import MANAGER
from kadre.operator.children.plan_map import LIMIT
from kadre.operator.cluster import Cluster, Ref
from kadre.operator.own_certificate import LIFE, Shared
from kadre.operator.webhook import MAX_BODY, Webhook, listen
from tests.apiserver import chart
from tests.apiserver.conftest import AGENT, KNOWN, MODEL_CONFIG, SECONDS, World
from tests.apiserver.test_agents import MODEL_YAML
from tests.cluster.processes import Process, free_ports

LOCAL = "127.0.0.1"
TEMPLATE = KNOWN["kagent.dev/v1alpha1", "AgentTemplate"]
HEAD = {"apiVersion": AGENT.api_version, "kind": AGENT.kind}
HOOKS = (kinds.VALIDATING_WEBHOOKS, kinds.MUTATING_WEBHOOKS)
ITSELF = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: helper}
spec:
  modelConfig: small
  agents: [helper, other, other]
"""


def configurations(name: str, namespace: str, port: int) -> list[Object]:
    """Those of the chart, except that this machine is called, and asked about one namespace."""
    wanted = {kind.kind for kind in HOOKS}
    made = [each for each in chart.rendered(namespace, name) if each["kind"] in wanted]
    for each in made:
        for hook in each["webhooks"]:
            path = hook["clientConfig"].pop("service")["path"]
            hook["clientConfig"]["url"] = f"https://{LOCAL}:{port}{path}"
            hook["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return made


class Hooked:
    """A test's webhook: its configurations in the cluster, and who serves it."""

    def __init__(self, world: World, clock: FakeClock) -> None:
        self.world = world
        self.changed = asyncio.Event()
        self.cluster = Cluster(world.client, lambda *_: self.changed.set())
        self.clock = clock
        self.release = f"kagent-{world.namespace}"
        self.name = f"{self.release}-webhook"
        (self.port,) = free_ports(1)

    def shared(self, client: Client | None = None) -> Shared:
        """A replica's certificate, made by itself or by another replica."""
        secret = Key(self.world.namespace, "kagent-webhook")
        return Shared(client or self.world.client, secret, self.name, [LOCAL], self.clock)

    async def configure(self) -> None:
        """Have the API server ask."""
        for each in configurations(self.release, self.world.namespace, self.port):
            await self.world.client.create(KNOWN[each["apiVersion"], each["kind"]], each)

    async def serve(self, stack: AsyncExitStack, source: Source) -> Tls:
        """Answer, as the controller's process does."""
        tls = Tls(source)
        await listen(stack, Webhook(self.cluster), tls, LOCAL, self.port, self.clock)
        return tls

    async def known(self, kind: Kind, name: str) -> None:
        """Wait until the replica knows an object."""
        async with asyncio.timeout(SECONDS):
            while self.cluster.find(Ref(kind.group, kind.kind, self.world.namespace, name)) is None:
                self.changed.clear()
                await self.changed.wait()

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


@asynccontextmanager
async def asking(world: World) -> AsyncIterator[Hooked]:
    """An API server that asks, and a replica that follows the cluster."""
    # A time at which a first certificate is valid today, and so is the one that is made two months later.
    made = Hooked(world, FakeClock(datetime.datetime.now(datetime.UTC) - LIFE * 0.8))
    await made.configure()
    try:
        yield made
    finally:
        for kind in HOOKS:
            await world.client.delete(kind, "", made.name)


@pytest.fixture
async def hooked(world: World) -> AsyncIterator[Hooked]:
    tasks = Tasks("test")
    async with asking(world) as made:
        informers = made.cluster.informers()
        for informer in informers:
            tasks.spawn(f"follow-{informer.kind.plural}", informer.run())
        try:
            async with asyncio.timeout(SECONDS):
                await asyncio.gather(*[informer.synced.wait() for informer in informers])
            yield made
        finally:
            await tasks.aclose()


@pytest.fixture
async def served(hooked: Hooked) -> AsyncIterator[Hooked]:
    async with AsyncExitStack() as stack:
        await hooked.serve(stack, hooked.shared())
        await hooked.asked()
        yield hooked


@asynccontextmanager
async def session(tls: ssl.SSLContext | None) -> AsyncIterator[aiohttp.ClientSession]:
    """Speaks HTTPS, and leaves no connection that waits for a farewell."""
    assert tls is not None
    connector = aiohttp.TCPConnector(ssl=tls)
    async with aiohttp.ClientSession(connector=connector) as made:
        try:
            yield made
        finally:
            await connector.close(abort_ssl=True)
            await asyncio.sleep(0)


async def warned(world: World, obj: Object) -> list[str]:
    """Apply an object; the warnings in the API server's answer."""
    found = access.by_kubeconfig(world.plane.kubeconfig)
    kind = KNOWN[obj["apiVersion"], obj["kind"]]
    path = kind.path(world.namespace, obj["metadata"]["name"])
    query = {"fieldManager": "tests", "force": "true"}
    headers = {"Content-Type": "application/apply-patch+yaml"}
    async with (
        session(found.tls) as client,
        client.patch(f"{found.server}{path}", params=query, json=obj, headers=headers) as answer,
    ):
        text = await answer.text()  # to its end: a connection with a rest is not cut but waited for
        assert answer.status in {200, 201}, text
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


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.requirement("webhook-validates")
async def test_what_the_api_server_would_refuse_of_its_children_is_refused_of_the_agent(served: Hooked) -> None:
    wrong = {
        "metadata.name": native("Agent", "1abc", modelConfig="small"),
        "spec.serviceAccountName": native("Agent", "helper", modelConfig="small", serviceAccountName="A_B"),
        "spec.resources.requests.cpu": native(
            "Agent", "helper", modelConfig="small", resources={"requests": {"cpu": 1}, "limits": {"cpu": "900m"}}
        ),
        "spec.systemMessage": native("Agent", "helper", modelConfig="small", systemMessage="x" * LIMIT),
    }
    for path, obj in wrong.items():
        with pytest.raises(ApiError, match=re.escape(path)) as refused:
            await served.world.apply(json.dumps(obj))
        assert refused.value.refused


@pytest.mark.requirement("webhook-validates")
async def test_what_is_missing_is_warned_of_and_accepted(served: Hooked) -> None:
    (warning,) = await warned(served.world, native("Agent", "helper", modelConfig="small"))
    assert "there is no ModelConfig small" in warning
    assert await served.world.get(AGENT, "helper") is not None
    await served.world.apply(MODEL_YAML)
    await served.known(MODEL_CONFIG, "small")
    assert await warned(served.world, native("Agent", "another", modelConfig="small")) == []


async def test_a_circle_through_other_objects_is_warned_of_and_accepted(served: Hooked) -> None:
    world = served.world
    await world.apply(MODEL_YAML)
    await served.known(MODEL_CONFIG, "small")
    assert len(await warned(world, native("Agent", "first", modelConfig="small", agents=["second"]))) == 1
    await served.known(AGENT, "first")
    (warning,) = await warned(world, native("Agent", "second", modelConfig="small", agents=["first"]))
    assert "in a circle: first → second → first" in warning
    await warned(world, native("AgentTemplate", "one", templateRef="two"))
    await served.known(TEMPLATE, "one")
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
    assert await hooked.world.get(AGENT, "helper") is not None


async def test_while_the_cluster_is_not_known_nothing_is_warned_of(hooked: Hooked) -> None:
    hooked.cluster = Cluster(hooked.world.client, lambda *_: None)  # followed by nobody
    async with AsyncExitStack() as stack:
        await hooked.serve(stack, hooked.shared())
        await hooked.asked()
        assert await warned(hooked.world, native("Agent", "helper", modelConfig="small")) == []


@pytest.mark.requirement("webhook-validates")
async def test_what_the_controller_does_not_watch_is_warned_of(hooked: Hooked) -> None:
    hooked.cluster = Cluster(hooked.world.client, lambda *_: None, namespaces=["elsewhere"])
    async with AsyncExitStack() as stack:
        await hooked.serve(stack, hooked.shared())
        await hooked.asked()
        (warning,) = await warned(hooked.world, native("Agent", "helper", modelConfig="small"))
        assert f"the namespace {hooked.world.namespace} is not watched by the installation: nothing runs" in warning
        assert "add it to watchNamespaces" in warning


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


async def test_a_secret_of_ours_that_holds_nothing_usable_is_made_anew(hooked: Hooked) -> None:
    world, source = hooked.world, hooked.shared()
    first = await source.current()
    secret = await world.client.get(kinds.SECRET, world.namespace, "kagent-webhook")
    secret["data"]["tls.crt"] = base64.b64encode(b"nonsense").decode()
    await world.client.replace(kinds.SECRET, secret)
    second = await source.current()
    assert second != first
    assert await source.current() == second


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
    async with session(trust) as client:
        for path in (f"https://{LOCAL}:{served.port}/{does}" for does in ("validate", "mutate")):
            async with client.post(path, data=b"{}") as answer:
                assert answer.status == 400
                assert "AdmissionReview" in await answer.text()
            async with client.post(path, data=io.BytesIO(bytes(MAX_BODY + 1))) as answer:
                assert answer.status == 413
                await answer.read()


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
        await world.apply(ITSELF)  # without what keeps it
        await world.gone(AGENT, "helper")


async def test_the_rights_that_the_chart_gives_suffice_and_are_no_more(hooked: Hooked) -> None:
    namespace, name = hooked.world.namespace, f"{hooked.name}-tls"
    config = await chart.controller(hooked.world, hooked.release)
    async with Client(access.by_kubeconfig(config), MANAGER) as client:
        source = Shared(client, Key(namespace, name), hooked.name, [LOCAL], hooked.clock)
        first = await source.current()
        await hooked.clock.advance(LIFE.total_seconds() * 0.7)
        assert await source.current() != first
        assert [len(bundle) for bundle in await hooked.bundles()] == [2, 2]
        other = await hooked.world.client.create(kinds.SECRET, {"metadata": {"name": "other", "namespace": namespace}})
        with pytest.raises(ApiError) as refused:
            await client.replace(kinds.SECRET, other)
        assert refused.value.forbidden


async def test_a_replica_that_stands_by_answers_from_what_it_follows(world: World, tmp_path: Path) -> None:
    async with asking(world) as hooked:
        # As cert-manager has it: somebody else makes the certificate, and tells the API server.
        made = own_certificate.make([LOCAL], datetime.datetime.now(datetime.UTC), LIFE)
        put(tmp_path, made.pair.certificate, made.pair.key)
        for kind in HOOKS:
            configuration = await world.client.get(kind, "", hooked.name)
            for hook in configuration["webhooks"]:
                hook["clientConfig"]["caBundle"] = base64.b64encode(made.trusted).decode()
            await world.client.replace(kind, configuration)
        config = await chart.controller(world, hooked.release)
        serving = [f"--webhook-bind-address={LOCAL}:{hooked.port}", f"--webhook-cert-dir={tmp_path}"]
        first, second = free_ports(2)
        replicas = [replica(config, first, []), replica(config, second, serving)]
        try:
            replicas[0].start()
            await asyncio.to_thread(replicas[0].until, lambda: "kadre_leader 1.0" in figures(first))
            replicas[1].start()
            await asyncio.to_thread(replicas[1].until, lambda: "kadre_leader 0.0" in figures(second))
            await hooked.asked()
            await world.apply(MODEL_YAML)
            agent = native("Agent", "another", modelConfig="smal")
            async with asyncio.timeout(SECONDS):
                while "did you mean small?" not in "".join(await warned(world, agent)):
                    pass
            assert "kadre_leader 0.0" in figures(second)
        finally:
            for each in replicas:
                await asyncio.to_thread(each.stop)


def replica(config: Path, port: int, more: Sequence[str]) -> Process:
    """A controller's process, as a pod runs it."""
    flags = ["--leader-elect", f"--metrics-bind-address={LOCAL}:{port}", "--health-probe-bind-address=0"]
    flags += ["--agent-image=kadre:test", *more]
    command = ["env", f"KUBECONFIG={config}", sys.executable, "-m", "kadre", "operator", *flags]
    return Process("controller", command, config.with_suffix(f".{port}.log"))


def figures(port: int) -> str:
    """What a controller tells Prometheus."""
    with urllib.request.urlopen(f"http://{LOCAL}:{port}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
    return text
