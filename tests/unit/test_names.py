"""Model names and digests: grammar, defaults, forms, suffixes (spec models §1)."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import InvalidModelName, InvalidRequest
from corral.names import Digest, ModelName, SourceRef, split_source

PART = "[A-Za-z0-9_][A-Za-z0-9_-]{0,20}"


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("m", "registry.ollama.ai/library/m:latest"),
        ("m:t", "registry.ollama.ai/library/m:t"),
        ("n/m", "registry.ollama.ai/n/m:latest"),
        ("n/m:t", "registry.ollama.ai/n/m:t"),
        ("h/n/m:t", "h/n/m:t"),
        ("host:5000/n/m", "host:5000/n/m:latest"),
        ("http://host:5000/n/m:t", "host:5000/n/m:t"),
        ("host:https/ns/m:t", "host:https/ns/m:t"),
        ("_why/_the/_lucky:_stiff", "_why/_the/_lucky:_stiff"),
        ("Foo:Q4_K_M", "registry.ollama.ai/library/Foo:Q4_K_M"),
        ("hf.co/user/repo.gguf:Q4_0", "hf.co/user/repo.gguf:Q4_0"),
        ("a" * 80, f"registry.ollama.ai/library/{'a' * 80}:latest"),
        ("a" * 350 + "/n/m", "a" * 350 + "/n/m:latest"),
    ],
)
def test_names_are_read_from_right_to_left_with_defaults(text: str, full: str) -> None:
    assert ModelName.parse(text).full == full


@pytest.mark.parametrize(
    "text",
    ["", "m:", ":t", "/m", "n//m", "n/", "/", "//", "a/b/c/d", "-m", "n/-m", "-n/m", "m:-t", "h/n/m:t:x"]  # noqa: RUF005
    + ["hf.co/repo", "m@sha256:" + "0" * 64, "@d", "00@", "host/name:space/model:tag", "a b", "m\n", "m:t\n", "é"]
    + ["a" * 81, "m:" + "a" * 81, "a" * 351 + "/n/m", "../x", "x\0y", "m ", "https://", "h://n/m", "m:a/b"],
)
def test_what_the_grammar_refuses(text: str) -> None:
    assert not ModelName.parse_loose(text).is_valid
    with pytest.raises(InvalidModelName, match="invalid model name"):
        ModelName.parse(text)


def test_the_scheme_is_kept_and_never_printed() -> None:
    name = ModelName.parse("http://host/n/m")
    assert name.scheme == "http"
    assert str(name) == "host/n/m:latest"
    assert ModelName.parse("m").scheme == "https"


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("m", "m:latest"),
        ("library/m", "m:latest"),
        ("LIBRARY/m", "m:latest"),
        ("n/m:t", "n/m:t"),
        ("Registry.Ollama.AI/n/m", "n/m:latest"),
        ("registry.ollama.ai/library/m:x", "m:x"),
        ("host/library/m:t", "host/library/m:t"),
    ],
)
def test_the_shortest_form_drops_defaults_but_never_the_tag(text: str, short: str) -> None:
    assert ModelName.parse(text).short == short


def test_other_forms() -> None:
    name = ModelName.parse("host:1/n/m:t")
    assert name.repository == "n/m"
    assert name.path == PurePosixPath("host:1/n/m/t")


@given(st.from_regex(rf"\A{PART}/{PART}/{PART}:{PART}\Z"))
def test_every_form_reads_back_as_the_same_name(text: str) -> None:
    name = ModelName.parse(text)
    assert ModelName.parse(name.short) == name
    assert ModelName.parse(name.full) == name
    assert ModelName.from_path(name.path) == name


@given(st.text(max_size=60))
def test_no_text_at_all_makes_a_name_that_leaves_its_directory(text: str) -> None:
    name = ModelName.parse_loose(text)
    if name.is_valid:
        assert len(name.path.parts) == 4
        assert not {"", ".", ".."} & set(name.path.parts)
        assert not any(part.startswith((".", "-")) for part in name.path.parts)


@pytest.mark.parametrize("path", ["a/b/c", "a/b/c/d/e", "a/b/c/.hidden", "a/b.c/m/t", "a/b/c/d e", "top"])
def test_paths_of_another_shape_are_no_names(path: str) -> None:
    assert ModelName.from_path(PurePosixPath(path)) is None


@pytest.mark.parametrize(
    ("text", "name", "source"),
    [
        ("x", "x", ""),
        (" x ", "x", ""),
        ("x:local", "x", "local"),
        ("x:LOCAL", "x", "local"),
        ("x:cloud", "x", "cloud"),
        ("x:20b:cloud", "x:20b", "cloud"),
        ("gpt-oss:20b-cloud", "gpt-oss:20b", "cloud"),
        ("gpt-oss:20b-Cloud", "gpt-oss:20b", "cloud"),
        ("x: cloud ", "x", "cloud"),
        ("my-cloud-model", "my-cloud-model", ""),
        ("my-cloud", "my-cloud", ""),
        ("host:5000/n/m-cloud", "host:5000/n/m-cloud", ""),
        ("x:latest", "x:latest", ""),
        ("", "", ""),
    ],
)
def test_source_suffixes_are_taken_off(text: str, name: str, source: str) -> None:
    assert split_source(text) == SourceRef(name, source)


@pytest.mark.parametrize("text", ["x:local:cloud", "x:cloud:local", "x:cloud:cloud", "x:20b-cloud:cloud"])
def test_two_source_suffixes_contradict_each_other(text: str) -> None:
    with pytest.raises(InvalidRequest, match="use either :local or :cloud, not both"):
        split_source(text)


@pytest.mark.parametrize("separator", [":", "-"])
def test_digests_are_read_in_both_spellings(separator: str) -> None:
    digest = Digest.parse(f"sha256{separator}{'Ab' * 32}")
    assert str(digest) == f"sha256:{'ab' * 32}"
    assert digest.filename == f"sha256-{'ab' * 32}"
    assert digest.short == "abababababab"


@pytest.mark.parametrize(
    "text", ["", "nope", "sha256:" + "0" * 63, "sha256:" + "0" * 65, "sha256:" + "g" * 64, "0" * 64]
)
def test_other_digests_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="invalid digest format"):
        Digest.parse(text)


def test_a_digest_with_a_newline_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        Digest.parse("sha256:" + "0" * 64 + "\n")
