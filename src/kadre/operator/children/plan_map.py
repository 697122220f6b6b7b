"""The ConfigMap that carries an agent's plan: one a plan, and never changed."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import msgspec

from kadre.base.problems import Problem
from kadre.kube.kinds import CONFIG_MAP, Object
from kadre.operator.children import pools
from kadre.operator.children.common import Child, Owner
from kadre.plan.build import Planned
from kadre.plan.types import AgentPlan, ModelPlan

KEY = "plan.json"
HASH_LENGTH = 10
LIMIT = 1 << 20
"""Bytes of all values in a ConfigMap that a cluster takes."""


def encoded(plan: AgentPlan) -> bytes:
    """The plan as the agent's process reads it. What only the cluster uses is in the Deployment."""
    return msgspec.json.encode(msgspec.structs.replace(plan, workload={}), order="deterministic")


def fitting(planned: Planned) -> Planned:
    """The same where its plan fits into a ConfigMap; else without it, and a Problem that says so."""
    plan = planned.plan
    size = len(encoded(plan)) if plan is not None else 0
    if plan is None or size <= LIMIT:
        return planned
    problem = replace(_too_large("the agent's plan", size), resource=f"Agent {plan.key.namespace}/{plan.key.name}")
    return msgspec.structs.replace(planned, plan=None, problems=(*planned.problems, problem))


def prompt_problem(prompt: str, path: str) -> Problem | None:
    """A prompt with which no plan would fit, whatever else is in it; None for one that does. `path`: of its field."""
    size = len(msgspec.json.encode(prompt.strip()))
    return replace(_too_large("the prompt alone", size), path=path) if size > LIMIT else None


def _too_large(what: str, size: int) -> Problem:
    message = f"{what} takes {size} bytes, and a cluster keeps at most {LIMIT} of them in a ConfigMap"
    fix = (
        "shorten the prompt (spec.systemMessage or spec.systemPrompt, of its templates too); a tool can look things up"
    )
    return Problem("PlanTooLarge", message, fix, path="spec")


class _Model(msgspec.Struct):
    provider: str
    model: str


class _Plan(msgspec.Struct):
    model: _Model


_PLAN = msgspec.json.Decoder(_Plan)


def told(model: _Model | ModelPlan) -> str:
    """A model as people are told of it."""
    return f"{model.provider}/{model.model}"


def model_of(config_map: Object) -> str:
    """The model of the plan that is in a ConfigMap, as people are told of it; empty where there is none."""
    try:
        return told(_PLAN.decode(config_map["data"][KEY]).model)
    except (KeyError, TypeError, msgspec.MsgspecError):
        return ""


def decoded(config_map: Object) -> AgentPlan | None:
    """The plan that is in a ConfigMap; None where there is none that can be read."""
    try:
        return msgspec.json.decode(config_map["data"][KEY], type=AgentPlan)
    except (KeyError, TypeError, msgspec.MsgspecError):
        return None


def digest_of(config_map: Object) -> str:
    """The SHA-256 of the plan that is in a ConfigMap, whatever its name; empty where there is none."""
    text = (config_map.get("data") or {}).get(KEY)
    return hashlib.sha256(text.encode()).hexdigest() if text else ""


def digest(plan: AgentPlan) -> str:
    """The SHA-256 of the plan."""
    return hashlib.sha256(encoded(plan)).hexdigest()


def hash_of(digest: str) -> str:
    """The hash of the plan of that SHA-256."""
    return digest[:HASH_LENGTH]


def plan_hash(plan: AgentPlan) -> str:
    """Names the plan: the same one has the same hash, whenever and wherever it was made."""
    return hash_of(digest(plan))


def name_of(plan: AgentPlan) -> str:
    """The ConfigMap's name."""
    return f"{plan.key.name}-{plan_hash(plan)}"


def plan_map(owner: Owner) -> Child:
    """The ConfigMap."""
    plan = owner.plan
    manifest = {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.kind,
        "metadata": owner.metadata(name_of(plan), pools.labels(owner.pools)),
        "immutable": True,
        "data": {KEY: encoded(plan).decode()},
    }
    return Child(CONFIG_MAP, manifest)
