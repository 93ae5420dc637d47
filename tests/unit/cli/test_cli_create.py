"""`corral create`: which files a Modelfile means, what is sent, and the errors before anything is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.native_api import FakeApi, Reply

from corral.cli.content_type import detect
from corral.cli.sources import SourceError, expand, model_files, sent_names

Cli = Callable[..., Any]
GGUF = b"GGUF\x03\0\0\0" + bytes(32)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def write(name: str, data: bytes | str = b"\0weights") -> Path:
    path = Path(name).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def names(path: str) -> list[str]:
    return [file.relative_to(Path(path).resolve()).as_posix() for file in model_files(Path(path))]


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (GGUF, "application/octet-stream"),
        (b'{"a": 1}', "text/plain; charset=utf-8"),
        (b"", "text/plain; charset=utf-8"),
        (b"\xff\xfe{\0", "text/plain; charset=utf-16le"),
        (b"a\0b", "application/octet-stream"),
        (b"\n <!doctype HTML>", "text/html; charset=utf-8"),
        (b"<a href", "text/html; charset=utf-8"),
        (b"<article>", "text/plain; charset=utf-8"),
        (b"\n<?xml version", "text/xml; charset=utf-8"),
        (b"\0\0\0\x18ftypmp42" + bytes(12), "video/mp4"),
        (b"\0\0\0\x18ftypavif\0\0\0\0mp41" + bytes(4), "video/mp4"),
        (b"\0\0\0\x18ftypavif" + bytes(12), "application/octet-stream"),
        (b"ID3\x03", "audio/mpeg"),
        (b"GIF89a", "image/gif"),
        (b"PK\x03\x04x", "application/zip"),
        (b"RIFF\x01\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\x01\0\0\0WAVEfmt ", "audio/wave"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
    ],
)
def test_file_types_by_their_first_bytes(head: bytes, kind: str) -> None:
    assert detect(head) == kind


def test_a_folder_of_safetensors_comes_with_its_json_files_and_tokenizer() -> None:
    write("m/model-1.safetensors")
    write("m/1_Pooling/config.json", "{}")
    write("m/config.json", "{}")
    write("m/chat_template.jinja", "{{ x }}")
    write("m/tokenizer.model")
    write("m/readme.md", "no")
    write("m/extra.gguf", GGUF)
    assert names("m") == [
        "model-1.safetensors",
        "config.json",
        "1_Pooling/config.json",
        "chat_template.jinja",
        "tokenizer.model",
    ]


def test_weights_of_the_wrong_type_are_passed_over() -> None:
    write("m/pytorch_model.bin", "version https://git-lfs")
    write("m/model.gguf", GGUF)
    assert names("m") == ["model.gguf"]


def test_weights_in_folders_below_are_sent_only_as_modules() -> None:
    for file in ("m/model.safetensors", "m/2_Dense/model.safetensors"):
        write(file)
    assert names("m") == ["model.safetensors"]
    write("m/modules.json", "[]")
    assert names("m") == ["model.safetensors", "2_Dense/model.safetensors", "modules.json"]


def test_a_pytorch_file_is_refused_by_name_before_it_is_sent() -> None:
    write("m/pytorch_model.bin", b"PK\x03\x04" + bytes(60))
    write("m/config.json", "{}")
    with pytest.raises(SourceError, match=r"pytorch_model\.bin is a PyTorch file.*safetensors"):
        model_files(Path("m"))


def test_a_gguf_goes_without_the_json_beside_it() -> None:
    write("m/model.gguf", GGUF)
    write("m/config.json", "{}")
    assert names("m") == ["model.gguf"]


def test_a_folder_without_weights_is_an_error() -> None:
    write("m/config.json", "{}")
    with pytest.raises(SourceError, match="no Modelfile or safetensors files found"):
        model_files(Path("m"))


def test_a_json_file_that_is_none_is_an_error_with_its_type() -> None:
    write("m/model.safetensors")
    bad = write("m/config.json", b"\0\1\2")
    with pytest.raises(SourceError) as caught:
        model_files(Path("m"))
    assert str(caught.value) == f"invalid content type: expected application/octet-stream for {bad}"


def test_links_out_of_the_folder_are_refused() -> None:
    secret = write("cache/.cache/blob")
    Path("m").mkdir()
    Path("m/model.safetensors").symlink_to(secret)
    with pytest.raises(SourceError) as caught:
        model_files(Path("m"))
    assert str(caught.value) == (
        "insecure path: ../cache/.cache/blob\n\nUse --local-dir <dir> when downloading model to disable caching"
    )


def test_files_are_sent_under_their_base_name_or_their_path_below_the_common_folder() -> None:
    assert sent_names([Path("/a/b/model.gguf")]) == {Path("/a/b/model.gguf"): "model.gguf"}
    several = [Path("/a/m/model.safetensors"), Path("/a/m/1_Pooling/config.json")]
    assert list(sent_names(several).values()) == ["model.safetensors", "1_Pooling/config.json"]


def test_paths_may_begin_at_home() -> None:
    assert expand("~/x", Path("/anywhere")) == Path.home() / "x"
    assert expand("x", Path("/anywhere")) == Path("/anywhere/x")
    assert expand("/x", Path("/anywhere")) == Path("/x")


@pytest.fixture
def server(api: FakeApi) -> FakeApi:
    """A server that has no blob yet and creates what it is asked."""
    data = hashlib.sha256(GGUF).hexdigest()
    api.routes[f"HEAD /api/blobs/sha256:{data}"] = Reply(status=404)
    api.routes[f"POST /api/blobs/sha256:{data}"] = Reply(status=201)
    api.routes["POST /api/create"] = Reply(stream=[{"status": "parsing GGUF"}, {"status": "success"}])
    return api


def test_create_sends_the_file_then_the_request(cli: Cli, server: FakeApi) -> None:
    write("weights.gguf", GGUF)
    write("Modelfile", "FROM weights.gguf\nSYSTEM You.\nPARAMETER temperature 0.5\nPARAMETER stop a\nMESSAGE user hi\n")
    outcome = cli("create", "m", "-q", "q4_K_M")
    digest = f"sha256:{hashlib.sha256(GGUF).hexdigest()}"
    assert (outcome.status, outcome.out) == (0, "")
    assert outcome.err == f"gathering model components\ncopying file {digest} 0%\nparsing GGUF\nsuccess\n"
    assert server.bodies(f"POST /api/blobs/{digest}") == [GGUF]
    assert server.bodies("POST /api/create") == [
        {
            "model": "m",
            "system": "You.",
            "messages": [{"role": "user", "content": "hi"}],
            "parameters": {"temperature": 0.5, "stop": ["a"]},
            "quantize": "q4_K_M",
            "files": {"weights.gguf": digest},
            "stream": True,
        }
    ]


def test_a_blob_that_is_there_is_not_sent_again(cli: Cli, server: FakeApi) -> None:
    digest = f"sha256:{hashlib.sha256(GGUF).hexdigest()}"
    server.routes[f"HEAD /api/blobs/{digest}"] = Reply()
    write("weights.gguf", GGUF)
    write("Other", "FROM ./weights.gguf")
    assert cli("create", "m", "-f", "Other").status == 0
    assert server.bodies(f"POST /api/blobs/{digest}") == []


def test_from_a_name_sends_no_file(cli: Cli, server: FakeApi) -> None:
    write("Modelfile", "FROM llama3.2\nPARAMETER mirostat 1")
    assert cli("create", "m").out == "warning: parameter mirostat is deprecated\n"
    assert server.bodies("POST /api/create") == [{"model": "m", "from": "llama3.2", "stream": True}]


def test_without_a_modelfile_the_folder_is_meant(cli: Cli, server: FakeApi) -> None:
    write("weights.gguf", GGUF)
    assert cli("create", "m").status == 0
    assert list(server.bodies("POST /api/create")[0]["files"]) == ["weights.gguf"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["a:b:c/"], "invalid model name: a:b:c/"),
        (["m", "-f", "nowhere"], "specified Modelfile wasn't found"),
        (["m", "-f", "From", "--draft-quantize", "q8_0"], "--draft-quantize requires a DRAFT model"),
        (["m", "-f", "Bad"], "no FROM line"),
        (["m"], "no Modelfile or safetensors files found in {here}"),
        (["m", "-f", "Away"], "FROM ./nofile.gguf: no such file ({here}/nofile.gguf)"),
        (
            ["m", "-f", "Typo"],
            "(line 2): PARAMETER temprature: unknown parameter 'temprature'; did you mean temperature?",
        ),
    ],
)
def test_mistakes_are_found_before_anything_is_sent(cli: Cli, server: FakeApi, words: list[str], text: str) -> None:
    write("From", "FROM x")
    write("Bad", "SYSTEM x")
    write("Away", "FROM ./nofile.gguf")
    write("Typo", "FROM x\nPARAMETER temprature 0")
    outcome = cli("create", *words)
    assert outcome.status == 1
    assert outcome.err.splitlines()[-1] == f"Error: {text.replace('{here}', str(Path.cwd()))}"
    assert server.bodies("POST /api/create") == []


def test_what_the_server_says_of_a_template_has_no_status_and_no_empty_file_name(cli: Cli, server: FakeApi) -> None:
    write("From", 'FROM x\nTEMPLATE """{{ .Prompt """')
    server.routes["POST /api/create"] = Reply({"error": "template error: template: :1: unclosed action"}, status=400)
    assert cli("create", "m", "-f", "From").err.splitlines()[-1] == "Error: TEMPLATE, line 1: unclosed action"


def test_a_command_that_is_mistyped_brings_the_one_that_is_meant(cli: Cli, server: FakeApi) -> None:
    write("Form", "FORM x")
    assert cli("create", "m", "-f", "Form").err.endswith('found "FORM"; did you mean FROM?\n')


def test_a_draft_must_be_another_file(cli: Cli, server: FakeApi) -> None:
    file = write("weights.gguf", GGUF)
    write("Modelfile", "FROM weights.gguf\nDRAFT ./weights.gguf")
    error = cli("create", "m").err.splitlines()[-1]
    assert error == f"Error: DRAFT must not reference the same local path as FROM: {file.parent}/weights.gguf"


def test_an_old_server_must_be_updated(cli: Cli, server: FakeApi) -> None:
    write("Modelfile", "FROM base")
    server.routes["POST /api/create"] = Reply({"error": "path or Modelfile are required"}, 400)
    outcome = cli("create", "mine")
    text = "Error: the corral server must be updated to use `corral create` with this client\n"
    assert (outcome.status, outcome.err) == (1, f"gathering model components\n{text}")
