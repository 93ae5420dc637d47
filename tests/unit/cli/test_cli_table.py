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


# The texts below are tablewriter v0.0.5's, with the settings of Ollama's `show`.


def test_rows_end_where_their_cells_do() -> None:
    rows = [("", "stop", '"B', 'B"'), ("", "top_k", "7")]
    assert render_table(rows) == '    stop     "B    B"    \n    top_k    7     \n'


def test_long_cells_are_wrapped_between_words_and_words_are_never_cut() -> None:
    text = render_table([("x", "one two three four five six seven eight"), ("y", "w" * 40)])
    assert text.splitlines() == [
        "x    one two three four five six                 ",
        "      seven eight                                 ",
        f"y    {'w' * 40}    ",
    ]


def test_wrapped_lines_are_evened_out() -> None:
    rows = [("", "a b"), ("", "one two three four five six seven eight nine ten eleven twelve")]
    assert render_table(rows).splitlines() == [
        "    a b                               ",
        "    one two three four five six       ",
        "      seven eight nine ten eleven       ",
        "      twelve                            ",
    ]


def test_a_newline_is_a_blank_to_wrap_at() -> None:
    assert render_table([("", "k  k", "v\nw x")]) == "    k  k    v w    \n              x      \n"


def test_empty_cells_and_no_rows() -> None:
    assert render_table([("", ""), ("", "x")]) == "         \n    x    \n"
    assert render_table([]) == ""


def test_one_long_line_of_many_words_takes_no_time() -> None:
    lines = render_table([("", "word " * 20_000)], wrap=100).splitlines()
    assert (len(lines), lines[0]) == (1_000, "    " + "word " * 20 + "    ")
