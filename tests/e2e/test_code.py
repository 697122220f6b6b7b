"""Code that a model writes, on a real cluster: it computes, and has nothing but itself."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import LOOKS, Terminal, post

pytestmark = [pytest.mark.timeout(300), pytest.mark.requirement("tool-code-cluster")]
CALLED = "kagent-code-runner"
MANIFEST = """
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {name: python}
spec: {type: code, description: Runs Python., code: {timeout: 20s}}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: coder}
spec:
  model: {provider: scripted, name: script}
  tools: [python]
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: pooled-coder}
spec:
  model: {provider: scripted, name: script}
  tools: [python]
  runtime: {mode: Pooled}
"""
REFUSED = {
    "open('/etc/hostname').read()": "Permission denied",
    "open('/var/run/secrets/kubernetes.io/serviceaccount/token').read()": "No such file or directory",
    "open('/etc/kadre/jwks.json').read()": "Permission denied",
    "open('/proc/1/environ').read()": "Permission denied",
    "__import__('os').listdir('/work')": "Permission denied",
    "__import__('os').environ['KUBERNETES_SERVICE_HOST']": "KeyError",
    "__import__('socket').create_connection(('1.1.1.1', 53))": "Operation not permitted",
    "__import__('os').fork()": "Operation not permitted",
    "__import__('os').kill(1, 9)": "Operation not permitted",
    "[bytearray(10**7) for _ in range(1000)]": "MemoryError",
}


@pytest.fixture
def coders(terminal: Terminal) -> Terminal:
    """A namespace with two agents that have code run."""
    terminal.kubectl("apply", "-f", "-", stdin=MANIFEST)
    for agent in ("coder", "pooled-coder"):
        terminal.kubectl("wait", "--for=condition=Ready", f"agent/{agent}", "--timeout=90s")
        terminal.kubectl("wait", "--for=condition=CodeRunner", f"agent/{agent}", "--timeout=90s")
    return terminal


def ran(url: str, code: str, agent: str = "") -> str:
    """What the model says of the code that it has run."""
    said = {"message": f"call python {json.dumps({'code': code})}"}
    answer: str = post(f"{url}{agent}/chat", said)["response"]
    return answer


def until_it_runs(terminal: Terminal, url: str, agent: str = "") -> None:
    """The node learns of a Service a moment after its pods are ready."""
    for _ in range(LOOKS):
        if "42" in ran(url, "6 * 7", agent):
            return
        terminal.get("pods")
    raise AssertionError("no code is run")


def test_a_model_has_code_run_that_computes_and_reaches_nothing(coders: Terminal) -> None:
    with coders.forwarded("svc/coder", 8080) as url:
        until_it_runs(coders, url)
        assert "1267650600228229401496703205376" in ran(url, "2 ** 100")
        assert "['x']" in ran(url, "import os; open('x', 'w'); os.listdir('.')")
        for code, told in REFUSED.items():
            assert told in ran(url, code), code
        # It is as it was after all this.
        assert "42" in ran(url, "6 * 7")
    with coders.forwarded("deployment/kadre-pool-default", 8080) as url:
        until_it_runs(coders, url, "/agents/pooled-coder")
    (pod,) = coders.get("pods", "-l", f"app={CALLED}")["items"]
    assert [each["restartCount"] for each in pod["status"]["containerStatuses"]] == [0]


def test_no_pod_but_an_agents_has_code_run(coders: Terminal) -> None:
    with coders.forwarded(f"svc/{CALLED}", 8080) as url, pytest.raises(AssertionError, match="401"):
        post(f"{url}/run", {"code": "1", "seconds": 5})
    # The token of an account, for whoever it is by default, is none for this.
    account = coders.kubectl("create", "token", "default").strip()
    curl = f"curl -s -H 'Authorization: Bearer {account}' -d '{{}}' http://{CALLED}:8080/run"
    assert "Unauthorized" in coders.kubectl("exec", "deployment/coder", "--", "/bin/sh", "-c", curl)


def test_it_goes_with_the_last_agent_that_needs_it(coders: Terminal) -> None:
    coders.kubectl("delete", "agent", "coder")
    assert coders.get("deployment", CALLED)["spec"]["replicas"] == 1
    coders.kubectl("delete", "agent", "pooled-coder")
    coders.kubectl("wait", "--for=delete", f"deployment/{CALLED}", f"networkpolicy/{CALLED}", "--timeout=60s")
