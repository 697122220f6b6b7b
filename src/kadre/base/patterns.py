"""Regular expressions that authors write: RE2, as Kubernetes has it.

The one way to search a text for what somebody else wrote. Its time grows with the text, whatever the pattern; with
Python's own engine a few characters of YAML can keep a process busy for years.
"""

from __future__ import annotations

import functools
from typing import Any


def fault(pattern: str) -> str | None:
    """Why it is no pattern; None where it is one."""
    made = _compiled(pattern)
    return made if isinstance(made, str) else None


def found(pattern: str, text: str) -> bool:
    """Whether it is found anywhere in the text. Raises ValueError where it is no pattern: see `fault`."""
    made = _compiled(pattern)
    if isinstance(made, str):
        raise ValueError(made)
    return made.search(text.encode(errors="replace")) is not None


class Pattern:
    """One that is searched with often, and for its groups. Raises ValueError where it is none: see `fault`."""

    def __init__(self, pattern: str, *, ignore_case: bool = False) -> None:
        made = _made(pattern, ignore_case)
        if isinstance(made, str):
            raise ValueError(made)
        self._made = made
        self._names = {name.decode(): number for name, number in made.groupindex.items()}
        self.values = frozenset(map(str, range(made.groups + 1))) | self._names.keys()
        """The keys of what `search` gives."""

    def search(self, text: str) -> dict[str, str] | None:
        """The first place it is found at: `0` is all of it, a number or a name the group of that; None: nowhere."""
        found = self._made.search(text.encode(errors="replace"))
        if found is None:
            return None
        groups = [(group or b"").decode(errors="replace") for group in (found.group(0), *found.groups())]
        named = {name: groups[number] for name, number in self._names.items()}
        return {str(number): group for number, group in enumerate(groups)} | named


@functools.lru_cache(maxsize=128)
def _compiled(pattern: str) -> Any:
    return _made(pattern, ignore_case=False)


def _made(pattern: str, ignore_case: bool) -> Any:
    """Ready to search with, or why it is none."""
    import re2  # 5 ms and 3 MB, where there is a pattern at all

    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignore_case
    try:
        return re2.compile(pattern.encode(), options)
    except UnicodeEncodeError:
        return "not a text that can be written as UTF-8"
    except re2.error as error:
        return error.args[0].decode(errors="replace")
