"""From a model's plan to the adapter that speaks to it; only that adapter is loaded."""

from __future__ import annotations

import aiohttp

from kadre.engine.models.http import Wire
from kadre.engine.models.port import Model
from kadre.engine.secrets import SecretReader
from kadre.plan.types import ModelPlan


def build(plan: ModelPlan, secrets: SecretReader, http: aiohttp.ClientSession) -> Model:
    """The model, connected to when it is first called."""
    from kadre.engine.models.openai import OpenAIModel

    return OpenAIModel(plan, secrets, Wire(http, plan.timeout))
