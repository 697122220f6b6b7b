"""Server-sent events come out the same however the bytes were cut on their way."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kadre.engine.models import sse
from kadre.engine.models.sse import Parser, ServerEvent


def whole(stream: bytes) -> list[ServerEvent]:
    return Parser().feed(stream)


def test_an_event_is_its_data_lines_joined_and_its_type() -> None:
    stream = b"event: delta\ndata: one\ndata: two\n\ndata:three\n\n"
    assert whole(stream) == [ServerEvent("delta", b"one\ntwo"), ServerEvent("", b"three")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_each_of_the_three_line_endings_ends_a_line(end: bytes) -> None:
    assert whole(end.join([b"data: a", b"data: b", b"", b""])) == [ServerEvent("", b"a\nb")]


def test_comments_unknown_fields_and_events_without_data_are_passed_over() -> None:
    assert whole(b": ping\n\nid: 7\nretry: 10\nnonsense\n\nevent: empty\n\ndata: x\n\n") == [ServerEvent("", b"x")]


def test_only_the_first_space_after_the_colon_is_dropped() -> None:
    assert whole(b"data:  x:y\ndata\n\n") == [ServerEvent("", b" x:y\n")]


def test_a_byte_order_mark_at_the_start_is_no_part_of_a_field() -> None:
    assert whole(b"\xef\xbb\xbfdata: x\n\n") == [ServerEvent("", b"x")]


def test_an_event_is_known_as_soon_as_its_blank_line_is_there() -> None:
    parser = Parser()
    assert parser.feed(b"data: a\r") == []
    assert parser.feed(b"\r") == [ServerEvent("", b"a")]
    assert parser.feed(b"\ndata: b\r\n\r\n") == [ServerEvent("", b"b")]


def test_an_event_that_is_not_ended_is_none() -> None:
    assert whole(b"data: a\n\ndata: b\n") == [ServerEvent("", b"a")]


def test_an_endless_line_is_refused() -> None:
    parser = Parser()
    parser.feed(b"x" * sse.MAX_EVENT)
    with pytest.raises(sse.EventTooLarge):
        parser.feed(b"x")


def test_an_event_of_endless_lines_is_refused() -> None:
    parser = Parser()
    parser.feed((b"data: " + b"x" * 4096 + b"\n") * (sse.MAX_EVENT // 4096))
    with pytest.raises(sse.EventTooLarge):
        parser.feed(b"data: x\n")


LINES = st.one_of(
    st.builds(lambda text: b"data: " + text.encode(), st.text("aö€😀:{} ", max_size=6)),
    st.sampled_from([b"", b"", b": comment", b"event: delta", b"data", b"id: 3"]),
)
STREAMS = st.builds(
    b"".join, st.lists(st.builds(lambda line, end: line + end, LINES, st.sampled_from([b"\n", b"\r\n", b"\r"])))
)


@given(stream=STREAMS, cuts=st.lists(st.integers(0, 200), max_size=12))
def test_any_cutting_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    places = sorted({0, *(min(cut, len(stream)) for cut in cuts), len(stream)})
    parser = Parser()
    found = [event for a, b in pairwise(places) for event in parser.feed(stream[a:b])]
    assert found == whole(stream)


@given(stream=STREAMS)
def test_byte_by_byte_gives_the_same_events(stream: bytes) -> None:
    parser = Parser()
    found = [event for byte in stream for event in parser.feed(bytes([byte]))]
    assert found == whole(stream)
