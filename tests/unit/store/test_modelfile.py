from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core import Message
from corral.errors import InvalidRequest, ModelfileError
from corral.store.modelfile import (
    Command,
    Modelfile,
    format_modelfile,
    format_parameters,
    model_commands,
    parse_modelfile,
)


def commands(text: str | bytes) -> list[tuple[str, str]]:
    return [(command.name, command.args) for command in parse_modelfile(text).commands]


def test_commands_are_read_in_order_and_in_any_case() -> None:
    text = "# a model\nfrom base\n\tSystem be kind\nParaMeter temperature 0.5\nMESSAGE user hi: there\n"
    assert commands(text) == [
        ("model", "base"),
        ("system", "be kind"),
        ("temperature", "0.5"),
        ("message", "user: hi: there"),
    ]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("plain text  ", "plain text"),
        ("   padded", "padded"),
        ('"quoted # no comment"', "quoted # no comment"),
        ('"  kept  "', "  kept  "),
        ('"a\nb"', "a\nb"),
        ('"open  \nclosed"  ', "open  \nclosed"),
        ('"""\nline\n"""', "\nline\n"),
        ('"""say "hi" """', 'say "hi" '),
        ('"""a ""\nb"""', 'a ""\nb'),
        ('""', ""),
        ('""""""', ""),
        ("", ""),
        ("'single'", "'single'"),
        ("a\tb", "a\tb"),
        ("a\u00a0b\u200dc\x1bd", "a\u00a0b\u200dc\x1bd"),
        ("日本 é 🦙", "日本 é 🦙"),
        ('x "y"', 'x "y"'),
    ],
)
def test_a_value_is_trimmed_unquoted_and_kept_verbatim_inside_quotes(value: str, read: str) -> None:
    assert commands(f"FROM m\nSYSTEM {value}\nLICENSE l") == [("model", "m"), ("system", read), ("license", "l")]
    assert commands(f"FROM m\nSYSTEM {value}") == [("model", "m"), ("system", read)]


def test_text_after_a_closing_quote_keeps_the_value_open() -> None:
    assert commands('FROM m\nSYSTEM "a" b\nTEMPLATE c"\n') == [("model", "m"), ("system", 'a" b\nTEMPLATE c')]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-16-be", "utf-8"])
def test_a_byte_order_mark_decides_the_encoding(encoding: str) -> None:
    mark = "\ufeff" if encoding.startswith("utf-16") else ""
    data = (mark + "FROM m\nSYSTEM größe").encode(encoding)
    assert commands(data) == [("model", "m"), ("system", "größe")]


def test_broken_utf8_becomes_replacement_characters() -> None:
    assert commands(b"FROM m\nSYSTEM a\xffb") == [("model", "m"), ("system", "a\ufffdb")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no FROM line"),
        ("# only\n", "no FROM line"),
        ("SYSTEM x\n", "no FROM line"),
        ("FROM", '(line 1): unexpected EOF after "FROM"'),
        ("FROM x\nSYSTEM", '(line 2): unexpected EOF after "SYSTEM"'),
        ('FROM x\nSYSTEM "open\n', "(line 2): unexpected EOF: the quote that SYSTEM opens is never closed"),
        ('FROM x\nSYSTEM """open"', "(line 2): unexpected EOF: the quote that SYSTEM opens is never closed"),
        ('FROM x\n\nMESSAGE user "a\n', "(line 3): unexpected EOF: the quote that MESSAGE user opens is never closed"),
        (
            'FROM x\nPARAMETER stop "a\n',
            "(line 2): unexpected EOF: the quote that PARAMETER stop opens is never",
        ),
        ('FROM "x', "(line 1): unexpected EOF: the quote that FROM opens is never closed"),
        ("FROM x\nPARAMETER top-k 3", "(line 2): unexpected EOF: top-k"),
        ("FROM x\nPARAMETER top_k", "(line 2): unexpected EOF: top_k"),
        ("FROM x\nMESSAGE user\nhi", "(line 2): unexpected EOF: user"),
        ("FROM x\nPARAMETER\n", '(line 3): command must be one of "from", … found "PARAMETER"'),
        ("FROM x\nBOGUS y\n", '(line 2): command must be one of "from", … found "BOGUS"'),
        ("FROM x\nSYS-TEM y\n", '(line 2): command must be one of "from", … found "SYS-TEM"'),
        ("\r\nBOGUS y\n", '(line 3): command must be one of "from", … found "BOGUS"'),
        ("1FROM x", '(line 1): command must be one of "from", … found "1FROM"'),
        (f"{'X' * 90} y", f'(line 1): command must be one of "from", … found "{"X" * 40}"'),
        ("FROM x\nMESSAGE robot hi\n", '(line 2): message role must be one of "system", … found "robot"'),
        ("FROM x\nMESSAGE User hi\n", '(line 2): message role must be one of "system", … found "User"'),
        ("FROM x\nMESSAGE  user hi\n", '(line 2): message role must be one of "system", … found ""'),
        (
            "FROM x\n# corral:json\nSYSTEM y\n",
            '(line 3): what follows the comment "# corral:json" must be a JSON',
        ),
        ("FROM x\n#corral:json \n\nSYSTEM [1]", '(line 4): what follows the comment "# corral:json" must be a JSON'),
    ],
)
def test_errors_say_what_and_where(text: str, message: str) -> None:
    with pytest.raises(ModelfileError) as caught:
        parse_modelfile(text)
    start, _, end = message.partition(" … ")
    assert str(caught.value).startswith(start)
    assert end in str(caught.value)


def test_a_long_open_value_is_read_in_linear_time() -> None:
    text = 'FROM m\nSYSTEM """' + "line\n" * 200_000 + '"""'
    assert len(commands(text)[1][1]) == 1_000_000


def test_fields_of_a_create_request() -> None:
    fields = parse_modelfile(
        """
FROM one
FROM two
ADAPTER a1
ADAPTER a2
DRAFT d
TEMPLATE t
SYSTEM s1
SYSTEM s2
RENDERER r
PARSER p
REQUIRES v0.14.0
LICENSE l1
LICENSE l2
MESSAGE system be
MESSAGE user hi
PARAMETER stop a
PARAMETER stop "b c"
PARAMETER temperature 0.1
PARAMETER temperature 0.7
PARAMETER num_ctx 4096
PARAMETER use_mmap T
PARAMETER mirostat 1
"""
    ).to_create_fields()
    assert fields.sources == ("one", "two")
    assert (fields.adapter, fields.drafts) == ("a2", ("d",))
    assert (fields.template, fields.system, fields.renderer, fields.parser) == ("t", "s2", "r", "p")
    assert fields.requires == "0.14.0"
    assert fields.licenses == ("l1", "l2")
    assert fields.messages == (Message("system", "be"), Message("user", "hi"))
    assert fields.parameters == {"stop": ["a", "b c"], "temperature": 0.7, "num_ctx": 4096, "use_mmap": True}
    assert fields.deprecated == ("mirostat",)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("PARAMETER temperature abc", "(line 2): PARAMETER temperature: invalid float value [abc]"),
        ("PARAMETER num_ctx 1.5", "(line 2): PARAMETER num_ctx: invalid int value [1.5]"),
        ("PARAMETER use_mmap maybe", "(line 2): PARAMETER use_mmap: invalid bool value [maybe]"),
        ("PARAMETER num_gqa 1", "(line 2): PARAMETER num_gqa: unknown parameter 'num_gqa'"),
        ("PARAMETER  temperature 1", "(line 2): PARAMETER : unknown parameter ''"),
        (
            "PARAMETER Temperature 1",
            "(line 2): PARAMETER Temperature: unknown parameter 'Temperature'; did you mean temperature?",
        ),
        ("REQUIRES latest", '(line 2): requires must be a valid semver (e.g. 0.14.0), not "latest"'),
        ("REQUIRES latest\nREQUIRES 1.2", '(line 2): requires must be a valid semver (e.g. 0.14.0), not "latest"'),
        ("REQUIRES 01.2", '(line 2): requires must be a valid semver (e.g. 0.14.0), not "01.2"'),
    ],
)
def test_wrong_parameters_and_versions_are_refused(line: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_modelfile(f"FROM m\n{line}").to_create_fields()
    assert str(caught.value) == message


@pytest.mark.parametrize("version", ["1", "1.2", "v1.2.3", "1.2.3-rc.1+build"])
def test_short_and_long_versions_pass(version: str) -> None:
    assert parse_modelfile(f"FROM m\nREQUIRES {version}").to_create_fields().requires == version.removeprefix("v")


def test_a_parameter_named_like_a_command_acts_like_it() -> None:
    fields = parse_modelfile("PARAMETER model m\nPARAMETER system s").to_create_fields()
    assert (fields.sources, fields.system) == (("m",), "s")


def test_a_stored_model_is_printed_as_ollama_prints_it() -> None:
    modelfile = model_commands(
        weights="/b/w",
        adapters=["/b/a"],
        draft="/b/d",
        projectors=["/b/p"],
        template='{{ .System }}\n"{{ .Prompt }}"',
        system="You are Mario.\nIt's me.",
        renderer="r",
        parser="p",
        parameters={"temperature": 0.7, "stop": [" lead", "<|im_end|>"], "num_ctx": 1048576.0, "use_mmap": True},
        licenses=["MIT"],
        messages=[Message("user", "hi"), Message("assistant", "yes ")],
    )
    assert format_modelfile("made:latest", modelfile) == (
        '# Modelfile generated by "ollama show"\n'
        "# To build a new Modelfile based on this, replace FROM with:\n"
        "# FROM made:latest\n\n"
        "FROM /b/w\nADAPTER /b/a\nDRAFT /b/d\nFROM /b/p\n"
        'TEMPLATE """{{ .System }}\n"{{ .Prompt }}""""\n'
        'SYSTEM "You are Mario.\nIt\'s me."\nRENDERER r\nPARSER p\n'
        'PARAMETER num_ctx 1048576\nPARAMETER stop " lead"\nPARAMETER stop <|im_end|>\n'
        "PARAMETER temperature 0.7\nPARAMETER use_mmap true\n"
        'LICENSE MIT\nMESSAGE user hi\nMESSAGE assistant "yes "\n'
    )


def test_a_safetensors_model_is_printed_from_its_name() -> None:
    text = format_modelfile("m:latest", model_commands(weights=""), safetensors=True)
    assert text == '# Modelfile generated by "ollama show"\nFROM m:latest\nTEMPLATE {{ .Prompt }}\n'


def test_parameters_are_sorted_padded_and_quoted_as_go_does() -> None:
    values: dict[str, Any] = {"top_k": 40, "stop": ['a"b', "x\ny\x1b\u2028é"], "temperature": 1.0, "min_p": 0.05}
    assert format_parameters(values).split("\n") == [
        "min_p                          0.05",
        'stop                           "a\\"b"',
        'stop                           "x\\ny\\x1b\\u2028é"',
        "temperature                    1",
        "top_k                          40",
    ]


texts = st.one_of(
    st.text(),
    st.text(alphabet=' \t\r\n"x#\u3000\u200d\x00{}'),  # quotes and blanks of all kinds, crowded
    st.lists(st.sampled_from(['"""', '"', "\n", "\r\n", " ", "\t", "a", "# corral:json", "SYSTEM x"])).map("".join),
)


@given(texts, texts, texts, texts, st.lists(texts, max_size=3), st.floats(0, 2, width=32), st.integers(0, 2**31))
def test_what_is_printed_is_read_back(
    template: str, system: str, terms: str, said: str, stops: list[str], temperature: float, num_ctx: int
) -> None:
    parameters: dict[str, Any] = {"num_ctx": num_ctx, "temperature": temperature}
    if stops:
        parameters["stop"] = stops
    printed = format_modelfile(
        "m:latest",
        model_commands(
            weights="/w",
            template=template,
            system=system,
            parameters=parameters,
            licenses=[terms, said],
            messages=[Message("user", said), Message("assistant", template)],
        ),
    )
    for text in (printed, printed.encode()):
        fields = parse_modelfile(text).to_create_fields()
        assert (fields.template, fields.system, fields.licenses) == (template, system, (terms, said))
        assert fields.messages == (Message("user", said), Message("assistant", template))
        assert fields.parameters.get("stop", []) == stops
        assert fields.parameters["num_ctx"] == num_ctx
        assert fields.parameters["temperature"] == pytest.approx(temperature, rel=1e-6, abs=1e-40)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ('"Hi" is what you say', '""""Hi" is what you say"""'),
        ('"', '"""""""'),
        ("ends in a tab\t", '"ends in a tab\t"'),
        ("one\rtwo", '"one\rtwo"'),
        ("全角\u3000空白", "全角\u3000空白"),
        ('code: """\nend', '# corral:json\nSYSTEM "code: \\"\\"\\"\\nend"'),
        ('q"uote', 'q"uote'),
    ],
)
def test_a_text_is_quoted_where_its_letters_would_not_come_back(text: str, printed: str) -> None:
    expected = printed if printed.startswith("#") else f"SYSTEM {printed}"
    assert str(Command("system", text)) == expected


def test_what_show_prints_for_no_template_is_none_and_a_template_of_those_letters_is_one() -> None:
    shown = format_modelfile("m", model_commands(weights="/w"))
    assert "TEMPLATE {{ .Prompt }}\n" in shown
    assert parse_modelfile(shown).to_create_fields().template == ""
    own = format_modelfile("m", model_commands(weights="/w", template="{{ .Prompt }}"))
    assert parse_modelfile(own).to_create_fields().template == "{{ .Prompt }}"
    assert parse_modelfile("FROM x\nTEMPLATE {{ .Prompt }}").to_create_fields().template == "{{ .Prompt }}"


@given(st.text())
def test_any_text_is_read_or_refused_never_worse(text: str) -> None:
    try:
        parsed = parse_modelfile(text)
    except ModelfileError:
        return
    assert parse_modelfile(str(parsed) + "FROM x\n") != Modelfile((Command("model", "x"),))
