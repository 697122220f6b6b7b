"""KAOS's way to a model."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kadre.base.problems import errors
from kadre.plan.build import AllPlanned
from kadre.plan.types import ModelPlan, Override, SecretRef

Plan = Callable[..., AllPlanned]

HOSTED = "{mode: Hosted, hostedConfig: {model: 'smollm2:135m'}}"


def text(api: str, agent: str = "") -> str:
    return f"""
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: {{name: api}}
spec: {api}
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: {{name: helper}}
spec: {{modelAPI: api{agent}}}
"""


def proxy(config: str) -> str:
    return f"{{mode: Proxy, proxyConfig: {config}}}"


def model_of(result: AllPlanned) -> ModelPlan:
    assert not errors(result.problems), result.problems
    (plan,) = result.plans.values()
    return plan.model


def named(model: str) -> str:
    return f", config: {{env: [{{name: MODEL_NAME, value: '{model}'}}]}}"


@pytest.mark.parametrize("agent", ["", named("ollama/smollm2:135m"), ", model: 'smollm2:135m'"])
def test_a_hosted_model_is_an_ollama_that_may_be_stood_in_for(planned: Plan, agent: str) -> None:
    assert model_of(planned(text(HOSTED, agent))) == ModelPlan(
        provider="ollama", model="smollm2:135m", endpoint="http://localhost:11434/v1", hosted=True
    )


def test_ollamas_latest_tag_may_be_left_out(planned: Plan) -> None:
    api = "{mode: Hosted, hostedConfig: {model: 'llama3.2:latest'}}"
    assert model_of(planned(text(api, ", model: llama3.2"))).model == "llama3.2:latest"


def test_a_model_that_is_not_hosted_is_a_problem_where_it_is_named(planned: Plan) -> None:
    (problem,) = planned(text(HOSTED, named("ollama/smollm2:360m"))).problems
    assert problem.reason == "ModelNotOffered"
    assert "did you mean smollm2:135m?" in problem.message
    assert problem.path == "spec.config.env[0]"


def test_a_missing_model_api_is_a_problem(planned: Plan) -> None:
    (problem,) = planned(text(HOSTED).replace("modelAPI: api", "modelAPI: apis")).problems
    assert problem.reason == "MissingModelAPI"
    assert "did you mean api?" in problem.message


@pytest.mark.parametrize(
    ("config", "agent", "provider", "model", "endpoint"),
    [
        ("{models: [openai/gpt-4o]}", "", "openai", "gpt-4o", "https://api.openai.com/v1"),
        ("{models: [gpt-4o]}", ", model: openai/gpt-4o", "openai", "gpt-4o", "https://api.openai.com/v1"),
        ("{models: [openai/gpt-4o]}", ", model: gpt-4o", "openai", "gpt-4o", "https://api.openai.com/v1"),
        (
            "{models: ['anthropic/*']}",
            ", model: anthropic/claude",
            "anthropic",
            "claude",
            "https://api.anthropic.com/v1",
        ),
        (
            "{models: ['*'], provider: anthropic}",
            ", model: claude",
            "anthropic",
            "claude",
            "https://api.anthropic.com/v1",
        ),
        ("{models: ['openai/*', gpt-4o]}", "", "openai", "gpt-4o", "https://api.openai.com/v1"),
        ("{apiBase: 'http://vllm:8000'}", ", model: Qwen/Qwen3-8B", "openai", "Qwen/Qwen3-8B", "http://vllm:8000/v1"),
        ("{apiBase: 'http://host:11434', model: ollama/phi}", "", "ollama", "phi", "http://host:11434/v1"),
        ("{apiBase: 'http://v:1/v1', model: hosted_vllm/q/w}", "", "vllm", "q/w", "http://v:1/v1"),
    ],
)
def test_a_proxied_model_is_called_at_its_provider(
    planned: Plan, config: str, agent: str, provider: str, model: str, endpoint: str
) -> None:
    plan = model_of(planned(text(proxy(config), agent), {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}))
    assert (plan.provider, plan.model, plan.endpoint) == (provider, model, endpoint)
    assert not plan.hosted


@pytest.mark.parametrize("wanted", ["gpt-5", "mistral/large", "openai/gpt-4o-mini"])
def test_a_model_outside_the_proxys_list_is_a_problem(planned: Plan, wanted: str) -> None:
    result = planned(
        text(proxy("{models: [openai/gpt-4o, 'anthropic/*']}"), f", model: {wanted}"), {"OPENAI_API_KEY": "k"}
    )
    assert [problem.reason for problem in result.problems] == ["ModelNotOffered"]


def test_a_proxy_that_names_no_model_needs_an_agent_that_does(planned: Plan) -> None:
    result = planned(text(proxy("{models: ['openai/*']}")))
    assert [problem.reason for problem in result.problems] == ["MissingModel"]


@pytest.mark.parametrize("config", ["{models: [gemini/pro]}", "{models: [pro], provider: gemini}"])
def test_a_provider_kadre_cannot_speak_to_is_told_once(planned: Plan, config: str) -> None:
    (problem,) = planned(text(proxy(config))).problems
    assert problem.reason == "UnknownProvider"
    assert problem.resource == "ModelAPI default/api"


def test_the_proxys_key_is_a_reference(planned: Plan) -> None:
    config = "{models: [openai/gpt-4o], apiKey: {valueFrom: {secretKeyRef: {name: keys, key: openai}}}}"
    assert model_of(planned(text(proxy(config)), {"KEYS_OPENAI": "k"})).api_key == SecretRef(
        namespace="default", name="keys", key="openai", env="KEYS_OPENAI"
    )
    assert [problem.reason for problem in planned(text(proxy(config))).problems] == ["MissingSecret"]


def test_a_key_in_the_manifest_is_refused_and_never_shown(planned: Plan) -> None:
    (problem,) = planned(text(proxy("{models: [openai/gpt-4o], apiKey: sk-plain}"))).problems
    assert problem.reason == "SecretInManifest"
    assert "secretKeyRef" in problem.fix
    assert "sk-plain" not in str(problem)


def test_the_providers_key_is_not_sent_to_the_proxys_own_address(planned: Plan) -> None:
    result = planned(text(proxy("{models: [openai/m], apiBase: 'http://elsewhere/v1'}")), {"OPENAI_API_KEY": "k"})
    assert [problem.reason for problem in result.problems] == ["KeyNotSent"]
    assert model_of(result).api_key is None


def test_litellms_own_configuration_is_not_read_yet_and_says_so(planned: Plan) -> None:
    result = planned(text(proxy("{models: [ollama/m], configYaml: {fromString: 'a: b'}}")))
    (plan,) = result.plans.values()
    assert [notice.reason for notice in plan.notices] == ["NotSupportedYet"]


def test_the_tool_call_mode_reaches_the_model(planned: Plan) -> None:
    assert model_of(planned(text(HOSTED, ", config: {toolCallMode: string}"))).tool_calls == "shim"
    assert model_of(planned(text(HOSTED, ", config: {toolCallMode: native}"))).tool_calls == "native"


def test_an_override_needs_no_model_api(planned: Plan) -> None:
    scripted = ModelPlan(provider="scripted", model="scripted")
    missing = text(proxy("{models: [openai/gpt-4o]}")).replace("modelAPI: api", "modelAPI: gone")
    assert model_of(planned(missing, None, Override(model=scripted))) is scripted
