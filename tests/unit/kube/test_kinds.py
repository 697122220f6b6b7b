"""What is kept of names: each once, and for no longer than somebody has it."""

from __future__ import annotations

import sys
import uuid

from kadre.kube.kinds import key_of

FOR_EVER = 2**30
"""References that CPython counts to what it never lets go: more than there can be."""


def test_names_that_come_and_go_are_let_go() -> None:
    key = key_of({"metadata": {"namespace": str(uuid.uuid4()), "name": str(uuid.uuid4())}})
    assert all(sys.getrefcount(text) < FOR_EVER for text in key)


def test_a_name_that_two_objects_have_is_kept_once() -> None:
    name = str(uuid.uuid4())
    first, second = [key_of({"metadata": {"name": "".join(name)}}) for _ in range(2)]
    assert (first.name is second.name) is (sys.version_info[:2] != (3, 12))
