"""Settings: where each value comes from, Ollama's leniency, Corral's strictness, addresses."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from corral.address import Address, parse_address
from corral.config import Settings
from corral.durations import FOREVER
from corral.settingvalues import SettingsError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No corral.toml of the developer's may be found."""
    monkeypatch.chdir(tmp_path)


def read(environ: dict[str, str] | None = None, **flags: Any) -> Settings:
    return Settings.from_env({"HOME": "/home/u", **(environ or {})}, flags)


def test_defaults() -> None:
    settings = read()
    assert settings.models == Path("/home/u/.corral/models")
    assert settings.home == Path("/home/u/.corral")
    assert (settings.host.url, settings.keep_alive_s, settings.max_queue) == ("http://127.0.0.1:11434", 300.0, 512)
    assert (settings.editor, settings.go_template, settings.sandbox, settings.notices) == ("vi", None, True, ())


def test_flags_beat_corral_variables_beat_ollamas_beat_the_file(tmp_path: Path) -> None:
    (tmp_path / "corral.toml").write_text("max_queue = 1\n")
    assert read().max_queue == 1
    environ = {"OLLAMA_MAX_QUEUE": "2"}
    assert read(environ).max_queue == 2
    environ["CORRAL_MAX_QUEUE"] = "3"
    assert read(environ).max_queue == 3
    assert read(environ, max_queue=4).max_queue == 4


def test_models_may_be_ollamas_store() -> None:
    assert read({"OLLAMA_MODELS": "/data/ollama"}).models == Path("/data/ollama")
    assert read({"OLLAMA_MODELS": "/a", "CORRAL_MODELS": "~/b"}).models == Path("/home/u/b")


def test_values_are_trimmed_and_unquoted() -> None:
    assert read({"OLLAMA_MAX_QUEUE": ' "7" '}).max_queue == 7
    assert read({"OLLAMA_MAX_QUEUE": "  "}).max_queue == 512


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("90", 90), ("0", 0), ("-1", FOREVER), ("-5m", FOREVER), ("1h", 3600)]
)
def test_keep_alive_is_seconds_or_a_duration(text: str, seconds: float) -> None:
    assert read({"OLLAMA_KEEP_ALIVE": text}).keep_alive_s == seconds


@pytest.mark.parametrize("text", ["0", "-1"])
def test_a_load_timeout_of_nothing_means_never(text: str) -> None:
    assert read({"OLLAMA_LOAD_TIMEOUT": text}).load_timeout_s == FOREVER


@pytest.mark.parametrize(
    ("variable", "text", "notice"),
    [
        (
            "SCHED_SPREAD",
            "1",
            "SCHED_SPREAD is set and has no effect: a model is spread over all GPUs anyway, "
            "unless `main_gpu` names one",
        ),
        (
            "LLM_LIBRARY",
            "cuda_v12",
            "LLM_LIBRARY is set and has no effect: an engine has one backend; install another build of it, or name one "
            "with LLAMA_SERVER",
        ),
        ("NO_CLOUD", "0", "NO_CLOUD is set and has no effect: Corral has no cloud features"),
    ],
)
def test_what_has_no_effect_is_said_where_it_is_set(variable: str, text: str, notice: str) -> None:
    for prefix in ("OLLAMA_", "CORRAL_"):
        assert read({prefix + variable: text}).notices == (notice,)
    Path("corral.toml").write_text(f'{variable.lower()} = "{text}"\n')
    assert read().notices == (notice,)


@pytest.mark.parametrize("variable", ["SCHED_SPREAD", "LLM_LIBRARY", "NO_CLOUD"])
def test_what_has_no_effect_is_not_said_of_the_default(variable: str) -> None:
    default = {"SCHED_SPREAD": "0", "LLM_LIBRARY": "", "NO_CLOUD": "1"}
    assert read({f"OLLAMA_{variable}": default[variable]}).notices == ()


@pytest.mark.parametrize(
    ("variable", "text"),
    [("MAX_QUEUE", "many"), ("MAX_QUEUE", "-1"), ("KEEP_ALIVE", "soon"), ("KEEP_ALIVE", "9" * 400)],
)
def test_ollamas_bad_values_mean_the_default_and_are_reported(variable: str, text: str) -> None:
    settings = read({f"OLLAMA_{variable}": text})
    assert (settings.max_queue, settings.keep_alive_s) == (512, 300.0)
    assert len(settings.notices) == 1
    assert f"OLLAMA_{variable}={text!r} ignored" in settings.notices[0]


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("MAX_QUEUE", "many"),
        ("KEEP_ALIVE", "soon"),
        ("KEEP_ALIVE", "9" * 400),
        ("SANDBOX", "maybe"),
        ("KV_CACHE_TYPE", "q3"),
        ("DEFAULTS", "x"),
        ("MAX_BODY", "-1"),
        ("MAX_BODY", "infGiB"),
        ("MAX_BODY", "lots"),
    ],
)
def test_corrals_bad_values_are_errors_that_name_variable_value_and_form(variable: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read({f"CORRAL_{variable}": text})
    assert caught.value.name == f"CORRAL_{variable}"
    assert caught.value.value == text
    assert ": expected " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "ollama", "corral"),
    [
        ("1", True, True),
        ("true", True, True),
        ("0", False, False),
        ("False", False, False),
        ("off", True, False),  # Go's ParseBool does not know "off", and Ollama takes that for true
        ("no", True, False),
    ],
)
def test_booleans(text: str, ollama: bool, corral: bool) -> None:
    assert read({"OLLAMA_NOPRUNE": text}).no_prune is ollama
    assert read({"CORRAL_NOPRUNE": text}).no_prune is corral


@pytest.mark.parametrize(("text", "level"), [("1", 1), ("true", 1), ("0", 0), ("false", 0), ("2", 2)])
def test_debug_is_a_boolean_or_a_level(text: str, level: int) -> None:
    assert read({"OLLAMA_DEBUG": text}).debug == level


@pytest.mark.parametrize(("text", "size"), [("5", 5), ("1KiB", 1024), ("2GiB", 2**31), ("1.5MB", 1_500_000)])
def test_sizes_have_units(text: str, size: int) -> None:
    assert read({"CORRAL_MAX_BODY": text}).max_body_bytes == size


def test_lists_are_separated_by_commas() -> None:
    assert read({"OLLAMA_ORIGINS": "http://a, http://b,,"}).origins == ("http://a", "http://b")


def test_the_file_takes_field_names_and_variable_names(tmp_path: Path) -> None:
    (tmp_path / "named.toml").write_text('keep_alive_s = 5\npin = ["a", "b"]\nsandbox = false\nhost = "0.0.0.0:1"\n')
    settings = read({"CORRAL_CONFIG": str(tmp_path / "named.toml")})
    assert (settings.keep_alive_s, settings.pinned, settings.sandbox) == (5.0, ("a", "b"), False)
    assert settings.host == Address("http", "0.0.0.0", 1)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("nonsense = 1", "nonsense"),
        ("notices = 1", "notices"),
        ("max_queue = 'x'", "max_queue"),
        ("a = [", "corral.toml"),
    ],
)
def test_a_bad_file_is_an_error_that_names_the_key(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "corral.toml").write_text(text)
    with pytest.raises(SettingsError, match=named):
        read()


def test_a_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "corral.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="expected TOML"):
        read()


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a file that exists"):
        read({"CORRAL_CONFIG": str(tmp_path / "nope.toml")})
    with pytest.raises(SettingsError, match="a file that can be read"):
        read({"CORRAL_CONFIG": str(tmp_path)})


def test_the_editor_is_the_users() -> None:
    assert read({"EDITOR": "nano"}).editor == "nano"
    assert read({"EDITOR": "nano", "VISUAL": "emacs"}).editor == "emacs"
    assert read({"EDITOR": "nano", "CORRAL_EDITOR": "ed"}).editor == "ed"


def test_every_setting_has_its_line_of_help_and_its_own_variable() -> None:
    described = [item for item in fields(Settings) if item.name not in {"notices", "color"}]
    assert all(item.metadata["doc"] and item.metadata["accepted"] for item in described)
    assert len({item.metadata["env"] for item in described}) == len(described)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", Address()),
        ("1.2.3.4", Address(host="1.2.3.4")),
        (":1234", Address(host="", port=1234)),
        ("1.2.3.4:99999", Address(host="1.2.3.4")),
        ("1.2.3.4:-1", Address(host="1.2.3.4")),
        ("host:0", Address(host="host", port=0)),
        ("host:", Address(host="host")),
        ("http://host", Address(host="host", port=80)),
        ("https://host", Address("https", "host", 443)),
        ("https://host:1/base/path/", Address("https", "host", 1, "/base/path")),
        ("http://", Address(port=80)),
        ("[::1]:1234", Address(host="::1", port=1234)),
        ("[::1]", Address(host="::1")),
        ("::1", Address(host="::1")),
        (' "0.0.0.0" ', Address(host="0.0.0.0")),
    ],
)
def test_addresses_are_read_as_ollama_reads_them(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (Address(host="0.0.0.0"), "http://127.0.0.1:11434"),
        (Address(host="::"), "http://[::1]:11434"),
        (Address(host=""), "http://127.0.0.1:11434"),
        (Address("https", "h", 1, "/p"), "https://h:1/p"),
    ],
)
def test_an_unspecified_host_is_reached_at_the_loopback_address(address: Address, url: str) -> None:
    assert address.url == url


@pytest.mark.parametrize(
    ("text", "port", "notices"),
    [
        ("127.0.0.1:99999", 11434, ("HOST: 99999 is no port, 11434 is used",)),
        ("https://h:x", 443, ("HOST: x is no port, 443 is used",)),
        ("127.0.0.1:1234", 1234, ()),
        ("127.0.0.1", 11434, ()),
    ],
)
def test_a_bad_port_is_told(text: str, port: int, notices: tuple[str, ...]) -> None:
    settings = read({"OLLAMA_HOST": text})
    assert (settings.host.port, settings.notices) == (port, notices)


@pytest.mark.parametrize("text", ["127.0.0.1:abc", ":99999", "https://h:x", "[::1]:-1"])
def test_a_bad_port_of_ours_is_an_error_that_names_the_form(text: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read({"CORRAL_HOST": text})
    form = "expected an address such as 127.0.0.1:11434, its port at most 65535"
    assert str(caught.value) == f"CORRAL_HOST={text!r}: {form}"
    (tmp_path / "own.toml").write_text(f'host = "{text}"\n')
    with pytest.raises(SettingsError) as caught:
        read({"CORRAL_CONFIG": str(tmp_path / "own.toml")})
    assert str(caught.value) == f"corral.toml: host={text!r}: {form}"
