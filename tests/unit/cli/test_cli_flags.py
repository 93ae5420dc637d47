"""Flags and argument counts, with cobra's texts."""

from __future__ import annotations

import pytest

from corral.cli.commands import COMMANDS, find_command, suggestions
from corral.cli.flags import Count, Flag, UsageError, parse_flags

FLAGS = (
    Flag("verbose", "bool", "", short="v"),
    Flag("format", "string", "", short="f"),
    Flag("think", "string", "", bare="true"),
    Flag("dimensions", "int", ""),
)


def test_flags_and_arguments_may_be_mixed() -> None:
    parsed = parse_flags(["m", "--verbose", "hi", "--format", "json", "there"], FLAGS)
    assert parsed.words == ("m", "hi", "there")
    assert parsed.flag("verbose")
    assert parsed.text("format") == "json"


def test_two_dashes_end_the_flags() -> None:
    assert parse_flags(["m", "--", "--verbose", "-x"], FLAGS).words == ("m", "--verbose", "-x")


def test_a_flag_with_a_bare_value_takes_another_only_after_an_equals_sign() -> None:
    bare, given, empty = (parse_flags([word, "high"], FLAGS) for word in ("--think", "--think=low", "--think="))
    assert (bare.text("think"), bare.words) == ("true", ("high",))
    assert given.text("think") == "low"
    assert empty.given("think")
    assert empty.text("think") == ""


@pytest.mark.parametrize("words", [["-f", "x"], ["-fx"], ["-f=x"], ["-vf", "x"], ["--format=x"], ["--format", "x"]])
def test_every_spelling_of_a_value(words: list[str]) -> None:
    assert parse_flags(words, FLAGS).text("format") == "x"


def test_a_bool_can_be_switched_off() -> None:
    parsed = parse_flags(["--verbose=false"], FLAGS)
    assert parsed.given("verbose")
    assert not parsed.flag("verbose")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--foo"], "unknown flag: --foo"),
        (["--foo=1"], "unknown flag: --foo"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["-vx"], "unknown shorthand flag: 'x' in -x"),
        (["-vf"], "flag needs an argument: 'f' in -f"),
        (
            ["--dimensions=99999999999999999999"],
            'invalid argument "99999999999999999999" for "--dimensions" flag: '
            'strconv.ParseInt: parsing "99999999999999999999": value out of range',
        ),
        (["--format"], "flag needs an argument: --format"),
        (["-f"], "flag needs an argument: 'f' in -f"),
        (["--=x"], "bad flag syntax: --=x"),
        (
            ["--dimensions", "many"],
            'invalid argument "many" for "--dimensions" flag: strconv.ParseInt: parsing "many": invalid syntax',
        ),
        (
            ["--verbose=maybe"],
            'invalid argument "maybe" for "-v, --verbose" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
    ],
)
def test_a_wrong_flag_is_named(words: list[str], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_flags(words, FLAGS)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (Count(1, 1), [], "accepts 1 arg(s), received 0"),
        (Count(2, 2), ["a", "b", "c"], "accepts 2 arg(s), received 3"),
        (Count(1), [], "requires at least 1 arg(s), only received 0"),
        (Count(1, 2), ["a", "b", "c"], "accepts at most 2 arg(s), received 3"),
    ],
)
def test_a_wrong_count_says_what_was_expected(count: Count, words: list[str], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        count.check(words)
    assert str(caught.value) == text


def test_a_mistyped_command_suggests_what_is_two_edits_away_or_begins_with_it() -> None:
    assert suggestions("lst") == ["list", "ps"]
    assert "push" in suggestions("pus")
    assert "create" in suggestions("cre")
    assert suggestions("xxxxxxxx") == []


def test_aliases_find_their_commands() -> None:
    for alias, name in (("ls", "list"), ("start", "serve")):
        command = find_command(alias)
        assert command is not None
        assert command.name == name


def test_no_two_commands_share_a_word() -> None:
    words = [word for command in COMMANDS for word in (command.name, *command.aliases)]
    assert len(words) == len(set(words))
