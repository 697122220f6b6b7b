"""A change reaches exactly those it matters to."""

from __future__ import annotations

from kadre.operator.cluster import Ref
from kadre.operator.dependents import Dependents


def ref(name: str, kind: str = "Agent") -> Ref:
    return Ref("kagent.dev", kind, "default", name)


MODEL = ref("small", "ModelConfig")
TOOL = ref("search", "Tool")


def test_those_who_need_an_object_are_known_though_it_is_not_there() -> None:
    known = Dependents()
    known.note(ref("a"), {MODEL, TOOL})
    known.note(ref("b"), {MODEL})
    assert set(known.of(MODEL)) == {ref("a"), ref("b")}
    assert known.of(TOOL) == (ref("a"),)
    assert known.of(ref("c")) == ()


def test_what_is_no_longer_needed_is_forgotten() -> None:
    known = Dependents()
    known.note(ref("a"), {MODEL, TOOL})
    known.note(ref("a"), {TOOL})
    assert known.of(MODEL) == ()
    known.forget(ref("a"))
    assert known.of(TOOL) == ()
