"""The tools of an agent."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kadre.base.problems import errors
from kadre.plan.build import AllPlanned
from kadre.plan.types import A2aTool, AgentPlan, CodeTool, LaunchPlan, McpTools, SecretRef, UnsupportedTool

Plan = Callable[..., AllPlanned]

MODEL = "model: {provider: ollama, name: qwen3}"
KAOS = """
---
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: {name: api}
spec: {mode: Hosted, hostedConfig: {model: m}}
"""


def document(kind: str, name: str, spec: str, group: str = "kagent.dev") -> str:
    return f"""
---
apiVersion: {group}/v1alpha1
kind: {kind}
metadata: {{name: {name}}}
spec: {spec}
"""


def agent(tools: str) -> str:
    return document("Agent", "helper", f"{{{MODEL}, tools: {tools}}}")


def server(name: str, config: str, kind: str = "python-runtime") -> str:
    return document("MCPServer", name, f"{{type: {kind}, config: {config}}}", "kaos.tools")


def helper(result: AllPlanned) -> AgentPlan:
    assert not errors(result.problems), result.problems
    return next(plan for key, plan in result.plans.items() if key.name == "helper")


def reasons(result: AllPlanned) -> list[str]:
    return [problem.reason for problem in result.problems]


def test_an_endpoint_is_a_server_nobody_vouched_for(planned: Plan) -> None:
    text = agent("[{name: k, endpoint: 'http://k:80', capabilities: [read], transport: sse, timeout: 5s}]")
    assert helper(planned(text)).tools == (
        McpTools(name="k", url="http://k:80", transport="sse", capabilities=("read",), timeout=5.0),
    )


def test_a_bare_name_is_a_tool_before_a_server_before_a_service(planned: Plan) -> None:
    tool = document("Tool", "x", "{type: mcp, mcp: {endpoint: 'http://tool/mcp'}}")
    mcp = server("x", "{mcp: some-package}")
    service = "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {}\n"
    plan = helper(planned(tool + mcp + service + agent("[x]")))
    assert plan.tools == (McpTools(name="x", url="http://tool/mcp", granted=True),)
    plan = helper(planned(mcp + service + agent("[{name: x}]")))
    assert plan.tools == (McpTools(name="x", launch=LaunchPlan(kind="package", package="some-package"), granted=True),)
    plan = helper(planned(service + agent("[x]")))
    assert plan.tools == (McpTools(name="x", url="http://x.default:80"),)


def test_a_name_that_is_nothing_is_a_problem_with_the_nearest(planned: Plan) -> None:
    tool = document("Tool", "search", "{type: mcp, mcp: {endpoint: 'http://tool/mcp'}}")
    (problem,) = planned(tool + agent("[serch]")).problems
    assert problem.reason == "MissingTool"
    assert "did you mean search?" in problem.message
    assert "endpoint:" in problem.fix


def test_a_references_capabilities_come_before_its_tools(planned: Plan) -> None:
    tool = document("Tool", "x", "{type: mcp, mcp: {endpoint: 'http://t'}, capabilities: [read, write]}")
    (kept,) = helper(planned(tool + agent("[x]"))).tools
    (narrowed,) = helper(planned(tool + agent("[{name: x, capabilities: [read]}]"))).tools
    assert isinstance(kept, McpTools)
    assert isinstance(narrowed, McpTools)
    assert (kept.capabilities, narrowed.capabilities) == (("read", "write"), ("read",))


def test_how_often_a_call_is_tried_again_is_its_authors_to_say(planned: Plan) -> None:
    tool = document("Tool", "x", "{type: mcp, mcp: {endpoint: 'http://t', retries: 0, timeout: 5s}, idempotent: true}")
    assert helper(planned(tool + agent("[x]"))).tools == (
        McpTools(name="x", url="http://t", granted=True, retries=0, timeout=5.0, idempotent=True),
    )


def test_a_tool_that_is_a_command_is_launched_with_its_environment(planned: Plan) -> None:
    spec = (
        "{type: mcp, mcp: {command: [server, --stdio], env: [{name: MODE, value: fast}, "
        "{name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}]}}"
    )
    (tool,) = helper(planned(document("Tool", "x", spec) + agent("[x]"), {"KEYS_TOKEN": "t"})).tools
    ref = SecretRef(namespace="default", name="keys", key="token", env="KEYS_TOKEN")
    launch = LaunchPlan(kind="command", command=("server", "--stdio"), env={"MODE": "fast"}, secret_env={"TOKEN": ref})
    assert tool == McpTools(name="x", launch=launch, granted=True)


def test_a_secret_header_that_is_missing_is_told_at_its_tool(planned: Plan) -> None:
    spec = "{type: mcp, mcp: {endpoint: 'http://t', secretHeaders: {Authorization: {name: keys, key: token}}}}"
    (problem,) = planned(document("Tool", "x", spec) + agent("[x]")).problems
    assert (problem.reason, problem.resource) == ("MissingSecret", "Tool default/x")
    assert problem.path == "spec.mcp.secretHeaders.Authorization"


@pytest.mark.parametrize(
    ("kind", "section"),
    [
        ("retrieval", "retrieval: {vectorStore: {type: qdrant, secretRef: {name: gone, key: k}}}"),
    ],
)
def test_a_type_that_is_not_built_yet_is_left_out_and_says_so(planned: Plan, kind: str, section: str) -> None:
    for text in (
        document("Tool", "x", f"{{type: {kind}, {section}}}") + agent("[x]"),
        agent(f"[{{name: x, type: {kind}, config: {section.partition(': ')[2]}}}]"),
    ):
        result = planned(text)
        plan = helper(result)
        (tool,) = plan.tools
        assert isinstance(tool, UnsupportedTool)
        assert (tool.name, tool.type) == ("x", kind)
        assert [notice.reason for notice in plan.notices] == ["NotSupportedYet"]
        assert {problem.severity for problem in result.problems} <= {"warning"}
        assert set(reasons(result)) <= {"MissingSecret"}


@pytest.mark.requirement("tool-code")
def test_code_is_planned_with_its_time(planned: Plan) -> None:
    plan = helper(
        planned(document("Tool", "x", "{type: code, description: Sums., code: {timeout: 5s}}") + agent("[x]"))
    )
    assert plan.tools == (CodeTool(name="x", description="Sums.", timeout=5.0),)
    assert helper(planned(agent("[{name: x, type: code}]"))).tools == (CodeTool(name="x"),)


def test_two_tools_of_one_name_are_a_problem_that_names_both_places(planned: Plan) -> None:
    servers = server("archive", "{mcp: a}")
    target = document("Agent", "archive", f"{{{MODEL}}}")
    both = document("Agent", "helper", f"{{{MODEL}, tools: [archive], agents: [archive]}}")
    (problem,) = planned(servers + target + both).problems
    assert (problem.reason, problem.path) == ("DuplicateTool", "spec.agents[0]")
    assert "spec.tools[0]" in problem.message


def kaos_agent(spec: str) -> str:
    return KAOS + document("Agent", "helper", f"{{modelAPI: api, {spec}}}", "kaos.tools")


@pytest.mark.parametrize(
    ("config", "kind", "launch"),
    [
        ("{mcp: pkg}", "python-runtime", LaunchPlan(kind="package", package="pkg")),
        ("{tools: {fromPackage: pkg}}", "python-runtime", LaunchPlan(kind="package", package="pkg")),
        ("{tools: {fromString: 'def f(): pass'}}", "python-runtime", LaunchPlan(kind="source", source="def f(): pass")),
        ("{mcp: '@x/pkg'}", "node-runtime", LaunchPlan(kind="command", command=("npx", "--yes", "@x/pkg"))),
    ],
)
def test_a_server_is_launched_and_naming_it_allows_what_it_offers(
    planned: Plan, config: str, kind: str, launch: LaunchPlan
) -> None:
    plan = helper(planned(server("tools", config, kind) + kaos_agent("mcpServers: [tools]")))
    assert plan.tools == (McpTools(name="tools", launch=launch, granted=True),)


@pytest.mark.parametrize(
    ("config", "kind"),
    [("{image: x}", "custom"), ("{tools: {fromSecretKeyRef: {name: code, key: py}}}", "python-runtime")],
)
def test_a_server_that_cannot_be_launched_yet_is_left_out(planned: Plan, config: str, kind: str) -> None:
    plan = helper(planned(server("tools", config, kind) + kaos_agent("mcpServers: [tools]")))
    assert [type(tool) for tool in plan.tools] == [UnsupportedTool]
    assert [notice.reason for notice in plan.notices] == ["NotSupportedYet"]


def test_a_missing_server_is_a_problem(planned: Plan) -> None:
    (problem,) = planned(server("tools", "{mcp: a}") + kaos_agent("mcpServers: [tool]")).problems
    assert (problem.reason, problem.path) == ("MissingMCPServer", "spec.mcpServers[0]")
    assert "did you mean tools?" in problem.message


def test_a_servers_environment_reaches_its_launch(planned: Plan) -> None:
    config = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {mode: fast}
"""
    spec = (
        "{mcp: a, env: [{name: MODE, valueFrom: {configMapKeyRef: {name: settings, key: mode}}}, "
        "{name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}]}"
    )
    text = server("tools", spec) + kaos_agent("mcpServers: [tools]")
    (tool,) = helper(planned(config + text, {"TOKEN": "t"})).tools
    assert isinstance(tool, McpTools)
    assert tool.launch is not None
    assert tool.launch.env == {"MODE": "fast"}
    assert tool.launch.secret_env["TOKEN"].env == "TOKEN"
    assert reasons(planned(text)) == ["MissingConfigMap", "MissingSecret"]


def test_tools_that_are_switched_off_are_left_out(planned: Plan) -> None:
    text = server("tools", "{mcp: a}") + kaos_agent("mcpServers: [tools], config: {agenticLoop: {enableTools: false}}")
    assert helper(planned(text)).tools == ()


def test_a_remote_agent_is_a_tool_that_its_author_vouches_for(planned: Plan) -> None:
    spec = (
        "{type: a2a, description: Knows the weather., a2a: {endpoint: 'https://far/agents/w',"
        " headers: {x-team: a}, secretHeaders: {Authorization: {name: far, key: header}}, timeout: 20s}}"
    )
    secret = "\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: far}\nstringData: {header: x}\n"
    inline = "{name: near, type: a2a, config: {endpoint: 'http://near'}}"
    plan = helper(planned(agent(f"[the-weather.of, {inline}]") + document("Tool", "the-weather.of", spec) + secret))
    weather, near = plan.tools
    assert isinstance(weather, A2aTool)
    assert (weather.name, weather.url, weather.timeout) == ("the-weather_of", "https://far/agents/w", 20.0)
    assert (weather.description, weather.headers) == ("Knows the weather.", {"x-team": "a"})
    assert weather.secret_headers["Authorization"].name == "far"
    assert near == A2aTool(name="near", url="http://near")
