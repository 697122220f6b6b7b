"""Plans as logs and debuggers show them."""

from __future__ import annotations

from kadre.local.resolved import Resolved, SecretValues
from kadre.plan.types import AgentKey, AgentPlan, LaunchPlan, McpTools, ModelPlan, Override, SecretRef

SECRET = "sk-very-secret"


def test_what_authors_hide_in_plans_is_not_shown() -> None:
    launch = LaunchPlan(
        kind="command", command=("serve", f"--token={SECRET}"), source=f"KEY = {SECRET!r}", env={"TOKEN": SECRET}
    )
    address = f"https://user:{SECRET}@host/mcp?key={SECRET}"
    model = ModelPlan(provider="openai", model="gpt", endpoint=address, headers={"Authorization": SECRET})
    plan = AgentPlan(
        key=AgentKey("default", "a"),
        model=model,
        tools=(McpTools(name="t", url=address, launch=launch, headers={"X-Key": SECRET}),),
        workload={"env": [{"name": "TOKEN", "value": SECRET}]},
    )
    override = Override(model=model)
    values = SecretValues("default", "s", {"key": SECRET})
    for shown in (repr(plan), str(plan), f"{plan.model} {launch}", repr([plan, override]), repr(values)):
        assert SECRET not in shown
    for kept in ("gpt", "Authorization", "X-Key", "TOKEN", "https://host/mcp", "env", "serve"):
        assert kept in repr(plan)


def test_what_was_resolved_shows_none_of_its_surroundings() -> None:
    resolved = Resolved(
        plans=[],
        problems=[],
        kinds={},
        ignored=[],
        folders=[],
        files=[],
        secrets=[SecretValues("default", "s", {"key": SECRET})],
        env={"A": SECRET},
        exported={"B": SECRET},
        fingerprint="",
    )
    assert SECRET not in repr(resolved)


def test_where_a_secret_is_to_be_read_is_shown() -> None:
    ref = SecretRef(namespace="n", name="s", key="k")
    assert repr(ref) == "SecretRef(namespace='n', name='s', key='k')"
