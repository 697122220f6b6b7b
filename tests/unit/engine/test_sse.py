"""Server-sent events come out the same however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kadre.engine import sse
from kadre.engine.sse import Parser, ServerEvent

ENDINGS = ("\n", "\r\n", "\r")
TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)


def parse(*chunks: bytes) -> list[ServerEvent]:
    parser = Parser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[ServerEvent]]:
    """A stream of events in every spelling the standard allows, and the events in it."""
    out, events = draw(st.sampled_from(["", "\ufeff"])), []
    for name, lines in draw(st.lists(st.tuples(st.sampled_from(["", "ping", "Ärger"]), st.lists(TEXT, max_size=3)))):
        written = [f"event:{name}"] if name else []
        written += [f"data: {line}" for line in lines] + draw(st.sampled_from([[], [": comment"], ["id: 1", "x"]]))
        ending = draw(st.sampled_from(ENDINGS))
        out += "".join(line + ending for line in [*written, ""])
        if lines:
            events.append(ServerEvent(name, "\n".join(lines).encode()))
    return out.encode(), events


@given(streams(), st.data())
def test_any_chunking_gives_the_events_that_were_written(
    stream: tuple[bytes, list[ServerEvent]], data: st.DataObject
) -> None:
    wire, events = stream
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)))))
    chunks = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert parse(*chunks) == events


@given(st.lists(st.binary(max_size=20)))
def test_no_bytes_upset_it_and_chunking_never_matters(chunks: list[bytes]) -> None:
    assert parse(*chunks) == parse(b"".join(chunks))


def test_an_event_that_is_cut_off_is_none() -> None:
    assert parse(b"data: a\n\ndata: b\n") == [ServerEvent("", b"a")]


def test_only_one_space_after_the_colon_is_the_wires() -> None:
    assert parse(b"data:  a\n\n", b"data\n\n") == [ServerEvent("", b" a"), ServerEvent("", b"")]


def test_a_character_split_between_chunks_stays_whole() -> None:
    word = "data: dürfen…\n\n".encode()
    for cut in range(len(word)):
        assert parse(word[:cut], word[cut:]) == [ServerEvent("", "dürfen…".encode())]


def test_a_line_without_an_end_is_refused() -> None:
    with pytest.raises(sse.EventTooLarge, match="a line of the stream"):
        parse(*[b"x" * 65536] * (sse.MAX_EVENT // 65536 + 1))


def test_an_event_of_endless_lines_is_refused() -> None:
    line = b"data: " + b"x" * 65530 + b"\n"
    with pytest.raises(sse.EventTooLarge, match="an event of the stream"):
        parse(*[line] * (sse.MAX_EVENT // 65536 + 2))
