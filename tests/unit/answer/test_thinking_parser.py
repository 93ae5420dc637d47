"""Thinking tags: vectors of spec native §11.5 and §6.2, and the tags that templates imply (§5.5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.answer.thinking import ThinkingParser, infer_tags, starts_inside
from corral.gotemplate import parse

VECTORS: list[tuple[list[str], list[tuple[str, str]]]] = [
    (["  abc", "def"], [("", "  abc"), ("", "def")]),
    (["  abc <think>def</think> ghi"], [("", "  abc <think>def</think> ghi")]),
    (["  <th", "in", "k>a"], [("", ""), ("", ""), ("a", "")]),
    (["<think>abc</th", "ink>def"], [("abc", ""), ("", "def")]),
    (
        ["<think>abc</th", "ing>def", "ghi</thi", "nk>jkl"],
        [("abc", ""), ("</thing>def", ""), ("ghi", ""), ("", "jkl")],
    ),
    (["  <think>abc</think>", "\n\ndef"], [("abc", ""), ("", "def")]),
    (["<think>", "  abc", " </think> d"], [("", ""), ("abc", ""), (" ", "d")]),
    (["<think></think>x <think>y"], [("", "x <think>y")]),
]


@pytest.mark.parametrize(("pieces", "expected"), VECTORS)
def test_each_piece_yields_exactly_what_it_makes_certain(pieces: list[str], expected: list[tuple[str, str]]) -> None:
    parser = ThinkingParser("<think>", "</think>")
    assert [parser.feed(piece) for piece in pieces] == expected


def test_a_prompt_that_opened_the_thinking_starts_inside() -> None:
    parser = ThinkingParser("<think>", "</think>", inside=True)
    assert parser.thinking
    assert parser.feed(" a b </think> c") == ("a b ", "c")
    assert not parser.thinking


def test_a_text_that_ends_within_a_tag_loses_nothing() -> None:
    opening = ThinkingParser("<think>", "</think>")
    assert opening.feed(" <thi") == ("", "")
    assert opening.finish() == ("", " <thi")
    closing = ThinkingParser("<think>", "</think>")
    assert closing.feed("<think>a</thi") == ("a", "")
    assert closing.finish() == ("</thi", "")


@given(st.text(alphabet="<>/thinkab \n", max_size=60), st.lists(st.integers(1, 5), max_size=40))
def test_the_split_does_not_depend_on_the_pieces(text: str, sizes: list[int]) -> None:
    def run(pieces: list[str]) -> tuple[str, str]:
        parser = ThinkingParser("<think>", "</think>")
        outputs = [*(parser.feed(piece) for piece in pieces), parser.finish()]
        return "".join(t for t, _ in outputs), "".join(c for _, c in outputs)

    pieces, at = [], 0
    for size in sizes:
        pieces.append(text[at : at + size])
        at += size
    assert run([*pieces, text[at:]]) == run([text])


@pytest.mark.parametrize(
    ("template", "tags"),
    [
        (
            "{{ range .Messages }}{{ if .Thinking }}<think>\n{{ .Thinking }}\n</think>{{ end }}{{ .Content }}{{ end }}",
            ("<think>", "</think>"),
        ),
        ("{{ range $i, $_ := .Messages }}{{ with .Thinking }}[T]{{ . }}[/T]{{ end }}{{ end }}", None),
        ("{{ range $.Messages }}{{ if .Thinking }}<a>{{ .Thinking }}</a>{{ end }}{{ end }}", None),
        ("{{ range .Messages }}{{ .Thinking }}{{ end }}", None),
        ("{{ range .Messages }}{{ range .Parts }}<a>{{ .Thinking }}</a>{{ end }}{{ end }}", None),
        ("{{ range slice .Messages 1 }}<x>{{ .Thinking }}</x>{{ end }}", ("<x>", "</x>")),
    ],
)
def test_tags_are_the_first_and_last_text_around_the_thinking(template: str, tags: tuple[str, str] | None) -> None:
    assert infer_tags(parse(template)) == tags


def test_only_an_open_tag_at_the_end_of_the_prompt_starts_inside() -> None:
    assert starts_inside("<|assistant|>\n<think>\n", "<think>")
    assert not starts_inside("<think>x</think>", "<think>")
