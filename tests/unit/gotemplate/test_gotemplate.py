"""The Go template language: what it prints, what it refuses, and that no template can run away (spec models §5.1)."""

from __future__ import annotations

import contextlib
import re
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import TemplateError
from corral.gotemplate import JSONList, JSONMap, Struct, TypeNames, parse

DATA: dict[str, Any] = {
    "A": "q",
    "Empty": "",
    "Zero": 0,
    "N": 3,
    "F": 1.5,
    "Yes": True,
    "L": ["a", "b", "c"],
    "None": None,
    "M": {"b": 1, "a": [1, None]},
    "S": Struct("T", {"X": 1, "Y": ["z"]}),
}


def run(text: str, **extra: Any) -> str:
    # Naming .Response keeps parse() from appending it.
    return parse(text + "{{ if false }}{{ .Response }}{{ end }}").execute({**DATA, **extra})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # trimming and comments
        ("a {{- .A -}} \n\t b", "aqb"),
        ("a{{/* x */}}b {{- /* y */ -}} c", "abc"),
        ("{{ -3 }}{{- 4 }}", "-34"),
        ("{{ if .A\n}}x{{ end }}", "x"),
        # truth
        ("{{ if .Empty }}1{{ else if .Zero }}2{{ else if .None }}3{{ else }}4{{ end }}", "4"),
        ("{{ if .S }}struct{{ end }}{{ if not .Nope }} none{{ end }}", "struct none"),
        # with
        ("{{ with .Empty }}x{{ else }}-{{ end }}{{ with .A }}{{ . }}{{ end }}", "-q"),
        ("{{ with .Empty }}x{{ else with .A }}{{ . }}{{ end }}", "q"),
        ("{{ with $x := .A }}{{ $x }}{{ end }}", "q"),
        # range
        ("{{ range .L }}{{ . }},{{ end }}", "a,b,c,"),
        ("{{ range $i, $e := .L }}{{ $i }}{{ $e }}{{ end }}", "0a1b2c"),
        ("{{ range $e := .L }}{{ $e }}{{ end }}", "abc"),
        ("{{ range $k, $v := .M }}{{ $k }}={{ $v }};{{ end }}", "a=[1 <nil>];b=1;"),
        ("{{ range .N }}{{ . }}{{ end }}{{ range $i := 2 }}<{{ $i }}>{{ end }}", "012<0><1>"),
        ("{{ range .Nope }}x{{ else }}empty{{ end }}{{ range .Zero }}x{{ else }}0{{ end }}", "empty0"),
        ('{{ range $i, $e := .L }}{{ if eq $e "b" }}{{ continue }}{{ end }}{{ $e }}{{ end }}', "ac"),
        ('{{ range .L }}{{ if eq . "b" }}{{ break }}{{ end }}{{ . }}{{ else }}x{{ end }}', "a"),
        ("{{ range .L }}{{ $.A }}{{ end }}", "qqq"),
        ("{{ range .L }}{{ range $.L }}{{ break }}{{ end }}{{ . }}{{ end }}", "abc"),
        # variables
        ("{{ $s := 1 }}{{ range .L }}{{ $s = . }}{{ end }}{{ $s }}", "c"),
        ("{{ $s := 1 }}{{ if true }}{{ $s := 2 }}{{ $s }}{{ end }}{{ $s }}", "21"),
        ('{{ $i := 9 }}{{ $e := "" }}{{ range $i, $e = .L }}{{ end }}{{ $i }}{{ $e }}', "2c"),
        ("{{ $s := .S }}{{ $s.X }}", "1"),
        # templates
        ('{{ define "x" }}[{{ . }}{{ $ }}]{{ end }}{{ template "x" .A }}', "[qq]"),
        ('{{ block "y" .A }}({{ . }}){{ end }}', "(q)"),
        ('{{ template "late" 1 }}{{ define "late" }}{{ . }}{{ end }}', "1"),
        # pipelines and parentheses
        ('{{ .A | printf "%s-%s" "x" }}', "x-q"),
        ('{{ (index .L 1) }}{{ (len .L) | printf "%d" }}', "b3"),
        ("{{ (.S).X }}{{ ((.M)).b }}", "11"),
        # literals
        (r'{{ "a\n\"\u00e9\x41\101" }}', 'a\n"éAA'),
        ("{{ `raw \\n` }}", "raw \\n"),
        (
            "{{ 'a' }} {{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 017 }} {{ 1_000 }} {{ 1e3 }} {{ .5 }}",
            "97 31 5 15 15 1000 1000 0.5",
        ),
        ("{{ true }} {{ print nil }}", "true <nil>"),
        # printing
        ("{{ .Nope }} {{ .None }} {{ .M.nope }}", "<no value> <no value> <no value>"),
        ("{{ .L }} {{ .M }} {{ .S }} {{ .F }} {{ .Yes }}", "[a b c] map[a:[1 <nil>] b:1] {1 [z]} 1.5 true"),
        ("{{ 1e21 }} {{ 1e20 }} {{ 0.00001 }} {{ 3.0 }}", "1e+21 100000000000000000000 1e-05 3"),
        # functions
        ("{{ and .A .Zero .Nope.Deep }}|{{ or .Empty .A .Nope.Deep }}", "0|q"),
        ("{{ and true }}{{ or .Empty 0 }}", "true0"),
        ('{{ len "é" }} {{ len .L }} {{ len .M }} {{ len .Empty }}', "2 3 2 0"),
        ('{{ index .L 0 }} {{ index .M "a" 0 }} {{ index .M "zz" }} {{ index "abc" 1 }}', "a 1 <no value> 98"),
        ('{{ slice .L 1 }} {{ slice .L 1 2 }} {{ slice "hello" 1 3 }} {{ slice .L 0 1 2 }}', "[b c] [b] el [a]"),
        (
            '{{ eq .A "x" "q" }} {{ ne .N 3 }} {{ lt 1 2 }} {{ le 2 2 }} {{ gt "b" "a" }} {{ ge 1.5 2.5 }}',
            "true false true true true false",
        ),
        ("{{ eq .Nope nil }} {{ eq .Nope .A }}", "true false"),
        (
            '{{ printf "%5d|%-4s|%04d|%.2f|%q|%v|%t|%x|%%" 7 "ab" 42 1.5 "q\\"" .L true 255 }}',
            '    7|ab  |0042|1.50|"q\\""|[a b c]|true|ff|%',
        ),
        ('{{ printf "%d %s" "x" }}{{ printf "%" }}', "%!d(string=x) %!s(MISSING)%!(NOVERB)"),
        ('{{ printf "%s" 1 2 }}', "%!s(int=1)%!(EXTRA int=2)"),
        ('{{ printf "%99999999d" 1 }}', "%!(BADWIDTH)%!(EXTRA int=1)"),
        ('{{ print 1 2 "a" 3 }} {{ println "x" 1 }}', "1 2a3 x 1\n"),
        ('{{ html `<a href="x">&\'` }}', "&lt;a href=&#34;x&#34;&gt;&amp;&#39;"),
        ("{{ js `'<\"\\` }}", "\\'\\u003C\\\"\\\\"),
        ('{{ urlquery "a b&c/é" }}', "a+b%26c%2F%C3%A9"),
        ('{{ json .M }} {{ json "<é" }}', '{"a":[1,null],"b":1} "\\u003cé"'),
    ],
)
def test_evaluates(text: str, expected: str) -> None:
    assert run(text) == expected


@pytest.mark.parametrize(
    ("text", "why", "column"),
    [
        ("{{ if }}", "missing value for if", 7),
        ("ab{{ .A", "unclosed action", 3),
        ("{{ foo 1 }}", 'function "foo" not defined', 4),
        ("{{ $x }}", 'undefined variable "$x"', 4),
        ("{{ if .A }}{{ $x := 1 }}{{ end }}{{ $x }}", 'undefined variable "$x"', 37),
        ("{{ end }}", "unexpected {{end}}", 4),
        ("{{ else }}", "unexpected {{else}}", 4),
        ("{{ if .A }}x", "unexpected EOF", 13),
        ("{{ if .A }}{{ else }}{{ else }}{{ end }}", "unexpected {{else}} in if", 25),
        ('{{ template "x" }}', "undefined template specified", 4),
        ("{{ break }}", "{{break}} outside {{range}}", 4),
        ('{{ range .L }}{{ define "x" }}{{ end }}{{ end }}', "unexpected <define> in block", 18),
        ("{{ nil }}", "nil is not a command", 4),
        ("{{ 1 | 2 }}", "non executable command in pipeline stage 2", 8),
        ("{{ .A | }}", "missing value for command", 7),
        ('{{ "x }}', "unterminated quoted string", 4),
        ("{{ (.A }}", "unclosed left paren", 8),
        ("{{ .A) }}", "unexpected right paren", 6),
        ("{{/* x }}", "unclosed comment", 1),
        ("{{ 1x }}", "bad number syntax", 4),
        ("{{ range $a, $b, $c := .L }}{{ end }}", "too many declarations in range", 16),
        ("{{ $x = 1 }}", 'undefined variable "$x"', 7),
        ("{{ .A ! }}", "unexpected", 7),
        (r'{{ "\q" }}', "invalid syntax", 4),
        ("{{ 1.A }}", "bad number syntax", 4),
    ],
)
def test_refuses_to_parse_and_says_where(text: str, why: str, column: int) -> None:
    with pytest.raises(TemplateError, match=re.escape(why)) as caught:
        parse(text)
    assert caught.value.line == 1
    assert caught.value.column == column


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{{ .S.Nope }}", "can't evaluate field Nope in type T"),
        ("{{ .Nope.Deep }}", "nil pointer evaluating interface {}.Deep"),
        ("{{ .A.B }}", "can't evaluate field B in type string"),
        ('{{ eq 1 "1" }}', "incompatible types for comparison"),
        ("{{ eq .L .L }}", "non-comparable type"),
        ("{{ lt .L .L }}", "invalid type for comparison"),
        ("{{ eq 1 }}", "missing argument for comparison"),
        ("{{ len 3 }}", "len of type int"),
        ("{{ index .L 3 }}", "index out of range: 3"),
        ("{{ index .Nope 0 }}", "index of untyped nil"),
        ("{{ slice .L 2 1 }}", "invalid slice index"),
        ("{{ .A 1 }}", "can't give argument to non-function"),
        ("{{ not 1 2 }}", "wrong number of args for not: want 1 got 2"),
        ("{{ printf 1 }}", "expected string; got int"),
        ('{{ template "none" . }}', 'template "none" not defined'),
        ("{{ range .A }}{{ end }}", "range can't iterate over"),
        ("{{ call .A }}", "non-function"),
    ],
)
def test_execution_errors_say_what_and_where(text: str, why: str) -> None:
    with pytest.raises(TemplateError, match=re.escape(why)) as caught:
        run("\n  " + text)
    assert caught.value.line == 2
    assert caught.value.column > 2


@pytest.mark.parametrize(
    "text",
    [
        "{{ range 1000000000 }}x{{ end }}",
        "{{ range 100000 }}{{ range 100000 }}{{ end }}{{ end }}",
        '{{ define "x" }}{{ template "x" . }}{{ end }}{{ template "x" . }}',
        '{{ $x := "xxxxxxxxxxxxxxxx" }}{{ range 60 }}{{ $x = printf "%s%s" $x $x }}{{ end }}',
        "{{ if .A }}" * 500 + "{{ end }}" * 500,
        "{{ " + "(" * 500 + "1" + ")" * 500 + " }}",
        "{{ if .A }}x{{ else " * 300 + "}}{{ end }}",
    ],
)
def test_no_template_runs_away(text: str) -> None:
    with pytest.raises(TemplateError):
        parse(text + "{{ .Response }}").execute(DATA, max_output=100_000, max_steps=50_000)


def test_a_template_too_long_to_parse_on_the_side_is_refused() -> None:
    with pytest.raises(TemplateError, match="longer than 131072 characters"):
        parse("x" * 131073)


def test_deep_data_is_an_error_not_a_crash() -> None:
    deep: list[Any] = []
    for _ in range(20_000):
        deep = [deep]
    with pytest.raises(TemplateError):
        run("{{ .D }}", D=deep)
    with pytest.raises(TemplateError):
        run("{{ json .D }}", D=deep)


@given(st.text(alphabet='{}-/* .$A"`()|:=,\n0 ifrangeedwth', max_size=60))
def test_any_text_parses_or_is_a_template_error(text: str) -> None:
    with contextlib.suppress(TemplateError):
        assert isinstance(parse(text).execute(DATA, max_steps=5000), str)


def test_values_with_a_json_form_print_it() -> None:
    tools = JSONList([Struct("Tool", {"Name": "f"}, wire={"b": 1, "a": JSONMap(z=1, y=2)}, prints_json=True)])
    assert (
        run("{{ .T }}|{{ range .T }}{{ . }}{{ .Name }}{{ end }}", T=tools)
        == '[{"b":1,"a":{"y":2,"z":1}}]|{"b":1,"a":{"y":2,"z":1}}f'
    )
    assert run("{{ .T }} {{ .U }} {{ json .T }}", T=TypeNames(["a"]), U=TypeNames(["a", "b"])) == 'a [a b] "a"'
    assert run('{{ eq .T "a" }}', T=TypeNames(["a"])) == "true"


def test_dates_are_local_days() -> None:
    today = date.today()  # noqa: DTZ011  the local day is what is promised
    assert run('{{ currentDate "2006" }} {{ yesterdayDate }}') == f"{today} {today - timedelta(days=1)}"


def property_(**fields: Any) -> Struct:
    return Struct("api.ToolProperty", {"AnyOf": [], "Type": TypeNames(), **fields})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (property_(Type=TypeNames(["string"])), "string"),
        (property_(Type=TypeNames(["integer", "null"])), "number | null"),
        (property_(Type=TypeNames(["array"])), "any[]"),
        (property_(Type=TypeNames(["object"])), "Record<string, any>"),
        (property_(AnyOf=[property_(Type=TypeNames(["boolean"])), property_()]), "boolean | any"),
        (property_(Type=TypeNames(["file"])), "any"),
        ("text", "any"),
    ],
)
def test_typescript_types(value: Any, expected: str) -> None:
    assert run("{{ toTypeScriptType .V }}", V=value) == expected


def test_identifiers_are_those_of_every_field_and_variable() -> None:
    template = parse('{{ define "d" }}{{ .Sub }}{{ end }}{{ range $i, $m := $.Messages }}{{ $m.Role | json }}{{ end }}')
    assert {"messages", "role", "sub", "$m", "$"} <= template.identifiers
    assert "$i" not in template.identifiers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a{{ .Response }}b{{ .Prompt }}", "aR"),
        ("a{{ if .Response }}x{{ end }}c{{ .Response }}b", "axcR"),
        ("{{ if .Prompt }}P{{ .Response }}x{{ else }}E{{ .Response }}{{ end }}tail", "PR"),
        ("{{ $.Response }}{{ .Response }}b", "RR"),
        ("{{ .Response | printf `<%s>` }}b", "<R>"),
    ],
)
def test_the_cut_ends_behind_the_first_printed_response(text: str, expected: str) -> None:
    assert parse(text).cut.execute({"Response": "R", "Prompt": "p"}) == expected


def test_a_template_without_messages_or_response_gets_the_response() -> None:
    assert parse("<{{ .Prompt }}>").execute({"Prompt": "p", "Response": "r"}) == "<p>r"
    assert parse("{{ .Response }}!").execute({"Response": "r"}) == "r!"
