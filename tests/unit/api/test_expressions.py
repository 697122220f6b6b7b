"""The `{{ … }}` references of a text."""

from __future__ import annotations

import pytest

from kadre.api.expressions import Broken, Reference, references


def test_references_are_found_in_order_and_what_is_none_is_told() -> None:
    text = "a {{ .input.topic }} b {{.steps.find.output.pages[0].title}} {{ x }} {{{{ .input.a }} }} {{ .input"
    assert list(references(text)) == [
        Reference(".input.topic", "", "topic", ""),
        Reference(".steps.find.output.pages[0].title", "find", "pages", "[0].title"),
        Broken("x"),
        Broken("{{ .input.a"),
        Broken("{{ .input"),
    ]


@pytest.mark.parametrize("text", ["{{" * 500_000, "{{ " + "{" * 1_000_000, "{{}}" * 1000 + "{{" * 500_000])
@pytest.mark.timeout(10)  # a search for each end would take hours
def test_braces_that_do_not_close_do_not_take_long(text: str) -> None:
    assert isinstance(list(references(text))[-1], Broken)
