"""Files of YAML become resources, and what is wrong in them is told all at once, for people."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kadre.api.kinds.agent import Agent
from kadre.api.kinds.model_config import ModelConfig
from kadre.api.manifest import MAX_OBJECT_VALUES, load, load_many, parse
from kadre.api.registry import KINDS
from kadre.api.resource import KAOS, NATIVE, Resource
from kadre.base.problems import Problem, Source

AGENT = """\
apiVersion: kagent.dev/v1alpha1
kind: Agent
metadata:
  name: helper
  namespace: team
spec:
  modelConfig: gpt
  tools:
    - name: one
    - name: two
"""


def only_problem(text: str) -> Problem:
    problems = load(text, "f.yaml").problems
    assert len(problems) == 1, [str(problem) for problem in problems]
    return problems[0]


def test_an_object_knows_its_name_and_the_line_of_every_field() -> None:
    loaded = load(f"# a comment\n---\n{AGENT}", "f.yaml")
    assert not loaded.problems
    [agent] = loaded.resources
    assert isinstance(agent, Agent)
    assert (agent.ref, agent.source) == ("Agent team/helper", Source("f.yaml", 3))
    assert agent.line("spec.tools[1].name") == 12
    assert agent.at("spec.nothing") == Source("f.yaml", 8)


def test_the_namespace_is_default_where_none_is_written() -> None:
    [agent] = load(AGENT.replace("  namespace: team\n", ""), "f.yaml").resources
    assert agent.namespace == "default"


@pytest.mark.requirement("yaml-errors-for-people")
def test_an_unknown_field_is_told_with_the_nearest_known_one() -> None:
    problem = only_problem(AGENT.replace("modelConfig: gpt", "systemPromt: hi"))
    assert "spec.systemPromt: unknown field; did you mean systemPrompt?" in str(problem)
    assert (problem.reason, problem.path, problem.fix) == ("UnknownField", "spec.systemPromt", "write systemPrompt")
    assert (problem.source, problem.resource) == (Source("f.yaml", 7), "Agent team/helper")


def test_a_field_in_the_wrong_place_is_told_where_it_belongs() -> None:
    assert only_problem(AGENT.replace("modelConfig: gpt", "temperature: 1")).fix == "move it into model:"


def test_snake_case_is_python_and_not_yaml() -> None:
    assert only_problem(AGENT.replace("modelConfig: gpt", "system_prompt: hi")).reason == "UnknownField"


@pytest.mark.requirement("yaml-errors-for-people")
def test_all_problems_of_all_objects_are_told_at_once_in_order_of_lines() -> None:
    bad = AGENT.replace("helper", "Helper").replace("gpt", "5").replace("- name: two", "- nme: two\n  onBusy: maybe")
    loaded = load(f"{bad}---\n{AGENT.replace('tools', 'toools')}", "f.yaml")
    assert [problem.reason for problem in loaded.problems] == [
        "InvalidName",
        "WrongType",
        "MissingField",
        "UnknownField",
        "InvalidValue",
        "UnknownField",
    ]
    lines = [problem.source.line for problem in loaded.problems]
    assert lines == sorted(lines)
    assert [str(named) for named in loaded.rejected] == ["Agent team/Helper", "Agent team/helper"]


def test_checks_run_beside_unknown_fields() -> None:
    loaded = load(AGENT.replace("name: two", "name: one").replace("modelConfig", "modelConfg"), "f.yaml")
    assert [problem.reason for problem in loaded.problems] == ["UnknownField", "DuplicateName"]


@pytest.mark.parametrize(
    ("written", "message", "fix"),
    [
        ("maxSteps: '5'", "expected a whole number, got a text", "write it without quotes"),
        ("maxSteps: 1.5", "expected a whole number, got a number", "mend"),
        ("maxSteps: 0", "must be at least 1, got 0", "at least 1"),
        ("systemPrompt: 5", "expected a text, got a number", "put it in quotes"),
        ("systemPrompt: yes", "expected a text, got true or false", "put it in quotes"),
        ("tools: one", "expected a list, got a text", "each item on a line"),
        ("env: [A]", "expected a mapping, got a text", "mend"),
        ("env: [{name: A, value: }]", "", ""),
        ("memory: redis", "expected a mapping, got a text", "mend"),
        ("onBusy: que", "expected one of queue, reject, interrupt, got 'que'; did you mean queue?", "write queue"),
        ("onBusy: [queue]", "expected one of queue, reject, interrupt, got a list", "write queue"),
        ("timeout: soon", "expected a duration such as 30s, 5m or 1h30m, got 'soon'", "as shown"),
        ("timeout: true", "expected a duration such as 30s, 5m or 1h30m, got a boolean", "as shown"),
        ("model: {temperature: 3}", "must be at most 2, got 3", "at most 2"),
        ("resources: {limits: {cpu: lots}}", "expected a quantity such as 500m, 2 or 512Mi, got 'lots'", "as shown"),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(written: str, message: str, fix: str) -> None:
    text = AGENT.replace("modelConfig: gpt", written)
    if written.startswith("tools"):
        text = text.replace("  tools:\n    - name: one\n    - name: two\n", "")
    if not message:
        assert not load(text, "f.yaml").problems
        return
    problem = only_problem(text)
    assert problem.message == message
    assert fix in problem.fix
    assert problem.source.line == 7


def test_an_object_without_spec_or_name_is_told_so() -> None:
    text = "apiVersion: kagent.dev/v1alpha1\nkind: Agent\nmetadata: {}\n"
    assert [problem.message for problem in load(text, "f.yaml").problems] == ["spec is required", "name is required"]


@pytest.mark.parametrize(
    ("version", "kind", "told"),
    [
        ("kagent.dev/v1alpha1", "Agnet", "kagent.dev has no kind Agnet; did you mean Agent?"),
        (
            "kagent.dev/v1alpha2",
            "Agent",
            "there is no API version kagent.dev/v1alpha2; did you mean kagent.dev/v1alpha1?",
        ),
        ("kagnet.dev/v1alpha1", "Agent", "did you mean kagent.dev/v1alpha1?"),
        ("kaos.tools/v1alpha1", "ModelApi", "did you mean ModelAPI?"),
    ],
)
def test_an_unknown_kind_of_ours_is_told_with_the_nearest(version: str, kind: str, told: str) -> None:
    problem = only_problem(f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n")
    assert problem.reason == "UnknownKind"
    assert told in problem.message


def test_other_peoples_kinds_are_listed_as_ignored() -> None:
    loaded = load("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {anything: 1}\n", "f.yaml")
    assert [str(named) for named in loaded.ignored] == ["Deployment default/web"]
    assert not loaded.problems


def test_a_file_that_is_no_object_is_left_alone_with_a_warning() -> None:
    problem = only_problem("replicaCount: 2\n")
    assert (problem.reason, problem.severity) == ("NotAnObject", "warning")


@pytest.mark.parametrize("text", ["hello", "[1, 2]", "kind: Agent\nspec: {}\n", "apiVersion: 1\nkind: Agent\n"])
def test_half_an_object_is_an_error(text: str) -> None:
    assert only_problem(text).severity == "error"


def test_the_same_name_twice_is_told_with_the_other_place() -> None:
    loaded = load_many([(AGENT, "a.yaml"), (f"\n{AGENT}", "b.yaml")])
    [problem] = loaded.problems
    assert problem.reason == "DuplicateResource"
    assert problem.message == "Agent team/helper is declared twice, first at a.yaml:1"
    assert problem.source == Source("b.yaml", 5)
    assert len(loaded.resources) == 1


def test_one_name_in_two_kinds_or_namespaces_is_no_problem() -> None:
    model = "apiVersion: kagent.dev/v1alpha1\nkind: ModelConfig\nmetadata: {name: helper, namespace: team}\n"
    loaded = load_many(
        [
            (AGENT, "a.yaml"),
            (AGENT.replace("team", "other"), "b.yaml"),
            (f"{model}spec: {{provider: openai, model: m}}\n", "c.yaml"),
        ]
    )
    assert not loaded.problems
    assert [type(resource) for resource in loaded.resources] == [Agent, Agent, ModelConfig]


@pytest.mark.requirement("backup-loads")
@pytest.mark.parametrize("kind", ["List", "AgentList"])
def test_a_backup_made_by_kubectl_loads_back(kind: str) -> None:
    item = {
        "apiVersion": "kagent.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {
            "name": "helper",
            "namespace": "team",
            "uid": "5a",
            "resourceVersion": "12",
            "generation": 3,
            "creationTimestamp": "2025-02-05T00:00:00Z",
            "selfLink": "/x",
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
            "ownerReferences": [{"name": "x"}],
            "finalizers": ["a/b"],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "kept": "yes"},
        },
        "spec": {"modelConfig": "gpt"},
        "status": {"conditions": [], "anything": 1},
    }
    if kind == "AgentList":  # as an API server answers: items say neither version nor kind
        del item["apiVersion"], item["kind"]
    version = "v1" if kind == "List" else NATIVE
    text = json.dumps({"apiVersion": version, "kind": kind, "metadata": {"resourceVersion": ""}, "items": [item]})
    loaded = load(text, "agents-backup.yaml")
    assert not loaded.problems
    [agent] = loaded.resources
    assert agent.metadata.generation == 3
    assert agent.metadata.annotations == {"kept": "yes"}


def test_lines_within_a_list_are_those_of_the_file() -> None:
    item = AGENT.replace("\n", "\n    ").rstrip()
    loaded = load(f"apiVersion: v1\nkind: List\nitems:\n  - {item}\n", "f.yaml")
    [agent] = loaded.resources
    assert (agent.source.line, agent.line("spec.tools[1]")) == (4, 13)


def test_a_list_whose_items_are_no_list_is_told_so() -> None:
    assert only_problem("apiVersion: v1\nkind: List\nitems: 5\n").message == "items of a List must be a list"


def test_secrets_and_config_maps_are_read_and_secrets_never_shown() -> None:
    encoded = base64.b64encode(b"sk-encoded").decode()
    loaded = load(
        f"""\
apiVersion: v1
kind: Secret
metadata: {{name: keys, namespace: team}}
type: Opaque
data: {{api-key: {encoded}}}
stringData: {{other: sk-plain}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data: {{level: info}}
""",
        "f.yaml",
    )
    assert not loaded.problems
    assert loaded.secrets[0].values == {"api-key": "sk-encoded", "other": "sk-plain"}
    assert loaded.config_maps[0].values == {"level": "info"}
    assert "sk-" not in repr(loaded)


def test_a_broken_secret_is_told_without_its_value() -> None:
    text = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\ndata:\n  a: sk-not-base64\nstringData:\n  b: 12345\n"
    problems = load(text, "f.yaml").problems
    assert [problem.path for problem in problems] == ["data[a]", "stringData[b]"]
    assert [problem.source.line for problem in problems] == [5, 7]
    assert not any("sk-not" in str(problem) or "12345" in str(problem) for problem in problems)


def test_a_secret_key_in_a_wrong_place_is_not_repeated_in_the_message() -> None:
    text = (
        "apiVersion: kaos.tools/v1alpha1\nkind: ModelAPI\nmetadata: {name: m}\n"
        "spec: {mode: Proxy, proxyConfig: {apiKey: {value: [sk-secret]}}}\n"
    )
    assert "sk-secret" not in str(only_problem(text))


@pytest.mark.parametrize("name", ["Helper", "a_b", "-a", "a-", "a" * 64, "ä", "a b", "1abc", "a.b"])
def test_a_name_that_no_cluster_takes_is_refused(name: str) -> None:
    problem = only_problem(AGENT.replace("helper", f"'{name}'"))
    assert (problem.reason, problem.path) == ("InvalidName", "metadata.name")


@pytest.mark.parametrize(("version", "spec"), [(NATIVE, "modelConfig: m"), (KAOS, "modelAPI: m")])
def test_an_agents_name_is_one_that_its_service_can_have(version: str, spec: str) -> None:
    text = f"apiVersion: {version}\nkind: Agent\nmetadata: {{name: 1abc}}\nspec: {{{spec}}}\n"
    problem = only_problem(text)
    assert (problem.reason, problem.path) == ("InvalidName", "metadata.name")
    assert "beginning with a letter" in problem.fix
    assert not load(text.replace("1abc", "a" * 63), "f.yaml").problems


def test_what_has_no_service_of_its_name_may_begin_with_a_digit_and_have_dots() -> None:
    text = (
        f"apiVersion: {NATIVE}\nkind: ModelConfig\nmetadata: {{name: 4.o-mini}}\nspec: {{provider: vllm, model: m}}\n"
    )
    assert not load(text, "f.yaml").problems


def test_a_label_that_no_cluster_takes_is_refused() -> None:
    text = AGENT.replace("  name: helper\n", "  name: helper\n  labels:\n    app.io/name: not a label!\n", 1)
    problem = only_problem(text)
    assert (problem.path, problem.source.line) == ("metadata.labels[app.io/name]", 6)


def test_an_object_with_too_many_values_is_refused_before_it_takes_memory() -> None:
    text = AGENT + "  agents: [" + "a," * MAX_OBJECT_VALUES + "]\n"
    assert only_problem(text).reason == "TooLarge"


def test_thousands_of_problems_in_one_object_are_cut_short() -> None:
    text = AGENT + "  agents: [" + "1," * 5000 + "1]\n"
    problems = load(text, "f.yaml").problems
    assert len(problems) == 101
    assert problems[0].message.startswith("and 4901 more") or problems[-1].message.startswith("and 4901 more")


def test_an_object_from_an_api_server_is_parsed_without_lines() -> None:
    resource, problems = parse(
        {"apiVersion": NATIVE, "kind": "Agent", "metadata": {"name": "a"}, "spec": {"maxSteps": 0}}
    )
    assert resource is None
    assert [str(problem).splitlines()[0] for problem in problems] == [
        "Agent default/a: spec.maxSteps: must be at least 1, got 0"
    ]


def test_a_thousand_agents_load_in_one_go() -> None:
    loaded = load("---\n".join(AGENT.replace("helper", f"helper-{number}") for number in range(1000)), "f.yaml")
    assert len(loaded.resources) == 1000
    assert loaded.resources[999].line("spec.modelConfig") == 999 * 11 + 7


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 70000)
    | st.floats(-2, 2)
    | st.text(max_size=6)
    | st.sampled_from(["a", "5m", "cpu"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def _fields(kind: type[Resource]) -> st.SearchStrategy[object]:
    spec: Any = kind.model_fields["spec"].annotation
    names = [info.alias or name for name, info in spec.model_fields.items()]
    names += [*spec.spellings, *spec.accepts]
    shapes = ANY | st.fixed_dictionaries(
        {}, optional={"name": ANY, "type": ANY, "config": ANY, "metrics": ANY, "target": ANY}
    )
    return st.dictionaries(st.sampled_from(names), shapes | st.lists(shapes, max_size=3), max_size=6)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_object_is_a_traceback(data: st.DataObject) -> None:
    (version, kind), model = data.draw(st.sampled_from(sorted(KINDS.items(), key=str)))
    spec = data.draw(ANY | _fields(model))
    text = json.dumps({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, "spec": spec})
    loaded = load(text, "f.yaml")
    assert len(loaded.resources) + len(loaded.rejected) == 1
    assert loaded.resources or loaded.problems
    assert all(problem.fix and problem.message for problem in loaded.problems)
