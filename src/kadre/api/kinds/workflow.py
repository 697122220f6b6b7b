"""Workflow: agents that work one after another and side by side, each given what others have found."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from kadre.api.checks import check_parameters
from kadre.api.expressions import Broken, references, texts
from kadre.api.parts import Count, Duration, Parameter, Positive, SecretKeyRef, Url
from kadre.api.resource import DNS_LABEL, NATIVE, Column, Listing, Resource, Spec
from kadre.base.problems import Problem, did_you_mean


class StepOutput(Spec):
    """A value taken out of a step's result."""

    name: str
    """The name other steps use."""
    path: str
    """Where it is in the result, e.g. `.result.data`."""


class Step(Spec):
    """One piece of work, done by one agent."""

    name: str
    """Unique within the workflow."""
    agent: str
    """The name of the Agent that does it."""
    depends_on: list[str] | None = None
    """Steps that must have succeeded before."""
    input: dict[str, Any] | None = None
    """What the agent is given; `{{ .input.x }}` and `{{ .steps.y.output.z }}` are replaced."""
    output: list[StepOutput] | None = None
    """Values taken out of the result, for other steps."""
    timeout: Duration | None = None
    """How long one attempt may take."""
    retries: Count | None = None
    """How often it is tried again; `errorHandling.maxRetries` where nothing is written."""
    parallel: bool = False
    """Whether it may run beside other steps that are ready."""


class Webhook(Spec):
    """A URL that is called."""

    url: Url | None = None
    """The URL, where it is no secret."""
    secret_ref: SecretKeyRef | None = None
    """The Secret key that holds the URL."""


class NotificationChannel(Spec):
    """Where people are told."""

    type: Literal["slack", "webhook"]
    """slack: a message; webhook: JSON."""
    webhook: Webhook
    """The URL that is called."""


class ErrorHandling(Spec):
    """What happens when something fails."""

    on_step_failure: Literal["retry", "fail", "continue"] = "fail"
    """retry: up to maxRetries times, then fail; fail: the run ends; continue: steps that need it are skipped."""
    max_retries: Count = 3
    """Attempts after the first, for steps that don't say."""
    on_workflow_failure: Literal["notify", "none"] = "none"
    """Whether people are told when a run has failed."""
    notification_channel: NotificationChannel | None = None
    """Where people are told."""


class Concurrency(Spec):
    """How many runs of this workflow there may be at once."""

    max_concurrent: Positive = 10
    """Runs at once."""
    policy: Literal["queue", "reject", "replace"] = "queue"
    """What happens to one more: it waits, is refused, or the oldest is cancelled."""


class WorkflowSpec(Spec):
    """Steps, what goes in and what comes out."""

    display_name: str | None = None
    """A name for people."""
    description: str | None = None
    """What the workflow does."""
    input: list[Parameter] = Field(default_factory=list)
    """What a run is given."""
    steps: list[Step]
    """The work; a step begins when the steps it depends on have succeeded."""
    output: dict[str, Any] | None = None
    """What a run returns; references are replaced as in a step's input."""
    error_handling: ErrorHandling | None = None
    """What happens when something fails."""
    timeout: Duration | None = None
    """How long a run may take."""
    concurrency: Concurrency | None = None
    """How many runs there may be at once."""


class Workflow(Resource):
    """A graph of steps that agents carry out; a WorkflowRun runs it."""

    listing = Listing(
        "workflows",
        short=("wf",),
        columns=(
            Column("Description", ".spec.description", priority=1),
            Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        ),
    )

    api_version: str = NATIVE
    kind: Literal["Workflow"] = "Workflow"
    spec: WorkflowSpec

    def check(self) -> Iterator[Problem]:
        """Steps and their graph, inputs, and every reference."""
        spec = self.spec
        yield from check_parameters(spec.input, "spec.input")
        if not spec.steps:
            yield Problem("InvalidValue", "a workflow needs at least one step", fix="add a step", path="spec.steps")
        yield from _check_steps(spec.steps)
        cycle = find_cycle({step.name: step.depends_on or [] for step in spec.steps})
        if cycle:
            first = next(number for number, step in enumerate(spec.steps) if step.name == cycle[0])
            yield Problem(
                "DependencyCycle",
                f"these steps wait for each other: {' → '.join(cycle)}",
                fix="take one of them out of the other's dependsOn",
                path=f"spec.steps[{first}].dependsOn",
            )
        yield from _check_references(spec)
        handling = spec.error_handling
        if handling and handling.on_workflow_failure == "notify" and handling.notification_channel is None:
            yield Problem(
                "MissingField",
                "onWorkflowFailure: notify needs a channel",
                fix="add notificationChannel",
                path="spec.errorHandling",
            )
        channel = handling.notification_channel if handling else None
        if channel and (channel.webhook.url is None) == (channel.webhook.secret_ref is None):
            yield Problem(
                "ConflictingFields",
                "a webhook needs exactly one of url and secretRef",
                fix="keep one of the two",
                path="spec.errorHandling.notificationChannel.webhook",
            )


def _check_steps(steps: list[Step]) -> Iterator[Problem]:
    names = [step.name for step in steps]
    for number, step in enumerate(steps):
        path = f"spec.steps[{number}]"
        if step.name in names[:number]:
            yield Problem(
                "DuplicateName",
                f"the step {step.name} is declared twice",
                fix="rename one of the two",
                path=f"{path}.name",
            )
        if not DNS_LABEL.fullmatch(step.name):
            yield Problem(
                "InvalidName",
                f"{step.name!r} can't be a step's name",
                fix="use lower-case letters, digits and -, at most 63 of them",
                path=f"{path}.name",
            )
        for position, dependency in enumerate(step.depends_on or ()):
            here = f"{path}.dependsOn[{position}]"
            if dependency == step.name:
                yield Problem("SelfReference", f"{step.name} can't wait for itself", fix="remove it", path=here)
            elif dependency not in names:
                yield Problem(
                    "UnknownStep",
                    f"there is no step {dependency}{did_you_mean(dependency, names)}",
                    fix=f"name one of {', '.join(names)}",
                    path=here,
                )
        yield from _check_outputs(step.output or [], path)


def _check_outputs(outputs: list[StepOutput], path: str) -> Iterator[Problem]:
    seen: set[str] = set()
    for position, output in enumerate(outputs):
        here = f"{path}.output[{position}]"
        if output.name in seen:
            yield Problem(
                "DuplicateName", f"the output {output.name} is declared twice", fix="rename one", path=f"{here}.name"
            )
        seen.add(output.name)
        if not output.path.startswith("."):
            yield Problem(
                "InvalidValue",
                f"a path begins with a point, got {output.path!r}",
                fix=f"write .{output.path}",
                path=f"{here}.path",
            )


def find_cycle(graph: dict[str, list[str]]) -> list[str]:
    """The first cycle of two or more steps, its first name repeated at the end; empty where there is none."""
    done: set[str] = set()
    for start in graph:
        trail: list[str] = []
        stack: list[tuple[str, int]] = [(start, 0)]
        while stack:
            name, position = stack.pop()
            if position == 0:
                if name in done:
                    continue
                trail.append(name)
            followers = [other for other in graph[name] if other in graph and other != name]
            if position == len(followers):
                trail.pop()
                done.add(name)
                continue
            stack.append((name, position + 1))
            follower = followers[position]
            if follower in trail:
                return [*trail[trail.index(follower) :], follower]
            stack.append((follower, 0))
    return []


def ancestors(steps: list[Step]) -> dict[str, set[str]]:
    """Every step -> the steps that have surely succeeded when it begins. Bears cycles and unknown names."""
    graph = {step.name: set(step.depends_on or ()) for step in steps}
    found: dict[str, set[str]] = {}
    for name in graph:
        seen: set[str] = set()
        todo = [name]
        while todo:
            for parent in graph.get(todo.pop(), set()) - seen:
                seen.add(parent)
                todo.append(parent)
        found[name] = seen
    return found


def _check_references(spec: WorkflowSpec) -> Iterator[Problem]:
    before = ancestors(spec.steps)
    for number, step in enumerate(spec.steps):
        for path, text in texts(step.input or {}, f"spec.steps[{number}].input"):
            yield from _check_text(spec, text, path, step.name, before[step.name])
    for path, text in texts(spec.output or {}, "spec.output"):
        yield from _check_text(spec, text, path, "", {step.name for step in spec.steps})


def _check_text(spec: WorkflowSpec, text: str, path: str, step: str, before: set[str]) -> Iterator[Problem]:
    inputs = [parameter.name for parameter in spec.input]
    outputs = {other.name: [output.name for output in other.output or ()] for other in spec.steps}
    for reference in references(text):
        if isinstance(reference, Broken):
            yield Problem(
                "InvalidReference",
                f"{{{{ {reference.text} }}}} is no reference",
                fix="write {{ .input.NAME }} or {{ .steps.STEP.output.NAME }}",
                path=path,
            )
        elif not reference.step:
            if reference.name not in inputs:
                yield _unknown("UnknownInput", f"input {reference.name}", reference.name, inputs, path)
        elif reference.step not in outputs:
            yield _unknown("UnknownStep", f"step {reference.step}", reference.step, list(outputs), path)
        elif step and reference.step not in before:
            yield Problem(
                "NotAnAncestor",
                f"{step} uses the output of {reference.step} and doesn't wait for it",
                fix=f"add {reference.step} to the dependsOn of {step}"
                if reference.step != step
                else "use another step's output",
                path=path,
            )
        elif reference.name and reference.name not in outputs[reference.step]:
            known = outputs[reference.step]
            yield _unknown(
                "UnknownOutput", f"output {reference.name} of step {reference.step}", reference.name, known, path
            )


def _unknown(reason: str, what: str, name: str, known: list[str], path: str) -> Problem:
    fix = f"name one of {', '.join(known)}" if known else "declare it"
    return Problem(reason, f"there is no {what}{did_you_mean(name, known)}", fix=fix, path=path)
