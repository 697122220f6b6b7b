"""What the chart makes of its values, and what a cluster says to it."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from kadre.api.crd import crds
from kadre.base import urls
from kadre.base.errors import KadreError
from kadre.kube import access, kinds
from kadre.kube.client import Client, Scope
from kadre.kube.kinds import Kind, Object
from kadre.operator import install, installation
from kadre.operator.children.common import MANAGER
from kadre.operator.main import LOCK
from scripts import manifests
from tests.apiserver import chart
from tests.apiserver.conftest import AGENT, KNOWN, World, operating
from tests.apiserver.test_agents import AGENT_YAML, MODEL_YAML
from tests.cluster import programs

POD = Kind("", "v1", "Pod", "pods")
JOB = Kind("batch", "v1", "Job", "jobs")
POLICY = "ValidatingAdmissionPolicy"
CLUSTER_WIDE = {
    *("ClusterRole", "ClusterRoleBinding", "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"),
    *(POLICY, f"{POLICY}Binding"),
}
MONITORED = {"kagent.dev/monitored": "true"}
RIGHTS = {(kind.api_version, kind.kind): kind for kind in chart.RIGHTS.values()}
GUIDE = chart.CHART.parents[1] / "docs" / "guides" / "cluster.md"
CONFINED = ("watchNamespaces={team}", "crds.install=false", "webhook.enabled=false", "auth.tokens=false")


def of(objects: list[Object], kind: str, name: str = "") -> Object:
    """The one object of that kind, and of that name where there are several."""
    (found,) = [each for each in objects if each["kind"] == kind and name in {"", each["metadata"]["name"]}]
    return found


def pods(objects: list[Object]) -> Iterator[tuple[str, Any]]:
    """Every pod that the objects are or make: its name and its spec."""
    for each in objects:
        if each["kind"] == "Pod":
            yield each["metadata"]["name"], each["spec"]
        elif each["kind"] in {"Deployment", "Job"}:
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def arguments(objects: list[Object]) -> list[str]:
    """What the controller is told."""
    (container,) = of(objects, "Deployment", "kagent-controller")["spec"]["template"]["spec"]["containers"]
    said: list[str] = container["args"]
    return said


@pytest.mark.requirement("chart-values", "chart-cert-manager")
def test_every_value_of_the_guide_has_its_effect(seeds: Path, tmp_path: Path) -> None:
    (page,) = seeds.glob("001_*.txt")
    (values,) = re.findall(r"^```yaml\n(# values\.yaml.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "values.yaml").write_text(values)
    made = chart.rendered("kagent-system", "kagent", hooks=True, values=str(tmp_path / "values.yaml"))
    deployment = of(made, "Deployment", "kagent-controller")
    pod, (container,) = deployment["spec"]["template"]["spec"], deployment["spec"]["template"]["spec"]["containers"]
    assert (deployment["metadata"]["name"], deployment["spec"]["replicas"]) == ("kagent-controller", 2)
    assert deployment["spec"]["template"]["metadata"]["labels"]["app"] == "kagent-controller"
    limits = {"cpu": "500m", "memory": "512Mi"}
    assert container["resources"] == {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": limits}
    assert {each["name"]: each.get("value") for each in container["env"]}["LOG_LEVEL"] == "info"
    assert "--metrics-bind-address=:8080" in container["args"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert (ports["metrics"], ports["health"]) == (8080, 8081)
    assert of(made, "PodDisruptionBudget", "kagent-controller")["spec"]["maxUnavailable"] == 1
    assert of(made, "ServiceAccount", "kagent-controller")
    assert pod["serviceAccountName"] == "kagent-controller"
    assert of(made, "ClusterRoleBinding", "kagent-controller")["subjects"][0]["name"] == "kagent-controller"
    assert [name for name, spec in pods(made) if spec["nodeSelector"] != {"kubernetes.io/os": "linux"}] == []
    (near,) = pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    (asked,) = near["podAffinityTerm"]["labelSelector"]["matchExpressions"]
    assert deployment["spec"]["template"]["metadata"]["labels"][asked["key"]] in asked["values"]
    for name in ("kagent-controller", "kagent-agents"):
        monitor = of(made, "ServiceMonitor", name)
        assert monitor["metadata"]["namespace"] == "observability"
        assert [each["interval"] for each in monitor["spec"]["endpoints"]] == ["30s"]
    issuer, certificate = of(made, "Issuer"), of(made, "Certificate")
    assert certificate["spec"]["issuerRef"] == {"name": issuer["metadata"]["name"], "kind": "Issuer"}
    assert issuer["metadata"]["name"] == "kagent-selfsigned-issuer"
    for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"):
        assert "kagent" in of(made, kind)["metadata"]["name"]


@pytest.mark.requirement("service-monitor")
def test_the_monitors_choose_the_services_that_have_metrics() -> None:
    made = chart.rendered("kagent", "kagent", "monitoring.serviceMonitor.enabled=true")
    services = [each for each in made if each["kind"] == "Service"]
    for chosen, number in (
        (of(made, "ServiceMonitor", "kagent-controller")["spec"], 1),
        (of(made, "ServiceMonitor", "kagent-gateway")["spec"], 1),
        ({"selector": {"matchLabels": {"app.kubernetes.io/name": "kagent"}}}, 2),  # the document's own: both
    ):
        wanted = chosen["selector"]["matchLabels"]
        found = [each for each in services if wanted.items() <= each["metadata"]["labels"].items()]
        ports = [port["name"] for each in found for port in each["spec"]["ports"]]
        assert ports.count("metrics") == number
    agents = of(made, "ServiceMonitor", "kagent-agents")["spec"]
    assert (agents["selector"]["matchLabels"], agents["namespaceSelector"]) == (MONITORED, {"any": True})
    assert [each["port"] for each in agents["endpoints"]] == ["metrics"]


ENDPOINTS = {
    "": True,
    "http://ollama.ollama.svc:11434": True,
    "https://[fd00::1]:8443/v1?x=a@b": True,
    "http://[::ffff:10.0.0.1]:80": True,
    "http://bücher.example/v1": True,
    "http://例え.example:8080": True,
    "http://[:::]:80": False,
    "http://[1.2.3.4]": False,
    "http://[12345::1]": False,
    "http://[1:2:3:4:5:6:7:8:9]": False,
    "http://[fd00::1": False,
    "http://[::1]x/v1": False,
    "http://a b": False,
    "http://user:pass@host/v1": False,
    "http://user:pa/ss@host/v1": False,
    "ollama:11434": False,
}


@pytest.mark.requirement("chart-values")
@pytest.mark.parametrize(("endpoint", "taken"), ENDPOINTS.items())
def test_an_address_that_the_controller_would_refuse_is_refused_by_the_chart(endpoint: str, taken: bool) -> None:
    done = chart.templated("kagent", "kagent", "--set-string", f"providers.ollama.endpoint={endpoint}")
    assert (done.returncode == 0) is taken, done.stderr
    assert not endpoint or (urls.fault(endpoint) is None) is taken


@pytest.mark.requirement("chart-confined")
def test_confined_it_has_no_object_and_no_right_in_the_cluster() -> None:
    made = chart.rendered("kagent", "kagent", *CONFINED, hooks=True)
    assert {each["kind"] for each in made}.isdisjoint(CLUSTER_WIDE)
    assert {each["metadata"]["namespace"] for each in made} == {"kagent", "team"}
    assert [word for word in arguments(made) if word.startswith("--namespace")] == [
        "--namespace=kagent",
        "--namespace=team",
    ]
    rules = {
        each["metadata"]["namespace"]: each["rules"]
        for each in made
        if each["metadata"]["name"] == "kagent-controller" and each["kind"] == "Role"
    }
    whole = of(chart.rendered("kagent", "kagent"), "ClusterRole", "kagent-controller")["rules"]
    assert [rule["resources"] for rule in whole if rule not in rules["team"]] == [["apiservices"]]  # of no namespace
    assert rules["kagent"] == rules["team"] == [rule for rule in whole if rule["resources"] != ["apiservices"]]


@pytest.mark.requirement("chart-confined")
async def test_confined_it_runs_agents_with_the_rights_of_its_roles(world: World) -> None:
    config = await chart.controller(world, "kagent", f"watchNamespaces={{{world.namespace}}}", *CONFINED[1:])
    async with operating(config, namespaces=[world.namespace]):
        await world.apply(MODEL_YAML + "---" + AGENT_YAML)
        await world.when(kinds.DEPLOYMENT, "helper", lambda _: True)
        await world.condition(AGENT, "helper", "Ready", "Starting")


@pytest.mark.requirement("one-controller")
async def test_the_rights_of_the_job_are_enough_for_the_kinds_and_to_see_another_controller(world: World) -> None:
    made = [
        each for each in chart.rendered("kagent", f"of-{world.namespace}", hooks=True) if each["kind"] in chart.RIGHTS
    ]
    for each in made:
        if each["metadata"]["name"].endswith("-crds"):
            await world.client.apply(chart.RIGHTS[each["kind"]], each)
    (account,) = of(made, "ClusterRoleBinding", f"of-{world.namespace}-kagent-crds")["subjects"]
    user = f"system:serviceaccount:{account['namespace']}:{account['name']}"
    config = world.plane.user(account["name"], user, ["system:serviceaccounts", "system:authenticated"])
    found = access.by_kubeconfig(config)
    definitions = crds()
    names = [each["metadata"]["name"] for each in definitions]
    assert await install.apply_crds(definitions, found, sole=world.namespace) == names
    lease = {"metadata": {"name": LOCK, "namespace": world.namespace}, "spec": {"holderIdentity": "killed"}}
    await world.client.create(kinds.LEASE, lease)
    async with Client(found, MANAGER) as client:
        assert await install.another_controller(client, "kagent", 0.2) == ""
        await client.list(kinds.CONFIG_MAP, Scope(name=LOCK))  # which it can do without


@pytest.mark.requirement("one-controller")
async def test_an_installation_that_is_refused_leaves_no_rights_and_its_job_for_an_hour(world: World) -> None:
    name = f"refused-{world.namespace}"
    words = ["install", name, str(chart.CHART), "-n", world.namespace, f"--kubeconfig={world.plane.kubeconfig}"]
    done = await asyncio.to_thread(chart.helm, *words, "--timeout=2s")  # no node runs the job: it fails
    assert "failed pre-install" in done.stderr
    for kind in (kinds.SERVICE_ACCOUNT, *chart.RIGHTS.values()):
        page = await world.client.list(kind)
        assert [each for each in page.items if each["metadata"]["name"].startswith(name)] == []
    (job,) = (await world.client.list(JOB, Scope(world.namespace))).items
    assert job["spec"]["ttlSecondsAfterFinished"] == 3600


@pytest.mark.requirement("one-controller")
@pytest.mark.parametrize(("release", "job"), [("kagent", "kagent-crds"), ("second", "second-kagent-crds")])
def test_the_log_that_the_guide_names_is_that_of_the_job_whatever_the_release_is_called(release: str, job: str) -> None:
    (chosen,) = re.findall(r"kubectl logs -n kagent -l (\S+)=(\S+) --tail", GUIDE.read_text(encoding="utf-8"))
    made = chart.rendered("kagent", release, hooks=True)
    templates = {
        each["metadata"]["name"]: each["spec"]["template"] for each in made if "template" in each.get("spec", ())
    }
    labels = {name: template["metadata"]["labels"] for name, template in templates.items()}
    assert [name for name, has in labels.items() if chosen in has.items()] == [job]


def test_a_confined_webhook_is_called_for_its_namespaces_alone() -> None:
    made = chart.rendered("kagent", "kagent", "watchNamespaces={team}")
    (webhook,) = of(made, "ValidatingWebhookConfiguration")["webhooks"]
    (asked,) = webhook["namespaceSelector"]["matchExpressions"]
    assert (asked["key"], asked["values"]) == ("kubernetes.io/metadata.name", ["kagent", "team"])


@pytest.mark.parametrize(
    ("settings", "version", "warns"),
    [
        ("watchNamespaces={team}", "1.30.0", True),
        ("watchNamespaces={team}", "1.29.9", False),
        ("watchNamespaces={team},webhook.warnUnwatched=false", "1.30.0", False),
        ("watchNamespaces={team},webhook.enabled=false", "1.30.0", False),
        ("controller.replicaCount=1", "1.30.0", False),
    ],
)
def test_what_is_declared_where_nobody_watches_is_warned_of_where_that_can_be(
    settings: str, version: str, warns: bool
) -> None:
    done = chart.templated("kagent", "kagent", "--set", settings, "--kube-version", version)
    assert done.returncode == 0, done.stderr
    assert (f"kind: {POLICY}\n" in done.stdout, f"kind: {POLICY}Binding\n" in done.stdout) == (warns, warns)


@pytest.mark.requirement("webhook-mutating")
def test_a_webhook_that_is_away_holds_nobody_up_for_long() -> None:
    made = chart.rendered("kagent", "kagent")
    for kind, seconds in (("ValidatingWebhookConfiguration", 5), ("MutatingWebhookConfiguration", 2)):
        (webhook,) = of(made, kind)["webhooks"]
        assert (webhook["failurePolicy"], webhook["timeoutSeconds"]) == ("Ignore", seconds)


async def test_every_pod_keeps_to_the_restricted_standard(world: World) -> None:
    enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
    await world.client.apply(
        kinds.NAMESPACE,
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": world.namespace, "labels": enforced}},
    )
    made = chart.rendered(world.namespace, "kagent", hooks=True)
    for each in made:
        if each["kind"] == "ServiceAccount":
            await world.client.apply(kinds.SERVICE_ACCOUNT, each)
    specs = dict(pods(made))
    assert specs.keys() == {"kagent", "kagent-controller", "kagent-crds", "kagent-controller-test"}
    for name, spec in specs.items():
        await world.client.create(POD, {"metadata": {"name": name, "namespace": world.namespace}, "spec": spec})
        assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in spec["containers"])
        assert all(container["resources"]["limits"]["memory"] for container in spec["containers"])


@pytest.mark.requirement("gateway")
def test_the_gateway_is_told_whom_to_let_in_and_reads_no_other_secret() -> None:
    said = ("auth.apiKeys.existingSecret=keys", "auth.apiKeys.approvers={on-call}", "auth.trustLocal=false")
    made = chart.rendered("kagent", "kagent", *said, "auth.tokens=false", "watchNamespaces={team}")
    (container,) = of(made, "Deployment", "kagent")["spec"]["template"]["spec"]["containers"]
    expected = ["--api-keys=keys", "--approver=on-call", "--no-tokens", "--no-trust-local", "--namespace=team"]
    assert [word for word in expected if word not in container["args"]] == []
    assert "--auth=required" in container["args"]
    assert f"--gateway-secret={of(made, 'Role', 'kagent-gateway-key')['metadata']['name']}" in arguments(made)
    read = of(made, "Role", "kagent-gateway-key")["rules"]
    assert [(rule["resourceNames"], rule["verbs"]) for rule in read] == [
        (["kagent-gateway-key", "keys"], ["get", "list", "watch"])
    ]
    assert [
        each for each in made if each["kind"] == "ClusterRoleBinding" and "reviews" in each["metadata"]["name"]
    ] == []
    services = {each["metadata"]["name"]: each["spec"]["ports"][0] for each in made if each["kind"] == "Service"}
    assert (services["kagent"]["port"], services["kagent-metrics"]["port"]) == (80, 9090)
    spoken = chart.rendered("kagent", "kagent", "gateway.grpcPort=9000", "auth.webhookNetworks={10.1.0.0/16}")
    (container,) = of(spoken, "Deployment", "kagent")["spec"]["template"]["spec"]["containers"]
    assert "--grpc-port=9000" in container["args"]
    assert [port["name"] for port in of(spoken, "Service", "kagent")["spec"]["ports"]] == ["http", "grpc"]
    assert "--agent-webhook-network=10.1.0.0/16" in arguments(spoken)
    off = chart.rendered("kagent", "kagent", "gateway.enabled=false")
    assert [each["metadata"]["name"] for each in off if "gateway" in each["metadata"]["name"]] == []
    assert not any("gateway" in word for word in arguments(off))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (("auth.trustLocal=false", "auth.tokens=false"), "nobody could come in"),
        (("agents.kagent.enabled=true", "agents.kagent.spec.modelConfig=m"), "has the name of the gateway's Service"),
        (("serviceAccount.name=kagent-gateway",), "it would have the controller's rights"),
    ],
)
def test_a_gateway_that_could_not_be_or_nobody_could_use_is_refused(values: tuple[str, ...], told: str) -> None:
    done = chart.templated("kagent", "kagent", *[f"--set={each}" for each in values])
    assert done.returncode
    assert told in done.stderr


def test_keys_and_addresses_are_told_by_name() -> None:
    made = chart.rendered(
        "kagent",
        "kagent",
        "providers.gpustack.existingSecret=gpu",
        "providers.gpustack.endpoint=http://gpustack",
        "providers.ollama.endpoint=http://ollama.ollama.svc:11434",
        "journal.existingSecret=kagent-journal",
        "imagePullSecrets[0].name=registry",
        "networkPolicy.enabled=true",
    )
    said = arguments(made)
    assert "--provider-secret=openai=kagent-openai/OPENAI_API_KEY" in said
    assert "--provider-secret=gpustack=gpu/GPUSTACK_API_KEY" in said
    assert "--provider-endpoint=gpustack=http://gpustack" in said
    assert "--provider-endpoint=ollama=http://ollama.ollama.svc:11434" in said
    assert "--journal-secret=kagent-journal" in said
    assert "--agent-pull-secret=registry" in said
    assert "--agent-network-policy" in said
    assert [each["kind"] for each in made if each["kind"] == "Secret"] == []


@pytest.mark.requirement("external-secret")
def test_external_secrets_are_made_under_the_names_that_agents_use() -> None:
    made = chart.rendered(
        "kagent",
        "kagent",
        "providers.openai.externalSecret.key=prod/kagent",
        "providers.openai.externalSecret.property=openai",
        "journal.existingSecret=kagent-journal",
        "journal.externalSecret.key=prod/journal",
    )
    found = {each["metadata"]["name"]: each["spec"] for each in made if each["kind"] == "ExternalSecret"}
    assert found.keys() == {"kagent-openai", "kagent-journal"}
    assert found["kagent-openai"]["target"] == {"name": "kagent-openai"}
    remote = {"key": "prod/kagent", "property": "openai"}
    assert found["kagent-openai"]["data"] == [{"secretKey": "OPENAI_API_KEY", "remoteRef": remote}]
    assert found["kagent-journal"]["data"] == [{"secretKey": "url", "remoteRef": {"key": "prod/journal"}}]


REFUSED = [
    ("controller.replicas=2", "additional properties 'replicas' not allowed"),
    ("controller.logLevel=loud", "value must be one of"),
    ("watchNamespaces={Team}", "does not match pattern"),
    ("webhook.certManager.enabled=true", "install cert-manager first"),
    ("monitoring.serviceMonitor.enabled=true", "install the Prometheus operator first"),
    ("providers.openai.externalSecret.key=k", "install the External Secrets operator first"),
    ("providers.vllm.externalSecret.key=k", "name the Secret to be made of it, providers.vllm.existingSecret"),
    ("watchNamespaces={a},shareSecretsWith={b}", "add it to watchNamespaces"),
    ("gateway.grpcPort=9095", "'/gateway/grpcPort'"),
    ("controller.metrics.port=8081", "controller.metrics.port is 8081, where the controller's health is"),
    ("controller.metrics.port=9443", "controller.metrics.port is 9443, where the controller's webhook is"),
    ("controller.replicaCount=0", "'/controller/replicaCount': minimum: got 0, want 1"),
    ("controller.podDisruptionBudget.maxUnavailable=some", "'/controller/podDisruptionBudget/maxUnavailable'"),
    ("controller.resources.limits.memory=lots", "'/controller/resources/limits/memory'"),
    ("controller.resources.requests.cpu=-1", "'/controller/resources/requests/cpu'"),
    ("controller.resources.limit.cpu=1", "additional properties 'limit' not allowed"),
    ("gateway.resources.limits.memory=1Gb", "'/gateway/resources/limits/memory'"),
    ("agents.qwen3-8b.spec.resources.limits.memory=1Gb", "'/agents/qwen3-8b/spec/resources/limits/memory'"),
    ("agents.Bad_Name.spec.modelConfig=m", "'Bad_Name' does not match pattern"),
    ("agents.8b.spec.modelConfig=m", "'8b' does not match pattern"),
    ("modelConfigs.Bad_Name.spec.model=m", "'Bad_Name' does not match pattern"),
    ("nodeSelector.gpu=true", "'/nodeSelector/gpu': got boolean, want string"),
    ("controller.podAnnotations.scrape=true", "'/controller/podAnnotations/scrape': got boolean, want string"),
    ("serviceAccount.annotations.role=1", "'/serviceAccount/annotations/role': got number, want string"),
    ("nameOverride=a.b", "'/nameOverride'"),
    ("fullnameOverride=UPPER", "'/fullnameOverride'"),
    ("fullnameOverride=1st", "'/fullnameOverride'"),
    ("image.repository=registry.example/my kadre", "'/image/repository'"),
    ("image.repository=registry.example/Kadre", "'/image/repository'"),
    ("image.tag=a b", "'/image/tag'"),
    ("imagePullSecrets[0].name=Not_A_Name", "'/imagePullSecrets/0/name'"),
    ("providers.openai.existingSecret=Not_A_Name", "'/providers/openai/existingSecret'"),
    ("providers.openai.existingSecretKey=a/b", "'/providers/openai/existingSecretKey'"),
    ("journal.existingSecret=Not_A_Name", "'/journal/existingSecret'"),
    ("externalSecrets.refreshInterval=often", "'/externalSecrets/refreshInterval'"),
    ("serviceAccount.name=Not_A_Name", "'/serviceAccount/name'"),
    ("webhook.certManager.issuerRef.name=Not_A_Name", "'/webhook/certManager/issuerRef/name'"),
    ("monitoring.serviceMonitor.interval=often", "'/monitoring/serviceMonitor/interval'"),
    ("monitoring.serviceMonitor.interval=", "'/monitoring/serviceMonitor/interval'"),
    ("monitoring.serviceMonitor.labels.release=true", "'/monitoring/serviceMonitor/labels/release'"),
]
TAKEN = [
    "controller.metrics.port=8082",
    "controller.metrics.port=9443,webhook.enabled=false",
    "controller.metrics.port=8081,controller.metrics.enabled=false",
    "controller.resources.limits.cpu=2,controller.resources.limits.memory=1e9,controller.resources.requests.cpu=0.5",
    "controller.resources.limits.nvidia\\.com/gpu=1",
    "controller.podDisruptionBudget.maxUnavailable=25%",
    "nodeSelector.kubernetes\\.io/os=linux,nodeSelector.spot=",
    "nameOverride=kadre,fullnameOverride=my-kadre",
    "image.repository=localhost:5000/team/my_kadre.image",
    "image.repository=Registry.example/kadre,image.tag=1.2",
    "image.tag=1.2@sha256:" + "0" * 64,
    "providers.openai.existingSecret=,journal.existingSecret=a.b-c",
    "externalSecrets.refreshInterval=1h30m",
    "monitoring.serviceMonitor.interval=1m30s",
    "agents.a-1.spec.modelConfig=qwen3:8b,agents.a-1.spec.resources.limits.memory=1Gi,agents.a-1.labels.team=a",
]


@pytest.mark.requirement("chart-values-described")
@pytest.mark.parametrize(("setting", "said"), REFUSED)
def test_what_cannot_be_is_refused_with_what_to_do(setting: str, said: str) -> None:
    done = chart.templated("kagent", "kagent", "--set", setting)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.requirement("chart-values-described")
@pytest.mark.parametrize("settings", TAKEN)
def test_what_a_cluster_takes_the_chart_takes(settings: str) -> None:
    done = chart.templated("kagent", "kagent", "--set", settings)
    assert done.returncode == 0, done.stderr


def test_the_plain_manifests_are_the_charts() -> None:
    written = manifests.TARGET.read_text(encoding="utf-8")
    assert written == manifests.rendered(str(programs.published("helm"))), "run `make gen` where there is a helm"


async def test_a_cluster_takes_the_plain_manifests(world: World) -> None:
    made = list(yaml.safe_load_all(installation.manifests(f"{world.namespace}-plain", "kadre:test")))
    assert of(made, "Namespace")["metadata"]["name"] == f"{world.namespace}-plain"
    for each in made:
        await world.client.apply((KNOWN | RIGHTS)[each["apiVersion"], each["kind"]], each)
    (container,) = of(made, "Deployment", "kagent-controller")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "kadre:test"
    assert "--agent-image=kadre:test" in container["args"]
    with pytest.raises(KadreError, match="no namespace's name"):
        installation.manifests("Kagent", "kadre:test")
    with pytest.raises(KadreError, match="no image's name"):
        installation.manifests("kagent", "kadre: test")


@pytest.mark.requirement("chart-repository")
def test_the_packaged_chart_is_found_in_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    served = tmp_path / "charts"
    make = ["make", "chart", f"CHARTS={served}", f"HELM={programs.published('helm')}"]
    done = subprocess.run(make, cwd=chart.CHART.parents[1], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    with serving(served) as url:
        for words in (["repo", "add", "kagent", url], ["repo", "update"]):
            assert (done := chart.helm(*words)).returncode == 0, done.stderr
        assert re.search(
            r"^kagent/kagent\s+\d+\.\d+\.\d+", chart.helm("search", "repo", "kagent", "--versions").stdout, re.MULTILINE
        )
        fetched = chart.helm("template", "kagent", "kagent/kagent", "--kube-version", programs.KUBERNETES)
        assert "name: kagent-controller" in fetched.stdout, fetched.stderr


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address at which a folder's files are served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
