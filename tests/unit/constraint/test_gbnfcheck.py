"""Grammars in GBNF: what the engine takes passes, what it would choke on does not."""

from __future__ import annotations

import pytest

from corral.constraint.gbnfcheck import check_gbnf
from corral.errors import InvalidRequest

JSON = r"""root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws   # a comment
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""


@pytest.mark.parametrize(
    "text",
    [
        JSON,
        'root ::= "a"',
        'root ::= "a"{2} "b"{2,} "c"{0,2000} "d"{1,5000}',
        'root ::= (a | b)* "end"\na ::= "x" | ""\nb ::= [^"\\\\]'.replace('| ""', ""),
        'root ::= "a" | ""',
        "root ::= <think> .* </think> <[12]> !<think>",
        '# first\n\nroot ::=\n  "a"\r\nb ::= root',
        'root ::= "a" root | "b"',
    ],
)
def test_a_grammar_of_the_usual_kind_passes(text: str) -> None:
    check_gbnf(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('root ::= "a"{2,1}', r"\{2,1\} is the wrong way around \(at line 1\)"),
        ('root ::= "b"\na ::= ("a"){ 20 , 1 }', r"wrong way around \(at line 2\)"),
        ('root ::= "a"{3000}', "more than 2000"),
        ('root ::= ("a"{2000}){300}' + ' ("a"{2000})' * 300, "too large"),
        ('root ::= "' + "a" * 10000 + '"{0,2000}', "too large"),
        ('root ::= root "a" | "b"', "the rule root begins with itself"),
        ('root ::= a "x" | "y"\na ::= e root\ne ::= f\nf ::= "a"?', "begins with itself"),
        ('root ::= ("a"*)*', "may be empty"),
        ('root ::= a{0,100}\na ::= "x"?', "may be empty"),
        (
            "\n".join(f"r{n} ::= r{n + 1} | r{n + 1}" for n in range(40)) + '\nr40 ::= "a"\nroot ::= r0',
            "too many rules",
        ),
        ("\n".join(f"r{n} ::= r{n + 1}" for n in range(900)) + '\nr900 ::= "a"\nroot ::= r0', "too many rules"),
        ("root ::= " + "(" * 200 + '"a"' + ")" * 200, "groups within each other"),
        ("root ::= x", r"the rule x is not defined \(at line 1\)"),
        ('x ::= "a"', 'must define "root'),
        ('root ::= "a', "not closed"),
        ("root ::= [a", "not closed"),
        ("root ::= []", "an empty class"),
        ('root ::= ""*', "nothing to repeat"),
        ('root ::= ("a"', "a group is not closed"),
        ('root = "a"', '"::=" is missing'),
        ('root ::= "\\q"', "unknown escape"),
        ('root ::= "a"{x}', "a repetition must be"),
        ("root ::= <a", "a token must be"),
        ('root ::= "a" ) "b"', "not expected"),
        ("root ::= ???", "not expected"),
    ],
)
def test_what_the_engine_would_choke_on_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as caught:
        check_gbnf(text)
    assert caught.value.field == "grammar"


def test_the_largest_grammars_are_checked_at_once() -> None:
    chain = "\n".join(f"r{n} ::= r{n + 1} r{n + 1}" for n in range(9000)) + '\nr9000 ::= "a"?\nroot ::= "x" r0'
    with pytest.raises(InvalidRequest, match="too many rules"):
        check_gbnf(chain)
