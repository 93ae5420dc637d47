"""Regular expressions of clients, in the engine's words: the same texts match."""

from __future__ import annotations

import pytest
from tests.unit.constraint.matching import matches, schema_grammar

from corral.constraint.checks import check_constraint
from corral.constraint.lark import Lark
from corral.constraint.patterns import PatternError, search_patterns, whole_patterns
from corral.constraint.trial import Trial
from corral.core import Constraint
from corral.errors import InvalidRequest

SEARCHED: list[tuple[str, list[str], list[str]]] = [
    ("abc", ["abc", "xabcx"], ["ab"]),
    ("^abc", ["abc", "abcx"], ["xabc"]),
    ("abc$", ["abc", "xabc"], ["abcx"]),
    ("^a|b$", ["a", "ax", "xb"], ["xa", "bx"]),
    ("^(a|b)$", ["a", "b"], ["ab", "xa"]),
    ("(^a$)|(^bb$)", ["a", "bb"], ["aa", "b"]),
    (r"\Aab\Z", ["ab"], ["abc", "xab"]),
    ("", ["", "x"], []),
    # what both sides write alike and mean differently
    ("^[[]$", ["["], ["]", "[]"]),
    ("^[[a]]$", ["a]", "[]"], ["a"]),
    ("[a&&b]", ["a", "&", "b"], ["c"]),
    ("[a--b]", [], []),
    (r"^\<a\>$", ["<a>"], ["a"]),
    ("^a{,3}$", ["", "aaa"], ["aaaa", "a{,3}"]),
    ("^a{2$", ["a{2"], ["aa"]),
    ("^a{}$", ["a{}"], ["a"]),
    ("^}]$", ["}]"], [""]),
    (r"^a\/b/$", ["a/b/"], ["ab"]),
    (r"^\0$", ["\0"], ["0"]),
    (r"^[\w-]+$", ["a-_9"], ["é", "."]),
    (r"^[a-\d]$", ["a", "-", "5"], ["b"]),
    (r"^\d$", ["5"], ["٥"]),
    (r"^\D$", ["x"], ["5", "٥"]),
    (r"^\s$", [" ", "\u00a0", "\t"], ["x", "\u001c"]),
    (r"^\S$", ["x"], [" ", "\u001c"]),
    (r"^[^\s\d]$", ["x"], [" ", "5", "٥"]),
    ("^.$", ["x", "😀"], ["\n", "\u2028"]),
    ("(?s)^.$", ["x", "\n"], ["xx"]),
    (r"^\u0041\x42\u{43}\ud83d\ude00$", ["ABC😀"], ["ABC"]),
    (r"^\p{Lu}\P{Lu}$", ["Éé"], ["éÉ"]),
    ("^[[:alpha:]]+$", ["ab"], ["a:"]),
    ("(?i)^ab$", ["AB", "ab"], ["abc"]),
    ("^(?i:a)b$", ["Ab"], ["AB"]),
    ("^(?P<n>a)(?<m>b)(?:c)$", ["abc"], ["ab"]),
    ("^a+?b*?$", ["aab"], ["b"]),
    ("^x{2}y{1,}z{0,2}$", ["xxyzz"], ["xy"]),
    (r"^(?=.*\d)(?=.*[a-z]).{3,}$", ["a1x"], ["abc", "a1"]),
    (r"^\.\*\+\?\(\)\[\]\{\}\|\^\$\\$", [".*+?()[]{}|^$\\"], ["x"]),
    (r"^a\-b\_c\@d$", ["a-b_c@d"], ["ab"]),
    (r"^\cA\t$", ["\x01\t"], ["A"]),
]


@pytest.mark.parametrize(("pattern", "good", "bad"), SEARCHED)
def test_the_same_texts_match(pattern: str, good: list[str], bad: list[str]) -> None:
    if pattern == "[a--b]":
        with pytest.raises(PatternError, match="wrong way around"):
            search_patterns(pattern)
        return
    grammar = schema_grammar({"type": "object", "additionalProperties": {"type": "string", "pattern": pattern}})
    assert [text for text in good if not matches(grammar, _object(text))] == []
    assert [text for text in bad if matches(grammar, _object(text))] == []


def _object(text: str) -> str:
    signs = {"\n": "\\n", "\t": "\\t", "\0": "\\u0000", "\x01": "\\u0001", "\x1c": "\\u001c", '"': '\\"', "\\": "\\\\"}
    return '{"a": "' + "".join(signs.get(char, char) for char in text) + '"}'


@pytest.mark.parametrize(
    "pattern",
    [
        "(a",
        "a)",
        "[a",
        "[]",
        "[^]",
        "*a",
        "a**",
        "a*+",
        "a{2}{3}",
        "a{5,2}",
        "a{,}",
        "a{99999999}",
        "(?=a)b|c",
        "a(?=b)",
        "(?!a)b",
        "(?<!a)b",
        r"(a)\1",
        r"\k<n>",
        r"a\b",
        r"\ea",
        "a$b",
        "a^b",
        "(^a)b",
        "(?x)a",
        "(?#c)a",
        "[z-a]",
        "[[:nope:]]",
        r"\p",
        r"\ud83d",
        "\\",
        "(" * 100 + "a" + ")" * 100,
        "a" * 5000,
    ],
)
def test_what_the_engine_cannot_match_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        search_patterns(pattern)


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("a+", ["a", "aa"], ["ab", ""]),
        ("^a|b$", ["a", "b"], ["ax", "xb"]),
        ("a/b\\/c", ["a/b/c"], ["abc"]),
        (r"^(?=.*\d)\w+$", ["a1"], ["a"]),
        ("(?i)ab", ["AB"], ["a"]),
    ],
)
def test_a_regex_of_its_own_matches_the_whole_answer(pattern: str, good: list[str], bad: list[str]) -> None:
    lark = Lark()
    grammar = lark.text(lark.regex(whole_patterns(pattern)))
    assert [text for text in good if not matches(grammar, text)] == []
    assert [text for text in bad if matches(grammar, text)] == []


@pytest.mark.parametrize("pattern", [r"\d{3}-\p{L}+", r"(?P<n>a)|(?<m>b)", "[[:alpha:]]*", r"a\\1", "(?i)abc", "^a$"])
async def test_patterns_the_engine_takes(trial: Trial, pattern: str) -> None:
    await check_constraint(trial, Constraint("regex", pattern))


@pytest.mark.parametrize("pattern", ["", 3, None, "[", r"\p{Nonsense}", r"(?=b)", "(?:[^\\s\\S])"])
async def test_patterns_the_engine_would_ignore_are_refused(trial: Trial, pattern: object) -> None:
    with pytest.raises(InvalidRequest, match="invalid regex") as caught:
        await check_constraint(trial, Constraint("regex", pattern))
    assert caught.value.field == "regex"
