"""Which model sums up an agent's long conversations, and when."""

from __future__ import annotations

import msgspec

from kadre.api.kinds.model_config import ModelConfig
from kadre.plan import memory, models
from kadre.plan.draft import Draft
from kadre.plan.lookup import find
from kadre.plan.types import CompressionPlan, MemoryPlan, ModelPlan
from kadre.plan.work import Work


def compressed(work: Work, draft: Draft, kept: MemoryPlan, model: ModelPlan | None) -> MemoryPlan:
    """The memory with its compression, where the author wants it. `model`: the agent's own."""
    place, policy = memory.policy(work, draft)
    wanted = policy.compression if policy is not None else None
    if wanted is None or not wanted.enabled:
        return kept
    threshold = wanted.threshold or CompressionPlan().threshold
    if threshold > kept.max_history:
        message = (
            f"a conversation is to be summed up from {threshold} messages on, and the model is told {kept.max_history}"
            f" at most: it is summed up from {kept.max_history} on, before any are left out"
        )
        fix = f"lower it to {kept.max_history} or less, or raise maxConversationHistory"
        work.problem(place.below("compression.threshold"), "UnreachableThreshold", message, fix, "warning")
        threshold = max(kept.max_history, 1)
    summarizer = None if wanted.model is None else _model(work, draft, wanted.model, model)
    return msgspec.structs.replace(kept, compression=CompressionPlan(threshold=threshold, model=summarizer))


def _model(work: Work, draft: Draft, name: str, own: ModelPlan | None) -> ModelPlan | None:
    """A ModelConfig of that name, else the agent's provider's model of that name."""
    if work.override.model is not None or own is None:
        return None
    config = find(work.lookup, ModelConfig, draft.resource.namespace, name)
    if config is not None:
        return models.config_plan(work, config)
    return msgspec.structs.replace(own, model=name) if name != own.model else None
