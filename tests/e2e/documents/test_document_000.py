"""Document 000, kagent in one cluster: one story on an installed Kadre, told by these tests in their order."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from tests.cluster.cluster import Cluster
from tests.docs.test_seeds import document
from tests.e2e.conftest import IMAGE, INSTALLED, ROOT, Terminal, install
from tests.e2e.documents.conftest import OPENAI, models
from tests.e2e.documents.reader import Guide

pytestmark = [pytest.mark.timeout(600), pytest.mark.needs("seeds")]

IN = f"-n {INSTALLED}"
# The key is the installation's, `kagent-openai`, and so is the address here that stands for OpenAI's.
OUTSIDE = (f"providers.openai.endpoint={OPENAI}", "providers.openai.externalSecret.key=kagent/openai")
KEY = "sk-of-this-cluster"
ASK = "curl -sf localhost:8080/chat -H 'Content-Type: application/json' -d '{\"message\": \"Hello\"}'"


@pytest.fixture(scope="module")
def guide(
    installed: Terminal, testbed: Cluster, outside: str, neighbours: None, tmp_path_factory: pytest.TempPathFactory
) -> Guide:
    assert installed.namespace == "kagent"
    models(testbed, "ollama", "ollama", 11434)
    install(installed, *OUTSIDE)
    page = document(ROOT.parent / "shared" / "seeds", "000")
    changed = {"https://api.openai.com/v1": OPENAI}
    return Guide(page, testbed.kubeconfig, tmp_path_factory.mktemp("guide"), changed)


def agent(name: str, fragment: str, **more: Any) -> str:
    """A fragment of an Agent's spec as an Agent."""
    spec: Mapping[str, Any] = yaml.safe_load(fragment)["spec"] | more
    metadata = {"name": name, "namespace": INSTALLED}
    return yaml.safe_dump({"apiVersion": "kagent.dev/v1alpha1", "kind": "Agent", "metadata": metadata, "spec": spec})


def ready(guide: Guide, name: str) -> None:
    """Wait until an agent answers."""
    guide.also(f"kubectl wait {IN} --for=condition=Ready agent/{name} --timeout=60s")


@pytest.mark.requirement("agent-model-config", "agent-described", "gateway-service", "gateway-chat", "chart-resources")
def test_agents_are_written(guide: Guide) -> None:
    guide.saves("my-agent.yaml")
    guide.saves("model.yaml")
    guide.also("kubectl apply -f -", OLLAMA + "---\n" + agent("k8s-operator", ASKED))
    ready(guide, "k8s-operator")
    with guide.keeps("kubectl port-forward -n kagent svc/kagent 8080:80", "Forwarding from 127.0.0.1"):
        heard = "qwen3:30b-a3b heard: List all pods in default namespace"
        guide.types("curl -X POST http://localhost:8080/agents/k8s-operator/chat …", heard)
    asked = "-o jsonpath='{.spec.template.spec.containers[0].resources}'"
    told = json.loads(guide.also(f"kubectl get deployment kagent {IN} {asked}"))
    sizes = {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"cpu": "1", "memory": "2Gi"}}
    assert told == sizes
    guide.also(f"kubectl delete agent,modelconfig --all {IN}")
    guide.also("kubectl apply -f -", agent("k8s-operator", guide.reads()))
    # Its ModelConfig is missing: it says so at once, with what to do, and heals when it is there.
    guide.also(f"kubectl wait {IN} --for=condition=Stalled agent/k8s-operator --timeout=30s")
    told = guide.also(f"kubectl describe agent k8s-operator {IN}")
    assert "there is no ModelConfig ollama-qwen3-30b-a3b" in told
    guide.also("kubectl apply -f -", OLLAMA)
    guide.also("kubectl apply -f -", agent("deepseek-r1-coder", guide.reads(), modelConfig="ollama-qwen3-30b-a3b"))
    for name in ("k8s-operator", "deepseek-r1-coder"):
        ready(guide, name)
        assert "qwen3:30b-a3b heard: Hello" in guide.also(f"kubectl exec {IN} deployment/{name} -- {ASK}")


ASKED = "spec: {modelConfig: ollama-qwen3-30b-a3b, systemMessage: You operate a cluster.}"
OLLAMA = """
apiVersion: kagent.dev/v1alpha1
kind: ModelConfig
metadata: {name: ollama-qwen3-30b-a3b, namespace: kagent}
spec: {provider: ollama, model: "qwen3:30b-a3b", endpoint: "http://ollama.ollama.svc.cluster.local:11434"}
"""


@pytest.mark.requirement("agents-listed", "controller-labels")
def test_the_service_is_checked(guide: Guide) -> None:
    guide.types("kubectl get pods -n kagent", "kagent-controller-", "k8s-operator-")
    guide.types("kubectl logs -n kagent -l app.kubernetes.io/name=kagent", "reconciling the cluster")
    guide.types("kubectl get agents -n kagent", "k8s-operator", "ollama/qwen3:30b-a3b")


@pytest.mark.requirement("agents-as-resources")
def test_an_agent_is_created_changed_and_deleted(guide: Guide) -> None:
    guide.also(f"kubectl create secret generic kagent-openai {IN} --from-literal=OPENAI_API_KEY={KEY}")
    guide.also("kubectl apply -f model.yaml")
    guide.types("kubectl apply -f my-agent.yaml", "agent.kagent.dev/my-agent created")
    ready(guide, "my-agent")
    editor = "sed -i 's/My custom AI agent/My own AI agent/'"
    guide.types("kubectl edit agent my-agent -n kagent", "edited", editor=editor)
    guide.types("kubectl delete agent my-agent -n kagent", "deleted")
    guide.also(f"kubectl wait {IN} --for=delete deployment/my-agent --timeout=60s")
    guide.also("kubectl apply -f my-agent.yaml")
    ready(guide, "my-agent")


@pytest.mark.requirement(
    "agent-logs-by-label",
    "agent-described",
    "agents-listed",
    "external-secret",
    "metrics-service",
    "deployment-kagent",
)
def test_an_agent_that_does_not_answer_is_looked_at(guide: Guide) -> None:
    assert "gpt-4 heard: Hello" in guide.also(f"kubectl exec {IN} deployment/my-agent -- {ASK}")
    guide.types("kubectl logs -n kagent -l agent=my-agent", "is served on port 8080")
    with guide.keeps("kubectl port-forward -n kagent svc/kagent-metrics 9090:9090", "Forwarding from 127.0.0.1"):
        shown = guide.also("curl -sf localhost:9090/metrics")
        assert "kagent_gateway_agents_active" in shown
        assert "\nagent_" not in shown
    told = guide.types("kubectl describe agent my-agent -n kagent", "Type:                  Ready", "Events:")
    assert KEY not in told
    guide.types("kubectl get modelconfig -n kagent", "openai-gpt4", "gpt-4")
    guide.types("kubectl get secret kagent-openai -n kagent", "Opaque")
    guide.types("kubectl describe externalsecret kagent-openai -n kagent", "kagent/openai", "aws-secrets-manager")
    guide.types("kubectl get secret kagent-openai -n kagent -o yaml", "OPENAI_API_KEY:")
    guide.types("kubectl get svc -n ollama", "11434/TCP")
    guide.types("kubectl exec -n kagent deployment/kagent -- curl -s http://ollama…", "qwen3:30b-a3b")
    guide.exports(OPENAI_API_KEY=KEY)
    guide.types("kubectl exec -n kagent deployment/kagent -- curl -s https://api.openai.com…", '"gpt-4"')


@pytest.mark.requirement("agent-templates", "rate-limits", "service-monitor", "usage-script")
def test_agents_are_configured_further(guide: Guide) -> None:
    tools, values, template, limits = (guide.reads() for _ in range(4))
    assert "existingSecretKey: ANTHROPIC_API_KEY" in values
    guide.also("kubectl apply -n kagent -f -", template)
    spec = yaml.safe_load(tools)["spec"] | {"templateRef": "base-k8s-agent", "modelConfig": "ollama-qwen3-30b-a3b"}
    guide.also("kubectl apply -f -", agent("limited", limits, **spec))
    ready(guide, "limited")
    asked = guide.also(f"kubectl get configmaps {IN} -l agent=limited -o jsonpath='{{.items[*].data}}'")
    assert "Base Kubernetes agent configuration" in asked
    monitor = yaml.safe_load(guide.reads())
    monitor["spec"]["endpoints"] = [{"port": "metrics"}]  # which the document leaves out and the kind requires
    guide.also("kubectl apply -n kagent -f -", yaml.safe_dump(monitor))
    ports = "-o jsonpath='{.items[*].spec.ports[*].name}'"
    assert "metrics" in guide.also(f"kubectl get services {IN} -l app.kubernetes.io/name=kagent {ports}").split()
    guide.types("kubectl exec -n kagent deployment/kagent -- ./scripts/check-usage.sh", "PROMPT TOKENS", "limited")


@pytest.mark.requirement("backup-restores", "crds-updated", "documents-typed")
def test_what_is_backed_up_comes_back_on_an_empty_cluster(guide: Guide, installed: Terminal) -> None:
    guide.types("kubectl get agents -n kagent -o yaml > agents-backup.yaml")
    guide.types("kubectl get modelconfigs -n kagent -o yaml > models-backup.yaml")
    guide.cannot_yet("kubectl edit helmrelease kagent -n kagent", "helm-values-flux")
    shutil.copytree(ROOT / "examples" / "flux" / "apps", guide.folder / "apps")
    guide.also(f"sed -i 's,image: registry.example.com/.*,image: {IMAGE},' apps/base/kagent/release-crds.yaml")
    guide.types("kubectl apply -f apps/base/kagent/release-crds.yaml", "job.batch/kagent-crds created")
    guide.also(f"kubectl wait {IN} --for=condition=Complete job/kagent-crds --timeout=60s")
    guide.ends()
    installed.helm("uninstall", "kagent", "--wait")
    guide.also("kubectl get crds -o name | grep -E 'kagent.dev|kaos.tools' | xargs kubectl delete")
    guide.also("kubectl delete namespace kagent")
    install(installed, *OUTSIDE)
    guide.also(f"kubectl create secret generic kagent-openai {IN} --from-literal=OPENAI_API_KEY={KEY}")
    restored = guide.also("kubectl apply -f models-backup.yaml -f agents-backup.yaml")
    assert "agent.kagent.dev/my-agent created" in restored
    for name in ("my-agent", "k8s-operator"):
        ready(guide, name)
    assert "gpt-4 heard: Hello" in guide.also(f"kubectl exec {IN} deployment/my-agent -- {ASK}")
    guide.also(f"kubectl delete agents,modelconfigs,agenttemplates --all {IN}")
