"""The ConfigMap that carries an agent's plan: one a plan, and never changed."""

from __future__ import annotations

import hashlib

import msgspec

from kadre.kube.kinds import CONFIG_MAP, Object
from kadre.operator.children.common import Child, Owner
from kadre.plan.types import AgentPlan, ModelPlan

KEY = "plan.json"
HASH_LENGTH = 10


def encoded(plan: AgentPlan) -> bytes:
    """The plan as the agent's process reads it. What only the cluster uses is in the Deployment."""
    return msgspec.json.encode(msgspec.structs.replace(plan, workload={}), order="deterministic")


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


def plan_hash(plan: AgentPlan) -> str:
    """Names the plan: the same one has the same hash, whenever and wherever it was made."""
    return hashlib.sha256(encoded(plan)).hexdigest()[:HASH_LENGTH]


def name_of(plan: AgentPlan) -> str:
    """The ConfigMap's name."""
    return f"{plan.key.name}-{plan_hash(plan)}"


def plan_map(owner: Owner) -> Child:
    """The ConfigMap."""
    plan = owner.plan
    manifest = {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.kind,
        "metadata": owner.metadata(name_of(plan)),
        "immutable": True,
        "data": {KEY: encoded(plan).decode()},
    }
    return Child(CONFIG_MAP, manifest)
