"""What was passed on of an answer and what is left of it: whatever the cuts, all of it comes, and once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core import CallPiece, Delta, TokenLogprob, ToolCall
from corral.inference.running.sent import Differs, Sent

ARGUMENTS = '{"city": "Ulm"}'


def cut(text: str, places: list[int]) -> list[str]:
    """The text in pieces, cut at these places."""
    ends = [*sorted({place % len(text) for place in places} - {0}), len(text)]
    return [text[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def answer(places: list[int], call_id: str) -> list[Delta]:
    """Thinking, text with logprobs, a call that is shown, and one more."""
    deltas = [Delta(thinking=piece) for piece in cut("perhaps it rains", places)]
    deltas += [Delta(piece, logprobs=(TokenLogprob(piece, -0.5, b""),)) for piece in ("Let", " me", " see")]
    deltas.append(Delta(call_pieces=(CallPiece(0, call_id, "weather"),)))
    deltas += [Delta(call_pieces=(CallPiece(0, call_id, arguments=piece),)) for piece in cut(ARGUMENTS, places)]
    end = CallPiece(0, call_id, end="whole")
    deltas.append(Delta(tool_calls=(ToolCall("weather", {"city": "Ulm"}, call_id, 0),), call_pieces=(end,)))
    return [*deltas, Delta(tool_calls=(ToolCall("time", {}, call_id, 1),))]


def joined(deltas: list[Delta]) -> object:
    """All of an answer, however it was cut."""
    pieces = [piece for delta in deltas for piece in delta.call_pieces]
    return (
        "".join(delta.thinking for delta in deltas),
        "".join(delta.content for delta in deltas),
        [entry.token for delta in deltas for entry in delta.logprobs],
        [call for delta in deltas for call in delta.tool_calls],
        {(piece.id, piece.name) for piece in pieces if piece.name},
        "".join(piece.arguments for piece in pieces),
        [piece.end for piece in pieces if piece.end],
    )


PLACES = st.lists(st.integers(0, 40), max_size=6)


@given(runs=st.lists(st.tuples(PLACES, st.integers(0, 30)), max_size=2), last=PLACES)
def test_all_of_it_comes_once_whatever_the_cuts(runs: list[tuple[list[int], int]], last: list[int]) -> None:
    sent, told = Sent(), []
    for number, (places, length) in enumerate(runs):
        told += [left for delta in answer(places, f"id{number}")[:length] if (left := sent.left(delta))]
        sent.rewind()
    told += [left for delta in answer(last, "last") if (left := sent.left(delta))]
    sent.check_complete()
    ids = {call.id for delta in told for call in delta.tool_calls if call.index == 0}
    assert ids == {piece.id for delta in told for piece in delta.call_pieces}
    whole = answer(last, ids.pop())
    last_call = next(call for delta in told for call in delta.tool_calls if call.index == 1)
    whole[-1] = replace(whole[-1], tool_calls=(last_call,))
    assert joined(told) == joined(whole)


@pytest.mark.parametrize(
    ("one", "other"),
    [(Delta("Hello"), Delta("Hallo")), (Delta(thinking="Hello"), Delta(thinking="Hallo"))],
)
def test_another_text_differs(one: Delta, other: Delta) -> None:
    sent = Sent()
    sent.left(one)
    sent.rewind()
    with pytest.raises(Differs):
        sent.left(other)


def test_another_token_call_name_or_end_differs() -> None:
    told = answer([], "x")
    others = [
        Delta("Let", logprobs=(TokenLogprob("But", -0.5, b""),)),
        Delta(call_pieces=(CallPiece(0, "x", "time"),)),
        Delta(call_pieces=(CallPiece(0, "x", end="broken"),)),
        Delta(tool_calls=(ToolCall("weather", {"city": "Bonn"}, "x", 0),)),
    ]
    for other in others:
        sent = Sent()
        for delta in told:
            sent.left(delta)
        sent.rewind()
        with pytest.raises(Differs):
            sent.left(other)


def test_an_answer_that_ends_before_what_was_sent_differs() -> None:
    sent = Sent()
    for delta in answer([], "x"):
        sent.left(delta)
    for length in range(len(answer([], "x"))):
        sent.rewind()
        for delta in answer([], "x")[:length]:
            assert sent.left(delta) is None
        with pytest.raises(Differs):
            sent.check_complete()
