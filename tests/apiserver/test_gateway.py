"""What the gateway knows of a cluster, on a real API server: agents and their pods, whose a token is, and its keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from kadre.base.clock import SystemClock
from kadre.base.errors import Unavailable
from kadre.base.tasks import Tasks
from kadre.kube import access, kinds
from kadre.kube.client import Client
from kadre.kube.kinds import Key, Kind, Object
from kadre.operator.children.common import GATEWAY_AUDIENCE, GROUP, MANAGED_BY, MANAGER, Settings
from kadre.operator.children.pod import GATEWAY_KEYS
from kadre.operator.children.pool import called
from kadre.operator.controller import Operator
from kadre.operator.gateway import keys, reviewer
from kadre.operator.gateway.fleet import SERVICE_NAME, ClusterFleet
from kadre.operator.gateway.publishing import Publisher
from kadre.operator.gateway.reviewer import ClusterReviewer
from kadre.operator.gateway.secret import FollowedSecret
from kadre.plan.types import KAOS_GROUP, NATIVE_GROUP, AgentKey
from tests.apiserver.conftest import AGENT, SECONDS, World, made, operating
from tests.apiserver.test_agents import AGENT_YAML, MODEL_YAML

pytestmark = pytest.mark.requirement("gateway")
SECRET = "gateway-key"
_RBAC = "rbac.authorization.k8s.io"


@asynccontextmanager
async def publishing(world: World) -> AsyncIterator[Operator]:
    """A controller that keeps the keys of a gateway in this namespace."""
    settings = Settings(image="kadre:test", gateway_secret=SECRET, home=world.namespace)
    async with operating(world.plane.kubeconfig, settings, [world.namespace]) as operator:
        yield operator


async def soon(holds: Callable[[], bool]) -> None:
    """As soon as that holds."""
    async with asyncio.timeout(SECONDS):
        while not holds():  # noqa: ASYNC110 - what is followed tells nobody
            await asyncio.sleep(0)


async def test_pods_of_every_agent_are_shown_the_keys_of_the_gateway(world: World) -> None:
    async with publishing(world):
        secret = await world.when(kinds.SECRET, SECRET, lambda obj: keys.CURRENT in obj["data"])
        known = keys.of_secret(secret)
        assert known is not None
        assert await world.get(kinds.CONFIG_MAP, GATEWAY_KEYS) is None
        await world.apply(MODEL_YAML + "---" + AGENT_YAML)
        shown = await world.when(kinds.CONFIG_MAP, GATEWAY_KEYS, lambda obj: obj.get("data") == known.public())
        assert "PRIVATE" not in str(shown)
        deployment = await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert "--gateway-keys=/etc/kadre-gateway" in container["args"]
        await world.change(kinds.CONFIG_MAP, GATEWAY_KEYS, lambda obj: obj.update(data={"other.pem": "x"}))
        await world.when(kinds.CONFIG_MAP, GATEWAY_KEYS, lambda obj: obj.get("data") == known.public())
        await world.client.delete(AGENT, world.namespace, "helper")
        await world.gone(kinds.CONFIG_MAP, GATEWAY_KEYS)


async def test_a_key_that_was_made_stays_when_the_controller_starts_anew(world: World) -> None:
    async with publishing(world):
        before = await world.when(kinds.SECRET, SECRET, lambda obj: keys.CURRENT in obj["data"])
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    async with publishing(world):
        await world.when(kinds.CONFIG_MAP, GATEWAY_KEYS, lambda _: True)
        assert await world.get(kinds.SECRET, SECRET) == before


async def test_pods_believe_nobody_once_there_is_no_gateway_any_more(world: World) -> None:
    async with publishing(world):
        await world.apply(MODEL_YAML + "---" + AGENT_YAML)
        await world.when(kinds.CONFIG_MAP, GATEWAY_KEYS, lambda obj: bool(obj.get("data")))
        before = await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)
    async with operating(world.plane.kubeconfig, Settings(image="kadre:test"), [world.namespace]) as operator:
        await operator.acting.wait()
        await world.gone(kinds.CONFIG_MAP, GATEWAY_KEYS)
        after = await world.get(kinds.DEPLOYMENT, "helper")
    assert after is not None
    assert after["spec"] == before["spec"]  # and no pod is replaced for it


async def test_one_namespace_that_takes_no_keys_keeps_them_from_no_other(world: World) -> None:
    other = await made(world.client, world.plane)
    foreign = {"apiVersion": "v1", "kind": "ConfigMap", **world.named(GATEWAY_KEYS), "data": {"mine.pem": "x"}}
    await world.client.create(kinds.CONFIG_MAP, foreign)
    namespaces = [world.namespace, other.namespace, "gone-for-good"]
    secret = Key(world.namespace, SECRET)
    publisher = Publisher(world.client, secret, lambda: namespaces, dict, SystemClock())
    failed = await publisher.look()
    assert sorted(failed) == sorted(f"the ConfigMap {name}/{GATEWAY_KEYS}" for name in (namespaces[0], namespaces[2]))
    known = keys.of_secret(await world.client.get(kinds.SECRET, *secret))
    assert known is not None
    assert (await world.client.get(kinds.CONFIG_MAP, other.namespace, GATEWAY_KEYS))["data"] == known.public()
    assert (await world.client.get(kinds.CONFIG_MAP, world.namespace, GATEWAY_KEYS))["data"] == {"mine.pem": "x"}
    await world.client.delete(kinds.NAMESPACE, "", other.namespace)


async def test_nothing_is_believed_but_the_gateways_own_keys(world: World) -> None:
    async with publishing(world):
        await world.apply(MODEL_YAML + "---" + AGENT_YAML)
        shown = await world.when(kinds.CONFIG_MAP, GATEWAY_KEYS, lambda obj: bool(obj.get("data")))
        await world.change(kinds.CONFIG_MAP, GATEWAY_KEYS, lambda obj: obj["data"].update({"mine.pem": "x"}))
        await world.when(kinds.CONFIG_MAP, GATEWAY_KEYS, lambda obj: obj.get("data") == shown["data"])
        secret = await world.client.get(kinds.SECRET, world.namespace, SECRET)
        await world.client.delete(kinds.SECRET, world.namespace, SECRET)
        uid = secret["metadata"]["uid"]
        anew = await world.when(kinds.SECRET, SECRET, lambda obj: obj["metadata"]["uid"] != uid)
        known = keys.of_secret(anew)
        assert known is not None
        await world.when(kinds.CONFIG_MAP, GATEWAY_KEYS, lambda obj: obj.get("data") == known.public())


def endpoints(world: World, name: str, *hosts: tuple[str, bool], service: str = "helper") -> Object:
    """What Kubernetes makes of a Service's pods: addresses, each with whether it is ready."""
    labels = {SERVICE_NAME: service, MANAGED_BY: MANAGER, "app.kubernetes.io/component": "agent"}
    metadata = {"name": name, "namespace": world.namespace, "labels": labels}
    found = [{"addresses": [host], "conditions": {"ready": ready}} for host, ready in hosts]
    ports = [{"name": "http", "port": 8080}, {"name": "metrics", "port": 9090}]
    kind = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4"}
    return {**kind, "metadata": metadata, "endpoints": found, "ports": ports}


def agent_of(world: World) -> Object:
    """Names the agent."""
    return {"apiVersion": AGENT.api_version, "kind": AGENT.kind, **world.named("helper")}


async def test_agents_and_the_pods_that_answer_for_them_are_followed(world: World) -> None:
    fleet, tasks = ClusterFleet(world.client, [world.namespace]), Tasks("test")
    for informer in fleet.informers():
        tasks.spawn("follow", informer.run())
    helper = AgentKey(world.namespace, "helper")
    await soon(lambda: fleet.synced)
    assert list(fleet.all()) == []
    await world.apply(MODEL_YAML + "---" + AGENT_YAML)
    await soon(lambda: list(fleet.named("helper")) == [helper])
    assert fleet.hosts(helper) == ()
    assert fleet.comes(helper)
    awaited = asyncio.create_task(fleet.arrives(helper))
    await asyncio.sleep(0)
    await world.client.create(kinds.ENDPOINT_SLICE, endpoints(world, "one", ("10.1.0.7", True), ("10.1.0.8", False)))
    await world.client.create(kinds.ENDPOINT_SLICE, endpoints(world, "two", ("10.1.0.9", True)))
    await soon(lambda: set(fleet.hosts(helper)) == {"10.1.0.7:8080", "10.1.0.9:8080"})
    await asyncio.wait_for(awaited, SECONDS)
    assert (fleet.shown(helper)["hosts"], fleet.shown(helper)["namespace"]) == (2, world.namespace)
    assert fleet.shown(helper)["durable"] is False
    await world.client.delete(kinds.ENDPOINT_SLICE, world.namespace, "two")
    await soon(lambda: fleet.hosts(helper) == ("10.1.0.7:8080",))
    durable = {
        "type": "Durable",
        "status": "True",
        "reason": "OwnJournal",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    await world.client.apply(AGENT, {**agent_of(world), "status": {"conditions": [durable]}}, "status")
    await soon(lambda: fleet.durable(helper))
    # In a pool it is the pool's pods that answer for it.
    awaited = asyncio.create_task(fleet.arrives(helper))
    await asyncio.sleep(0)
    await world.client.apply(AGENT, {**agent_of(world), "status": {"pool": "default"}}, "status")
    await soon(lambda: fleet.hosts(helper) == ())
    await asyncio.wait_for(awaited, SECONDS)
    awaited = asyncio.create_task(fleet.arrives(helper))
    await asyncio.sleep(0)
    pool = endpoints(world, "pool", ("10.1.0.20", True), service=called("default"))
    await world.client.create(kinds.ENDPOINT_SLICE, pool)
    await soon(lambda: fleet.hosts(helper) == ("10.1.0.20:8080",))
    await asyncio.wait_for(awaited, SECONDS)
    await world.client.delete(AGENT, world.namespace, "helper")
    await soon(lambda: not fleet.named("helper"))
    await tasks.aclose()


async def test_an_agent_of_each_group_has_its_own_pods(world: World) -> None:
    fleet, tasks = ClusterFleet(world.client, [world.namespace]), Tasks("test")
    for informer in fleet.informers():
        tasks.spawn("follow", informer.run())
    kaos = "{apiVersion: kaos.tools/v1alpha1, kind: Agent, metadata: {name: helper}, spec: {modelAPI: models"
    await world.apply(AGENT_YAML + "---\n" + kaos + ", config: {description: It helps}}}")
    native, other = (AgentKey(world.namespace, "helper", group) for group in (NATIVE_GROUP, KAOS_GROUP))
    await soon(lambda: set(fleet.named("helper")) == {native, other})
    assert set(fleet.all()) == {native, other}
    made = endpoints(world, "one", ("10.1.0.7", True))
    made["metadata"]["labels"][GROUP], made["ports"][0]["port"] = "helper", 8000
    await world.client.create(kinds.ENDPOINT_SLICE, made)
    await soon(lambda: fleet.hosts(other) == ("10.1.0.7:8000",))
    assert fleet.hosts(native) == ()
    assert fleet.shown(other)["description"] == "It helps"
    # A server of tools may have any name.
    server = endpoints(world, "two", ("10.1.0.9", True))
    server["metadata"]["labels"]["app.kubernetes.io/component"] = "mcpserver"
    await world.client.create(kinds.ENDPOINT_SLICE, server)
    await world.client.create(kinds.ENDPOINT_SLICE, endpoints(world, "three", ("10.1.0.8", True)))
    await soon(lambda: fleet.hosts(native) == ("10.1.0.8:8080",))
    await tasks.aclose()


async def token(world: World, account: str) -> str:
    """A token of a ServiceAccount, as `kubectl create token` asks for it."""
    made = {"apiVersion": "v1", "kind": "ServiceAccount", **world.named(account)}
    await world.client.create(kinds.SERVICE_ACCOUNT, made)
    path = kinds.SERVICE_ACCOUNT.path(world.namespace, account, "token")
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    told = await world.client.ask(path, request)
    found: str = told["status"]["token"]
    return found


async def allow(world: World, account: str, verb: str, *parts: str) -> None:
    """Let the account do that with the parts of every agent of the namespace."""
    rule = {"apiGroups": ["kagent.dev"], "resources": [f"agents/{part}" for part in parts], "verbs": [verb]}
    role = {"apiVersion": f"{_RBAC}/v1", "kind": "Role", **world.named(f"{account}-{verb}"), "rules": [rule]}
    await world.client.create(Kind(_RBAC, "v1", "Role", "roles"), role)
    subject = {"kind": "ServiceAccount", "name": account, "namespace": world.namespace}
    to = {"apiGroup": _RBAC, "kind": "Role", "name": f"{account}-{verb}"}
    binding = {"apiVersion": f"{_RBAC}/v1", "kind": "RoleBinding", **world.named(f"{account}-{verb}")}
    kind = Kind(_RBAC, "v1", "RoleBinding", "rolebindings")
    await world.client.create(kind, {**binding, "roleRef": to, "subjects": [subject]})


async def test_the_api_server_says_whose_a_token_is_and_what_they_may(world: World) -> None:
    helper, other = AgentKey(world.namespace, "helper"), AgentKey("elsewhere", "helper")
    await allow(world, "ada", "create", "chat")
    asked = ClusterReviewer(world.client, ClusterFleet(world.client))
    ada = await asked.who(await token(world, "ada"))
    assert ada is not None
    assert ada.name == f"user:system:serviceaccount:{world.namespace}:ada"
    assert [await ada.may(deed, helper) for deed in ("chat", "approve", "runs")] == [True, False, False]
    assert not await ada.may("chat", other)
    assert await asked.who("no-token") is None


async def bound(world: World, account: str, pod: str, audience: str, service: str = "helper") -> str:
    """A token of a pod's own, as the kubelet brings it there; the pod is behind that Service."""
    await world.client.create(
        kinds.SERVICE_ACCOUNT, {"apiVersion": "v1", "kind": "ServiceAccount", **world.named(account)}
    )
    spec = {"serviceAccountName": account, "containers": [{"name": "agent", "image": "none"}]}
    made = await world.client.create(kinds.POD, {"apiVersion": "v1", "kind": "Pod", **world.named(pod), "spec": spec})
    slices = endpoints(world, pod, ("10.1.0.7", False), service=service)
    slices["endpoints"][0]["targetRef"] = {"kind": "Pod", "name": pod, "namespace": world.namespace}
    await world.client.create(kinds.ENDPOINT_SLICE, slices)
    to = {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": made["metadata"]["uid"]}
    asked = {"audiences": [audience] if audience else [], "boundObjectRef": to}
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": asked}
    told = await world.client.ask(kinds.SERVICE_ACCOUNT.path(world.namespace, account, "token"), request)
    found: str = told["status"]["token"]
    return found


async def test_an_agents_pod_is_known_by_its_token_and_may_ask_whom_its_plan_names(world: World) -> None:
    fleet, tasks = ClusterFleet(world.client, [world.namespace]), Tasks("test")
    for informer in fleet.informers():
        tasks.spawn("follow", informer.run())
    helper, other = AgentKey(world.namespace, "helper"), AgentKey(world.namespace, "other")
    asks = AGENT_YAML.replace("spec:", "spec:\n  agents: [other]", 1)
    settings = Settings(image="kadre:test", gateway_service="kagent", home="kagent")
    async with operating(world.plane.kubeconfig, settings, [world.namespace]):
        await world.apply(MODEL_YAML + "---" + AGENT_YAML.replace("helper", "other") + "---" + asks)
        await soon(lambda: fleet.others(helper) == {other})
        made = await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert "--gateway-url=http://kagent.kagent.svc" in container["args"]
    asked = ClusterReviewer(world.client, fleet)
    ours = await bound(world, "helper-pods", "helper-0", GATEWAY_AUDIENCE)
    await soon(lambda: fleet.agent_of(world.namespace, "helper-0") == helper)
    pod = await asked.who(ours, "user:ada")
    assert pod is not None
    assert (pod.name, pod.via) == ("user:ada", str(helper))
    assert [await pod.may("chat", agent) for agent in (other, helper)] == [True, False]
    assert not await pod.may("approve", other)
    # Two slices say so for a moment, when they are packed anew; one goes.
    again = endpoints(world, "again", ("10.1.0.7", False))
    again["endpoints"][0]["targetRef"] = {"kind": "Pod", "name": "helper-0", "namespace": world.namespace}
    await world.client.create(kinds.ENDPOINT_SLICE, again)
    await soon(lambda: len(fleet._pods[Key(world.namespace, "helper-0")]) == 2)
    await world.client.delete(kinds.ENDPOINT_SLICE, world.namespace, "helper-0")
    await soon(lambda: len(fleet._pods[Key(world.namespace, "helper-0")]) == 1)
    assert fleet.agent_of(world.namespace, "helper-0") == helper
    # A pod whose agents are a pool's says which of them asks; nobody is heard who is not in it.
    pooled = await bound(world, "pool-pods", "pool-0", GATEWAY_AUDIENCE, called("default"))
    with pytest.raises(Unavailable, match="it is not known here that pod pool-0 answers for agent"):
        await asked.who(pooled, "user:ada", str(helper))
    await world.client.apply(AGENT, {**agent_of(world), "status": {"pool": "default"}}, "status")
    await soon(lambda: fleet.agent_of(world.namespace, "pool-0", str(helper)) == helper)
    member = await asked.who(pooled, "user:ada", str(helper))
    assert member is not None
    assert (member.name, member.via, await member.may("chat", other)) == ("user:ada", str(helper), True)
    for stranger in (str(other), "elsewhere/helper", f"{helper}.{KAOS_GROUP}", ""):
        assert fleet.agent_of(world.namespace, "pool-0", stranger) is None
    # What goes on where it was before asks as itself still.
    assert fleet.agent_of(world.namespace, "helper-0", str(helper)) == helper
    # A token for anybody else says whose it is, and not that an agent asks.
    usual = await asked.who(await bound(world, "usual", "helper-1", ""), "user:ada")
    assert usual is not None
    assert (usual.name, usual.via) == (f"user:system:serviceaccount:{world.namespace}:usual", "")
    assert await asked.who(await bound(world, "foreign", "helper-2", "somebody-else"), "user:ada") is None
    await tasks.aclose()


async def test_what_a_caller_may_goes_by_their_groups_too(world: World) -> None:
    helper = AgentKey(world.namespace, "helper")
    asked = ClusterReviewer(world.client, ClusterFleet(world.client))
    full = reviewer.User(asked, {"username": "ann", "groups": ["system:masters"]})
    narrow = reviewer.User(asked, {"username": "ann"})
    assert [await full.may("chat", helper), await narrow.may("chat", helper)] == [True, False]


async def test_a_right_that_is_given_holds_after_some_seconds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviewer, "REMEMBERED_SECONDS", 0.0)
    helper = AgentKey(world.namespace, "helper")
    asked = ClusterReviewer(world.client, ClusterFleet(world.client))
    bob = await asked.who(await token(world, "bob"))
    assert bob is not None
    assert not await bob.may("approve", helper)
    await allow(world, "bob", "create", "chat", "approve")
    async with asyncio.timeout(SECONDS):
        while not await bob.may("approve", helper):  # noqa: ASYNC110 - the API server's own rules lag behind
            await asyncio.sleep(0)


async def test_a_key_that_is_taken_out_of_its_secret_ends_at_once(world: World) -> None:
    followed, tasks = FollowedSecret(world.client, Key(world.namespace, "api-keys")), Tasks("test")
    tasks.spawn("follow", followed.informer.run())
    await soon(followed.informer.synced.is_set)
    assert followed.current() == {}
    secret = {"apiVersion": "v1", "kind": "Secret", **world.named("api-keys"), "stringData": {"shop": "k-1\n"}}
    await world.client.create(kinds.SECRET, secret)
    await soon(lambda: followed.current() == {"shop": "k-1"})
    await world.client.replace(kinds.SECRET, {**secret, "stringData": {}, "data": {}})
    await soon(lambda: followed.current() == {})
    await tasks.aclose()


async def test_a_gateway_that_may_not_ask_says_who_must_do_what(world: World) -> None:
    nobody = world.plane.user("nobody", "nobody", ["system:authenticated"])
    async with Client(access.by_kubeconfig(nobody), MANAGER) as client:
        with pytest.raises(Exception, match="system:auth-delegator"):
            await ClusterReviewer(client, ClusterFleet(client)).who("token")
