"""Document 004, KAOS: from installing it to a team behind a real Gateway, one story, told by these tests in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.processes import free_ports
from tests.docs.test_seeds import document
from tests.e2e.conftest import CHART, IMAGE, ROOT, TRUST, VALUES, Terminal, install, post
from tests.e2e.documents.reader import Guide

pytestmark = [pytest.mark.timeout(600), pytest.mark.needs("seeds")]

HERE = f"--wait --set {','.join(VALUES)}"
GATEWAY_API = "--set gatewayAPI.enabled=true,gatewayAPI.createGateway=true,gatewayAPI.gatewayClassName=traefik"
QUESTION = {"model": "coordinator", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 32}
KINDS = "agents.kaos.tools,modelapis.kaos.tools,mcpservers.kaos.tools"


@pytest.fixture(scope="module")
def guide(
    installed: Terminal, testbed: Cluster, running_ollama: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guide]:
    """Somebody on a cluster without Kadre; afterwards it is installed where all other tests expect it."""
    installed.helm("uninstall", "kagent", "--wait")
    # What follows there is for who changes KAOS itself: the commands of its own repository.
    page = document(ROOT.parent / "shared" / "seeds", "004").partition("## Development")[0]
    (port,) = free_ports(1)
    changed = {
        "kaos install": f"kaos install --image {IMAGE}",
        "chart/ -n": f"{CHART} {HERE} -n",
        "8000:80": f"{port}:80",
        "localhost:8000": f"localhost:{port}",
    }
    folder = tmp_path_factory.mktemp("guide")
    (folder / "operator").mkdir()
    made = Guide(page, testbed.kubeconfig, folder, changed)
    yield made
    made.also(f"kubectl delete -n default {KINDS} --all --cascade=foreground")
    made.also("helm uninstall kaos-operator -n kaos-system --wait --ignore-not-found")
    made.also("kubectl delete namespace kaos-system --ignore-not-found")
    install(installed)


@pytest.mark.requirement("kaos-install", "kaos-operator-chart")
def test_it_is_installed_by_either_way(guide: Guide) -> None:
    guide.types("kaos install", "waiting for deployment/kagent-controller")
    guide.types("kaos ui", fails="there is no web page in this version")
    guide.also("kaos uninstall")
    guide.also("kubectl wait --for=delete -n kaos-system deployment/kagent-controller --timeout=60s")
    guide.also(f"kubectl create -n kaos-system {TRUST}")
    guide.types("cd operator")
    guide.types("helm install kaos-operator chart/ -n kaos-system --create-namespace", "STATUS: deployed")


@pytest.mark.requirement("kaos-quickstart", "kaos-cluster", "kaos-ready-label", "kaos-echo-server", "kaos-hosted-model")
def test_the_first_agent_answers_with_a_real_model(guide: Guide) -> None:
    guide.saves("simple-agent.yaml")
    guide.types("kubectl apply -f simple-agent.yaml", "agent.kaos.tools/assistant created")
    guide.also("kubectl wait --for=create deployment/assistant --timeout=30s")
    guide.also("kubectl wait --for=jsonpath={.status.replicas}=1 deployment/assistant --timeout=30s")
    guide.types("kubectl wait --for=condition=ready pod -l app=assistant --timeout=120s", "condition met")
    with guide.keeps("kubectl port-forward svc/assistant 8000:80", "Forwarding from 127.0.0.1"):
        said = guide.types("curl http://localhost:8000/v1/chat/completions …", '"chat.completion"')
    assert '"assistant"' in said
    assert "assistant" in guide.also("kaos get agents")
    assert guide.also('kaos invoke assistant -m "Hello!"').strip()


@pytest.mark.requirement("kaos-gateway-api", "kaos-delegation")
def test_a_team_is_reached_through_a_real_gateway(guide: Guide, running_traefik: Cluster) -> None:
    guide.also(f"helm upgrade kaos-operator {CHART} -n kaos-system {HERE} {GATEWAY_API} --set auth.mode=none")
    guide.saves("multi-agent-gateway.yaml")
    guide.also("kubectl apply -f multi-agent-gateway.yaml")
    for name in ("coordinator", "researcher", "analyst"):
        guide.also(f"kubectl wait --for=condition=Ready agents.kaos.tools/{name} --timeout=120s")
    accepted = 'jsonpath={.status.parents[0].conditions[?(@.type=="ResolvedRefs")].status}=True'
    guide.also(f"kubectl wait --for='{accepted}' httproute/coordinator --timeout=60s")
    address = running_traefik.kubectl("get", "service", "-n", "traefik", "traefik", "-o", "jsonpath={.spec.clusterIP}")
    # What is accepted is heeded a moment later.
    patient = "curl --silent --fail --retry 30 --retry-delay 1 --retry-all-errors"
    guide.also(f"{patient} http://{address}/coordinator/v1/models")
    answer = post(f"http://{address}/coordinator/v1/chat/completions", QUESTION, seconds=130)
    assert answer["choices"][0]["message"]["content"]
    asked = guide.also("kubectl get agents.kaos.tools/coordinator -o jsonpath='{.status.delegates[*].name}'")
    assert asked.split() == ["researcher", "analyst"]
    timeout = guide.also("kubectl get httproute/coordinator -o jsonpath='{.spec.rules[0].timeouts.request}'")
    assert timeout == "2m"
    guide.ends()


SAMPLES = ("quickstart", "coordinator", "hierarchy", "custom-tools")


@pytest.mark.requirement("kaos-samples")
@pytest.mark.parametrize("name", SAMPLES)
def test_each_sample_runs(guide: Guide, name: str, tmp_path: Path) -> None:
    guide.also(f"kubectl delete -n default {KINDS} --all --cascade=foreground")
    for page in sorted((ROOT / "examples" / name).glob("*.yaml")):
        # No hub can be reached from here: the same names of models that the image has.
        (tmp_path / page.name).write_text(page.read_text().replace("llama3.2:3b", "llama3.2:latest"))
    guide.also(f"kubectl apply -n default -f {tmp_path}")
    guide.also("kubectl wait -n default --for=condition=Ready agents.kaos.tools --all --timeout=150s")
