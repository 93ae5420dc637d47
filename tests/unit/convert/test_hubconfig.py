"""`HubConfig`: values with their types, errors with the key and what was there."""

from __future__ import annotations

from typing import Any

import pytest

from corral.convert.hubconfig import HubConfig
from corral.errors import InvalidRequest


def test_values_come_under_any_of_their_spellings_and_from_the_text_part_first() -> None:
    config = HubConfig({"n_embd": 3, "theta": 2, "text_config": {"n_embd": 4}, "on": True, "name": "x", "none": None})
    assert config.count("hidden_size", "n_embd") == 3
    assert config.text_model().count("hidden_size", "n_embd") == 4
    assert config.text_model().number("theta") == 2.0
    assert (config.flag("on"), config.text("name"), config.has("none")) == (True, "x", False)
    assert config.integer("none", default=5) == 5
    assert config.with_defaults(none=7, n_embd=9).values["none"] == 7
    assert config.with_defaults(n_embd=9).count("n_embd") == 3


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("integer", "7"),
        ("integer", True),
        ("integer", 1.5),
        ("integer", -1),
        ("integer", 2**40),
        ("integer", float("nan")),
        ("count", 0),
        ("number", "1"),
        ("number", False),
        ("number", 1e39),
        ("number", float("nan")),
        ("positive", 0),
        ("flag", 1),
        ("text", 1),
        ("integers", [1, "2"]),
        ("integers", [-1]),
        ("integers", 3),
        ("numbers", [1, None]),
        ("texts", ["a", 1]),
        ("section", [1]),
    ],
)
def test_a_value_of_another_kind_is_an_error_with_its_key(method: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"config\.json: key is .*, expected"):
        getattr(HubConfig({"key": value}), method)("key")


def test_a_missing_value_is_named_by_its_first_spelling() -> None:
    with pytest.raises(InvalidRequest, match=r"config\.json: hidden_size is missing"):
        HubConfig({}).count("hidden_size", "n_embd")


def test_the_number_of_layers_is_bounded() -> None:
    assert HubConfig({"depth": 3}).layers() == 3
    with pytest.raises(InvalidRequest, match="num_hidden_layers is 1000000, expected a number from 1 to 1024"):
        HubConfig({"num_hidden_layers": 1_000_000}).layers()
