"""Where an agent's pod finds secret values, and nowhere else."""

from __future__ import annotations

from kadre.operator.children.secrets import references, volumes, without_variables
from kadre.plan.types import AgentKey, AgentPlan, McpTools, ModelPlan, SecretRef

KEY = SecretRef(namespace="team", name="openai", key="key", env="OPENAI_API_KEY", exported=True)
TOKEN = SecretRef(namespace="team", name="tools", key="token", env="TOOLS_TOKEN")


def plan(key: SecretRef | None = KEY) -> AgentPlan:
    tools = McpTools(name="orders", url="http://orders", secret_headers={"Authorization": TOKEN})
    model = ModelPlan(provider="openai", model="m", api_key=key)
    return AgentPlan(key=AgentKey("team", "helper"), model=model, tools=(tools,))


def test_a_plan_for_a_cluster_names_no_place_of_a_laptop() -> None:
    made = without_variables(plan())
    assert made.model.api_key == SecretRef(namespace="team", name="openai", key="key")
    (tools,) = made.tools
    assert isinstance(tools, McpTools)
    assert tools.secret_headers["Authorization"] == SecretRef(namespace="team", name="tools", key="token")
    assert without_variables(made) is made


def test_each_secret_is_a_folder_with_the_keys_that_are_used() -> None:
    assert references(plan()) == {"openai": ["key"], "tools": ["token"]}
    made, mounts = volumes(plan())
    assert [volume["secret"]["secretName"] for volume in made] == ["openai", "tools"]
    assert all(volume["secret"]["optional"] for volume in made)
    assert [mount["mountPath"] for mount in mounts] == ["/var/run/kadre/secrets/openai", "/var/run/kadre/secrets/tools"]


def test_a_secret_of_another_namespace_is_not_mounted() -> None:
    assert references(plan(SecretRef(namespace="other", name="openai", key="key"))) == {"tools": ["token"]}
