"""Which model an agent calls, where, with whose key, and with which sampling fields."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kadre.base.problems import errors
from kadre.plan.build import AllPlanned
from kadre.plan.providers import PROVIDERS
from kadre.plan.types import AgentKey, ModelPlan, Override, Provider, SecretRef

Plan = Callable[..., AllPlanned]

OPENAI = """
apiVersion: kagent.dev/v1alpha1
kind: ModelConfig
metadata: {name: gpt4}
spec: {provider: openai, model: gpt-4, temperature: 0.7, maxTokens: 4096}
"""
AGENT = """
---
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata: {name: helper}
spec:
"""
KEY = {"OPENAI_API_KEY": "sk-1"}


def model_of(result: AllPlanned, name: str = "helper") -> ModelPlan:
    assert not errors(result.problems), result.problems
    return next(plan.model for key, plan in result.plans.items() if key.name == name)


def agent(spec: str) -> str:
    return AGENT + "".join(f"  {line}\n" for line in spec.strip().splitlines())


def reasons(result: AllPlanned) -> list[str]:
    return [problem.reason for problem in result.problems]


def test_a_model_config_takes_its_providers_address_and_key(planned: Plan) -> None:
    assert model_of(planned(OPENAI + agent("modelConfig: gpt4"), KEY)) == ModelPlan(
        provider="openai",
        model="gpt-4",
        endpoint="https://api.openai.com/v1",
        api_key=SecretRef(namespace="default", env="OPENAI_API_KEY", exported=True),
        params={"temperature": 0.7, "max_tokens": 4096},
    )


def test_a_missing_model_config_is_told_with_its_place_and_the_nearest_name(planned: Plan) -> None:
    (problem,) = planned(OPENAI + agent("modelConfig: gpt-4"), KEY).problems
    assert problem.reason == "MissingModelConfig"
    assert "did you mean gpt4?" in problem.message
    assert (problem.resource, problem.path) == ("Agent default/helper", "spec.modelConfig")
    assert problem.source.line == 12
    assert "create a ModelConfig named gpt-4" in problem.fix


def test_a_model_config_in_another_namespace_is_not_used_and_is_pointed_at(planned: Plan) -> None:
    text = OPENAI.replace("name: gpt4", "name: gpt4, namespace: kagent") + agent("modelConfig: gpt4")
    (problem,) = planned(text, KEY).problems
    assert "there is one in kagent" in problem.message


def test_what_an_agent_writes_wins_over_its_model_config(planned: Plan) -> None:
    model = model_of(planned(OPENAI + agent("modelConfig: gpt4\nmodel: {name: gpt-4o, temperature: 0}"), KEY))
    assert model.model == "gpt-4o"
    assert model.params == {"temperature": 0, "max_tokens": 4096}


def test_a_model_of_another_provider_takes_nothing_from_the_model_config(planned: Plan) -> None:
    text = OPENAI.replace("temperature: 0.7", "endpoint: 'http://proxy/v1', temperature: 0.7")
    model = model_of(planned(text + agent("modelConfig: gpt4\nmodel: {provider: ollama, name: qwen3}"), KEY))
    assert model == ModelPlan(provider="ollama", model="qwen3", endpoint="http://localhost:11434/v1")


def test_an_agent_without_a_model_is_told_what_to_write(planned: Plan) -> None:
    (problem,) = planned(agent("systemPrompt: hello")).problems
    assert problem.reason == "MissingModel"
    assert "modelConfig:" in problem.fix


@pytest.mark.parametrize(("model", "lacking"), [("{name: gpt-4o}", "provider"), ("{provider: ollama}", "model")])
def test_half_a_model_is_told_what_it_lacks(planned: Plan, model: str, lacking: str) -> None:
    (problem,) = planned(agent(f"model: {model}")).problems
    assert problem.reason == "MissingModel"
    assert f"has no {lacking}" in problem.message


def test_the_environment_names_the_model_where_nothing_else_does(planned: Plan) -> None:
    env = "env: [{name: MODEL_NAME, value: ollama/a}, {name: LLM_MODEL, value: ollama/b}]"
    assert model_of(planned(agent("model: {provider: ollama}\n" + env))).model == "b"
    assert model_of(planned(agent("model: {provider: ollama, name: written}\n" + env))).model == "written"


def test_the_environments_model_may_be_in_a_config_map(planned: Plan) -> None:
    config = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {model: qwen3}
"""
    env = "env: [{name: MODEL_NAME, valueFrom: {configMapKeyRef: {name: settings, key: model}}}]"
    assert model_of(planned(config + agent("model: {provider: ollama}\n" + env))).model == "qwen3"
    assert "MissingConfigMap" in reasons(planned(agent("model: {provider: ollama, name: x}\n" + env)))


@pytest.mark.parametrize(
    ("provider", "endpoint"),
    [
        ("ollama", "http://localhost:11434/v1"),
        ("vllm", "http://localhost:8000/v1"),
        ("gpustack", "http://localhost/v1"),
        ("bedrock", ""),
        ("scripted", ""),
        ("local", ""),
    ],
)
def test_a_provider_that_needs_no_key_runs_with_its_name_alone(planned: Plan, provider: str, endpoint: str) -> None:
    model = model_of(planned(agent(f"model: {{provider: {provider}, name: m}}")))
    assert (model.endpoint, model.model) == (endpoint, "m")


def test_an_address_from_the_surroundings_replaces_the_providers(planned: Plan) -> None:
    text = agent("model: {provider: ollama, name: m}")
    assert model_of(planned(text, {"OLLAMA_BASE_URL": "http://gpu:11434"})).endpoint == "http://gpu:11434/v1"


def test_an_address_that_is_written_wins_and_an_empty_one_is_none(planned: Plan) -> None:
    text = agent("model: {provider: ollama, name: m, endpoint: 'http://mine:1'}")
    assert model_of(planned(text, {"OLLAMA_BASE_URL": "http://gpu:11434"})).endpoint == "http://mine:1/v1"
    text = agent("model: {provider: openai, name: m, endpoint: ''}")
    assert model_of(planned(text, KEY)).endpoint == "https://api.openai.com/v1"


def test_an_address_that_the_process_exports_gets_its_key_wherever_else_it_is_written(planned: Plan) -> None:
    text = agent("model: {provider: gpustack, name: m, endpoint: 'http://gpu/v1'}")
    exported = {"GPUSTACK_API_KEY": "k", "GPUSTACK_BASE_URL": "http://gpu"}
    key = model_of(planned(text, None, None, exported)).api_key
    assert key is not None
    assert key.env == "GPUSTACK_API_KEY"
    elsewhere = planned(text.replace("http://gpu/v1", "http://thief/v1"), None, None, exported)
    assert model_of(elsewhere).api_key is None
    assert reasons(elsewhere) == ["KeyNotSent"]


def test_bedrocks_address_has_no_version_segment(planned: Plan) -> None:
    text = agent("model: {provider: bedrock, name: m, endpoint: 'https://bedrock.example/'}")
    assert model_of(planned(text)).endpoint == "https://bedrock.example"


def test_a_provider_that_needs_a_key_says_how_to_give_one(planned: Plan) -> None:
    (problem,) = planned(OPENAI + agent("modelConfig: gpt4")).problems
    assert problem.reason == "MissingSecret"
    assert problem.resource == "ModelConfig default/gpt4"
    assert "set OPENAI_API_KEY" in problem.fix


def test_one_model_config_without_a_key_is_told_once_however_many_use_it(planned: Plan) -> None:
    second = agent("modelConfig: gpt4").replace("helper", "second")
    assert reasons(planned(OPENAI + agent("modelConfig: gpt4") + second)) == ["MissingSecret"]


SECRET = """
---
apiVersion: v1
kind: Secret
metadata: {name: openai-api-key}
stringData: {api-key: sk-secret-value}
"""
NAMED = "model: {provider: openai, name: gpt-4o, apiKeySecretRef: {name: openai-api-key, key: api-key}}"


def test_a_key_is_found_in_a_secret_document_and_its_value_is_nowhere_in_the_plan(planned: Plan) -> None:
    result = planned(SECRET + agent(NAMED))
    key = model_of(result).api_key
    assert key is not None
    assert (key.namespace, key.name, key.key) == ("default", "openai-api-key", "api-key")
    assert "sk-secret-value" not in repr(result)


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "OPENAI_API_KEY_API_KEY"])
def test_a_named_key_is_found_in_a_line_of_the_file(planned: Plan, variable: str) -> None:
    key = model_of(planned(agent(NAMED), {variable: "sk-1"})).api_key
    assert key is not None
    assert key.env == variable


@pytest.mark.parametrize("name", ["openai-api-key, key: api-key", "any, key: OPENAI_API_KEY"])
def test_a_named_key_is_found_in_its_providers_own_variable(planned: Plan, name: str) -> None:
    text = agent(NAMED.replace("openai-api-key, key: api-key", name))
    key = model_of(planned(text, exported=KEY)).api_key
    assert key is not None
    assert (key.env, key.exported) == ("OPENAI_API_KEY", True)


@pytest.mark.parametrize("endpoint", ["", "endpoint: 'https://elsewhere.example/v1', "])
@pytest.mark.parametrize("variable", ["GITHUB_TOKEN", "ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY"])
def test_a_manifest_cannot_have_a_variable_of_the_process_sent_anywhere(
    planned: Plan, variable: str, endpoint: str
) -> None:
    text = agent(f"model: {{provider: openai, name: m, {endpoint}apiKeySecretRef: {{name: x, key: {variable}}}}}")
    (problem,) = planned(text, exported={variable: "k"}).problems
    assert problem.reason == "MissingSecret"
    assert f"a Secret document x with the key {variable} in the files, or the line" in problem.fix
    assert reasons(planned(text, {variable: "k"})) == []  # its owner put it there for this


def test_a_providers_own_variable_does_not_go_elsewhere_though_it_is_named(planned: Plan) -> None:
    key = "{name: x, key: OPENAI_API_KEY}"
    text = agent(f"model: {{provider: openai, name: m, endpoint: 'https://x.example/v1', apiKeySecretRef: {key}}}")
    (problem,) = planned(text, exported=KEY).problems
    assert "the line OPENAI_API_KEY=… in .env (the environment is not read for it)" in problem.fix
    assert reasons(planned(text, KEY)) == []


def test_a_missing_secret_and_a_missing_key_are_told_apart(planned: Plan) -> None:
    (problem,) = planned(agent(NAMED)).problems
    assert problem.reason == "MissingSecret"
    assert "kubectl create secret generic openai-api-key -n default --from-literal=api-key=" in problem.fix
    assert problem.path == "spec.model.apiKeySecretRef"
    (problem,) = planned(SECRET.replace("api-key: sk", "other: sk") + agent(NAMED)).problems
    assert problem.reason == "MissingSecretKey"


def test_an_optional_secret_may_be_missing(planned: Plan) -> None:
    assert model_of(planned(agent(NAMED.replace("key: api-key", "key: api-key, optional: true")))).api_key is not None


def test_the_providers_key_is_not_sent_to_an_address_in_a_manifest(planned: Plan) -> None:
    elsewhere = agent("model: {provider: openai, name: m, endpoint: 'https://elsewhere.example/v1'}")
    result = planned(elsewhere, KEY)
    assert reasons(result) == ["KeyNotSent"]
    assert model_of(result).api_key is None
    assert reasons(planned(elsewhere)) == []
    (problem,) = planned(elsewhere, exported=KEY).problems
    assert "a line of .env" in problem.fix


@pytest.mark.parametrize("provider", ["openai", "anthropic", "vllm", "gpustack"])
@pytest.mark.parametrize("named", [False, True], ids=["default", "named"])
def test_an_address_out_of_the_file_gets_no_key_that_is_only_exported(
    planned: Plan, provider: Provider, named: bool
) -> None:
    known = PROVIDERS[provider]
    ref = f", apiKeySecretRef: {{name: x, key: {known.key_env}}}" if named else ""
    text = agent(f"model: {{provider: {provider}, name: m{ref}}}")
    address, exported = {known.endpoint_env: "https://elsewhere.example/v1"}, {known.key_env: "k"}
    result = planned(text, address, exported=exported)
    (problem,) = result.problems
    assert problem.reason == ("MissingSecret" if named else "KeyNotSent")
    if not named:
        key = model_of(result).api_key
        assert key is not None
        assert (key.env, key.exported) == (known.key_env, False)
        assert "https://elsewhere.example/v1, which .env names" in problem.message
        assert f"{known.key_env} as a line of .env" in problem.fix
    assert reasons(planned(text, {**address, **exported})) == []
    assert reasons(planned(text, exported={**address, **exported})) == []
    assert reasons(planned(text, address, exported={**address, **exported})) == []
    assert reasons(planned(text, {known.endpoint_env: known.endpoint}, exported=exported)) == []


TOKEN = "AWS_BEARER_TOKEN_BEDROCK"


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "https://bedrock-runtime.eu-west-1.amazonaws.com",
        "https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com/",
        "https://bedrock-runtime.cn-north-1.amazonaws.com.cn",
        "https://vpce-0a1-b2.bedrock-runtime.us-east-1.vpce.amazonaws.com",
    ],
)
def test_amazons_own_address_gets_the_exported_credentials(planned: Plan, endpoint: str) -> None:
    text = agent(f"model: {{provider: bedrock, name: m, region: eu-west-1, endpoint: '{endpoint}'}}")
    model = model_of(planned(text, exported={TOKEN: "k"}))
    assert model.exported
    assert model.api_key == SecretRef(namespace="default", env=TOKEN, exported=True)


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://elsewhere.example",
        "https://bedrock-runtime.eu-west-1.amazonaws.com.elsewhere.example",
        "https://elsewhere.example/bedrock-runtime.eu-west-1.amazonaws.com",
        "http://bedrock-runtime.eu-west-1.amazonaws.com",
        "https://ec2-1-2-3-4.eu-west-1.compute.amazonaws.com",  # anybody's machine
        "https://bedrock-runtime.s3.amazonaws.com",  # anybody's bucket
    ],
)
def test_bedrocks_exported_credentials_are_not_sent_elsewhere(planned: Plan, endpoint: str) -> None:
    written = f"provider: bedrock, name: m, region: eu-west-1, endpoint: '{endpoint}'"
    result = planned(agent(f"model: {{{written}}}"), exported={TOKEN: "k"})
    assert reasons(result) == ["KeyNotSent"]
    model = model_of(result)
    assert (model.exported, model.api_key) == (False, None)
    named = agent(f"model: {{{written}, apiKeySecretRef: {{name: x, key: {TOKEN}}}}}")
    assert reasons(planned(named, exported={TOKEN: "k"})) == ["MissingSecret"]
    key = model_of(planned(named, {TOKEN: "k"})).api_key
    assert key is not None
    assert not key.exported


def test_a_named_key_is_not_replaced_by_the_providers_for_another_address(planned: Plan) -> None:
    text = agent(NAMED.replace("name: gpt-4o", "name: gpt-4o, endpoint: 'https://elsewhere.example/v1'"))
    assert reasons(planned(text, KEY)) == ["MissingSecret"]


def test_a_field_its_provider_lacks_is_a_warning_and_is_not_sent(planned: Plan) -> None:
    text = agent("model: {provider: anthropic, name: claude, topK: 5, seed: 1}")
    result = planned(text, {"ANTHROPIC_API_KEY": "k"})
    (problem,) = result.problems
    assert (problem.reason, problem.severity) == ("UnsupportedParameter", "warning")
    assert problem.path == "spec.model.seed"
    assert model_of(result).params == {"top_k": 5}


@pytest.mark.parametrize(
    ("provider", "asked", "told"), [("local", "native", "shim"), ("scripted", "shim", "scripted makes its own")]
)
def test_a_way_of_calling_tools_that_a_provider_has_not_is_a_warning(
    planned: Plan, provider: str, asked: str, told: str
) -> None:
    result = planned(agent(f"model: {{provider: {provider}, name: m, toolCalling: {asked}}}"))
    (problem,) = result.problems
    assert (problem.reason, problem.severity, problem.path) == (
        "UnsupportedParameter",
        "warning",
        "spec.model.toolCalling",
    )
    assert told in problem.message
    assert model_of(result).tool_calls == "auto"
    for works in {"auto", "native", "shim"} - {asked}:
        assert reasons(planned(agent(f"model: {{provider: {provider}, name: m, toolCalling: {works}}}"))) == []


def test_every_other_field_reaches_the_plan(planned: Plan) -> None:
    text = agent(
        "model: {provider: bedrock, name: m, region: eu-west-1, timeout: 5s, toolCalling: shim, headers: {X-Team: a}}"
    )
    model = model_of(planned(text))
    assert (model.region, model.timeout, model.tool_calls) == ("eu-west-1", 5.0, "shim")
    assert model.headers == {"X-Team": "a"}
    assert model_of(planned(agent("model: {provider: bedrock, name: m}"), {"AWS_REGION": "us-east-2"})).region == (
        "us-east-2"
    )


def test_rules_are_beside_the_manifest(planned: Plan, lookup: Callable[..., object]) -> None:
    assert model_of(planned(agent("model: {provider: scripted, name: m, rules: rules.yaml}"))).rules == "rules.yaml"


def test_an_override_replaces_the_model_whole_and_no_key_is_asked_for(planned: Plan) -> None:
    scripted = ModelPlan(provider="scripted", model="scripted")
    nothing = agent("systemPrompt: hi").replace("helper", "bare")
    text = OPENAI + agent("modelConfig: missing") + nothing + agent(NAMED).replace("helper", "named")
    result = planned(text, None, Override(model=scripted))
    assert result.problems == []
    assert {key: plan.model for key, plan in result.plans.items()} == {
        AgentKey("default", name): scripted for name in ("helper", "bare", "named")
    }
