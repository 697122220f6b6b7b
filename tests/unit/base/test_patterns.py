"""What authors write as regular expressions."""

from __future__ import annotations

import pytest

from kadre.base import patterns


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("^[A-Z]+-[0-9]+$", "ABC-1", True),
        ("^[A-Z]+-[0-9]+$", "abc-1", False),
        ("b", "abc", True),
        ("^.$", "ü", True),
        ("^.$", "\ud800", True),
        (r"^\p{Lu}", "Ü", True),
    ],
)
def test_a_pattern_is_found_anywhere_in_a_text(pattern: str, text: str, found: bool) -> None:
    assert patterns.fault(pattern) is None
    assert patterns.found(pattern, text) is found


@pytest.mark.parametrize("pattern", ["^(a+)+$", "(x+x+)+y", "^(a|aa)+$", r"(?:\w{0,50}){20}x"])
@pytest.mark.timeout(10)  # with Python's own engine each takes longer than the universe will be there
def test_no_pattern_takes_long(pattern: str) -> None:
    assert not patterns.found(pattern, "a" * 20_000 + "!")


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "missing ): ("),
        ("(?=a)b", "invalid perl operator: (?="),
        (r"(a)\1", r"invalid escape sequence: \1"),
        ("(a{1000}){1000}", "invalid repetition size: {1000}"),
        ("\ud800", "not a text that can be written as UTF-8"),
    ],
)
def test_what_is_no_pattern_is_told(pattern: str, why: str) -> None:
    assert patterns.fault(pattern) == why


def test_what_is_found_is_given_by_number_and_by_name() -> None:
    pattern = patterns.Pattern(r"(\w+) in (?P<city>\pL+)( soon)?", ignore_case=True)
    assert pattern.values == {"0", "1", "2", "3", "city"}
    assert pattern.search("- RAIN IN Zürich\ud800") == {
        "0": "RAIN IN Zürich",
        "1": "RAIN",
        "2": "Zürich",
        "3": "",
        "city": "Zürich",
    }
    assert pattern.search("rain") is None
    assert patterns.Pattern("RAIN").search("rain") is None


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"missing \)"):
        patterns.Pattern("(")
