"""What kinds other than agents refer to: nothing of them is run by an agent host, and all of it is checked."""

from __future__ import annotations

from kadre.api import checks
from kadre.api.kinds.agent_template import AgentTemplate
from kadre.api.kinds.memory_store import LoginSecret, MemoryStore
from kadre.api.kinds.model_config import ModelConfig
from kadre.api.kinds.tool import Tool
from kadre.api.kinds.workflow import Workflow
from kadre.api.kinds.workflow_run import WorkflowRun
from kadre.api.parts import SecretKeyRef
from kadre.api.resource import Resource
from kadre.plan import templates, tools
from kadre.plan.findings import Findings
from kadre.plan.names import secret_variable
from kadre.plan.providers import PROVIDERS
from kadre.plan.types import NATIVE_GROUP, SecretRef


def check(resource: Resource, findings: Findings) -> None:
    """Follow every reference of a resource that is no agent."""
    match resource:
        case AgentTemplate():
            templates.merged(resource, findings)
        case ModelConfig():
            env = PROVIDERS[resource.spec.provider].key_env
            _secret(resource.spec.api_key_secret_ref, "spec.apiKeySecretRef", "this model", findings, env)
        case Tool():
            _tool(resource, findings)
        case MemoryStore():
            _store(resource, findings)
        case Workflow():
            for number, step in enumerate(resource.spec.steps):
                if tools.find_agent(findings.lookup, resource.namespace, step.agent, NATIVE_GROUP) is None:
                    findings.missing("Agent", step.agent, f"spec.steps[{number}].agent")
        case WorkflowRun():
            _workflow_run(resource, findings)
        case _:
            pass


def _secret(ref: SecretKeyRef | None, path: str, needed_for: str, findings: Findings, env: str = "") -> None:
    """A warning: whoever uses the resource is told with an error, and nobody may."""
    if ref is not None and not ref.optional:
        variable = env or secret_variable(ref.name, ref.key)
        secret = SecretRef(namespace=findings.resource.namespace, name=ref.name, key=ref.key, env=variable)
        findings.secret(secret, path, needed_for, "warning")


def _tool(tool: Tool, findings: Findings) -> None:
    spec = tool.spec
    if spec.api is not None and spec.api.authentication is not None:
        _secret(spec.api.authentication.secret_ref, "spec.api.authentication.secretRef", "this tool", findings)
    if spec.retrieval is not None:
        _secret(spec.retrieval.vector_store.secret_ref, "spec.retrieval.vectorStore.secretRef", "this tool", findings)
        embedding = spec.retrieval.embedding
        if embedding is not None:
            path = "spec.retrieval.embedding.apiKeySecretRef"
            _secret(embedding.api_key_secret_ref, path, "this tool", findings, PROVIDERS[embedding.provider].key_env)


def _store(store: MemoryStore, findings: Findings) -> None:
    section = store.spec.redis or store.spec.postgres
    login: LoginSecret | None = section.auth.secret_ref if section is not None and section.auth is not None else None
    if login is not None:
        ref = SecretKeyRef(name=login.name, key=login.password_key)
        _secret(ref, f"spec.{store.spec.type}.auth.secretRef", "this store", findings)


def _workflow_run(run: WorkflowRun, findings: Findings) -> None:
    workflow = findings.find("Workflow", run.spec.workflow_ref)
    if not isinstance(workflow, Workflow):
        findings.missing("Workflow", run.spec.workflow_ref, "spec.workflowRef")
        return
    for problem in checks.check_values(workflow.spec.input, run.spec.input, "spec.input"):
        findings.problems.append(problem.at(run.at(problem.path), run.ref))
