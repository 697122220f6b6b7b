"""YAML is read within bounds, with lines, and never with a traceback."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kadre.api import reader
from kadre.base.problems import Problem

pytestmark = pytest.mark.requirement("yaml-hostile")


def read(text: str) -> tuple[list[reader.Document], list[Problem]]:
    problems: list[Problem] = []
    return list(reader.read(text, "f.yaml", problems)), problems


def value(text: str) -> Any:
    documents, problems = read(text)
    assert not problems
    return documents[0].value


def only_problem(text: str) -> Problem:
    _, problems = read(text)
    assert len(problems) == 1
    return problems[0]


def test_every_field_has_the_line_it_was_written_on() -> None:
    documents, _ = read("a: 1\nb:\n  - x\n  - c: 2\n    d: [1,\n 2]\n")
    lines = documents[0].lines
    assert [lines.line(path) for path in ("a", "b", "b[0]", "b[1].c", "b[1].d", "b[1].d[1]")] == [1, 2, 3, 4, 5, 6]


def test_a_field_that_is_not_there_has_the_line_of_what_is_around_it() -> None:
    documents, _ = read("a:\n  b:\n    c: 1\n")
    assert documents[0].lines.line("a.b.missing.deeper") == 2


def test_a_key_with_points_is_found_in_brackets() -> None:
    documents, _ = read("labels:\n  x: y\n  app.kubernetes.io/name: z\n")
    assert documents[0].lines.line("labels[app.kubernetes.io/name]") == 3


def test_documents_are_separate_and_empty_ones_are_skipped() -> None:
    documents, _ = read("---\n---\na: 1\n---\n# only a comment\n---\nb: 2\n...\n")
    assert [document.value for document in documents] == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", True),
        ("off", False),
        ("~", None),
        ("0x1F", 31),
        ("010", 8),
        ("1_000", 1000),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-7", -7),
        ("99999999999999999999", 1e20),
        ("2025-02-05", "2025-02-05"),
        ("2025-02-05T10:00:00Z", "2025-02-05T10:00:00Z"),
        ("12:30", "12:30"),
        ("1.2.3", "1.2.3"),
        ("'5'", "5"),
        ('"true"', "true"),
        ("!!str 5", "5"),
        ("!!int '5'", 5),
        ("!!float 5", 5.0),
        ("+", "+"),
        ("-", "-"),
    ],
)
def test_words_mean_what_they_mean_to_kubectl(text: str, expected: Any) -> None:
    if text == "-":
        text = "'-'"
    found = value(f"a: {text}")["a"]
    assert found == expected
    assert type(found) is type(expected)


def test_keys_are_texts_whatever_they_look_like() -> None:
    assert value("8080: a\non: b\n1.5: c\n") == {"8080": "a", "on": "b", "1.5": "c"}


def test_anchors_and_merge_keys_are_followed() -> None:
    text = "base: &base {a: 1, b: 2}\nmore: &more {c: 3}\nit:\n  <<: [*base, *more]\n  b: own\n"
    assert value(text)["it"] == {"a": 1, "b": "own", "c": 3}


def test_json_is_yaml() -> None:
    data = {"a": [1, 2.5, None, True, 'ü😀\t"\\/'], "b": {"c": {}}}
    assert value(json.dumps(data, indent="\t")) == data


def test_a_key_written_twice_is_told_with_both_lines() -> None:
    problem = only_problem("a: 1\nb: 2\na: 3\n")
    assert (problem.reason, problem.source.line) == ("DuplicateKey", 3)
    assert "first at line 1" in problem.message


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        ("a: 1\nb: [1, 2", "InvalidYaml", 2),
        ("a:\n\t- b", "InvalidYaml", 2),
        ("a: b: c", "InvalidYaml", 1),
        ("a: 'open", "InvalidYaml", 1),
        ("a: 1\n b: 2", "InvalidYaml", 2),
        ("ok: 1\n\x07", "InvalidYaml", 2),
        ("a: \ud800", "InvalidText", 1),
        ("a: *nowhere", "UnknownAlias", 1),
        ("a: &a [*a]", "UnknownAlias", 1),
        ("a: {{ .x }}", "InvalidKey", 1),
        ("? [1]\n: 2", "InvalidKey", 1),
        ("a: .nan", "InvalidValue", 1),
        ("a: 1e999", "InvalidValue", 1),
        ("a: !!python/object:os.system x", "InvalidValue", 1),
        ("a: !!set {x}", "InvalidValue", 1),
        ("a: !!int x", "InvalidValue", 1),
        ("<<: 5", "InvalidValue", 1),
        ("\n" + "[" * 65, "TooDeep", 2),
        ("- " * 100_000, "TooDeep", 1),
        ("{a: " * 5000, "TooDeep", 1),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line_and_a_fix(text: str, reason: str, line: int) -> None:
    problem = only_problem(text)
    assert (problem.reason, problem.source.file, problem.source.line) == (reason, "f.yaml", line)
    assert problem.fix


def test_documents_before_a_broken_one_are_kept() -> None:
    documents, problems = read("a: 1\n---\nb: [")
    assert [document.value for document in documents] == [{"a": 1}]
    assert len(problems) == 1


def test_a_file_of_more_than_ten_mebibytes_is_refused() -> None:
    problem = only_problem("a: " + "x" * reader.MAX_BYTES)
    assert problem.reason == "TooLarge"
    assert "at most 10" in problem.message


def test_a_billion_laughs_are_refused() -> None:
    lines = ["l0: &l0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"l{n}: &l{n} [{','.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
    problem = only_problem("\n".join(lines))
    assert problem.reason == "TooLarge"
    assert "alias" in problem.message


def test_nesting_through_aliases_counts_as_nesting() -> None:
    lines = ["l0: &l0 [[[[[[[[[[x]]]]]]]]]]"]
    lines += [f"l{n}: &l{n} [[[[[[[[[*l{n - 1}]]]]]]]]]" for n in range(1, 10)]
    assert only_problem("\n".join(lines)).reason == "TooDeep"


def test_more_values_than_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_NODES", 1000)
    assert only_problem("[" + "1," * 1000 + "1]").message == "more than 1000 values in one file"


def test_in_quotes_the_merge_key_is_a_key_like_any_other() -> None:
    ((document,), problems) = read('{"<<": 5, it: {"<<": {a: 1}}}')
    assert (document.value, problems) == ({"<<": 5, "it": {"<<": {"a": 1}}}, [])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
@settings(max_examples=150, deadline=None)
def test_whatever_json_can_say_is_read_back(data: Any) -> None:
    documents, problems = read(json.dumps({"it": data}))
    assert not problems
    assert documents[0].value == {"it": data}


@given(st.text(alphabet=st.sampled_from("ab:-?&*!|>'\"%@`{}[],#\n\t 01.~<x\\"), max_size=80) | st.text(max_size=40))
@settings(max_examples=400, deadline=None)
def test_no_text_is_a_traceback(text: str) -> None:
    _, problems = read(text)
    assert all(problem.message and problem.source.line >= 0 for problem in problems)


def test_a_text_of_several_lines_keeps_its_lines() -> None:
    text = textwrap.dedent("""\
        prompt: |
          one
          two: three
        next: 1
        """)
    documents, _ = read(text)
    assert documents[0].value["prompt"] == "one\ntwo: three\n"
    assert documents[0].lines.line("next") == 4
