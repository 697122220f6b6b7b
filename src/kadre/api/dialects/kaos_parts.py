"""Parts of the KAOS kinds: what each may say of its pods, an agent's settings, and status in KAOS's own shape."""

from collections.abc import Iterator
from typing import Any, Literal

from kadre.api.parts import (
    AgentReference,
    Count,
    Duration,
    EnvVar,
    Positive,
    ResourceRequirements,
    UrlOrNothing,
    check_resources,
)
from kadre.api.resource import Condition, Spec
from kadre.base.problems import Problem


class GatewayRoute(Spec):
    """Routing through the gateway."""

    timeout: Duration | None = None
    """How long a request may take, e.g. 120s; 0s: no limit of its own."""
    retries: Count | None = None
    """How often a request that was not begun is sent again."""


class Container(Spec):
    """What differs from the container that would be made."""

    image: str | None = None
    """The container image."""
    command: list[str] | None = None
    """The program."""
    args: list[str] | None = None
    """Its arguments."""
    resources: ResourceRequirements | None = None
    """CPU and memory."""
    env: list[EnvVar] | None = None
    """Environment variables."""


class Telemetry(Spec):
    """OpenTelemetry."""

    enabled: bool | None = None
    """Whether traces and metrics are sent."""
    endpoint: UrlOrNothing | None = None
    """URL of the OTLP collector."""


class Workload(Spec):
    """What each of the three kinds may say of its pods."""

    gateway_route: GatewayRoute | None = None
    """Routing through the gateway."""
    container: Container | None = None
    """What differs from the container that would be made."""
    replicas: Count | None = None
    """Pods that run; 1 where nothing is written."""
    resources: ResourceRequirements | None = None
    """CPU and memory of the container."""
    pod_spec: dict[str, Any] | None = None
    """Merged into the pod that is made, as a strategic merge patch."""


class KaosMemory(Spec):
    """What the agent remembers."""

    enabled: bool | None = None
    """Whether it remembers conversations; true where nothing is written."""
    type: Literal["local", "redis", "remote"] | None = None
    """local: beside the agent."""
    context_limit: Positive | None = None
    """Messages of the conversation that are passed on when work is handed to another agent."""
    max_sessions: Positive | None = None
    """Sessions that are kept."""
    max_session_events: Positive | None = None
    """Events of a session that are kept."""
    memory_store: str | None = None
    """The name of a MemoryStore."""


class AgenticLoop(Spec):
    """The reasoning loop, as KAOS spelled it first."""

    max_steps: Positive | None = None
    """The same as reasoningLoopMaxSteps."""
    enable_tools: bool | None = None
    """Whether tools are used; true where nothing is written."""
    enable_delegation: bool | None = None
    """Whether work is handed to other agents; true where nothing is written."""


class Autonomous(Spec):
    """Work without being asked."""

    goal: str | None = None
    """What the agent works towards from its start."""
    interval_seconds: Count | None = None
    """Seconds between two rounds."""
    max_iter_runtime_seconds: Count | None = None
    """Seconds one round may take."""


class TaskLimits(Spec):
    """Bounds of one task."""

    max_iterations: Count | None = None
    """Model calls."""
    max_runtime_seconds: Count | None = None
    """Seconds."""
    max_tool_calls: Count | None = None
    """Tool calls."""


class KaosStatus(Spec):
    """What the controller reports, in KAOS's own shape."""

    phase: Literal["Pending", "Ready", "Failed", "Waiting"] | None = None
    """Pending, Ready, Failed or Waiting."""
    ready: bool | None = None
    """Whether it can be used."""
    endpoint: str | None = None
    """Its address inside the cluster."""
    message: str | None = None
    """Why it is in this phase."""
    observed_generation: int | None = None
    """The generation of the spec that this status describes."""
    conditions: list[Condition] | None = None
    """Aspects of the object's state."""
    deployment: dict[str, Any] | None = None
    """The Deployment's own status, in short."""


class KaosAgentStatus(KaosStatus):
    """What the controller reports of an Agent."""

    linked_resources: dict[str, str] | None = None
    """What the agent uses."""
    plan_hash: str | None = None
    """The plan that was applied last."""
    model: str | None = None
    """The provider and the model that it asks."""
    delegates: list[AgentReference] | None = None
    """The agents that its pods may ask, by which the gateway knows: those its plan hands work to."""


class InstalledPackage(Spec):
    """A package, as it was asked for and as it was found."""

    requested: str | None = None
    """What the spec asked for."""
    version: str | None = None
    """What it was resolved to first, as `NAME==VERSION`: it is kept until the spec asks for another."""


class McpServerStatus(KaosStatus):
    """What the controller reports of an MCPServer."""

    available_tools: list[str] | None = None
    """The tools the server offers."""
    package: InstalledPackage | None = None
    """The package that is run, where it is one."""


def check_workload(spec: Workload) -> Iterator[Problem]:
    """What is wrong with what an object says of its pods."""
    yield from check_resources(spec.resources, "spec.resources")
    if spec.container is not None:
        yield from check_resources(spec.container.resources, "spec.container.resources")
