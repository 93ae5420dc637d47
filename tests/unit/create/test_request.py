from __future__ import annotations

from typing import Any

import pytest

from corral.core import Message
from corral.create.request import CreateRequest, checked, is_local_path, remote_url
from corral.errors import InvalidRequest, ModelfileError, QuantizationError
from corral.names import ModelName

NAME = ModelName.parse("made")
DIGEST = "sha256:" + "ab" * 32


def request(**fields: Any) -> CreateRequest:
    return CreateRequest(name=NAME, **fields)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "neither 'from' or 'files' was specified"),
        ({"modelfile": ""}, "path or modelfile are required"),
        ({"path": ""}, "path or modelfile are required"),
        ({"from_": "m", "draft_quantize": "q8_0"}, "--draft-quantize requires a DRAFT model"),
        ({"files": {"/etc/passwd": DIGEST}}, "file path must be relative"),
        ({"files": {"a/../b": DIGEST}}, "file path must be relative"),
        ({"from_": "m", "draft_files": {"..": DIGEST}}, "file path must be relative"),
        ({"files": {"a.gguf": ""}}, "invalid digest format"),
        ({"files": {"a.gguf": "nope"}}, "invalid digest format"),
        ({"from_": "m", "adapters": {"a.gguf": "sha256:12"}}, "invalid digest format"),
        ({"from_": "m", "info": {"base_name": 1}}, 'info field "base_name" must be a string'),
        ({"from_": "m", "info": {"context_length": "x"}}, 'info field "context_length" must be a number'),
        ({"from_": "m", "info": {"context_length": True}}, 'info field "context_length" must be a number'),
        (
            {"from_": "m", "info": {"embedding_length": 1.5}},
            'info field "embedding_length" must be a non-negative integer',
        ),
        (
            {"from_": "m", "info": {"embedding_length": -1}},
            'info field "embedding_length" must be a non-negative integer',
        ),
        ({"from_": "m", "parameters": {"temperature": "hot"}}, 'option "temperature" must be of type float32'),
    ],
)
def test_what_is_wrong_is_said_before_any_work(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked(request(**fields))
    assert str(caught.value) == text


def test_an_unknown_quantization_names_the_usual_ones() -> None:
    with pytest.raises(QuantizationError) as caught:
        checked(request(from_="m", quantize="q9_x"))
    assert str(caught.value) == (
        "unsupported quantization type Q9_X - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0"
    )


def test_a_path_on_the_server_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="path is not supported"):
        checked(request(path="/etc/passwd"))


def test_a_modelfile_becomes_the_same_request() -> None:
    text = (
        "FROM base\nSYSTEM be kind\nTEMPLATE t\nPARAMETER temperature 0.4\nPARAMETER stop a\nLICENSE MIT\n"
        f"MESSAGE user hi\nADAPTER @{DIGEST}\nRENDERER r\nPARSER p\nREQUIRES 0.1.2\n"
    )
    plan = checked(request(modelfile=text)).request
    assert (plan.from_, plan.files, plan.adapters) == ("base", None, {DIGEST: DIGEST})
    assert (plan.system, plan.template, plan.license, plan.messages) == (
        "be kind",
        "t",
        ("MIT",),
        (Message("user", "hi"),),
    )
    assert plan.parameters == {"temperature": 0.4, "stop": ["a"]}
    assert (plan.renderer, plan.parser, plan.requires) == ("r", "p", "0.1.2")


def test_explicit_fields_win_over_the_modelfile() -> None:
    text = "FROM base\nSYSTEM one\nPARAMETER top_k 1\nPARAMETER seed 1\n"
    plan = checked(request(modelfile=text, from_="other", system="two", parameters={"top_k": 2})).request
    assert (plan.from_, plan.system, plan.parameters) == ("other", "two", {"top_k": 2, "seed": 1})


def test_a_modelfile_may_name_uploaded_blobs_but_no_files() -> None:
    assert checked(request(modelfile=f"FROM @{DIGEST}")).request.files == {DIGEST: DIGEST}
    assert checked(request(modelfile=f"FROM m\nDRAFT @{DIGEST}")).request.draft_files == {DIGEST: DIGEST}
    with pytest.raises(InvalidRequest, match=r"invalid model reference: \./model\.gguf"):
        checked(request(modelfile="FROM ./model.gguf"))
    with pytest.raises(InvalidRequest, match="ADAPTER must name an uploaded blob"):
        checked(request(modelfile="FROM m\nADAPTER ./lora.gguf"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SYSTEM x", "no FROM line"),
        ("FROM m\nBOGUS x", "(line 2): command must be one of"),
        ('FROM m\nSYSTEM "x', "(line 2): unexpected EOF"),
    ],
)
def test_a_broken_modelfile_is_told_by_line(text: str, message: str) -> None:
    with pytest.raises(ModelfileError) as caught:
        checked(request(modelfile=text))
    assert str(caught.value).startswith(message)


def test_what_was_ignored_is_told() -> None:
    notices = checked(
        request(modelfile="FROM m\nPARAMETER mirostat 1\n", parameters={"bogus": 1, "top_p": 7.0})
    ).notices
    assert [(notice.code, notice.facts) for notice in notices] == [
        ("option_deprecated", {"option": "mirostat"}),
        ("option_unknown", {"option": "bogus"}),
        ("option_clamped", {"option": "top_p"}),
    ]


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("a", True),
        ("a/b.gguf", True),
        (".", True),
        ("", False),
        ("/a", False),
        ("a//b", False),
        ("a/", False),
        ("../a", False),
    ],
)
def test_local_paths_are_gos(name: str, local: bool) -> None:
    assert is_local_path(name) is local


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("example.com", "http://example.com:11434"),
        ("example.com:80", "http://example.com:80"),
        ("https://example.com/", "https://example.com:11434"),
        ("http://example.com:1/a/../b", "http://example.com:1/b"),
        ("ollama.com", "https://ollama.com:443"),
        ("http://ollama.com", "https://ollama.com:443"),
        ("/x//y", "http://localhost:11434/x/y"),
    ],
)
def test_a_remote_host_is_completed(host: str, url: str) -> None:
    assert remote_url(host) == url


@pytest.mark.parametrize(
    "host",
    ["http://host:port", "http://[::1", "my host", "http://my host/x", "http://%zz", "http://h/%zz", "http://h\t/x"],
)
def test_a_remote_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        remote_url(host)
    assert str(caught.value) == "bad remote"
