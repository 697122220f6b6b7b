"""What kinds other than agents refer to: an agent host runs none of them, and all of it is checked."""

from __future__ import annotations

from kadre.api.checks import check_values
from kadre.api.dialects.kaos import MCPServer, ModelAPI
from kadre.api.kinds.agent_template import AgentTemplate
from kadre.api.kinds.memory_store import MemoryStore
from kadre.api.kinds.model_config import ModelConfig
from kadre.api.kinds.tool import Tool
from kadre.api.kinds.workflow import Workflow
from kadre.api.kinds.workflow_run import WorkflowRun
from kadre.api.resource import Resource
from kadre.plan import delegation, memory, model_apis, models, tools
from kadre.plan.draft import Place
from kadre.plan.merging import templates
from kadre.plan.work import Work


def check(work: Work, resource: Resource) -> None:
    """Follow every reference of a resource that is no agent."""
    match resource:
        case AgentTemplate():
            _template(work, resource)
        case ModelConfig():
            if work.override.model is None:
                models.config_plan(work, resource)
        case ModelAPI():
            if work.override.model is None:
                model_apis.check(work, resource)
        case Tool():
            tools.own_plan(work, resource)
        case MCPServer():
            tools.check_server(work, resource)
        case MemoryStore():
            memory.check_store(work, resource)
        case Workflow():
            _workflow(work, resource)
            work.not_yet("workflows are not supported yet: nothing runs it")
        case WorkflowRun():
            _workflow_run(work, resource)
            work.not_yet("workflows are not supported yet: nothing is run")
        case _:
            raise TypeError(f"no references are known of {resource.kind}")


def _template(work: Work, template: AgentTemplate) -> None:
    """Its tools and agents are checked where an agent uses it: the agent may put others in their place."""
    templates(work, template)
    spec = template.spec
    if spec.model_config_ref is not None and work.override.model is None:
        models.named_config(work, template, spec.model_config_ref)
    if spec.memory is not None and spec.memory.store_ref is not None:
        name = spec.memory.store_ref
        place = Place(template, "spec.memory.storeRef")
        work.reference(MemoryStore, place, name, f"create a MemoryStore named {name}, or name another one")


def _workflow(work: Work, workflow: Workflow) -> None:
    for number, step in enumerate(workflow.spec.steps):
        delegation.check_step_agent(work, Place(workflow, f"spec.steps[{number}].agent"), step.agent)
    handling = workflow.spec.error_handling
    channel = handling.notification_channel if handling else None
    if channel is not None and channel.webhook.secret_ref is not None:
        # Nothing sends notifications yet: their Secret may still be missing.
        place = Place(workflow, "spec.errorHandling.notificationChannel.webhook.secretRef")
        work.secret(place, channel.webhook.secret_ref, severity="warning")


def _workflow_run(work: Work, run: WorkflowRun) -> None:
    name = run.spec.workflow_ref
    place = Place(run, "spec.workflowRef")
    workflow = work.reference(Workflow, place, name, f"create a Workflow named {name}, or name another one")
    if workflow is not None:
        for problem in check_values(workflow.spec.input, run.spec.input, "spec.input"):
            work.problem(Place(run, problem.path), problem.reason, problem.message, problem.fix)
