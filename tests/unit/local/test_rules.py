"""Reading the scripted model's rules: a list of plain data, or a sentence about what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from kadre.base.errors import ProblemError
from kadre.local import rules

pytestmark = pytest.mark.requirement("scripted-model")


def test_a_file_of_rules_is_a_list_of_plain_data(tmp_path: Path) -> None:
    file = tmp_path / "weather.rules"
    file.write_text('- match: hi\n  say: "Hello, {0}"\n- {fault: {status: 429}}\n')
    assert rules.read_rules(str(file)) == [{"match": "hi", "say": "Hello, {0}"}, {"fault": {"status": 429}}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"", "one list"),
        (b"match: hi\n", "one list"),
        (b"- say: a\n---\n- say: b\n", "one list"),
        (b"- say: [\n", "not YAML"),
        (b"- say: a\n  say: b\n", "written twice"),
        (b"- \xff\n", "not UTF-8"),
        (b"- say: " + b"x" * rules.MAX_BYTES, "larger than 1 MiB"),
        (b"- " + b"[" * 100 + b"]" * 100, "levels of nesting"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_name(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "bad.rules"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ProblemError) as caught:
        rules.read_rules(str(file))
    (problem,) = caught.value.problems
    assert said in problem.message
    assert problem.source.file == str(file)
    assert problem.fix
