"""The option table: types, ranges, texts."""

import math

import pytest

from corral.errors import InvalidRequest
from corral.options import defaults, parse_parameter, shortest_float32, validate


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_ctx": "x"}, 'option "num_ctx" must be of type integer'),
        ({"stop": 1}, 'option "stop" must be of type array'),
        ({"stop": [1]}, 'option "stop" must be of an array of strings'),
        ({"top_p": []}, 'option "top_p" must be of type float32'),
        ({"use_mmap": "x"}, 'option "use_mmap" must be of type boolean'),
        ({"num_gpu": True}, 'option "num_gpu" must be of type integer'),
        ({"temperature": math.inf}, 'option "temperature" must be a finite number'),
        ({"on_overflow": "drop"}, 'option "on_overflow" must be "truncate" or "error"'),
    ],
)
def test_a_wrong_type_names_the_option_and_what_it_takes(options: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        validate(options)
    assert str(caught.value) == text


def test_fractions_of_int_options_are_cut_and_nulls_are_absent() -> None:
    assert validate({"num_predict": 3.7, "seed": -1.9, "temperature": None}) == ({"num_predict": 3, "seed": -1}, [])


def test_one_stop_string_is_a_list_of_one() -> None:
    assert validate({"stop": "x"})[0] == {"stop": ["x"]}


def test_unknown_dropped_and_out_of_range_options_are_told_not_swallowed() -> None:
    clean, notices = validate({"nope": 1, "mirostat": 2, "top_k": -1, "temperature": -3})
    assert clean == {"top_k": 0, "temperature": 0.0}
    assert [(n.code, n.option) for n in notices] == [
        ("option_unknown", "nope"),
        ("option_deprecated", "mirostat"),
        ("option_clamped", "top_k"),
        ("option_clamped", "temperature"),
    ]


def test_huge_integers_are_moved_into_the_engine_range() -> None:
    clean, notices = validate({"num_predict": 10**30})
    assert clean == {"num_predict": 2**31 - 1}
    assert notices[0].code == "option_clamped"


def test_the_guides_defaults_differ_in_three_values() -> None:
    ours, guide = defaults(), defaults("guide")
    assert ours["num_predict"] == -1
    assert ours["repeat_penalty"] == 1.0
    assert "num_ctx" not in ours
    assert {k: v for k, v in guide.items() if ours.get(k) != v} == {
        "num_ctx": 2048,
        "num_predict": 128,
        "repeat_penalty": 1.1,
    }


@pytest.mark.parametrize(
    ("name", "texts", "value"),
    [
        ("temperature", ["0.7"], 0.7),
        ("temperature", ["1_0"], 10.0),
        ("num_ctx", ["4096"], 4096),
        ("use_mmap", ["T"], True),
        ("stop", ["a", "b"], ["a", "b"]),
    ],
)
def test_parameter_texts_become_typed_values(name: str, texts: list[str], value: object) -> None:
    assert parse_parameter(name, texts) == value


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("temperature", "abc", "invalid float value [abc]"),
        ("num_ctx", "1_0", "invalid int value [1_0]"),
        ("temperature", "\u0661", "invalid float value [\u0661]"),
        ("num_ctx", "1.5", "invalid int value [1.5]"),
        ("num_ctx", "\u0661", "invalid int value [\u0661]"),
        ("use_mmap", "maybe", "invalid bool value [maybe]"),
        ("foo", "1", "unknown parameter 'foo'"),
        ("num_gqa", "1", "unknown parameter 'num_gqa'"),
    ],
)
def test_bad_parameter_texts_have_ollamas_words(name: str, text: str, error: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_parameter(name, [text])
    assert str(caught.value) == error


def test_floats_are_rounded_to_32_bits_and_print_short() -> None:
    assert shortest_float32(0.1) == 0.1
    assert shortest_float32(0.123456789) == 0.12345679


def test_an_empty_stop_text_is_kept_and_told() -> None:
    for stop in ("", [""], ["a", ""]):
        clean, notices = validate({"stop": stop})
        assert clean["stop"] == ([stop] if isinstance(stop, str) else stop)
        assert [notice.code for notice in notices] == ["stop_empty"]
    assert validate({"stop": ["a"]})[1] == []
    assert validate({"stop": []})[1] == []
