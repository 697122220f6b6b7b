"""KAOS manifests load under KAOS's own names, and say what they mean in the native kind's words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kadre.api.dialects.kaos import KaosAgent, MCPServer, ModelAPI, agent_spec
from kadre.api.manifest import Loaded

Load = Callable[..., Loaded]


def told(loaded: Loaded) -> list[tuple[str, str]]:
    return [(problem.reason, problem.path) for problem in loaded.problems]


def test_an_agent_is_said_in_native_words(load_kaos: Load) -> None:
    loaded = load_kaos(
        "Agent",
        """
        modelAPI: ollama
        model: smollm2:135m
        mcpServers: [echo]
        config:
          description: Repeats.
          instructions: Use the echo tool.
          reasoningLoopMaxSteps: 7
          env: [{name: MODEL_NAME, value: x}]
          memory: {enabled: true, contextLimit: 6, maxSessions: 10}
        agentNetwork: {expose: true, access: [other]}
        gatewayRoute: {timeout: "120s", retries: 2}
        """,
    )
    assert not loaded.problems
    [agent] = loaded.resources
    assert isinstance(agent, KaosAgent)
    assert (agent.spec.model_api, agent.spec.model, agent.spec.mcp_servers) == ("ollama", "smollm2:135m", ["echo"])
    native = agent_spec(agent.spec)
    assert (native.description, native.system_prompt, native.max_steps) == ("Repeats.", "Use the echo tool.", 7)
    assert native.timeout == 120
    assert native.agent_network is not None
    assert native.agent_network.access == ["other"]
    assert native.env is not None
    assert native.env[0].name == "MODEL_NAME"


def test_older_and_newer_fields_of_an_agent_are_understood(load_kaos: Load) -> None:
    loaded = load_kaos(
        "Agent",
        """
        modelAPI: ollama
        config:
          systemPrompt: First.
          instructions: Second.
          agenticLoop: {maxSteps: 4, enableTools: true, enableDelegation: false}
          memory: {enabled: false}
          telemetry: {enabled: true, endpoint: "http://collector:4317"}
          taskConfig: {maxToolCalls: 9, maxRuntimeSeconds: 60}
        agentNetwork: {expose: true, access: [other]}
        container: {env: [{name: A, value: b}], resources: {limits: {cpu: 1}}}
        replicas: 2
        waitForDependencies: false
        podSpec: {nodeSelector: {a: b}}
        """,
    )
    assert not loaded.problems
    [agent] = loaded.resources
    assert isinstance(agent, KaosAgent)
    native = agent_spec(agent.spec)
    assert native.system_prompt == "First.\n\nSecond."
    assert (native.max_steps, native.max_tool_calls, native.timeout, native.replicas) == (4, 9, 60, 2)
    assert native.agent_network is not None
    assert native.agent_network.access is None
    assert native.memory is not None
    assert native.memory.type == "in-memory"
    assert native.resources is not None
    assert native.resources.limits == {"cpu": "1"}


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        ("Agent", "mcpServers: [a]", [("MissingField", "spec.modelAPI")]),
        ("Agent", "modelAPI: m\nmcpServers: [a, a]", [("DuplicateName", "spec.mcpServers[1]")]),
        ("Agent", "modelAPI: m\nagentNetwork: {access: [it]}", [("SelfReference", "spec.agentNetwork.access[0]")]),
        ("Agent", "modelAPI: m\nmcpServer: [a]", [("UnknownField", "spec.mcpServer")]),
        ("ModelAPI", "mode: Hosted", [("MissingField", "spec")]),
        ("ModelAPI", "mode: hosted", [("InvalidValue", "spec.mode")]),
        ("ModelAPI", "mode: Hosted\nhostedConfig: {model: m}\nproxyConfig: {}", [("WrongSection", "spec.proxyConfig")]),
        ("MCPServer", "type: python-runtime\nconfig: {}", [("MissingField", "spec.config")]),
        (
            "MCPServer",
            "type: python-runtime\nconfig: {mcp: a, tools: {fromString: b}}",
            [("ConflictingFields", "spec.config")],
        ),
        ("MCPServer", "type: custom\nconfig: {image: i}", []),
        ("MCPServer", "type: custom\nconfig: {image: i, mcp: a}", [("ConflictingFields", "spec.config")]),
        (
            "MCPServer",
            "type: python-runtime\nconfig: {tools: {fromString: b}}\ncontainer: {image: i}",
            [("ConflictingFields", "spec.config")],
        ),
        ("MCPServer", "config: {mcp: a}", [("MissingField", "spec.type")]),
    ],
)
def test_kaos_objects_are_checked_by_themselves(
    load_kaos: Load, kind: str, spec: str, expected: list[tuple[str, str]]
) -> None:
    assert told(load_kaos(kind, spec)) == expected


@pytest.mark.parametrize(
    "spec",
    [
        "mode: Proxy\nproxyConfig: {models: [a], apiKey: {valueFrom: {secretKeyRef: {name: s, key: k}}}}",
        "mode: Proxy\nproxyConfig: {model: a, apiBase: 'http://x', env: [{name: OPENAI_API_KEY, value: sk-test}]}",
        "mode: Proxy\nproxyConfig: {models: ['*'], provider: nebius, apiKey: sk-direct}",
    ],
)
def test_a_proxy_is_written_in_three_ways(load_kaos: Load, spec: str) -> None:
    loaded = load_kaos("ModelAPI", spec)
    assert not loaded.problems
    [api] = loaded.resources
    assert isinstance(api, ModelAPI)
    assert api.spec.proxy_config is not None
    assert len(api.spec.proxy_config.models or ()) == 1
    assert "sk-direct" not in repr(api)


@pytest.mark.parametrize("name", ["hostedConfig", "serverConfig"])
def test_a_hosted_model_has_two_names(load_kaos: Load, name: str) -> None:
    [api] = load_kaos("ModelAPI", f"mode: Hosted\n{name}: {{model: 'smollm2:135m'}}").resources
    assert isinstance(api, ModelAPI)
    assert api.spec.hosted_config is not None
    assert api.spec.hosted_config.model == "smollm2:135m"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (r"def f(:\n  pass\n", "line 1 of it: "),
        (r"def f():\n  return 'open\n", "line 2 of it: unterminated string literal"),
        (r"def f():\n return '\\d'\n", ""),
    ],
)
def test_code_that_is_no_python_is_told_with_its_line(load_kaos: Load, code: str, says: str) -> None:
    loaded = load_kaos("MCPServer", f'type: python-runtime\nconfig: {{tools: {{fromString: "{code}"}}}}')
    assert told(loaded) == ([("InvalidPython", "spec.config.tools.fromString")] if says else [])
    assert all(says in problem.message for problem in loaded.problems)


@pytest.mark.parametrize(
    "spec",
    [
        "type: python-runtime\nconfig: {tools: {fromString: 'def f(): ...'}}",
        "type: python-runtime\nconfig: {toolsString: 'def f(): ...'}",
        "runtime: python-string\nparams: 'def f(): ...'",
    ],
)
def test_functions_are_written_in_three_ways(load_kaos: Load, spec: str) -> None:
    loaded = load_kaos("MCPServer", spec)
    assert not loaded.problems
    [server] = loaded.resources
    assert isinstance(server, MCPServer)
    assert server.spec.config.tools is not None
    assert server.spec.config.tools.from_string == "def f(): ..."
