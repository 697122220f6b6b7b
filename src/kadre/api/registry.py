"""Every kind Kadre knows, by API version and kind."""

from __future__ import annotations

from kadre.api.dialects.kaos import KaosAgent, MCPServer, ModelAPI
from kadre.api.kinds.agent import Agent
from kadre.api.kinds.agent_template import AgentTemplate
from kadre.api.kinds.memory_store import MemoryStore
from kadre.api.kinds.model_config import ModelConfig
from kadre.api.kinds.tool import Tool
from kadre.api.kinds.workflow import Workflow
from kadre.api.kinds.workflow_run import WorkflowRun
from kadre.api.resource import KAOS, NATIVE, Resource

KINDS: dict[tuple[str, str], type[Resource]] = {
    (NATIVE, "Agent"): Agent,
    (NATIVE, "AgentTemplate"): AgentTemplate,
    (NATIVE, "ModelConfig"): ModelConfig,
    (NATIVE, "Tool"): Tool,
    (NATIVE, "MemoryStore"): MemoryStore,
    (NATIVE, "Workflow"): Workflow,
    (NATIVE, "WorkflowRun"): WorkflowRun,
    (KAOS, "Agent"): KaosAgent,
    (KAOS, "ModelAPI"): ModelAPI,
    (KAOS, "MCPServer"): MCPServer,
}
"""(apiVersion, kind) -> the class of its objects."""

GROUPS = tuple(sorted({version.partition("/")[0] for version, _ in KINDS}))
"""The API groups that are ours: an unknown kind of theirs is a mistake, not somebody else's object."""
