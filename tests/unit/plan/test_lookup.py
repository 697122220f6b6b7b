"""What a plan can see of objects in memory."""

from __future__ import annotations

from collections.abc import Callable

from kadre.api import manifest
from kadre.api.dialects.kaos import KaosAgent
from kadre.api.kinds.agent import Agent
from kadre.plan.build import plan_all
from kadre.plan.lookup import Resources, find
from kadre.plan.types import KAOS_GROUP, NATIVE_GROUP, SecretRef

TEXT = """
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: a}
spec: {modelConfig: m}
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: {name: a}
spec: {modelAPI: m}
"""


def test_two_agents_of_one_name_are_told_apart_by_their_group(lookup: Callable[..., Resources]) -> None:
    look = lookup(TEXT)
    assert isinstance(look.get("Agent", "default", "a", NATIVE_GROUP), Agent)
    assert isinstance(look.get("Agent", "default", "a", KAOS_GROUP), KaosAgent)
    assert find(look, Agent, "default", "a") is not None
    assert find(look, KaosAgent, "default", "a") is not None
    assert find(look, Agent, "elsewhere", "a") is None


def test_a_secret_is_in_its_document_or_in_its_variable() -> None:
    look = Resources([], {("ns", "s"): {"k"}}, {"SET": "x", "EMPTY": ""})
    assert look.secret(SecretRef(namespace="ns", name="s", key="k")) == "found"
    assert look.secret(SecretRef(namespace="ns", name="s", key="other")) == "no-key"
    assert look.secret(SecretRef(namespace="ns", name="s", key="other", env="SET")) == "found"
    assert look.secret(SecretRef(namespace="other", name="s", key="k")) == "missing"
    assert look.secret(SecretRef(env="SET")) == "found"
    assert look.secret(SecretRef(env="EMPTY")) == "missing"
    assert look.secret(SecretRef()) == "missing"


def test_a_reference_to_a_rejected_object_is_broken_and_not_missing() -> None:
    loaded = manifest.load(TEXT.split("---")[0], "agents.yaml")
    look = Resources(loaded.resources, rejected={("ModelConfig", "default", "m")})
    (problem,) = plan_all(look).problems
    assert problem.reason == "BrokenReference"
    assert "mend m" in problem.fix
