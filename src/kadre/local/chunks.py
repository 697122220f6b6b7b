"""A text cut into passages that are searched for: none longer than a bound, each beginning a little before its end.

A cut is made where the text itself has one: between paragraphs, else between lines, sentences, words.
"""

from __future__ import annotations

from collections.abc import Iterator

_BREAKS = ("\n\n", "\n", ". ", "! ", "? ", "; ", ", ", " ")


def passages(text: str, size: int, overlap: int) -> Iterator[str]:
    """Pieces of at most `size` characters, that share up to `overlap` with the one before; none is empty.

    `overlap` is less than half of `size`, so that every piece brings something new.
    """
    start, end = 0, len(text)
    while start < end:
        stop = min(end, start + size)
        if stop < end:
            stop = _cut(text, start + size // 2, stop)
        piece = text[start:stop].strip()
        if piece:
            yield piece
        if stop == end:
            return
        start = _begin(text, stop - overlap, stop) if overlap else stop


def _cut(text: str, least: int, most: int) -> int:
    """Where to end: after the last of the best break there is between the two."""
    for sign in _BREAKS:
        found = text.rfind(sign, least, most)
        if found >= 0:
            return found + len(sign)
    return most


def _begin(text: str, least: int, most: int) -> int:
    """Where to begin again: with a whole word, where there is one."""
    found = text.find(" ", least, most)
    return found + 1 if found >= 0 else least
