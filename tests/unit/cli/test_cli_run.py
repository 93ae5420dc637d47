"""`corral run` without a terminal: what is asked, what is printed where."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.native_api import FakeApi, Reply
from tests.unit.cli.conftest import Terminal

from corral.cli.answer import AnswerPrinter, AnswerStyle, WordWrap, format_stats, print_answer
from corral.cli.attachments import UnusableFile, attach, candidates
from corral.cli.console import Console

Cli = Callable[..., Any]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)
DONE = {
    "response": "",
    "done": True,
    "done_reason": "stop",
    "total_duration": 1_234_567_891,
    "load_duration": 45_600_000,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 130_000_000,
    "eval_count": 298,
    "eval_duration": 4_709_000_000,
}


@pytest.fixture
def model(api: FakeApi) -> FakeApi:
    """A server with one model that says hello."""
    api.routes["POST /api/show"] = Reply({"capabilities": ["completion"], "details": {}})
    api.routes["POST /api/generate"] = Reply(stream=[{"response": "Hello"}, {"response": " there"}, DONE])
    return api


def test_one_shot_prints_the_answer_and_two_newlines(cli: Cli, model: FakeApi) -> None:
    outcome = cli("run", "m", "Why", "is", "it?")
    assert (outcome.status, outcome.out, outcome.err) == (0, "Hello there\n\n", "")
    body = model.bodies("POST /api/generate")[0]
    assert body == {"model": "m", "options": {}, "prompt": "Why is it?", "stream": True}


def test_piped_text_comes_before_the_prompt(cli: Cli, model: FakeApi) -> None:
    cli("run", "m", "summarize", stdin="text\n")
    assert model.bodies("POST /api/generate")[0]["prompt"] == "text\n summarize"


def test_an_empty_prompt_only_loads(cli: Cli, model: FakeApi) -> None:
    model.routes["POST /api/generate"] = Reply(stream=[{"response": "", "done": True, "done_reason": "load"}])
    assert cli("run", "m", "").out == ""


def test_flags_become_fields_of_the_request(cli: Cli, model: FakeApi) -> None:
    cli("run", "m", "--format", "json", "--think=high", "--keepalive", "-1m", "hi")
    body = model.bodies("POST /api/generate")[0]
    assert (body["format"], body["think"], body["keep_alive"]) == ("json", "high", "-1m")
    cli("run", "m", "--format", '{"type": "object"}', "--think", "high", "hi")
    body = model.bodies("POST /api/generate")[1]
    assert (body["format"], body["think"], body["prompt"]) == ({"type": "object"}, True, "high hi")


def test_a_model_that_thinks_is_asked_to_unless_the_flag_says_otherwise(cli: Cli, model: FakeApi) -> None:
    model.routes["POST /api/show"] = Reply({"capabilities": ["completion", "thinking"]})
    cli("run", "m", "hi")
    cli("run", "m", "--think=false", "hi")
    assert [body["think"] for body in model.bodies("POST /api/generate")] == [True, False]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--think=x"], 'invalid value for --think: "x" (must be true, false, high, medium, low, or max)'),
        (["--keepalive", "abc"], 'time: invalid duration "abc"'),
        (["--keepalive", "300"], 'time: missing unit in duration "300"'),
        (
            ["--dimensions", "x"],
            'invalid argument "x" for "--dimensions" flag: strconv.ParseInt: parsing "x": invalid syntax',
        ),
    ],
)
def test_bad_flag_values(cli: Cli, model: FakeApi, words: list[str], text: str) -> None:
    outcome = cli("run", "m", *words, "hi")
    assert (outcome.status, outcome.err) == (1, f"Error: {text}\n")
    assert model.bodies("POST /api/show") == []


def test_a_format_that_is_no_json_is_an_error(cli: Cli, model: FakeApi) -> None:
    assert cli("run", "m", "--format", "xml", "hi").err.startswith("Error: invalid value for --format: ")


def test_a_missing_model_is_pulled_first(cli: Cli, model: FakeApi) -> None:
    there = iter([Reply({"error": "model 'm' not found"}, 404), Reply({"capabilities": ["completion"]})])
    model.routes["POST /api/show"] = lambda _: next(there)
    model.routes["POST /api/pull"] = Reply(stream=[{"status": "pulling manifest"}, {"status": "success"}])
    outcome = cli("run", "m", "hi")
    assert (outcome.out, outcome.err) == ("Hello there\n\n", "pulling manifest\nsuccess\n")


def test_statistics_go_to_the_error_stream(cli: Cli, model: FakeApi) -> None:
    outcome = cli("run", "--verbose", "m", "hi")
    assert outcome.out == "Hello there\n\n"
    assert outcome.err == (
        "total duration:       1.234567891s\n"
        "load duration:        45.6ms\n"
        "prompt eval count:    26 token(s)\n"
        "prompt eval duration: 130ms\n"
        "prompt eval rate:     200.00 tokens/s\n"
        "eval count:           298 token(s)\n"
        "eval duration:        4.709s\n"
        "eval rate:            63.28 tokens/s\n"
    )
    assert format_stats({"total_duration": 7}) == "total duration:       7ns\n"


def test_warnings_are_told(cli: Cli, model: FakeApi) -> None:
    warning = {"code": "context_overflow", "message": "3 messages were dropped"}
    model.routes["POST /api/generate"] = Reply(stream=[{"response": "Hi"}, {**DONE, "warnings": [warning]}])
    assert cli("run", "m", "hi").err == "Warning: 3 messages were dropped\n"


def test_thinking_is_marked_off_and_can_be_hidden(cli: Cli, model: FakeApi) -> None:
    stream: list[dict[str, Any]] = [
        {"response": "", "thinking": "Hm"},
        {"response": "", "thinking": "m."},
        {"response": "Yes."},
        DONE,
    ]
    model.routes["POST /api/generate"] = Reply(stream=stream)
    assert cli("run", "m", "hi").out == "Thinking...\nHmm.\n...done thinking.\n\nYes.\n\n"
    assert cli("run", "m", "--hidethinking", "hi").out == "Yes.\n\n"


def test_errors_of_a_stream_have_its_status_before_and_none_within(cli: Cli, model: FakeApi) -> None:
    model.routes["POST /api/generate"] = Reply({"error": '"m" does not support thinking'}, 400)
    assert cli("run", "m", "hi").err == 'Error: 400 Bad Request: "m" does not support thinking\n'
    model.routes["POST /api/generate"] = Reply(stream=[{"response": "He"}, {"error": "the runner died"}])
    outcome = cli("run", "m", "hi")
    assert (outcome.status, outcome.out, outcome.err) == (1, "He\n", "Error: the runner died\n")


def test_an_answer_without_its_end_is_an_error(cli: Cli, model: FakeApi) -> None:
    model.routes["POST /api/generate"] = Reply(stream=[{"response": "Once upon"}])
    outcome = cli("run", "m", "hi")
    text = "Error: the answer was cut short: the server ended it without its end\n"
    assert (outcome.status, outcome.out, outcome.err) == (1, "Once upon\n", text)
    model.routes["POST /api/generate"] = Reply(stream=[])
    outcome = cli("run", "m", "hi")
    assert (outcome.status, outcome.out, outcome.err) == (1, "", text)


def test_an_embedding_model_prints_one_compact_vector(cli: Cli, model: FakeApi) -> None:
    model.routes["POST /api/show"] = Reply({"capabilities": ["embedding"]})
    model.routes["POST /api/embed"] = Reply({"embeddings": [[0.25, -1, 0.5]]})
    assert cli("run", "m", "--truncate=false", "--dimensions", "3", "some", "text").out == "[0.25,-1,0.5]\n"
    assert model.bodies("POST /api/embed") == [{"model": "m", "input": "some text", "truncate": False, "dimensions": 3}]
    assert cli("run", "m").err == ('Error: embedding models require input text. Usage: corral run m "your text here"\n')


def test_image_models_are_refused(cli: Cli, model: FakeApi) -> None:
    model.routes["POST /api/show"] = Reply({"capabilities": ["image"]})
    assert cli("run", "m", "hi").err == "Error: image generation models are not currently supported\n"


def test_a_multimodal_model_gets_the_files_named_in_the_prompt(cli: Cli, model: FakeApi, tmp_path: Path) -> None:
    model.routes["POST /api/show"] = Reply({"capabilities": ["completion", "vision"]})
    (tmp_path / "a cat.png").write_bytes(PNG)
    outcome = cli("run", "m", f"what is '{tmp_path}/a cat.png' and /no/such.png ?")
    body = model.bodies("POST /api/generate")[0]
    assert body["prompt"] == "what is  and /no/such.png ?"
    assert body["images"] == [base64.b64encode(PNG).decode()]
    assert outcome.err == f"Added image '{tmp_path}/a cat.png'\n"


def test_a_file_that_is_no_image_ends_the_command(cli: Cli, model: FakeApi, tmp_path: Path) -> None:
    model.routes["POST /api/show"] = Reply({"capabilities": ["vision"]})
    (tmp_path / "x.png").write_text("hello")
    outcome = cli("run", "m", f"see {tmp_path}/x.png")
    why = "invalid file type: text/plain; charset=utf-8"
    assert outcome.status == 1
    assert outcome.err == f'Couldn\'t process file: "{why}"\nError: {why}\n'


def test_paths_in_prompts() -> None:
    assert candidates("see ./a.jpg and /tmp/b\\ c.PNG, not d.png") == ["./a.jpg", "/tmp/b\\ c.PNG"]
    assert candidates("./a.pngx ./b.gif") == []


def test_escaped_paths_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b c.wav").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    errors = io.StringIO()
    text, files = attach("./b\\ c.wav what is this", Console(io.StringIO(), io.StringIO(), errors))
    assert (text, len(files), errors.getvalue()) == ("what is this", 1, "Added audio 'b c.wav'\n")


def test_files_over_the_limit_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "big.png").open("wb") as file:
        file.write(PNG)
        file.truncate(100 * 2**20 + 1)
    with pytest.raises(UnusableFile, match=r"file size exceeds maximum limit \(100MB\)"):
        attach(f"{tmp_path}/big.png", Console(io.StringIO(), io.StringIO(), io.StringIO()))


def test_word_wrap_takes_a_started_word_to_the_next_line() -> None:
    assert WordWrap(20).feed("one two three fours five") == "one two three f\x1b[1D\x1b[K\nfours five"


def test_word_wrap_breaks_a_word_as_wide_as_the_line() -> None:
    out = WordWrap(20).feed("w" * 40)
    assert "\x1b" not in out
    assert out.replace("\n", "") == "w" * 40
    assert max(map(len, out.split("\n"))) <= 20


def test_word_wrap_gives_the_same_whatever_the_pieces() -> None:
    text = "a fine long sentence with 模型 in it,\nand another one behind it"
    whole, pieces = WordWrap(24), WordWrap(24)
    assert whole.feed(text) == "".join(pieces.feed(char) for char in text)


def test_a_terminal_gets_grey_thinking_unless_colors_are_unwanted() -> None:
    def answer(*, color: bool) -> str:
        out = Terminal()
        printer = AnswerPrinter(Console(io.StringIO(), out, io.StringIO(), color), AnswerStyle())
        printer.add("Hm", "", [])
        printer.add("", "Yes", [])
        printer.finish()
        return out.getvalue()

    grey, bold, reset = "\x1b[38;5;245m", "\x1b[1m", "\x1b[0m"
    assert answer(color=True) == (
        f"{grey}{bold}Thinking...\n{reset}{grey}Hm\n{grey}{bold}...done thinking.\n\n{reset}Yes"
    )
    assert answer(color=False) == "Thinking...\nHm\n...done thinking.\n\nYes"


def test_unexpected_tool_calls_are_shown() -> None:
    out = io.StringIO()
    printer = AnswerPrinter(Console(io.StringIO(), out, io.StringIO()), AnswerStyle())
    printer.add("", "", [{"function": {"name": "get", "arguments": {"city": "Paris"}}}])
    assert out.getvalue() == '  Model called a non-existent function \'get()\' with arguments: {"city":"Paris"}'


def test_ctrl_c_ends_the_answer_and_closes_the_stream() -> None:
    closed = []

    def events() -> Iterator[dict[str, Any]]:
        try:
            yield {"response": "Hel"}
            raise KeyboardInterrupt
        finally:
            closed.append(True)

    out = io.StringIO()
    console = Console(io.StringIO(), out, io.StringIO())
    _, cancelled = print_answer(console, AnswerPrinter(console, AnswerStyle()), events())
    assert (cancelled, closed, out.getvalue()) == (True, [True], "Hel")
