"""KAOS's servers where they have pods of their own: what is run, and where agents find it."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import dedent
from typing import Any

import pytest

from kadre.api import manifest
from kadre.base.problems import errors
from kadre.plan.build import Planned, plan
from kadre.plan.lookup import UsualKey
from kadre.plan.names import server_name
from kadre.plan.types import McpTools, ProxyRoute, SecretRef
from scripts.children import Pods

SECRET = "{apiVersion: v1, kind: Secret, metadata: {name: keys}, stringData: {token: t, master: m}}"


class Lending(Pods):
    """An installation that has keys of its own for its agents."""

    def usual_key(self, namespace: str, variable: str) -> UsualKey | None:
        """See Lookup."""
        return UsualKey(SecretRef(namespace=namespace, name="keys", key="token", env=variable), namespace)


def planned(text: str, **settings: str) -> Planned:
    """What comes of the first object. `settings`: what the installation says of providers."""
    return planned_where(Pods, text, settings)


def planned_where(kind: type[Pods], text: str, settings: Mapping[str, str]) -> Planned:
    loaded = manifest.load(dedent(text) + "\n---\n" + SECRET, "agents.yaml")
    assert not errors(loaded.problems), loaded.problems
    secrets = {(doc.namespace, doc.name): doc.values for doc in loaded.secrets}
    return plan(loaded.resources[0], kind(loaded.resources, secrets, exported=settings))


def api(config: str) -> str:
    return (
        "{apiVersion: kaos.tools/v1alpha1, kind: ModelAPI, metadata: {name: api},"
        f" spec: {{mode: Proxy, proxyConfig: {config}}}}}"
    )


def server(spec: str) -> str:
    return f"{{apiVersion: kaos.tools/v1alpha1, kind: MCPServer, metadata: {{name: echo}}, spec: {spec}}}"


def agent(rest: str = "") -> str:
    return (
        "{apiVersion: kaos.tools/v1alpha1, kind: Agent, metadata: {name: helper},"
        f" spec: {{modelAPI: api{rest}}}}}\n---\n"
    )


@pytest.mark.parametrize(
    ("config", "routes"),
    [
        ("{models: [gpt-4o, 'anthropic/*']}", [("gpt-4o", "openai/gpt-4o"), ("anthropic/*", "anthropic/*")]),
        ("{models: [m, p/n], provider: p}", [("m", "p/m"), ("p/n", "p/n")]),
        ("{models: ['*'], provider: openai}", [("*", "openai/*")]),
        ("{models: [Qwen/Q3, gemini/pro], apiBase: 'http://x'}", [("Qwen/Q3", "openai/Qwen/Q3"), ("gemini/pro",) * 2]),
        ("{apiBase: 'http://x'}", [("*", "openai/*")]),
    ],
)  # fmt: skip
def test_each_model_of_a_proxy_is_a_route(config: str, routes: list[tuple[str, str]]) -> None:
    made = planned(api(config)).server
    assert made is not None
    base = "http://x" if "apiBase" in config else ""
    assert made.routes == tuple(ProxyRoute(name=name, model=model, api_base=base) for name, model in routes)


def test_where_the_installation_has_a_provider_its_proxies_ask_there() -> None:
    given = {"OPENAI_BASE_URL": "http://models/v1", "ANTHROPIC_BASE_URL": "http://claude/v1"}

    def bases(config: str) -> list[str]:
        made = planned(api(config), **given).server
        assert made is not None
        return [route.api_base for route in made.routes]

    # LiteLLM adds the version to Anthropic's by itself.
    assert bases("{models: [gpt-4o, 'openai/*', 'anthropic/*', gemini/pro]}") == [
        *("http://models/v1", "http://models/v1", "http://claude", "")
    ]
    assert bases("{provider: openai}") == ["http://models/v1"]
    assert bases("{models: [gpt-4o], apiBase: 'http://x'}") == ["http://x"]
    assert bases("{models: [gpt-4o], env: [{name: OPENAI_API_BASE, value: 'http://y'}]}") == [""]


def test_a_bare_name_and_a_provider_without_models_get_the_installations_key() -> None:
    for config in ("{models: [gpt-4o]}", "{provider: openai}", "{models: ['gpt-*']}"):
        found = planned(api(config)).problems
        assert "MissingSecret" in [problem.reason for problem in found], config


@pytest.mark.parametrize("config", ["{models: ['*']}", "{}"])
def test_whose_models_are_meant_has_to_be_said_for_a_key(config: str) -> None:
    (warning,) = [problem for problem in planned(api(config)).problems if problem.reason == "NoProvider"]
    assert (warning.severity, "openai/*" in warning.fix) == ("warning", True)
    own = "{models: ['*'], env: [{name: OPENAI_API_KEY, valueFrom: {secretKeyRef: {name: keys, key: token}}}]}"
    assert "NoProvider" not in [problem.reason for problem in planned(api(own)).problems]


def test_the_key_that_is_named_is_the_proxys_alone() -> None:
    config = "{models: ['*'], apiBase: 'http://x', apiKey: {valueFrom: {secretKeyRef: {name: keys, key: token}}}}"
    made = planned(api(config)).server
    assert made is not None
    assert [ref.key for ref in made.secret_env.values()] == ["token"]
    helper = planned(agent(", model: gpt-4o") + api(config)).plan
    assert helper is not None
    assert (helper.model.provider, helper.model.endpoint) == ("openai", "http://modelapi-api.default.svc:8000/v1")
    assert (helper.model.model, helper.model.api_key) == ("gpt-4o", None)


def test_agents_send_the_key_that_a_proxy_wants_and_without_one_it_is_warned_of() -> None:
    env = "env: [{name: LITELLM_MASTER_KEY, valueFrom: {secretKeyRef: {name: keys, key: master}}}]"
    closed = api(f"{{models: [m], apiBase: 'http://x', {env}}}")
    helper = planned(agent() + closed).plan
    assert helper is not None
    assert isinstance(helper.model.api_key, SecretRef)
    assert helper.model.api_key.key == "master"
    assert planned(closed).problems == ()
    (warning,) = planned(api("{models: [m], apiBase: 'http://x'}")).problems
    assert (warning.reason, warning.severity) == ("OpenProxy", "warning")


def test_a_proxy_that_is_lent_the_installations_key_has_to_want_one() -> None:
    def found(config: str) -> list[tuple[str, str]]:
        return [(problem.reason, problem.severity) for problem in planned_where(Lending, api(config), {}).problems]

    env = "env: [{name: LITELLM_MASTER_KEY, valueFrom: {secretKeyRef: {name: keys, key: master}}}]"
    maybe = env.replace("key: master", "key: master, optional: true")
    own = "apiKey: {valueFrom: {secretKeyRef: {name: keys, key: token}}}"
    assert found(f"{{models: [gpt-4o], {maybe}}}") == [("OpenProxy", "error")]
    assert found("{models: [gpt-4o]}") == [("OpenProxy", "error")]
    assert found(f"{{models: [gpt-4o], {env}}}") == []
    assert found(f"{{models: [gpt-4o], {own}}}") == [("OpenProxy", "warning")]


def test_the_key_that_a_proxy_wants_may_be_said_of_its_container() -> None:
    env = "{env: [{name: LITELLM_MASTER_KEY, valueFrom: {secretKeyRef: {name: keys, key: master}}}]}"
    closed = api("{models: [m], apiBase: 'http://x'}").removesuffix("}}") + f", container: {env}}}}}"
    assert planned(closed).problems == ()
    helper = planned(agent() + closed).plan
    assert helper is not None
    assert isinstance(helper.model.api_key, SecretRef)


@pytest.mark.parametrize("source", ["value: sk-1", "valueFrom: {configMapKeyRef: {name: c, key: k, optional: true}}"])
def test_the_key_that_a_proxy_wants_is_kept_in_a_secret(source: str) -> None:
    config = f"{{models: [m], apiBase: 'http://x', env: [{{name: LITELLM_MASTER_KEY, {source}}}]}}"
    (problem,) = planned(api(config)).problems
    assert (problem.reason, problem.severity) == ("SecretInManifest", "error")
    assert "secretKeyRef" in problem.fix


def test_an_agent_asks_a_proxy_for_the_name_that_is_listed() -> None:
    for config in ("{models: [gpt-4o], provider: openai}", "{models: [gpt-4o]}"):
        helper = planned(agent(", model: openai/gpt-4o") + api(config)).plan
        assert helper is None or helper.model.model == "gpt-4o"
        assert helper is not None


def test_what_is_said_of_a_route_to_a_server_is_not_built_yet() -> None:
    routed = "{type: custom, config: {image: 'files:1'}, gatewayRoute: {timeout: 5s}}"
    (notice,) = planned(server(routed)).notices
    assert (notice.reason, "gatewayRoute" in notice.message) == ("NotSupportedYet", True)


def test_a_key_in_the_manifest_is_refused() -> None:
    found = errors(planned(api("{models: [m], apiKey: sk-1}")).problems)
    assert [problem.reason for problem in found] == ["SecretInManifest"]


def test_an_agent_is_told_what_a_proxy_does_not_offer() -> None:
    made = planned(agent(", model: other") + api("{models: [gpt-4o]}"))
    assert [problem.reason for problem in errors(made.problems)] == ["ModelNotOffered"]


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("{type: python-runtime, config: {mcp: p}}", "package"),
        ("{type: python-runtime, config: {tools: {fromPackage: p}}}", "package"),
        ("{type: python-runtime, config: {tools: {fromString: 'def f(): pass'}}}", "source"),
        ("{type: python-runtime, config: {tools: {fromSecretKeyRef: {name: keys, key: token}}}}", "source"),
    ],
)
def test_what_an_mcp_server_runs(spec: str, kind: str) -> None:
    made = planned(server(spec)).server
    assert made is not None
    assert made.launch is not None
    assert (made.launch.kind, made.url) == (kind, "http://mcpserver-echo.default.svc:8000/mcp")
    assert (made.file is not None) == ("fromSecretKeyRef" in spec)


def test_an_image_is_run_as_it_is() -> None:
    made = planned(server("{type: custom, config: {image: 'files:1'}, replicas: 2}")).server
    assert made is not None
    assert (made.type, made.workload) == ("image", {"replicas": 2, "image": "files:1"})


def test_a_package_of_npm_is_not_run_yet_and_agents_do_without_it() -> None:
    npm = server("{type: node-runtime, config: {mcp: p}}")
    made = planned(npm)
    assert made.server is None
    assert [notice.reason for notice in made.notices] == ["NotSupportedYet"]


def test_an_agent_says_which_servers_it_uses() -> None:
    echo = server("{type: python-runtime, config: {mcp: p}}")
    helper = planned(agent(", mcpServers: [echo]") + api("{models: [m]}") + "\n---\n" + echo).plan
    assert helper is not None
    (tools,) = helper.tools
    assert isinstance(tools, McpTools)
    assert (tools.url, tools.launch) == ("http://mcpserver-echo.default.svc:8000/mcp", None)
    used: list[dict[str, Any]] = helper.workload["servers"]
    assert [(each["kind"], each["name"]) for each in used] == [("ModelAPI", "api"), ("MCPServer", "echo")]


def test_a_name_that_is_too_long_for_a_service_is_cut_and_stays_its_own() -> None:
    names = {server_name("MCPServer", "a" * 62 + end) for end in "bc"}
    assert [len(name) for name in names] == [63, 63]
