"""Fitting the context window: vectors of spec native §11.3, §11.4 and §4.5, and the notices that go with a cut."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from corral.core import Message, ToolCall
from corral.errors import ContextOverflow
from corral.gotemplate import parse
from corral.prompt.fit import IMAGE_TOKENS, Fitted, answer_room, cut_prompt, fit_messages, needs_cut, prompt_limit
from corral.prompt.gorender import render_messages, tag_images

A = Message("user", "You're a test, Harry!")
B = Message("assistant", "I-I'm a what?")
C = Message("user", "A test. And a thumping good one at that, I'd wager.")
C_IMAGE = Message("user", C.content, images=(b"something",))
TEMPLATE = parse("{{ .System }} {{ .Prompt }} {{ .Response }}")


async def count_words(messages: Sequence[Message]) -> int:
    return len(render_messages(TEMPLATE, messages).split())


async def fit(context_window: int, *messages: Message) -> Fitted:
    return await fit_messages(messages, count_words, context_window, image_tokens=IMAGE_TOKENS)


def image(name: bytes) -> Message:
    return Message("user", images=(name,))


@pytest.mark.parametrize(
    ("context_window", "messages", "kept"),
    [
        (64, [A, B, C], [A, B, C]),
        (1, [A, B, C], [C]),
        (64, [A, B, C_IMAGE], [C_IMAGE]),
        (2048, [A, B, C_IMAGE], [A, B, C_IMAGE]),
        (1024, [A, image(b"1"), image(b"2"), B, C], [image(b"2"), B, C]),
        (2048, [A, image(b"1"), image(b"2"), B, C], [A, image(b"1"), image(b"2"), B, C]),
    ],
)
async def test_history_truncation_keeps(context_window: int, messages: list[Message], kept: list[Message]) -> None:
    assert list((await fit(context_window, *messages)).messages) == kept


async def test_dropped_images_renumber_the_others() -> None:
    first = Message("user", A.content, images=(b"one",))
    short = tag_images((await fit(64, first, B, Message("user", C.content, images=(b"two",)))).messages)
    assert (short.messages[0].content[:7], short.images) == ("[img-0]", (b"two",))
    both = tag_images((await fit(2048, first, B, Message("user", C.content, images=(b"two",)))).messages)
    assert [message.content[:7] for message in both.messages] == ["[img-0]", B.content[:7], "[img-1]"]
    assert both.images == (b"one", b"two")
    long = tag_images((await fit(2048, A, image(b"1"), image(b"2"), B, C)).messages)
    assert (
        render_messages(TEMPLATE, long.messages)
        .split(" ", 1)[1]
        .startswith("You're a test, Harry!\n\n[img-0]\n\n[img-1]")
    )


async def test_system_messages_stay_and_the_notice_names_what_went() -> None:
    messages = [Message("system", "sys"), Message("user", "old one two"), Message("assistant", "old answer is long")]
    last = Message("user", "new ask")
    fitted = await fit_messages([*messages, last], _sum_of_words, 6)
    assert fitted.messages == (messages[0], last)
    assert fitted.dropped == (1, 2)
    (notice,) = fitted.notices
    assert notice.code == "history_truncated"
    assert notice.facts["dropped"] == 2
    assert notice.facts["roles"] == ["user", "assistant"]
    assert (notice.facts["prompt_tokens"], notice.facts["kept_tokens"], notice.facts["context_window"]) == (10, 3, 6)


async def _sum_of_words(messages: Sequence[Message]) -> int:
    return sum(len(message.content.split()) for message in messages)


async def test_what_fits_is_untouched_and_silent() -> None:
    fitted = await fit(64, A, B, C)
    assert (fitted.dropped, fitted.notices) == ((), ())


async def test_overflow_can_be_an_error_with_both_numbers() -> None:
    with pytest.raises(ContextOverflow) as caught:
        await fit_messages([A, B, C], _sum_of_words, 5, on_overflow="error")
    assert (caught.value.prompt_tokens, caught.value.context_window) == (18, 5)


U, S = Message("user", "u u u"), Message("system", "s")
CALL, PLAIN = Message("assistant", "c c", tool_calls=(ToolCall("f", {}),)), Message("assistant", "a a")
RESULT = Message("tool", "r r r r")


@pytest.mark.parametrize(
    ("window", "messages", "kept"),
    [
        (15, [U, CALL, RESULT, PLAIN, U, PLAIN, U], [4, 5, 6]),  # a result goes with its call
        (9, [U, CALL, RESULT, PLAIN, U, PLAIN, U], [4, 5, 6]),
        (7, [U, CALL, RESULT, PLAIN, U, PLAIN, U], [6]),  # never an answer without its question
        (9, [S, U, U, U], [0, 2, 3]),
        (12, [S, U, CALL, RESULT, CALL, RESULT], [0, 1, 4, 5]),  # the question stays
        (12, [U, S, CALL, RESULT, RESULT, CALL, RESULT], [0, 1, 5, 6]),
        (13, [U, CALL, RESULT, CALL, RESULT, PLAIN], [0, 3, 4, 5]),  # what is to be continued comes after a result
        (10, [CALL, RESULT, CALL, RESULT], [2, 3]),
    ],
)
async def test_what_stays_begins_with_a_question_and_keeps_results_with_their_calls(
    window: int, messages: list[Message], kept: list[int]
) -> None:
    fitted = await fit_messages(messages, _sum_of_words, window)
    assert list(fitted.messages) == [messages[place] for place in kept]
    assert sorted({*kept, *fitted.dropped}) == list(range(len(messages)))


async def test_what_must_stay_and_does_not_fit_is_an_error_with_both_numbers() -> None:
    with pytest.raises(ContextOverflow, match=r"has 10 tokens.* holds 9, ") as caught:
        await fit_messages([U, PLAIN, S, U, CALL, RESULT], _sum_of_words, 9)
    assert (caught.value.prompt_tokens, caught.value.context_window) == (10, 9)


async def test_what_stays_leaves_room_for_an_answer() -> None:
    messages = [U, PLAIN, U, PLAIN, U]
    assert (await fit_messages(messages, _sum_of_words, 13)).dropped == ()
    assert (await fit_messages(messages, _sum_of_words, 13, room=2)).dropped == (0, 1)
    assert (await fit_messages([U], _sum_of_words, 4, room=3)).dropped == ()  # nothing to drop, and a token fits


@pytest.mark.parametrize(
    ("window", "asked", "room"), [(4096, -1, 512), (4096, 40, 40), (512, 400, 64), (10**6, -2, 2048)]
)
def test_room_for_an_answer(window: int, asked: int, room: int) -> None:
    assert answer_room(window, asked) == room


async def test_a_long_history_is_measured_a_few_times_only() -> None:
    calls = 0

    async def count(messages: Sequence[Message]) -> int:
        nonlocal calls
        calls += 1
        return len(messages)

    fitted = await fit_messages([Message("user", str(i)) for i in range(1000)], count, 7)
    assert [message.content for message in fitted.messages] == [str(i) for i in range(993, 1000)]
    assert calls <= 12


@pytest.mark.parametrize(
    ("context_window", "keep", "limit"),
    [(8, 3, 6), (4096, 4, 2050), (4096, 5, 2051), (8, 99, 7), (8, -1, 4), (1, 0, 0)],
)
def test_prompt_limit(context_window: int, keep: int, limit: int) -> None:
    assert prompt_limit(context_window, keep) == limit


def test_a_cut_keeps_the_beginning_and_the_newest() -> None:
    kept, (notice,) = cut_prompt(range(10), 8, 3)
    assert kept == [0, 1, 2, 7, 8, 9]
    assert notice.facts == {
        "dropped_tokens": 4,
        "kept_first": 3,
        "prompt_tokens": 10,
        "kept_tokens": 6,
        "context_window": 8,
    }


def test_a_bos_is_kept_too_and_keeping_all_leaves_one_place() -> None:
    assert cut_prompt(range(10), 8, 2, adds_bos=True)[0] == [0, 1, 2, 7, 8, 9]
    assert cut_prompt(range(10), 8, -1)[0] == [0, 1, 2, 3, 4, 5, 6]


def test_a_prompt_that_leaves_one_place_is_not_cut() -> None:
    assert cut_prompt(range(7), 8, 3) == ([0, 1, 2, 3, 4, 5, 6], ())
    assert needs_cut(8, 8)
    with pytest.raises(ContextOverflow):
        cut_prompt(range(8), 8, 3, on_overflow="error")
