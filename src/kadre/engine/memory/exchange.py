"""What is looked at for memories, and what a model lists of it, read as it may write it. Pure."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime

import msgspec

MOST_READ = 64 * 1024
"""Characters of an answer that are looked at."""
TRIES = 8
"""Brackets with which an array may begin."""
_decoder = json.JSONDecoder()


class Exchange(msgspec.Struct, frozen=True):
    """A run that has ended: who said what, and what was answered. `outside`: see `events.Recalled`."""

    caller: str
    run_id: str
    said: str
    answered: str
    time: datetime
    outside: str = ""


def sentences(answer: str) -> list[str]:
    """The texts of the first JSON array, whatever words are around it; none where there is no such array."""
    answer = answer[:MOST_READ]
    begin = -1
    for _ in range(TRIES):
        begin = answer.find("[", begin + 1)
        if begin < 0:
            break
        with contextlib.suppress(ValueError, RecursionError):
            found, _ = _decoder.raw_decode(answer, begin)
            texts = [" ".join(each.split()) for each in found if isinstance(each, str)]
            return list(dict.fromkeys(text for text in texts if text))
    return []
