"""The event parser: any cut of the byte stream gives the same payloads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import RunnerMisbehaved
from corral.runner.sse import EventParser

PAYLOADS = st.lists(
    st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]), min_size=1), max_size=6
)


@given(PAYLOADS, st.lists(st.integers(1, 40)))
def test_payloads_do_not_depend_on_how_the_stream_was_cut(payloads: list[str], cuts: list[int]) -> None:
    payloads = [payload for payload in payloads if payload != "[DONE]"]
    stream = "".join(f"data: {payload}\n\n" for payload in payloads).encode() + b": ping\n\ndata: [DONE]\n\n"
    parser, seen = EventParser(), []
    for size in [*cuts, len(stream)]:
        seen += parser.feed(stream[:size])
        stream = stream[size:]
    assert seen == [payload.encode() for payload in payloads]
    assert parser.finished


def test_comments_and_foreign_fields_vanish() -> None:
    assert EventParser().feed(b":\n\n: ping\n\nid: 4\n\nevent: x\ndata: 1\n\n") == [b"1"]


def test_several_data_lines_are_one_payload_and_error_lines_count() -> None:
    assert EventParser().feed(b'data: 1\ndata:2\n\nerror: {"e":1}\n\n') == [b"1\n2", b'{"e":1}']


def test_carriage_returns_are_tolerated() -> None:
    assert EventParser().feed(b"data: 1\r\n\r\ndata: 2\r\n\r\n") == [b"1", b"2"]


@pytest.mark.parametrize("tail", [b"", b"\n\n"])
def test_an_event_over_the_bound_is_refused_ended_or_not(tail: bytes) -> None:
    with pytest.raises(RunnerMisbehaved, match="exceeded 8 MB limit"):
        EventParser().feed(b"data: " + b"x" * (8 * 2**20 + 1) + tail)
