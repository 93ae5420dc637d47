"""Tables, byte for byte."""

from __future__ import annotations

from corral.cli.table import render_table, width_of


def test_body_cells_end_in_four_blanks_and_the_header_in_one() -> None:
    text = render_table([("model1", "1.0 KB"), ("m", "-")], ("NAME", "SIZE"))
    assert text == "NAME      SIZE   \nmodel1    1.0 KB    \nm         -         \n"


def test_no_rows_is_the_header_alone() -> None:
    assert render_table([], ("NAME", "ID", "SIZE", "MODIFIED")) == "NAME    ID    SIZE    MODIFIED \n"


def test_wide_characters_take_two_columns() -> None:
    assert width_of("模型") == 4
    assert render_table([("模型", "x"), ("abcd", "y")]) == "模型    x    \nabcd    y    \n"


def test_rows_of_different_lengths_are_filled_up() -> None:
    assert render_table([("a", "b", "c"), ("d",)]) == "a    b    c    \nd              \n"


def test_long_cells_are_wrapped_between_words_and_words_are_never_cut() -> None:
    text = render_table([("x", "one two three four five six seven eight"), ("y", "w" * 40)])
    assert text.splitlines() == [
        "x    one two three four five six                 ",
        "     seven eight                                 ",
        f"y    {'w' * 40}    ",
    ]
