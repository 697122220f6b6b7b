"""A text cut into passages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kadre.local.chunks import passages

TEXT = "One two three. Four five six.\n\nSeven eight nine ten eleven. Twelve thirteen."


def test_a_cut_is_made_at_the_best_place_and_a_passage_begins_with_a_whole_word() -> None:
    assert list(passages(TEXT, 200, 50)) == [TEXT]
    assert list(passages(TEXT, 40, 0)) == [
        "One two three. Four five six.",
        "Seven eight nine ten eleven.",
        "Twelve thirteen.",
    ]
    assert list(passages(TEXT, 40, 12))[1].startswith("five six.")
    assert list(passages("x" * 25, 10, 0)) == ["x" * 10, "x" * 10, "x" * 5]
    assert list(passages(" \n ", 10, 0)) == []


@given(st.text(alphabet="ab .\n", max_size=400), st.integers(4, 60), st.integers(0, 40))
def test_nothing_is_lost_and_none_is_too_long(text: str, size: int, overlap: int) -> None:
    overlap = min(overlap, (size - 1) // 2)
    made = list(passages(text, size, overlap))
    assert all(0 < len(passage) <= size for passage in made)
    letters = "".join(text.split())
    if overlap:
        assert len("".join("".join(passage.split()) for passage in made)) >= len(letters)
    else:
        assert "".join("".join(passage.split()) for passage in made) == letters
    assert len(made) <= len(text)
