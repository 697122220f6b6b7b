"""WorkflowRun: one execution of a Workflow."""

from typing import Any, Literal

from pydantic import Field

from kadre.api.parts import Count, NameRef
from kadre.api.resource import NATIVE, Column, Listing, Resource, Spec, Status

Phase = Literal["Pending", "Running", "Succeeded", "Failed"]
StepPhase = Literal["Pending", "Running", "Succeeded", "Failed", "Skipped"]


class WorkflowRunSpec(Spec):
    """Which workflow runs, and with what."""

    workflow_ref: NameRef
    """The Workflow in the same namespace, as `name: …`."""
    input: dict[str, Any] = Field(default_factory=dict)
    """Values of the workflow's inputs."""


class StepStatus(Spec):
    """How far a step is."""

    name: str
    """The step."""
    phase: StepPhase
    """Pending, Running, Succeeded, Failed or Skipped."""
    start_time: str | None = None
    """When its first attempt began."""
    completion_time: str | None = None
    """When it ended."""
    attempts: Count | None = None
    """Attempts so far."""
    message: str | None = None
    """Why it failed or was skipped."""
    run_id: str | None = None
    """The agent's run that carries it out."""


class WorkflowRunStatus(Status):
    """How far a run is."""

    phase: Phase | None = None
    """Pending, Running, Succeeded or Failed."""
    start_time: str | None = None
    """When it began."""
    completion_time: str | None = None
    """When it ended."""
    steps: list[StepStatus] | None = None
    """How far each step is."""
    output: dict[str, Any] | None = None
    """What it returned."""
    message: str | None = None
    """Why it failed."""


class WorkflowRun(Resource):
    """One execution of a Workflow."""

    listing = Listing(
        "workflowruns",
        short=("wfr",),
        columns=(
            Column("Workflow", ".spec.workflowRef.name"),
            Column("Phase", ".status.phase"),
            Column("Started", ".status.startTime", "date"),
            Column("Completed", ".status.completionTime", "date", priority=1),
        ),
    )
    status_model = WorkflowRunStatus

    api_version: str = NATIVE
    kind: Literal["WorkflowRun"] = "WorkflowRun"
    spec: WorkflowRunSpec
