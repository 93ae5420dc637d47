"""The Go template language: what it prints, what it refuses, and that no template can run away (spec models §5.1)."""

from __future__ import annotations

import contextlib
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import TemplateError
from corral.gotemplate import Budget, JSONList, JSONMap, Struct, TypeNames, parse

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
        ("{{ 1e21 }} {{ 1e20 }} {{ 0.00001 }} {{ 3.0 }} {{ -0.0 }}", "1e+21 1e+20 1e-05 3 -0"),
        (
            "{{ 1.5e10 }} {{ 1e6 }} {{ 123456.0 }} {{ 123456789.5 }} {{ 0.0001 }}",
            "1.5e+10 1e+06 123456 1.234567895e+08 0.0001",
        ),
        ("{{ 0x1p4 }} {{ 1i }} {{ 1-2.5i }} {{ 5. }}", "16 (0+1i) (1-2.5i) 5"),
        # what a pipeline made may be nothing, a bar may stand at its end
        ("{{ $x := .Nope }}{{ $x.Deep }} {{ (.Nope).Deep.Er }} {{ .A | }}", "<no value> <no value> q"),
        # a range's variables are the whole value before they are its elements
        ("{{ range $x := .Empty | len }}{{ else }}{{ $x }}{{ end }}", "0"),
        ("{{ $x := 1 }}{{ range $x = slice .L 0 0 }}{{ end }}{{ $x }}", "[]"),
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
        ('{{ printf "%99999999d" 1 }}', "%!(NOVERB)%!(EXTRA int=1)"),
        ('{{ printf "%[2]d %[1]d|%[3]d|%[x]d|%[2]*[1]d" 2 6 }}', "6 2|%!d(BADINDEX)|%!d(BADINDEX)|     2"),
        ('{{ printf "%*d|%-*d|%.*f|%*d" 5 1 5 2 2 1.239 "a" 1 }}', "    1|2    |1.24|%!(BADWIDTH)1"),
        ('{{ printf "% x|%#x|%X|%.1x|%x" "hi" "hi" "hi" "hi" 1.5 }}', "68 69|0x6869|6869|68|0x1.8p+00"),
        ('{{ printf "%+q|%#q|%#q|%q|%#U|%c" "é" "a" "`" 233 65 960 }}', "\"\\u00e9\"|`a`|\"`\"|'é'|U+0041 'A'|π"),
        (
            '{{ printf "%+d|% d|%05d|%-5d|%+.1f|%6.3v|%08.2f|%G" 1 2 -3 4 1.0 1.23456 -1.5 1e30 }}',
            "+1| 2|-0003|4    |+1.0|  1.23|-0001.50|1E+30",
        ),
        ('{{ printf "%#b|%#o|%O|%.3d|%5t|%05s|%.1s" 5 8 8 7 true "a" "é!" }}', "0b101|010|0o10|007| true|0000a|é"),
        (
            '{{ printf "%s|%d|%5d|%v|%+v" .M .L "x" .S .S }}',
            "map[a:[%!s(int=1) <nil>] b:%!s(int=1)]|[%!d(string=a) %!d(string=b) %!d(string=c)]|"
            "%!d(string=    x)|{1 [z]}|{X:1 Y:[z]}",
        ),
        ('{{ printf "%#v %#v %#v" "a" .L .M.b }}', '"a" []interface {}{"a", "b", "c"} 1'),
        ('{{ html "<" nil 1 2 }}', "&lt;&lt;no value&gt;1 2"),
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
    ("text", "error"),
    [
        ("{{ if }}", ":1: missing value for if"),
        ("ab{{ .A", ":1: unclosed action"),
        ("a\nb {{ .A\n .B\n", ":4: unclosed action started at :2"),
        ('{{ .A\n"b }}', ":2: unterminated quoted string in action started at :1"),
        ("{{ foo 1 }}", ':1: function "foo" not defined'),
        ("{{ $x }}", ':1: undefined variable "$x"'),
        ("{{ if .A }}{{ $x := 1 }}{{ end }}\n{{ $x }}", ':2: undefined variable "$x"'),
        ("{{ end }}", ":1: unexpected {{end}}"),
        ("{{ else }}", ":1: unexpected {{else}}"),
        ("{{ if .A }}x\n", ":2: unexpected EOF"),
        ("{{ if .A }}{{ else }}{{ else }}{{ end }}", ":1: expected end; found {{else}}"),
        ("{{ if .A }}{{ else with .B }}{{ end }}", ":1: unexpected <with> in input"),
        ('{{ template "x" }}', None),
        ("{{ template x . }}", ':1: unexpected "x" in template clause'),
        ("{{ break }}", ":1: {{break}} outside {{range}}"),
        ("{{ range .L }}{{ continue 1 }}{{ end }}", ':1: unexpected "1" in {{continue}}'),
        ('{{ range .L }}{{ define "x" }}{{ end }}{{ end }}', ":1: unexpected <define> in command"),
        ('{{ define "x" . }}{{ end }}', ":1: unexpected <.> in define clause"),
        ('{{ define "x" }}1{{ end }}{{ define "x" }}2{{ end }}', ':1: template: multiple definition of template "x"'),
        ("{{ 1 | 2 }}", ":1: non executable command in pipeline stage 2"),
        ("{{ . | nil }}", ":1: non executable command in pipeline stage 2"),
        ("{{ | .A }}", ':1: unexpected "|" in command'),
        ('{{ "x }}', ":1: unterminated quoted string"),
        ("{{ 'x }}", ":1: unterminated character constant"),
        ("{{ `x }}", ":1: unterminated raw quoted string"),
        ("{{ (.A }}", ":1: unclosed left paren"),
        ("{{ .A) }}", ":1: unexpected right paren"),
        ("{{/* x }}", ":1: unclosed comment"),
        ("{{/* x */ }}", ":1: comment ends before closing delimiter"),
        ("{{ /* x */ }}", ':1: unexpected "/" in command'),
        ("{{ 1x }}", ':1: bad number syntax: "1x"'),
        ("{{ 0x }}", ':1: illegal number syntax: "0x"'),
        ("{{ - 1 }}", ':1: illegal number syntax: "-"'),
        ("{{ 08 }}", ':1: integer overflow: "08"'),
        ("{{ 99999999999999999999 }}", ':1: integer overflow: "99999999999999999999"'),
        ("{{ '' }}", ":1: invalid syntax"),
        ("{{ 'ab' }}", ":1: malformed character constant: 'ab'"),
        (r'{{ "\q" }}', ":1: invalid syntax"),
        ("{{ range $a, $b, $c := .L }}{{ end }}", ":1: too many declarations in range"),
        ("{{ range $a, b := .L }}{{ end }}", ":1: range can only initialize variables"),
        ("{{ $a, $b := .L }}", ":1: too many declarations in command"),
        ("{{ .A ! }}", ':1: unexpected "!" in operand'),
        ("{{ .A }", ':1: unexpected "}" in operand'),
        ("{{ .A, .B }}", ':1: unexpected "," in operand'),
        ("{{ :x }}", ":1: expected :="),
        ("{{ .A\u2028 }}", ":1: bad character U+2028"),
        ("{{ \u20ac }}", ":1: unrecognized character in action: U+20AC '\u20ac'"),
        ('{{ if "0123456789ab" := 1 }}', ':1: unexpected ":=" in operand'),
        ('{{ end "0123456789ab" }}', ':1: unexpected "\\"012345678"... in end'),
        ("{{ 1.A }}", ':1: bad number syntax: "1.A"'),
        ("{{ true.A }}", ':1: unexpected . after term "true"'),
    ],
)
def test_refuses_to_parse_in_the_words_of_go(text: str, error: str | None) -> None:
    with pytest.raises(TemplateError) as caught:
        parse(text)
    assert caught.value.go_text == ("undefined template specified" if error is None else f"template: {error}")


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [("ab{{ .A", 1, 7), ("a\né{{ foo }}", 2, 5), ("{{ if .A }}x", 1, 12), ("{{ .A }}\n{{ .A ! }}", 2, 6)],
)
def test_says_where_it_does_not_parse(text: str, line: int, column: int) -> None:
    with pytest.raises(TemplateError) as caught:
        parse(text)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert str(caught.value).startswith(f"template: :{line}:{column}: ")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{{ .S.Nope }}", '5: executing "" at <.S.Nope>: can\'t evaluate field Nope in type interface {}'),
        ("{{ .Nope.Deep }}", '8: executing "" at <.Nope.Deep>: nil pointer evaluating interface {}.Deep'),
        ("{{ .A.B }}", '5: executing "" at <.A.B>: can\'t evaluate field B in type interface {}'),
        ("{{ with .S }}{{ .Nope }}{{ end }}", '16: executing "" at <.Nope>: can\'t evaluate field Nope in type T'),
        (
            '{{ eq 1 "1" }}',
            '3: executing "" at <eq 1 "1">: error calling eq: incompatible types for comparison: int and string',
        ),
        ("{{ lt .L .L }}", '3: executing "" at <lt .L .L>: error calling lt: invalid type for comparison'),
        (
            "{{ lt true 1 }}",
            '3: executing "" at <lt true 1>: error calling lt: incompatible types for comparison: bool and int',
        ),
        ("{{ eq 1 }}", '3: executing "" at <eq 1>: error calling eq: missing argument for comparison'),
        ("{{ len 3 }}", '3: executing "" at <len 3>: error calling len: len of type int'),
        (
            "{{ .A | index .L }}",
            '8: executing "" at <index .L>: error calling index: cannot index slice/array with type string',
        ),
        ("{{ (index .L 3) }}", '4: executing "" at <index .L 3>: error calling index: index out of range: 3'),
        (
            "{{ index .L nil }}",
            '3: executing "" at <index .L nil>: error calling index: cannot index slice/array with nil',
        ),
        ("{{ index .Nope }}", '3: executing "" at <index .Nope>: error calling index: index of untyped nil'),
        ("{{ slice .L 2 1 }}", '3: executing "" at <slice .L 2 1>: error calling slice: invalid slice index: 2 > 1'),
        (
            '{{ slice "a" 0 1 1 }}',
            '3: executing "" at <slice "a" 0 1 1>: error calling slice: cannot 3-index slice a string',
        ),
        ("{{ 1 2 }}", '3: executing "" at <1>: can\'t give argument to non-function 1'),
        ("{{ .A 1 }}", '3: executing "" at <.A>: A is not a method but has arguments'),
        (
            "{{ with .S }}{{ .X 1 }}{{ end }}",
            '16: executing "" at <.X>: X has arguments but cannot be invoked as function',
        ),
        ("{{ not 1 2 }}", '3: executing "" at <not>: wrong number of args for not: want 1 got 2'),
        ("{{ printf }}", '3: executing "" at <printf>: wrong number of args for printf: want at least 1 got 0'),
        ("{{ printf 1 }}", '10: executing "" at <1>: expected string; found 1'),
        ("{{ printf nil }}", '10: executing "" at <nil>: cannot assign nil to string'),
        ("{{ printf .Nope }}", '10: executing "" at <.Nope>: invalid value; expected string'),
        ("{{ currentDate .N }}", '15: executing "" at <.N>: wrong type for value; expected string; got int'),
        ('{{ template "none" . }}', '12: executing "" at <{{template "none" .}}>: template "none" not defined'),
        ("{{ range .A }}{{ end }}", '9: executing "" at <.A>: range can\'t iterate over q'),
        (
            "{{ range $i, $j := 3 }}{{ end }}",
            '19: executing "" at <3>: can\'t use 3 to iterate over more than one variable',
        ),
        ("{{ call .A }}", '3: executing "" at <call .A>: error calling call: non-function .A of type string'),
        ("{{ nil }}", '3: executing "" at <nil>: nil is not a command'),
        ("{{ $x = 1 }}", '8: executing "" at <1>: undefined variable: $x'),
        ("{{ 18446744073709551615 }}", '3: executing "" at <18446744073709551615>: 18446744073709551615 overflows int'),
        ('{{ block "b" .A }}é{{ .X }}{{ end }}', '23: executing "b" at <.X>: can\'t evaluate field X in type string'),
    ],
)
def test_execution_errors_are_those_of_go(text: str, error: str) -> None:
    with pytest.raises(TemplateError) as caught:
        run("\n" + text)
    assert str(caught.value) == f"template: :2:{error}"


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
        parse(text + "{{ .Response }}").execute(DATA, max_output=100_000, budget=Budget(steps=50_000))


def test_a_template_too_long_to_parse_on_the_side_is_refused() -> None:
    with pytest.raises(TemplateError, match="longer than 65536 characters"):
        parse("x" * 65537)


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
        assert isinstance(parse(text).execute(DATA, budget=Budget(steps=5000)), str)


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
    assert "messages" not in parse("{{ (index .Messages 0).Role }}").identifiers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a{{ .Response }}b{{ .Prompt }}", "aR"),
        ("a{{ if .Response }}x{{ end }}c{{ .Response }}b", "axcR"),
        ("{{ if .Prompt }}P{{ .Response }}x{{ else }}E{{ .Response }}{{ end }}tail", "PR"),
        ("{{ $.Response }}{{ .Response }}b", "RR"),
        ("{{ .Response | printf `<%s>` }}b", ""),
        ("{{ printf `%s%s` .Response .Prompt }}b", "R%!s(MISSING)"),
        ("{{ $x := .Nope }}{{ .Nope.Deep }}{{ .Response }}b", "<no value>R"),
    ],
)
def test_the_cut_ends_behind_the_first_printed_response(text: str, expected: str) -> None:
    assert parse(text).cut.execute({"Response": "R", "Prompt": "p"}) == expected


def test_a_template_without_messages_or_response_gets_the_response() -> None:
    assert parse("<{{ .Prompt }}>").execute({"Prompt": "p", "Response": "r"}) == "<p>r"
    assert parse("{{ .Response }}!").execute({"Response": "r"}) == "r!"


def test_executions_for_one_request_share_a_budget() -> None:
    template, budget = parse("{{ range 100 }}x{{ end }}{{ .Response }}"), Budget(steps=350)
    assert template.execute(DATA, budget=budget).startswith("x" * 100)
    left = budget.steps
    assert 0 < left < 250
    with pytest.raises(TemplateError, match=r"more than \d+ steps"):
        template.execute(DATA, budget=budget)
