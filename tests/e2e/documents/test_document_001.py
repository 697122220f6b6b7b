"""Document 001, the guide, on a cluster: one story from an empty cluster on, told by these tests in their order."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.cluster import programs
from tests.cluster.cluster import Cluster
from tests.cluster.processes import free_ports
from tests.docs.test_seeds import document
from tests.e2e.conftest import IMAGE, REPOSITORY, ROOT, TAG, Terminal, install
from tests.e2e.documents.conftest import repository
from tests.e2e.documents.reader import Guide

pytestmark = [pytest.mark.timeout(600), pytest.mark.needs("seeds")]

NAME = "customer-support-agent"
AGENTS = "-n ai-agents"
ASK = 'curl -sf localhost:8080/chat -H "Content-Type: application/json" -d "{\\"message\\": \\"Hello\\"}"'
NEWEST = "--sort-by=.metadata.creationTimestamp -o jsonpath='{.items[-1:].metadata.name}'"
ADDRESSES = "jsonpath='{.items[*].endpoints[*].addresses[0]}'"

SCRIPTED = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: first}
spec: {model: {provider: scripted, name: script}}
"""
# What a canary is for: one Service in front of both, in the ratio of their pods.
SHARED = """
apiVersion: v1
kind: Service
metadata: {name: customer-support}
spec: {selector: {app.kubernetes.io/part-of: customer-support}, ports: [{port: 8080}]}
"""


@pytest.fixture(scope="module")
def alone(cert_manager: None, neighbours: None, installed: Terminal) -> Iterator[None]:
    """The cluster as the guide finds it, with nothing of ours installed; and as other tests do, after it."""
    installed.helm("uninstall", "kagent", "--wait")
    yield
    installed.run(str(programs.published("helm")), "uninstall", "kagent", "-n", "kagent-system", "--ignore-not-found")
    made = ("ai-agents", "kagent-system", "observability")
    installed.run("kubectl", "delete", "namespace", *made, "--ignore-not-found")
    install(installed)


@pytest.fixture(scope="module")
def guide(
    alone: None, testbed: Cluster, outside: str, redis: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guide]:
    folder = tmp_path_factory.mktemp("guide")
    charts = tmp_path_factory.mktemp("charts")
    (port,) = free_ports(1)
    with repository(charts) as charts_address:
        changed = {
            "https://kagent-dev.github.io/kagent": charts_address,
            "https://github.com/kagent-dev/kagent/releases/latest/download/crds.yaml": "crds.yaml",
            # kubectl misses a pod that ends within the second in which the kubelet looks, whatever its image.
            "--image=curlimages/curl --": f"--image={IMAGE} --command -- sh -c 'sleep 5; exec \"$@\"' later",
            'endpoint: ""  ': f"endpoint: {outside}  ",
            # A port of this machine, where others may be at work.
            " 8080:8080": f" {port}:8080",
            "http://localhost:8080": f"http://localhost:{port}",
            # The image is the chart's to name, and another one here.
            "# values.yaml\n": f"image: {{repository: {REPOSITORY}, tag: '{TAG}'}}\n",
        }
        yield Guide(document(ROOT.parent / "shared" / "seeds", "001"), testbed.kubeconfig, folder, changed)


def settled(guide: Guide, name: str = NAME) -> None:
    """Wait until an agent is all of its latest plan."""
    guide.also(
        f"kubectl wait {AGENTS} --for=jsonpath='{{.status.observedGeneration}}'="
        f"$(kubectl get agent {name} {AGENTS} -o jsonpath='{{.metadata.generation}}') agent/{name} --timeout=60s"
    )
    guide.also(f"kubectl rollout status deployment/{name} {AGENTS} --timeout=90s")
    guide.also(f"kubectl wait {AGENTS} --for=condition=Ready agent/{name} --timeout=60s")


@pytest.mark.requirement("chart-install")
def test_the_chart_is_found_in_its_repository_and_installed(guide: Guide) -> None:
    guide.types("helm repo add kagent https://kagent-dev.github.io/kagent", '"kagent" has been added')
    guide.types("helm repo update", "Update Complete")
    guide.types("helm search repo kagent --versions", "kagent/kagent")
    guide.types("kubectl create namespace kagent-system", "created")
    guide.types("kubectl create namespace ai-agents", "created")
    guide.also("kubectl create namespace observability")
    guide.saves("values.yaml")
    guide.types("helm install kagent kagent/kagent …", "STATUS: deployed")
    guide.types("helm status kagent -n kagent-system", "STATUS: deployed", "kubectl get agents")
    guide.also("helm uninstall kagent -n kagent-system --wait")


@pytest.mark.requirement("crds-of-the-guide", "chart-manifests")
def test_manifests_install_it_too(guide: Guide) -> None:
    guide.also("kadre crds > crds.yaml")
    guide.types(
        "kubectl apply -f https://github.com/kagent-dev/kagent/releases/latest/download/crds.yaml", "agents.kagent.dev"
    )
    listed = ("agents.kagent.dev ", "tools.kagent.dev ", "workflows.kagent.dev ", "memorystores.kagent.dev ")
    guide.types("kubectl get crds | grep kagent", *listed)
    guide.saves("kagent-controller.yaml")
    guide.also(f"sed -i 's,image: .*,image: {IMAGE},' kagent-controller.yaml")
    guide.types("kubectl apply -f kagent-controller.yaml", "deployment.apps/kagent-controller created")
    guide.also("kubectl rollout status deployment/kagent-controller -n kagent-system --timeout=90s")
    # The role in it is narrower than the chart's, and enough for agents.
    guide.also(f"kubectl apply {AGENTS} -f -", SCRIPTED)
    guide.also(f"kubectl wait {AGENTS} --for=condition=Ready agent/first --timeout=90s")
    guide.also(f"kubectl delete agent first {AGENTS}")


@pytest.mark.requirement("webhook-validates", "webhook-mutating")
def test_the_installation_is_verified(guide: Guide) -> None:
    pods = guide.types("kubectl get pods -n kagent-system", "kagent-controller-")
    assert pods.count("1/1     Running") == 2
    guide.types("kubectl get crds | grep kagent.dev", "agents.kagent.dev ")
    guide.types("kubectl logs -n kagent-system -l app=kagent-controller --tail=50", "reconciling the cluster")
    guide.also("kubectl delete -f kagent-controller.yaml --ignore-not-found")
    guide.also("helm install kagent kagent/kagent -n kagent-system --create-namespace --values values.yaml --wait")
    logs = "kubectl logs -n kagent-system -l app=kagent-controller --tail=50"
    assert "reconciling the cluster" in guide.also(logs)
    guide.types("kubectl get validatingwebhookconfigurations | grep kagent", "kagent")
    guide.types("kubectl get mutatingwebhookconfigurations | grep kagent", "kagent")


@pytest.mark.requirement("operator-tools-listed")
def test_tools_are_prepared_and_listed(guide: Guide) -> None:
    agent, tools = (
        guide.reads(),
        "tools/search-knowledge-base.yaml tools/create-ticket.yaml tools/get-customer-info.yaml",
    )
    (guide.folder / "agents").mkdir()
    (guide.folder / "agents" / f"{NAME}.yaml").write_text(agent)
    guide.saves(*tools.split())
    guide.saves("memory.yaml")
    guide.saves("scaling.yaml")
    guide.also("kubectl apply -f memory.yaml")
    guide.types("kubectl create namespace ai-agents", fails='namespaces "ai-agents" already exists')
    guide.types("kubectl create secret generic openai-api-key …", "secret/openai-api-key created")
    guide.types("kubectl create secret generic redis-credentials …", "secret/redis-credentials created")
    for tool in tools.split():
        guide.types(f"kubectl apply -f {tool}", "created")
    guide.types("kubectl get tools -n ai-agents", "search-knowledge-base", "create-ticket", "get-customer-info")


@pytest.mark.requirement("agents-listed", "agent-described", "operator-children")
def test_the_agent_is_deployed_and_says_how_it_is(guide: Guide) -> None:
    guide.also("git init -q && git add agents && git -c user.name=me -c user.email=me@localhost commit -qm v1")
    guide.also(f"cp agents/{NAME}.yaml agents/{NAME}-v1.yaml")
    guide.types(f"kubectl apply -f agents/{NAME}.yaml", "created")
    guide.also(f"kubectl wait {AGENTS} --for=jsonpath='{{.status.readyReplicas}}'=2 agent/{NAME} --timeout=60s")
    settled(guide)
    guide.types("kubectl get agents -n ai-agents", NAME, "openai/gpt-4-turbo")
    guide.types(f"kubectl describe agent {NAME} -n ai-agents", "Events:", "NotSupportedYet")


@pytest.mark.requirement("operator-hpa", "operator-app-label", "chat-at-agent", "agent-inline-model")
def test_the_deployment_is_verified(guide: Guide) -> None:
    guide.types("kubectl get deployments -n ai-agents", f"{NAME}   2/2")
    guide.types("kubectl get services -n ai-agents", "8080/TCP,9090/TCP")
    guide.types("kubectl get hpa -n ai-agents", f"Deployment/{NAME}", "/70%", "/80%")
    assert guide.types(f"kubectl get pods -n ai-agents -l app={NAME}").count("1/1     Running") == 2
    guide.types(f"kubectl logs -n ai-agents -l app={NAME} --tail=100", "is served on port 8080")
    with guide.keeps(f"kubectl port-forward svc/{NAME} 8080:8080 -n ai-agents", "Forwarding from 127.0.0.1"):
        said = guide.types(
            "curl -X POST http://localhost:8080/chat …", "gpt-4-turbo heard: Hello, I have a billing question."
        )
    assert '"session_id"' in said


@pytest.mark.requirement("agents-as-resources", "operator-rolling-update")
def test_the_agent_is_updated(guide: Guide) -> None:
    guide.types(f"kubectl get agent {NAME} -n ai-agents -o yaml", "temperature: 0.7")
    guide.types(
        f"kubectl edit agent {NAME} -n ai-agents", "edited", editor="sed -i 's/temperature: 0.7/temperature: 0.6/'"
    )
    guide.also(f"kubectl wait {AGENTS} --for=jsonpath='{{.status.revision}}'=2 agent/{NAME} --timeout=60s")
    settled(guide)
    guide.also(f"sed -i 's/helpful and professional/helpful/' agents/{NAME}.yaml")
    guide.also("git -c user.name=me -c user.email=me@localhost commit -qam v2")
    guide.types(f"kubectl apply -f agents/{NAME}.yaml", "configured")
    guide.also(f"kubectl wait {AGENTS} --for=jsonpath='{{.status.revision}}'=3 agent/{NAME} --timeout=60s")
    guide.types(f"kubectl rollout status deployment/{NAME} -n ai-agents", "successfully rolled out")
    with guide.keeps(f"kubectl get pods -n ai-agents -l app={NAME} -w", "Running"):
        pass
    guide.types("kubectl get events -n ai-agents --sort-by='.lastTimestamp' | grep customer-support", f"agent/{NAME}")


@pytest.mark.requirement("operator-canary")
def test_a_canary_answers_beside_the_stable_one(guide: Guide) -> None:
    stable = yaml.safe_load((guide.folder / "agents" / f"{NAME}.yaml").read_text())
    canary = yaml.safe_load(guide.reads())
    # "Rest of configuration is same"
    model = stable["spec"]["model"] | canary["spec"]["model"]
    canary["spec"] = stable["spec"] | canary["spec"] | {"model": model}
    (guide.folder / "agents" / "canary.yaml").write_text(yaml.safe_dump(canary))
    guide.also("kubectl apply -f agents/canary.yaml")
    settled(guide, f"{NAME}-canary")
    both = guide.also(f"kubectl get agents {AGENTS} -l app=customer-support")
    assert (both.count(NAME), both.count(f"{NAME}-canary ")) == (2, 1)
    addresses = set()
    for name, model, pods in ((NAME, "gpt-4-turbo", 2), (f"{NAME}-canary", "gpt-4o", 1)):
        assert f"{model} heard: Hello" in guide.also(f"kubectl exec {AGENTS} deployment/{name} -- sh -c '{ASK}'")
        serving = guide.also(f"kubectl get endpointslices {AGENTS} -l kubernetes.io/service-name={name} -o {ADDRESSES}")
        assert len(serving.split()) == pods
        addresses |= set(serving.split())
    assert len(addresses) == 3, "a Service sends messages to the other's pods"
    guide.also(f"kubectl apply {AGENTS} -f -", SHARED)
    chosen = "endpointslices -l kubernetes.io/service-name=customer-support"
    guide.also(f"kubectl wait {AGENTS} --for=jsonpath='{{.endpoints[2].conditions.ready}}'=true {chosen} --timeout=30s")
    assert set(guide.also(f"kubectl get {AGENTS} {chosen} -o {ADDRESSES}").split()) == addresses
    # It has proved itself: its model is everybody's.
    guide.also(f"sed -i 's/gpt-4-turbo/gpt-4o/' agents/{NAME}.yaml")
    guide.also("git -c user.name=me -c user.email=me@localhost commit -qam v3")
    guide.also(f"kubectl apply -f agents/{NAME}.yaml && kubectl delete -f agents/canary.yaml")
    guide.also(f"kubectl wait {AGENTS} --for=jsonpath='{{.status.revision}}'=4 agent/{NAME} --timeout=60s")
    settled(guide)


@pytest.mark.requirement("operator-rollback")
def test_the_deployment_is_rolled_back(guide: Guide) -> None:
    deployment = f"deployment/{NAME} -n ai-agents"
    guide.types(f"kubectl rollout history {deployment}", "\n4 ")
    guide.types(f"kubectl rollout history {deployment} --revision=2", "with revision #2", "agent:")
    guide.types(f"kubectl rollout undo {deployment}", "rolled back")
    guide.also(f"kubectl wait {AGENTS} --for=condition=RolledBack agent/{NAME} --timeout=30s")
    guide.also(f"kubectl rollout status {deployment} --timeout=90s")
    guide.types(f"kubectl rollout undo {deployment} --to-revision=2", "rolled back")
    guide.types(f"kubectl rollout status {deployment}", "successfully rolled out")
    assert "\n6 " in guide.also(f"kubectl rollout history {deployment}")
    plan = guide.also(f"kubectl get {deployment} -o jsonpath='{{.spec.template.spec.volumes[0].configMap.name}}'")
    assert '"temperature":0.6' in guide.also(f"kubectl get configmap {plan} {AGENTS} -o yaml")


@pytest.mark.requirement("operator-rollback")
def test_the_agent_is_rolled_back(guide: Guide) -> None:
    guide.types(f"kubectl apply -f agents/{NAME}-v1.yaml", "configured")
    settled(guide)
    assert "RolledBack" not in guide.also(f"kubectl describe agent {NAME} {AGENTS} | sed '/^Events/,$d'")
    guide.types(f"git checkout HEAD~1 -- agents/{NAME}.yaml")
    guide.types(f"kubectl apply -f agents/{NAME}.yaml", "configured")
    settled(guide)
    assert "gpt-4-turbo" in guide.also(f"kubectl get agent {NAME} {AGENTS}")


@pytest.mark.requirement("agent-unsupported-said")
def test_a_workflow_is_taken_and_says_that_nothing_runs_it_yet(guide: Guide) -> None:
    guide.saves("workflows/research-report-workflow.yaml")
    guide.types("kubectl apply -f workflows/research-report-workflow.yaml", "created")
    guide.types("cat <<EOF | kubectl apply -f -…", "workflowrun.kagent.dev/research-run-001 created")
    guide.types("kubectl get workflowruns -n ai-agents", "research-run-001")
    guide.also(f"kubectl wait {AGENTS} --for=condition=Supported=false workflowrun/research-run-001 --timeout=30s")
    guide.types("kubectl describe workflowrun research-run-001 -n ai-agents", "NotSupportedYet")
    guide.cannot_yet("kubectl logs -n ai-agents -l workflow-run=research-run-001 --tail=100", "workflow-logs")
    guide.reads()


@pytest.mark.requirement("metrics-monitored-label")
def test_agents_are_monitored(guide: Guide) -> None:
    guide.also("kubectl apply -f -", guide.reads())
    chosen = guide.also(f"kubectl get services {AGENTS} -l kagent.dev/monitored=true -o json")
    (service,) = json.loads(chosen)["items"]
    (port,) = [each["port"] for each in service["spec"]["ports"] if each["name"] == "metrics"]
    served = guide.also(
        f"kubectl exec {AGENTS} deployment/{NAME} -- sh -c '{ASK} && curl -sf localhost:{port}/metrics'"
    )
    assert 'agent_active_sessions{agent="customer-support"' in served
    guide.also("kubectl apply -f -", guide.reads())


@pytest.mark.requirement("operator-exec", "health-at-agent")
def test_what_is_wrong_is_looked_for(guide: Guide) -> None:
    pod = guide.also(f"kubectl get pods {AGENTS} -l app={NAME} {NEWEST}")
    guide.also(f"kubectl exec {AGENTS} {pod} -- /bin/sh -c 'kill 1'")
    restarted = "--for=jsonpath='{.status.containerStatuses[0].restartCount}'=1"
    guide.also(f"kubectl wait {AGENTS} {restarted} pod/{pod} --timeout=60s")
    guide.types("kubectl describe agent <agent-name> -n ai-agents", "Conditions:", "Ready", agent_name=NAME)
    guide.types(
        "kubectl get events -n ai-agents --field-selector involvedObject.name=<pod-name>", "Started", pod_name=pod
    )
    guide.types("kubectl logs <pod-name> -n ai-agents --previous", "told to end", pod_name=pod)
    with guide.keeps("kubectl logs -f -l app=<agent-name> -n ai-agents", "is served on port 8080", agent_name=NAME):
        pass
    guide.types("kubectl exec -it <pod-name> -n ai-agents -- /bin/sh", "uid=10001", pod_name=pod, stdin="id\nexit\n")
    guide.types("kubectl run debug --rm -it --image=curlimages/curl -- curl -v http://…/health", "200 OK", '"ok"')


@pytest.mark.requirement("documents-typed")
def test_the_guide_has_nothing_more(guide: Guide) -> None:
    guide.ends()
