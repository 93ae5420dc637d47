"""Markdown is written a block at a time, and what Tab completes."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.cli.completing import completions
from corral.cli.markdown import MarkdownBlocks

TEXT = """# Title

Some *words* and a [link](https://example.com).

- one
- two

  still two

```python
a = 1

b = 2
```

| a | b |
|---|---|
| 1 | 2 |

Last."""


def test_blocks_come_as_soon_as_they_end_and_never_sooner() -> None:
    blocks = MarkdownBlocks(60, color=False)
    assert blocks.feed("# Title\n") == ""
    assert "Title" in blocks.feed("\n")
    assert blocks.feed("- one\n\n") == ""  # another item may follow
    assert blocks.feed("- two\n\nText\n") == ""
    assert "one" in blocks.feed("\n")
    assert blocks.feed("```\nx\n\ny\n") == ""  # a blank line ends no code
    assert "y" in blocks.feed("```\n")
    assert blocks.finish() == ""


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_pieces_of_any_size_come_to_the_same(size: int) -> None:
    blocks = MarkdownBlocks(60, color=False)
    pieces = [blocks.feed(TEXT[place : place + size]) for place in range(0, len(TEXT), size)]
    text = "".join(pieces) + blocks.finish()
    for words in ("Title", "Some words and a link", "still two", "a = 1", "b = 2", "Last."):
        assert words in text
    for mark in ("```", "*words*", "|---", "\x1b"):
        assert mark not in text
    whole = MarkdownBlocks(60, color=False)
    assert words_of(text) == words_of(whole.feed(TEXT) + whole.finish())


def words_of(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def test_a_wide_answer_is_cut_at_the_terminals_width() -> None:
    blocks = MarkdownBlocks(30, color=False)
    lines = (blocks.feed("word " * 40 + "\n\n") + blocks.finish()).splitlines()
    assert max(map(len, lines)) <= 30


def complete(line: str) -> list[str]:
    return completions(line, ["/set", "/show", "/load"], ["verbose", "parameter"], lambda: ["a:1", "b:2"])


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("/s", ["/set", "/show"]),
        ("/load ", ["a:1", "b:2"]),
        ("/set v", ["verbose"]),
        ("/set parameter num_p", ["num_predict"]),
        ("/set think h", ["high"]),
        ("/show mod", ["modelfile"]),
        ("/load a:1 ", []),
        ("plain wor", []),
        ("", []),
        ("/nothing", []),
    ],
)
def test_words_that_could_stand_there(line: str, found: list[str]) -> None:
    assert complete(line) == found


def test_paths_are_completed_in_messages_and_commands(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pic.png").touch()
    (tmp_path / ".hidden").touch()
    assert complete(f"look at {tmp_path}/pi") == [f"{tmp_path}/pic.png", f"{tmp_path}/pictures/"]
    assert complete(f"/load {tmp_path}/pic.") == [f"{tmp_path}/pic.png"]
    assert complete(f"{tmp_path}/pic.") == [f"{tmp_path}/pic.png"]
    assert complete(f"x {tmp_path}/") == [f"{tmp_path}/pic.png", f"{tmp_path}/pictures/"]
    assert complete("x /no/such/folder/") == []
