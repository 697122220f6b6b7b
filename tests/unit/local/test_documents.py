"""Files as texts with metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kadre.local import documents
from kadre.local.documents import Text


def read(folder: Path, name: str, text: str) -> list[Text]:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return list(documents.read(file))


def test_front_matter_is_metadata_lists_as_one_text_and_what_is_nested_not_at_all(tmp_path: Path) -> None:
    front = "category: faq\ntags: [a, 2]\nyear: 2024\nday: 2024-05-01\ndraft: false\nnone:\ndeep: {a: 1}\n"
    ((text, metadata),) = read(tmp_path, "a.md", f"---\n{front}---\n# Hello\n")
    assert text == "# Hello\n"
    assert metadata == {"category": "faq", "tags": "a, 2", "year": 2024, "day": "2024-05-01", "draft": False}


@pytest.mark.parametrize(
    "text",
    [
        "---\nno end",
        "----\na: b\n---\nx",
        "---\n\nSee: this: that\n---\nx",
        "---\nAfter a rule\n---\nx",
        "# T\n\n---\na: b\n---\n",
    ],
)
def test_what_is_no_front_matter_is_text(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, "a.md", text) == [Text(text, {})]


def test_a_page_is_what_a_reader_sees_of_it(tmp_path: Path) -> None:
    page = """<html><head><title>The
      Title</title><style>p{}</style><meta x></head><body><h1>One</h1><p>two <b>three</b>&amp;</p>
      <script>if (a < b) evil()</script><ul><li>four<li>five</ul></body></html>"""
    assert read(tmp_path, "a.html", page) == [Text("One\ntwo three&\nfour\nfive", {"title": "The Title"})]
    assert read(tmp_path, "b.htm", "<head><title>T<body>text <p>more")[0].text.endswith("more")
    assert read(tmp_path, "c.html", "<!doctype html><head><title>T</title><h1>Hi</h1><p>you") == [
        Text("Hi\nyou", {"title": "T"})
    ]
    assert read(tmp_path, "d.html", "<head><title>T</title>bare text") == [Text("bare text", {"title": "T"})]


def test_what_no_store_could_hold_is_written_as_text_or_left_out(tmp_path: Path) -> None:
    row = '{"text": "a\\ud800b\\u0000c", "n": NaN, "i": Infinity, "big": 99999999999999999999, "s": "x\\u0000\\ud800"}'
    (text,) = read(tmp_path, "a.jsonl", row)
    assert text == Text("a?bc", {"n": "nan", "i": "inf", "big": "99999999999999999999", "s": "x?"})
    laughs = "---\na: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b, y]\n---\nt"
    assert read(tmp_path, "a.md", laughs) == [Text("t", {"a": "x, x", "b": "", "c": "y"})]


def test_rows_and_objects_are_documents_each(tmp_path: Path) -> None:
    with_text: list[Any] = [{"text": "one", "lang": "en", "n": 1, "deep": {"a": 1}}, "two", {"a": "x", "b": [1]}]
    expected = [Text("one", {"lang": "en", "n": 1}), Text("two", {}), Text("a: x\nb: [1]", {"a": "x", "b": "1"})]
    assert read(tmp_path, "a.json", json.dumps(with_text)) == expected
    assert read(tmp_path, "a.jsonl", "\n".join(map(json.dumps, with_text)) + "\n\n") == expected
    assert read(tmp_path, "a.csv", 'text,lang\n"one, more",en\n') == [Text("one, more", {"lang": "en"})]
    assert read(tmp_path, "a.tsv", "q\ta\nwhy\tso\n") == [Text("q: why\na: so", {"q": "why", "a": "so"})]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"\xff", "no UTF-8 text"),
        ("a.json", b"{", "Expecting"),
        ("a.json", b"[" * 100_000, ""),
        ("a.jsonl", b'{"text": "x"}\n{', "line 2"),
        ("a.csv", b"a,b\n1\n", "line 2: it has other columns"),
        ("a.md", b"---\na: [\n---\n", "while parsing"),
        ("a.yaml", b"a: 1", ".yaml is none of .txt"),
        ("a", b"a", "a name without an ending"),
        ("a.txt", b" \n", "there is no text in it"),
        ("a.csv", b"a,b\n", "there is no text in it"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_name_and_a_fix(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    (problem,) = documents.check(file)
    assert said in problem.message
    assert (problem.source.file, bool(problem.fix)) == (str(file), True)


def test_a_folder_is_its_documents_and_what_is_hidden_is_none_of_them(tmp_path: Path) -> None:
    for name in ("b.md", "a/c.txt", ".git/d.md", "a/.e.md", "f.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    files, problems = documents.found([tmp_path, tmp_path / "b.md", tmp_path / "gone"])
    assert [str(file.relative_to(tmp_path)) for file in files] == ["a/c.txt", "b.md"]
    assert [problem.reason for problem in problems] == ["MissingFile"]
    assert documents.found([tmp_path / ".git"])[1] == []
    (tmp_path / "empty").mkdir()
    assert [problem.reason for problem in documents.found([tmp_path / "empty"])[1]] == ["NoDocuments"]


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_BYTES", 3)
    (tmp_path / "a.txt").write_text("four")
    assert "at most 3 are read" in documents.check(tmp_path / "a.txt")[0].message
