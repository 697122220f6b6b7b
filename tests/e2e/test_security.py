"""What the controller and an agent's pod may do on a real cluster, and where no secret value ever is."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Iterator

import pytest
import yaml

from kadre.kube.kinds import Object
from tests.e2e.conftest import IMAGE, INSTALLED, RESTRICTED, Terminal, post
from tests.e2e.test_agents import MANIFEST

pytestmark = pytest.mark.timeout(300)
CONTROLLER = f"system:serviceaccount:{INSTALLED}:kagent-controller"
EVERYBODY = f"system:serviceaccount:{INSTALLED}:nobody"
MUST_NOT = [
    "create pods",
    "create pods --subresource=exec",
    "get pods --subresource=log",
    "create pods --subresource=attach",
    "create pods --subresource=portforward",
    "delete pods",
    "create pods --subresource=eviction",
    "create jobs.batch",
    "create daemonsets.apps",
    "delete secrets",
    "patch secrets",
    "create serviceaccounts --subresource=token",
    "impersonate users",
    "impersonate serviceaccounts",
    "get nodes",
    "get nodes --subresource=proxy",
    "delete namespaces",
    "create namespaces",
    "get persistentvolumes",
    "create clusterroles.rbac.authorization.k8s.io",
    # Roles it makes, for pools: of its own rights, and of no others.
    "escalate roles.rbac.authorization.k8s.io",
    "bind roles.rbac.authorization.k8s.io",
    "create clusterrolebindings.rbac.authorization.k8s.io",
    "escalate clusterroles.rbac.authorization.k8s.io",
    "bind clusterroles.rbac.authorization.k8s.io",
    "create validatingwebhookconfigurations.admissionregistration.k8s.io",
    "delete validatingwebhookconfigurations.admissionregistration.k8s.io",
    "delete customresourcedefinitions.apiextensions.k8s.io",
    "patch customresourcedefinitions.apiextensions.k8s.io",
    "approve certificatesigningrequests.certificates.k8s.io",
    "create agents.kagent.dev",
    "delete agents.kagent.dev",
    "patch agents.kagent.dev",
    "'*' '*'",
]
"""What would let whoever takes the controller over go on from there, or undo what people have written."""
TELLING = 16
"""Characters of a value that is nowhere by chance."""
Right = tuple[str, str, str]
"""A resource, the name it is for (empty: every one), a verb."""


def may(terminal: Terminal, account: str, namespace: str) -> set[Right]:
    """Everything `kubectl auth can-i --list` lists of resources."""
    listed = terminal.run("kubectl", "auth", "can-i", "--list", "--no-headers", f"--as={account}", "-n", namespace)
    found: set[Right] = set()
    for line in listed.splitlines():
        resource = line.split()[0]
        _, names, verbs = (part.split() for part in re.findall(r"\[(.*?)\]", line))
        if not resource.startswith("["):
            found |= {(resource, name, verb) for name in names or [""] for verb in verbs}
    return found


def rights(rules: list[Object]) -> Iterator[Right]:
    """The same of the rules of a role."""
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                plural, _, part = resource.partition("/")
                named = ".".join(filter(None, (plural, group))) + (f"/{part}" if part else "")
                for name in rule.get("resourceNames") or [""]:
                    yield from ((named, name, verb) for verb in rule["verbs"])


def given(objects: list[Object], account: str, kind: str) -> set[Right]:
    """The rights that the roles of a kind give to an account, of those in the chart."""
    bound = [
        each["roleRef"]["name"]
        for each in objects
        if each["kind"] == f"{kind}Binding" and account in [subject["name"] for subject in each["subjects"]]
    ]
    roles = [each for each in objects if each["kind"] == kind and each["metadata"]["name"] in bound]
    return {right for each in roles for right in rights(each["rules"])}


REVIEWS = {
    ("tokenreviews.authentication.k8s.io", "", "create"),
    ("subjectaccessreviews.authorization.k8s.io", "", "create"),
}
"""What the ClusterRole system:auth-delegator gives."""


@pytest.mark.requirement("security-rights")
@pytest.mark.parametrize(("account", "besides"), [("kagent-controller", set()), ("kagent-gateway", REVIEWS)])
def test_each_account_may_do_what_the_chart_lists_and_nothing_else(
    installed: Terminal, account: str, besides: set[Right]
) -> None:
    manifest = installed.helm("get", "manifest", "kagent")
    objects = [each for each in yaml.safe_load_all(manifest) if each is not None]
    everywhere = given(objects, account, "ClusterRole") | besides
    anybody = may(installed, EVERYBODY, "default")
    named = f"system:serviceaccount:{INSTALLED}:{account}"
    assert may(installed, named, "default") - anybody == everywhere
    assert may(installed, named, INSTALLED) - anybody == everywhere | given(objects, account, "Role")


@pytest.mark.requirement("security-rights")
def test_what_the_controller_must_not_do_is_refused(installed: Terminal) -> None:
    allowed = []
    for words in MUST_NOT:
        ask = f"kubectl auth can-i {words} --as={CONTROLLER} -n default || true"
        if installed.run("/bin/sh", "-c", ask).strip() != "no":
            allowed.append(words)
    assert allowed == []


@pytest.mark.requirement("security-rights", "limited-permissions")
def test_an_agents_pod_may_do_nothing_and_has_no_token(terminal: Terminal) -> None:
    terminal.kubectl("apply", "-f", "-", stdin=MANIFEST)
    terminal.kubectl("wait", "--for=condition=Ready", "agent/my-agent", "--timeout=60s")
    account = f"system:serviceaccount:{terminal.namespace}:my-agent"
    assert may(terminal, account, terminal.namespace) == may(terminal, EVERYBODY, terminal.namespace)
    terminal.kubectl("exec", "deployment/my-agent", "--", "/bin/sh", "-c", "test ! -e /var/run/secrets/kubernetes.io")


@pytest.mark.requirement("security-pods")
def test_every_pod_of_ours_keeps_to_the_restricted_standard(installed: Terminal, terminal: Terminal) -> None:
    # The namespace of the release is labelled before the chart is installed: its hooks had to keep to it, too.
    labels = installed.run("kubectl", "get", "namespace", INSTALLED, "-o", "jsonpath={.metadata.labels}")
    assert '"pod-security.kubernetes.io/enforce":"restricted"' in labels
    terminal.kubectl("apply", "-f", "-", stdin=MANIFEST)
    terminal.kubectl("wait", "--for=condition=Ready", "agent/my-agent", "--timeout=60s")
    label = ["kubectl", "label", "--dry-run=server", "--overwrite", "namespace", terminal.namespace, RESTRICTED]
    assert "violate" not in terminal.run(*label, warnings=True)


TALE = "tell-tale"
TELL_TALE = f"""
apiVersion: v1
kind: Pod
metadata: {{name: {TALE}, labels: {{app: {TALE}}}}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  securityContext: {{runAsNonRoot: true, runAsUser: 10001, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: server
      image: {IMAGE}
      imagePullPolicy: IfNotPresent
      readinessProbe: {{tcpSocket: {{port: 8000}}, periodSeconds: 1}}
      securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
      command:
        - python3
        - -c
        - |
          from http.server import BaseHTTPRequestHandler, HTTPServer
          class Tell(BaseHTTPRequestHandler):
              def do_POST(self):
                  said = ("you sent " + str(self.headers)).encode()
                  self.send_response(401)
                  self.send_header("Content-Length", str(len(said)))
                  self.end_headers()
                  self.wfile.write(said)
              def log_message(self, *_):
                  pass
          HTTPServer(("", 8000), Tell).serve_forever()
---
apiVersion: v1
kind: Service
metadata: {{name: {TALE}}}
spec: {{selector: {{app: {TALE}}}, ports: [{{port: 8000}}]}}
"""
KEYED = f"""
apiVersion: kagent.dev/v1alpha1
kind: ModelConfig
metadata: {{name: keyed}}
spec: {{provider: openai, model: m, endpoint: "http://{TALE}:8000/v1", apiKeySecretRef: {{name: planted, key: key}}}}
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {{name: my-agent}}
spec:
  modelConfig: keyed
  env: [{{name: TOKEN, valueFrom: {{secretKeyRef: {{name: planted, key: env}}}}}}]
  tools:
    - name: told
      endpoint: http://{TALE}:8000/mcp
      secretHeaders: {{Authorization: {{name: planted, key: header}}}}
"""


@pytest.mark.requirement("security-secrets")
def test_no_secret_value_is_in_any_object_event_log_or_release(installed: Terminal, terminal: Terminal) -> None:
    planted = {name: uuid.uuid4().hex for name in ("key", "env", "header", "later")}
    terminal.kubectl("apply", "-f", "-", stdin=TELL_TALE)
    secret = ["create", "secret", "generic", "planted"]
    terminal.kubectl(*secret, *(f"--from-literal={name}={value}" for name, value in planted.items() if name != "later"))
    terminal.kubectl("wait", "--for=condition=Ready", f"pod/{TALE}", "--timeout=60s")
    terminal.kubectl("apply", "-f", "-", stdin=KEYED)
    terminal.kubectl("wait", "--for=condition=Ready", "agent/my-agent", "--timeout=90s")
    with terminal.forwarded("svc/my-agent", 8080) as url, pytest.raises(AssertionError) as failed:
        post(f"{url}/chat", {"message": "Hello"})  # the model's server answers with the key it was sent
    # A value that changes goes the ways of a first one, and a Secret that goes is told of.
    terminal.kubectl("patch", "secret", "planted", "-p", yaml.dump({"stringData": {"env": planted["later"]}}))
    terminal.kubectl("delete", "secret", "planted")
    terminal.kubectl("wait", "--for=condition=Ready=False", "agent/my-agent", "--timeout=30s")

    said = {"the answer": str(failed.value), **everything(terminal)}
    for what in ("manifest", "values", "hooks", "notes"):
        said[f"helm get {what}"] = installed.helm("get", what, "kagent")
    assert "planted" in said["agents.kagent.dev"]  # what is no secret is found there
    values = [*planted.values(), *kept(terminal)]
    # Of a key its longest line: around it are line breaks, which may be written in any way.
    lines = {max(value.split(), key=len) for value in values}
    forms = lines | {base64.b64encode(value.encode()).decode().rstrip("=") for value in values}
    assert [(where, form) for where, text in said.items() for form in forms if form in text] == []


def everything(terminal: Terminal) -> dict[str, str]:
    """All objects of all kinds but Secrets, and the logs of all pods."""
    listed = terminal.run("kubectl", "api-resources", "--verbs=list", "-o", "name").split()
    found = {}
    for kind in listed:
        if kind not in {"secrets", "componentstatuses"}:
            found[kind] = terminal.run("kubectl", "get", kind, "-A", "-o", "yaml", "--show-managed-fields")
    pods = terminal.run("kubectl", "get", "pods", "-A", "-o", "jsonpath={range .items[*]}{.metadata.namespace} "
                        "{.metadata.name}{'\\n'}{end}")  # fmt: skip
    for namespace, name in (line.split() for line in pods.splitlines()):
        log = f"kubectl logs -n {namespace} {name} --all-containers || true"  # of one that ends meanwhile: none
        found[f"log of {namespace}/{name}"] = terminal.run("/bin/sh", "-c", log)
    return found


def kept(terminal: Terminal) -> Iterator[str]:
    """The values of every Secret there is: keys of certificates, too. A release's are looked at by helm."""
    for each in yaml.safe_load(terminal.run("kubectl", "get", "secrets", "-A", "-o", "yaml"))["items"]:
        for name, value in (each.get("data") or {}).items():
            text = base64.b64decode(value).decode()
            # What is shorter may be anywhere by chance.
            if not each["type"].startswith("helm.sh/") and not name.endswith(".crt") and len(text) >= TELLING:
                yield text
