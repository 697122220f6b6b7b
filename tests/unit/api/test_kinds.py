"""What is wrong within one object is told without looking at any other."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from kadre.api.checks import check_values
from kadre.api.kinds.workflow import Step, ancestors, find_cycle
from kadre.api.manifest import Loaded
from kadre.api.parts import Parameter
from kadre.api.resource import KAOS, NATIVE

Load = Callable[..., Loaded]


def told(loaded: Loaded) -> list[tuple[str, str]]:
    assert all(problem.fix and problem.source.line for problem in loaded.problems)
    return [(problem.reason, problem.path) for problem in loaded.problems]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("tools: [a, {name: a}]", [("DuplicateName", "spec.tools[1].name")]),
        ("agents: [b, b]", [("DuplicateName", "spec.agents[1]")]),
        ("agents: [it]", [("SelfReference", "spec.agents[0]")]),
        ("agentNetwork: {access: [it]}", [("SelfReference", "spec.agentNetwork.access[0]")]),
        ("tools: [{name: a, endpoint: 'ftp://x'}]", [("InvalidValue", "spec.tools[0].endpoint")]),
        (
            "tools: [{name: a, type: human, endpoint: 'http://x'}]",
            [("ConflictingFields", "spec.tools[0].endpoint")],
        ),
        ("tools: [{name: a, type: api}]", [("MissingField", "spec.tools[0]")]),
        ("tools: [{name: a, type: sql, config: {}}]", [("InvalidValue", "spec.tools[0].type")]),
        ("scaling: {minReplicas: 3, maxReplicas: 2}", [("InvalidRange", "spec.scaling.minReplicas")]),
        ("scaling: {minReplicas: 0}", [("InvalidValue", "spec.scaling.minReplicas")]),
        ("scaling: {minReplicas: 0, keda: {enabled: true, triggers: [{type: cron, metadata: {}}]}}", []),
        ("scaling: {keda: {enabled: true}}", [("MissingField", "spec.scaling.keda")]),
        ("scaling: {metrics: [{type: Pods}]}", [("MissingField", "spec.scaling.metrics[0]")]),
        ("memory: {storeRef: a, type: redis}", [("ConflictingFields", "spec.memory.storeRef")]),
        ("memory: {type: redis}", [("MissingField", "spec.memory.config")]),
        ("memory: {type: redis, config: {host: h, database: 0}}", []),
        ("memory: {type: redis, config: {host: h, database: yes}}", [("InvalidValue", "spec.memory.config.database")]),
        ("env: [{name: A, value: x}, {name: A, value: y}]", [("DuplicateName", "spec.env[1].name")]),
        (
            "env: [{name: A, value: x, valueFrom: {secretKeyRef: {name: s, key: k}}}]",
            [("ConflictingFields", "spec.env[0].valueFrom")],
        ),
        ("env: [{name: A, valueFrom: {}}]", [("ConflictingFields", "spec.env[0].valueFrom")]),
        ("runtime: {mode: Dedicated, pool: p}", [("ConflictingFields", "spec.runtime.pool")]),
        ("model: {provider: openai, rules: r.yaml}", [("FieldNotUsed", "spec.model.rules")]),
        ("model: {provider: openai, endpoint: 'x:80'}", [("InvalidValue", "spec.model.endpoint")]),
        ("model: {provider: openai, endpoint: ''}", []),
        (
            "resources: {requests: {memory: 1Gi, cpu: 0.5}, limits: {memory: 1000Mi, cpu: 500m}}",
            [("InvalidRange", "spec.resources.requests.memory")],
        ),
        ("resources: {requests: {memory: 1Gi, cpu: 2}, limits: {memory: 1024Mi}}", []),
        ("resources: {limits: {cpu: -1}}", [("InvalidValue", "spec.resources.limits.cpu")]),
        ("serviceAccountName: A_B", [("InvalidName", "spec.serviceAccountName")]),
        ("serviceAccountName: team.builder-1", []),
    ],
)
def test_an_agent_is_checked_by_itself(load_spec: Load, spec: str, expected: list[tuple[str, str]]) -> None:
    assert told(load_spec("Agent", spec)) == expected


BAD_URLS = (
    *("http://[", "http://", "http:///mcp", "http://h:99999/mcp", "http://h:0", "http://h:8x", "http://a b/mcp"),
    *("ftp://h/x", "h:80", "http://[::1/x", "http://[nowhere]/x", "http://[::1]x/y", "http://h!/x", "https://h/x\\n"),
)


@pytest.mark.parametrize("url", BAD_URLS)
@pytest.mark.parametrize(
    ("kind", "spec", "path"),
    [
        ("Agent", "tools: [{{name: a, endpoint: {}}}]", "spec.tools[0].endpoint"),
        ("Agent", "model: {{endpoint: {}}}", "spec.model.endpoint"),
        ("Agent", "observability: {{tracing: {{endpoint: {}}}}}", "spec.observability.tracing.endpoint"),
        ("ModelConfig", "{{provider: vllm, model: m, endpoint: {}}}", "spec.endpoint"),
        ("Tool", "{{type: api, description: d, api: {{endpoint: {}}}}}", "spec.api.endpoint"),
        ("Tool", "{{type: mcp, description: d, mcp: {{endpoint: {}}}}}", "spec.mcp.endpoint"),
        ("ModelAPI", "{{mode: Proxy, proxyConfig: {{model: m, apiBase: {}}}}}", "spec.proxyConfig.apiBase"),
    ],
)
def test_an_address_that_nobody_can_call_is_told_in_every_field(
    load_spec: Load, kind: str, spec: str, path: str, url: str
) -> None:
    loaded = load_spec(kind, spec.format(f'"{url}"'), version=KAOS if kind == "ModelAPI" else NATIVE)
    assert told(loaded) == [("InvalidValue", path)]
    assert "as shown" not in loaded.problems[0].fix


@pytest.mark.parametrize(
    "url",
    ["http://h", "https://a.b-c_d:443/x?y=%20", "http://[::1]:80/mcp", "HTTP://h:", "http://h/@a/b?c=@", "http://ü"],
)
def test_an_address_that_can_be_called_is_fine(load_spec: Load, url: str) -> None:
    assert told(load_spec("Agent", f"tools: [{{name: a, endpoint: '{url}'}}]")) == []


@pytest.mark.requirement("security-secrets")
@pytest.mark.parametrize(
    "url", ["http://u:s3cret@h:1/", "https://s3cret@h", "http://u:s3cret/more@h", "http://s3c ret@h"]
)
def test_who_logs_in_is_not_taken_in_an_address_and_is_not_told(load_spec: Load, url: str) -> None:
    for kind, spec, version, path in (
        ("Agent", "tools: [{name: a, endpoint: '%s'}]", NATIVE, "spec.tools[0].endpoint"),
        ("Agent", "model: {provider: vllm, name: m, endpoint: '%s'}", NATIVE, "spec.model.endpoint"),
        ("ModelAPI", "{mode: Proxy, proxyConfig: {model: m, apiBase: '%s'}}", KAOS, "spec.proxyConfig.apiBase"),
        ("Agent", "memory: {type: postgres, config: {host: '%s'}}", NATIVE, "spec.memory.config.host"),
        ("MemoryStore", "type: redis\nredis: {host: '%s'}", NATIVE, "spec.redis.host"),
    ):
        loaded = load_spec(kind, spec % url, version=version)
        assert told(loaded) == [("InvalidValue", path)]
        assert not re.search("s3c|ret@|more", str(loaded.problems))


def test_the_parameters_in_an_address_are_not_part_of_it(load_spec: Load) -> None:
    given = "parameters: [{name: id, type: integer}, {name: port, type: integer}]"
    tool = "{type: api, description: d, %s, api: {endpoint: 'http://h:{port}/x/{id}'}}" % given  # noqa: UP031
    assert told(load_spec("Tool", tool)) == []


@pytest.mark.timeout(10)
def test_a_pattern_cannot_keep_the_check_busy(load_spec: Load) -> None:
    parameter = f"{{name: p, type: string, pattern: '^(a+)+$', default: '{'a' * 50}!'}}"
    tool = f"{{type: human, description: d, human: {{}}, parameters: [{parameter}]}}"
    assert told(load_spec("Tool", tool)) == [("InvalidDefault", "spec.parameters[0].default")]


def test_a_pattern_is_what_kubernetes_takes_for_one(load_spec: Load) -> None:
    tool = "{type: human, description: d, human: {}, parameters: [{name: p, type: string, pattern: '(?=a)b'}]}"
    loaded = load_spec("Tool", tool)
    assert told(loaded) == [("InvalidPattern", "spec.parameters[0].pattern")]
    assert "RE2" in loaded.problems[0].fix


def test_a_template_cannot_be_its_own(load_spec: Load) -> None:
    assert told(load_spec("AgentTemplate", "templateRef: it")) == [("SelfReference", "spec.templateRef")]


def test_a_model_config_needs_a_provider_and_a_model(load_spec: Load) -> None:
    assert told(load_spec("ModelConfig", "temperature: 1")) == [
        ("MissingField", "spec.provider"),
        ("MissingField", "spec.model"),
    ]


def test_an_unknown_provider_is_told_with_the_nearest(load_spec: Load) -> None:
    [problem] = load_spec("ModelConfig", "provider: OpenAI\nmodel: m").problems
    assert problem.message.endswith("did you mean openai?")


@pytest.mark.requirement("tool-kind-checked")
@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("type: api", [("MissingField", "spec")]),
        ("type: code", []),
        ("type: human\nhuman: {prompt: please}", []),
        ("type: code\nhuman: {}", [("WrongSection", "spec.human")]),
        ("type: sql", [("InvalidValue", "spec.type")]),
        (
            "type: api\napi: {endpoint: 'http://x/{a}/{b}'}\nparameters: [{name: a}]",
            [("UndeclaredParameter", "spec.api.endpoint")],
        ),
        ("type: api\napi: {endpoint: x}", [("InvalidValue", "spec.api.endpoint")]),
        ("type: api\napi: {endpoint: 'http://x', timeout: soon}", [("InvalidValue", "spec.api.timeout")]),
        (
            "type: api\napi: {endpoint: 'http://x', authentication: {type: bearer}}",
            [("MissingField", "spec.api.authentication")],
        ),
        (
            "type: api\napi: {endpoint: 'http://x/{a}'}\nparameters: [{name: a, type: array}]",
            [("WrongType", "spec.api.endpoint")],
        ),
        (
            "type: api\napi: {endpoint: 'http://x', headers: {'a b': c, Host: h, d: \"e\\r\\nf\"}}",
            [
                ("InvalidName", "spec.api.headers.a b"),
                ("InvalidName", "spec.api.headers.Host"),
                ("InvalidValue", "spec.api.headers.d"),
            ],
        ),
        *(
            (
                f"type: api\nparameters: [{{name: h}}]\napi: {{endpoint: '{endpoint}', {secret}}}",
                [("SecretToAnyHost", "spec.api.endpoint")],
            )
            for endpoint, secret in (
                ("https://{h}/v1/me", "authentication: {type: bearer, secretRef: {name: n, key: k}}"),
                ("https://{h}/v1/me", "secretHeaders: {X: {name: n, key: k}}"),
                ("https://{h}.com/", "secretHeaders: {X: {name: n, key: k}}"),
                ("https://api.{h}.example.com/", "secretHeaders: {X: {name: n, key: k}}"),
                ("https://a{h}.example.com/", "secretHeaders: {X: {name: n, key: k}}"),
                ("https://api.example.com:{h}", "secretHeaders: {X: {name: n, key: k}}"),
            )
        ),
        *(
            (f"type: api\nparameters: [{{name: h}}]\napi: {{endpoint: '{endpoint}', {secret}}}", [])
            for endpoint, secret in (
                ("https://{h}.api.example.com:443/v1", "secretHeaders: {X: {name: n, key: k}}"),
                ("https://api.example.com/{h}", "secretHeaders: {X: {name: n, key: k}}"),
                ("https://{h}/v1/me", "authentication: {type: none}"),
            )
        ),
        (
            "type: api\napi: {endpoint: 'http://x', secretHeaders: {'a:': {name: n, key: k}}}",
            [("InvalidName", "spec.api.secretHeaders.a:")],
        ),
        (
            "type: api\napi: {endpoint: 'http://x', method: POST, headers: {content-type: text/xml}}",
            [("InvalidValue", "spec.api.headers.content-type")],
        ),
        ("type: api\napi: {endpoint: 'http://x', headers: {content-type: text/xml}}", []),
        (
            "type: api\napi: {endpoint: 'http://x', authentication: {type: oauth, header: 'X y'}}",
            [
                ("MissingField", "spec.api.authentication"),
                ("MissingField", "spec.api.authentication"),
                ("MissingField", "spec.api.authentication"),
                ("WrongField", "spec.api.authentication.header"),
                ("InvalidName", "spec.api.authentication.header"),
            ],
        ),
        (
            "type: api\napi: {endpoint: 'http://x', authentication: {type: none, scopes: [a], clientId: b}}",
            [("WrongField", "spec.api.authentication.clientId"), ("WrongField", "spec.api.authentication.scopes")],
        ),
        (
            "type: api\napi: {endpoint: 'http://x', method: PUT, fromOpenAPI: {}}\nparameters: [{name: a}]\noutput: {}",
            [
                ("ConflictingFields", "spec.api.fromOpenAPI"),
                ("WrongField", "spec.api.method"),
                ("WrongField", "spec.parameters"),
                ("WrongField", "spec.output"),
            ],
        ),
        ("type: api\ndescription: d\napi: {endpoint: 'http://x', fromOpenAPI: {inline: {openapi: 3.1.0}}}", []),
        ("type: code\noutput: {type: strin}", [("InvalidSchema", "spec.output")]),
        ("type: code\noutput: {items: {$ref: 'http://x/y'}}", [("InvalidSchema", "spec.output")]),
        ("type: mcp\nmcp: {endpoint: 'http://x', command: [y]}", [("ConflictingFields", "spec.mcp")]),
        ("type: mcp\nmcp: {}", [("ConflictingFields", "spec.mcp")]),
        ("type: mcp\nmcp: {command: [uvx, some-server]}", []),
        (
            "type: retrieval\nretrieval: {vectorStore: {type: milvs}}",
            [("InvalidValue", "spec.retrieval.vectorStore.type")],
        ),
    ],
)
def test_a_tool_is_checked_by_itself(load_spec: Load, spec: str, expected: list[tuple[str, str]]) -> None:
    assert told(load_spec("Tool", spec)) == expected


@pytest.mark.requirement("tool-kind-checked")
@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("[{name: a}, {name: a}]", [("DuplicateName", "[1].name")]),
        ("[{name: 'a b'}]", [("InvalidName", "[0].name")]),
        ("[{name: a, enum: [x, y], default: z}]", [("InvalidDefault", "[0].default")]),
        ("[{name: a, enum: [x, y], default: x}]", []),
        ("[{name: a, enum: [x, 5]}]", [("WrongType", "[0].enum[1]")]),
        ("[{name: a, enum: []}]", [("InvalidValue", "[0].enum")]),
        ("[{name: a, type: array, items: {type: strin}}]", [("InvalidSchema", "[0].items")]),
        ("[{name: a, type: object, properties: {b: {required: true}}}]", [("InvalidSchema", "[0].properties.b")]),
        ("[{name: a, type: integer, default: '5'}]", [("InvalidDefault", "[0].default")]),
        ("[{name: a, type: integer, default: true}]", [("InvalidDefault", "[0].default")]),
        ("[{name: a, type: boolean, default: false}]", []),
        ("[{name: a, type: number, default: 5}]", []),
        ("[{name: a, pattern: '['}]", [("InvalidPattern", "[0].pattern")]),
        ("[{name: a, pattern: '^x', default: y}]", [("InvalidDefault", "[0].default")]),
        ("[{name: a, type: integer, pattern: x}]", [("WrongField", "[0].pattern")]),
        ("[{name: a, minimum: 1}]", [("WrongField", "[0]")]),
        ("[{name: a, type: integer, minimum: 5, maximum: 1}]", [("InvalidRange", "[0].minimum")]),
        ("[{name: a, type: integer, minimum: 5, default: 1}]", [("InvalidDefault", "[0].default")]),
        ("[{name: a, type: integer, maximum: 5, default: 6}]", [("InvalidDefault", "[0].default")]),
        ("[{name: a, minLength: 3, maxLength: 2}]", [("InvalidRange", "[0].minLength")]),
        ("[{name: a, minLength: 3, default: ab}]", [("InvalidDefault", "[0].default")]),
        ("[{name: a, maxLength: 1, default: ab}]", [("InvalidDefault", "[0].default")]),
        ("[{name: a, type: array, minItems: 1, default: []}]", [("InvalidDefault", "[0].default")]),
        ("[{name: a, type: array, maxItems: 1, default: [x, y]}]", [("InvalidDefault", "[0].default")]),
        ("[{name: a, type: text}]", [("InvalidValue", "[0].type")]),
        ("[{name: a, required: 'yes'}]", [("WrongType", "[0].required")]),
    ],
)
def test_parameters_are_checked(load_spec: Load, parameters: str, expected: list[tuple[str, str]]) -> None:
    found = told(load_spec("Tool", f"type: code\nparameters: {parameters}"))
    assert found == [(reason, f"spec.parameters{path}") for reason, path in expected]


@pytest.mark.requirement("memory-store-kind-checked")
@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("type: redis", [("MissingField", "spec")]),
        ("type: redis\nredis: {host: h}\npostgres: {host: h}", [("WrongSection", "spec.postgres")]),
        ("type: redis\nredis: {host: h}\nfailureMode: Continue", []),
        ("type: sqlite\nfailureMode: Fail", []),
        ("type: sqlite\nfailureMode: Continue", [("WrongSection", "spec.failureMode")]),
        ("type: in-memory", []),
        ("type: sqlite\npolicy: {sessionTTL: 0}", []),
        ("type: redis\nredis: {port: 6379}", [("MissingField", "spec.redis.host")]),
        ("type: redis\nredis: {host: h, port: 70000}", [("InvalidValue", "spec.redis.port")]),
        ("type: in-memory\npolicy: {ttl: 5, sessionTTL: 6}", [("ConflictingFields", "spec.policy.sessionTTL")]),
    ],
)
def test_a_memory_store_is_checked_by_itself(load_spec: Load, spec: str, expected: list[tuple[str, str]]) -> None:
    assert told(load_spec("MemoryStore", spec)) == expected


STEPS = """\
input: [{name: topic}]
steps:
  - name: first
    agent: a
    input: {topic: "{{ .input.topic }}"}
    output: [{name: data, path: .result}]
  - name: second
    agent: b
    dependsOn: [first]
    input: {data: "{{ .steps.first.output.data }}"}
output: {all: "{{ .steps.second.output }}"}
"""


def test_a_workflow_that_fits_together_has_no_problem(load_spec: Load) -> None:
    assert told(load_spec("Workflow", STEPS)) == []


@pytest.mark.requirement("workflow-kind-checked")
@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: second", "name: Second", [("InvalidName", "spec.steps[1].name"), ("UnknownStep", "spec.output.all")]),
        (
            "dependsOn: [first]",
            "dependsOn: [frist]",
            [("UnknownStep", "spec.steps[1].dependsOn[0]"), ("NotAnAncestor", "spec.steps[1].input.data")],
        ),
        ("dependsOn: [first]", "dependsOn: [first, second]", [("SelfReference", "spec.steps[1].dependsOn[1]")]),
        ("    dependsOn: [first]\n", "", [("NotAnAncestor", "spec.steps[1].input.data")]),
        ("agent: a", "agent: a\n    dependsOn: [second]", [("DependencyCycle", "spec.steps[0].dependsOn")]),
        (".input.topic", ".input.topc", [("UnknownInput", "spec.steps[0].input.topic")]),
        ("first.output.data", "first.output.dat", [("UnknownOutput", "spec.steps[1].input.data")]),
        ("steps.first.output", "steps.fist.output", [("UnknownStep", "spec.steps[1].input.data")]),
        ("{{ .input.topic }}", "{{ input.topic }}", [("InvalidReference", "spec.steps[0].input.topic")]),
        ("{{ .input.topic }}", "a {{ .input.topic }", [("InvalidReference", "spec.steps[0].input.topic")]),
        ("{{ .input.topic }}", "{{ .input.topic.title[0] }}, please", []),
        ('"{{ .input.topic }}"', '[{deep: "{{ .input.x }}"}]', [("UnknownInput", "spec.steps[0].input.topic[0].deep")]),
        (".steps.second.output", ".steps.third.output", [("UnknownStep", "spec.output.all")]),
        ("path: .result", "path: result", [("InvalidValue", "spec.steps[0].output[0].path")]),
        (
            "[{name: data, path: .result}]",
            "[{name: data, path: .a}, {name: data, path: .b}]",
            [("DuplicateName", "spec.steps[0].output[1].name")],
        ),
        ("agent: a", "agent: a\n    timeout: soon", [("InvalidValue", "spec.steps[0].timeout")]),
        ("agent: a", "agent: a\n    retries: -1", [("InvalidValue", "spec.steps[0].retries")]),
        ("    agent: a\n", "", [("MissingField", "spec.steps[0].agent")]),
        (
            "output: {all",
            "errorHandling: {onStepFailure: retri}\noutput: {all",
            [("InvalidValue", "spec.errorHandling.onStepFailure")],
        ),
        (
            "output: {all",
            "errorHandling: {onWorkflowFailure: notify}\noutput: {all",
            [("MissingField", "spec.errorHandling")],
        ),
        (
            "output: {all",
            "errorHandling: {notificationChannel: {type: slack, webhook: {}}}\noutput: {all",
            [("ConflictingFields", "spec.errorHandling.notificationChannel.webhook")],
        ),
        ("output: {all", "concurrency: {policy: drop}\noutput: {all", [("InvalidValue", "spec.concurrency.policy")]),
        (
            "output: {all",
            "concurrency: {maxConcurrent: 0}\noutput: {all",
            [("InvalidValue", "spec.concurrency.maxConcurrent")],
        ),
        ("[{name: topic}]", "[{name: topic, enum: [a], default: b}]", [("InvalidDefault", "spec.input[0].default")]),
    ],
)
def test_a_workflow_is_checked_by_itself(load_spec: Load, old: str, new: str, expected: list[tuple[str, str]]) -> None:
    assert old in STEPS
    assert sorted(told(load_spec("Workflow", STEPS.replace(old, new, 1)))) == sorted(expected)


def test_a_step_is_declared_once(load_spec: Load) -> None:
    steps = "steps: [{name: a, agent: x}, {name: a, agent: y}]"
    assert told(load_spec("Workflow", steps)) == [("DuplicateName", "spec.steps[1].name")]


def test_a_workflow_needs_a_step(load_spec: Load) -> None:
    assert told(load_spec("Workflow", "steps: []")) == [("InvalidValue", "spec.steps")]


def test_a_cycle_is_told_by_name(load_spec: Load) -> None:
    waits = {"a": "c", "b": "a", "c": "b"}
    steps = ", ".join(f"{{name: {name}, agent: x, dependsOn: [{other}]}}" for name, other in waits.items())
    [problem] = load_spec("Workflow", f"steps: [{steps}]").problems
    assert problem.message == "these steps wait for each other: a → c → b → a"


def test_a_long_chain_of_steps_is_walked_without_recursion() -> None:
    steps = [Step(name=f"s{n}", agent="a", depends_on=[f"s{n - 1}"] if n else None) for n in range(3000)]
    assert find_cycle({step.name: step.depends_on or [] for step in steps}) == []
    assert len(ancestors(steps[:500])["s499"]) == 499


def test_steps_that_meet_again_are_no_cycle() -> None:
    assert find_cycle({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}) == []


@pytest.mark.parametrize("reference", ["{name: research}", "research"])
def test_a_workflow_run_names_its_workflow(load_spec: Load, reference: str) -> None:
    assert told(load_spec("WorkflowRun", f"workflowRef: {reference}\ninput: {{topic: x}}")) == []


def test_a_workflow_run_without_a_workflow_is_told_so(load_spec: Load) -> None:
    assert told(load_spec("WorkflowRun", "input: {}")) == [("MissingField", "spec.workflowRef")]


def test_values_are_held_against_the_parameters_they_are_for() -> None:
    parameters = [
        Parameter(name="topic", required=True),
        Parameter(name="depth", enum=["quick", "deep"], default="quick"),
        Parameter(name="count", type="integer", maximum=3),
    ]
    found = check_values(parameters, {"depth": "depe", "count": 2, "topc": "x"}, "spec.input")
    assert [(problem.reason, problem.path) for problem in found] == [
        ("InvalidValue", "spec.input.depth"),
        ("UnknownInput", "spec.input.topc"),
        ("MissingField", "spec.input.topic"),
    ]
    assert not list(check_values(parameters, {"topic": "x"}, "spec.input"))


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Agent", "modelAPI: m"),
        ("ModelAPI", "mode: Proxy, proxyConfig: {model: m}"),
        ("MCPServer", "type: python-runtime, config: {mcp: p}"),
    ],
)
@pytest.mark.parametrize("path", ["resources", "container.resources"])
def test_no_pod_asks_for_more_than_it_may_use(load_kaos: Load, kind: str, spec: str, path: str) -> None:
    amounts = "resources: {requests: {cpu: 1}, limits: {cpu: 999m}}"
    wrong = amounts if path == "resources" else f"container: {{{amounts}}}"
    text = f"{{{wrong}, {spec}}}"
    assert told(load_kaos(kind, text)) == [("InvalidRange", f"spec.{path}.requests.cpu")]
