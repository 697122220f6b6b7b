"""From a model's plan to the adapter that speaks to it; only that adapter is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aiohttp

from kadre.base.problems import Source
from kadre.engine.models.http import Wire
from kadre.engine.models.port import Model
from kadre.engine.secrets import SecretReader
from kadre.plan.types import ModelPlan

Rules = Callable[[str], list[Any]]
"""Reads the scripted model's rules: path -> plain data. Raises ProblemError."""


def build(plan: ModelPlan, secrets: SecretReader, http: aiohttp.ClientSession, rules: Rules) -> Model:
    """The model, connected to when it is first called. Raises ProblemError where its plan cannot be carried out."""
    match plan.provider:
        case "scripted":
            from kadre.engine.models.scripted import Scripted
            from kadre.engine.models.scripted_rules import parse_rules

            read = parse_rules(rules(plan.rules), Source(plan.rules)) if plan.rules else ()
            return Scripted(read, timeout=plan.timeout)
        case "anthropic":
            from kadre.engine.models.anthropic import AnthropicModel

            return _with_tools(plan, AnthropicModel(plan, secrets, Wire(http, plan.timeout)))
        case "bedrock":
            from kadre.engine.models.bedrock import BedrockModel

            return _with_tools(plan, BedrockModel(plan, secrets, Wire(http, plan.timeout)))
        case "local":
            from kadre.engine.models.local import LocalModel, embedded

            return LocalModel(plan, http, embedded())
        case _:
            from kadre.engine.models.openai import OpenAIModel

            return _with_tools(plan, OpenAIModel(plan, secrets, Wire(http, plan.timeout)))


def _with_tools(plan: ModelPlan, model: Model) -> Model:
    """The model with the tool calls its plan asks for: its API's own, the shim's, or whichever works."""
    if plan.tool_calls == "native":
        return model
    from kadre.engine.models.shim import Fallback, Shim

    return Shim(model) if plan.tool_calls == "shim" else Fallback(model, Shim(model))
