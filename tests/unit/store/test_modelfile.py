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
        ("a\u00a0b\u200dc\x1bd", "abcd"),
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
        ("FROM", "unexpected EOF"),
        ("FROM x\nSYSTEM", "unexpected EOF"),
        ('FROM x\nSYSTEM "open\n', "unexpected EOF"),
        ('FROM x\nSYSTEM """open"', "unexpected EOF"),
        ("FROM x\nPARAMETER top-k 3", "unexpected EOF: top"),
        ("FROM x\nPARAMETER top_k", "unexpected EOF"),
        ("FROM x\nMESSAGE user\nhi", "unexpected EOF: user"),
        ("FROM x\nPARAMETER\n", '(line 3): command must be one of "from", "license"'),
        ("FROM x\nBOGUS y\n", '(line 2): command must be one of "from", "license"'),
        ("\r\nBOGUS y\n", '(line 3): command must be one of "from", "license"'),
        ("1FROM x", '(line 1): command must be one of "from", "license"'),
        ("FROM x\nMESSAGE robot hi\n", '(line 2): message role must be one of "system", "user", or "assistant"'),
        ("FROM x\nMESSAGE User hi\n", "(line 2): message role must be"),
        ("FROM x\nMESSAGE  user hi\n", "(line 2): message role must be"),
    ],
)
def test_errors_say_what_and_where(text: str, message: str) -> None:
    with pytest.raises(ModelfileError) as caught:
        parse_modelfile(text)
    assert str(caught.value).startswith(message)


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
        ("PARAMETER temperature abc", "invalid float value [abc]"),
        ("PARAMETER num_ctx 1.5", "invalid int value [1.5]"),
        ("PARAMETER use_mmap maybe", "invalid bool value [maybe]"),
        ("PARAMETER num_gqa 1", "unknown parameter 'num_gqa'"),
        ("PARAMETER  temperature 1", "unknown parameter ''"),
        ("PARAMETER Temperature 1", "unknown parameter 'Temperature'"),
        ("REQUIRES latest", "requires must be a valid semver (e.g. 0.14.0)"),
        ("REQUIRES latest\nREQUIRES 1.2", "requires must be a valid semver (e.g. 0.14.0)"),
        ("REQUIRES 01.2", "requires must be a valid semver (e.g. 0.14.0)"),
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


# Texts that survive: printable, no carriage return (it ends a value), no quote at either end, not blank at an end
# unless the printer quotes for it.
texts = (
    st.text(st.characters(categories=("L", "M", "N", "P", "S"), include_characters=" \n\t"), min_size=1)
    .map(lambda text: "".join(char for char in text if char in "\n\t" or char.isprintable()))
    .filter(lambda text: text and '"' not in (text[0], text[-1]) and text.strip("\t") == text)
)


@given(texts, texts, st.lists(texts, max_size=3), st.floats(0, 2, width=32), st.integers(0, 2**31))
def test_what_is_printed_is_read_back(
    template: str, system: str, stops: list[str], temperature: float, num_ctx: int
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
            licenses=[system],
            messages=[Message("user", template)],
        ),
    )
    fields = parse_modelfile(printed).to_create_fields()
    assert (fields.template, fields.system, fields.licenses) == (template, system, (system,))
    assert fields.messages == (Message("user", template),)
    assert fields.parameters.get("stop", []) == stops
    assert fields.parameters["num_ctx"] == num_ctx
    assert fields.parameters["temperature"] == pytest.approx(temperature, rel=1e-6, abs=1e-40)


@given(st.text())
def test_any_text_is_read_or_refused_never_worse(text: str) -> None:
    try:
        parsed = parse_modelfile(text)
    except ModelfileError:
        return
    assert parse_modelfile(str(parsed) + "FROM x\n") != Modelfile((Command("model", "x"),))
