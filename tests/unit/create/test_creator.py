"""Create: what becomes of files, bases and fields, and what is refused. All on tiny models."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from tests.fakes.ggufs import CHATML, make_gguf, tiny_llama
from tests.fakes.stores import add_model
from tests.unit.create.bench import Bench

from corral.core import Message
from corral.create.request import CreateRequest
from corral.errors import (
    BlobMissing,
    InvalidGGUF,
    InvalidModelName,
    InvalidRequest,
    PickleRefused,
    QuantizationError,
    RegistryError,
)
from corral.gguf import read_header
from corral.names import Digest, ModelName
from corral.store import manifests as media

CHATML_TEMPLATE = "sha256:e3b2721cec511e3a627ae0993753abbf5c72cdf4cfcdbc8f5c33ce15c4c4e04b"
CHATML_STOPS = "sha256:f02dd72bb2423204352eabc5637b44d79d17f109fdb510a7c51455892aa2d216"


def smallest_gguf() -> bytes:
    key = b"general.architecture"
    pair = len(key).to_bytes(8, "little") + key + (8).to_bytes(4, "little") + (4).to_bytes(8, "little") + b"test"
    return b"GGUF" + (3).to_bytes(4, "little") + bytes(8) + (1).to_bytes(8, "little") + pair


async def test_an_uploaded_gguf_becomes_a_model_byte_for_byte(bench: Bench) -> None:
    digest = bench.tiny(chat_template=None)
    assert await bench.statuses(files={"tiny.gguf": digest}) == [
        "parsing GGUF",
        "verifying conversion",
        f"using existing layer {digest}",
        "writing manifest",
        "success",
    ]
    model = bench.load()
    assert model.weights == bench.store.blobs.path(Digest.parse(digest))
    assert model.weights.read_bytes() == (bench.root / "tiny.gguf").read_bytes()
    assert (model.config.model_family, model.config.model_families) == ("llama", ("llama",))
    assert model.parent_model == ""


async def test_blobs_have_ollamas_digests(bench: Bench) -> None:
    digest = bench.upload(smallest_gguf())
    assert digest == "sha256:89a2116c3a82d6a97f59f748d86ed4417214353fd178ee54df418fde32495fad"
    await bench.statuses(
        files={"test.gguf": digest},
        template="{{ .Prompt }}",
        parameters={"temperature": 1.0, "top_k": 10, "stop": ["USER:", "ASSISTANT:"]},
    )
    assert bench.layers() == {
        "model": digest,
        "template": "sha256:b507b9c2f6ca642bffcd06665ea7c91f235fd32daeefdf875a0f938db05fb315",
        "params": "sha256:1d0ad71299d48c2fb7ae2b98e683643e771f8a5b72be34942af90d97a91c1e37",
    }
    config = bench.store.manifests.read(ModelName.parse("made")).config
    assert config is not None
    assert str(config.digest) == "sha256:99759ad5b91e723db0393d698ffbb448b1b7df5ff6377a108c49254583b1bc8c"


async def test_a_known_chat_template_is_detected_with_its_stop_sequences(bench: Bench) -> None:
    digest = bench.tiny(chat_template=CHATML)
    assert await bench.statuses(files={"tiny.gguf": digest}) == [
        "parsing GGUF",
        "verifying conversion",
        f"using existing layer {digest}",
        "using autodetected template chatml",
        f"creating new layer {CHATML_STOPS}",
        "writing manifest",
        "success",
    ]
    assert bench.layers() == {"model": digest, "template": CHATML_TEMPLATE, "params": CHATML_STOPS}


async def test_request_fields_replace_what_was_detected(bench: Bench) -> None:
    digest = bench.tiny()
    statuses = await bench.statuses(files={"tiny.gguf": digest}, template="T {{ .Prompt }}", parameters={"stop": ["x"]})
    assert "using autodetected template chatml" not in statuses
    assert bench.load().template == "T {{ .Prompt }}"
    assert bench.load().parameters == {"stop": ["x"]}


async def test_a_model_from_a_model_inherits_and_overrides(bench: Bench) -> None:
    """Digests, order and lines as a real Ollama gave them for the same texts (golden create/inherit, override)."""
    digest = bench.tiny()
    await bench.statuses("base", files={"tiny.gguf": digest})
    assert await bench.statuses(
        "base-made",
        from_="base",
        system="base",
        parameters={"top_k": 5, "seed": 1},
        messages=(Message("user", "x"),),
        license=("L",),
    ) == [
        f"using existing layer {digest}",
        f"using existing layer {CHATML_TEMPLATE}",
        "creating new layer sha256:cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2",
        "creating new layer sha256:72dfcfb0c470ac255cde83fb8fe38de8a128188e03ea5ba5b2a93adbea1062fa",
        "creating new layer sha256:7547279611749aeffebb8cd3e50344fe8fe84e1fcd8ec1ee8eb87f17e341ccdc",
        "creating new layer sha256:0da621fe6569812e79237db059f707cd5e2cc2f99c572ef574491e4cd9a59c0a",
        "writing manifest",
        "success",
    ]
    assert await bench.statuses("child", from_="base-made", parameters={"top_k": 9}) == [
        f"using existing layer {digest}",
        f"using existing layer {CHATML_TEMPLATE}",
        "using existing layer sha256:cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2",
        "using existing layer sha256:72dfcfb0c470ac255cde83fb8fe38de8a128188e03ea5ba5b2a93adbea1062fa",
        "using existing layer sha256:0da621fe6569812e79237db059f707cd5e2cc2f99c572ef574491e4cd9a59c0a",
        "creating new layer sha256:621ed692b7689884eafc7d082d9973ed44b3fc29b26253b80015c7aaf277821d",
        "writing manifest",
        "success",
    ]
    child = bench.load("child")
    assert child.parent_model == "base-made:latest"
    assert child.parameters == {"seed": 1, "stop": ["<|im_start|>", "<|im_end|>"], "top_k": 9}
    await bench.statuses(
        "child", from_="base-made", system="child", template="T", license=("M",), messages=(Message("user", "y"),)
    )
    child = bench.load("child")
    assert (child.system, child.template, child.licenses) == ("child", "T", ("L", "M"))
    assert child.messages == (Message("user", "y"),)


async def test_empty_texts_keep_what_is_inherited(bench: Bench) -> None:
    await bench.statuses("base", files={"tiny.gguf": bench.tiny()}, system="S", template="T")
    await bench.statuses("child", from_="base", system="", template="")
    assert (bench.load("child").system, bench.load("child").template) == ("S", "T")


async def test_the_config_of_the_base_is_inherited_where_the_request_is_silent(bench: Bench) -> None:
    files = {"tiny.gguf": bench.tiny(chat_template=None)}
    await bench.statuses(
        "base", files=files, renderer="r", parser="p", requires="0.1.0", info={"capabilities": ["tools", 3]}
    )
    await bench.statuses("child", from_="base", renderer="other", info={"capabilities": ["vision"]})
    config = bench.load("child").config
    assert (config.renderer, config.parser, config.requires) == ("other", "p", "0.1.0")
    assert config.capabilities == ("tools", "vision")


async def test_info_overrides_what_the_file_says(bench: Bench) -> None:
    info = {
        "model_family": "fam",
        "base_name": "bn",
        "quantization_level": "Q9",
        "parameter_size": "1T",
        "context_length": 77,
        "embedding_length": 5.0,
    }
    await bench.statuses(files={"tiny.gguf": bench.tiny(chat_template=None)}, info=info)
    raw = bench.store.manifests.read(ModelName.parse("made")).config
    assert raw is not None
    assert json.loads(bench.store.blobs.read(raw.digest, 10_000)) == {
        "model_format": "gguf",
        "model_family": "fam",
        "model_families": ["fam", "llama"],
        "model_type": "1T",
        "file_type": "Q9",
        "context_length": 77,
        "embedding_length": 5,
        "base_name": "bn",
        "architecture": "amd64",
        "os": "linux",
    }


async def test_a_missing_base_is_pulled_and_its_lines_are_shown(bench: Bench) -> None:
    bench.pull_brings = tiny_llama(bench.root / "remote.gguf")
    statuses = await bench.statuses(from_="far/away:1b")
    assert bench.pulled == ["far/away:1b"]
    assert statuses[:2] == ["pulling manifest", "success"]
    assert statuses[-2:] == ["writing manifest", "success"]


async def test_a_scheme_in_a_base_is_not_passed_on_to_the_pull(bench: Bench) -> None:
    with pytest.raises(RegistryError):
        await bench.statuses(from_="http://127.0.0.1:1/a/nope")
    assert bench.pulled == ["127.0.0.1:1/a/nope"]


async def test_a_failed_pull_makes_nothing(bench: Bench) -> None:
    with pytest.raises(RegistryError):
        await bench.statuses(from_="nowhere")
    assert bench.store.manifests.names() == []


async def test_names_are_matched_in_any_case(bench: Bench) -> None:
    await bench.statuses("Base", files={"tiny.gguf": bench.tiny()})
    await bench.statuses("BASE", from_="base", system="x")
    assert [name.short for name in bench.store.manifests.names()] == ["Base:latest"]
    assert bench.load("Base").system == "x"


async def test_a_replaced_model_leaves_no_blobs_of_its_own(bench: Bench) -> None:
    await bench.statuses("base", files={"tiny.gguf": bench.tiny()})
    await bench.statuses("made", from_="base", system="one")
    await bench.statuses("made", from_="base", system="two")
    system = hashlib.sha256(b"one").hexdigest()
    assert f"sha256-{system}" not in bench.blob_files()
    assert bench.load("made").system == "two"
    assert bench.load("base")


async def test_what_was_ignored_is_told_on_the_last_line(bench: Bench) -> None:
    lines = await bench.lines(files={"tiny.gguf": bench.tiny()}, parameters={"mirostat": 1})
    assert [notice.code for notice in lines[-1].notices] == ["option_deprecated"]
    assert all(not line.notices for line in lines[:-1])


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"files": {}}, InvalidRequest, "unknown type"),
        ({"files": {"readme": "sha256:" + "2" * 64}}, InvalidRequest, "unknown type"),
        ({"files": {"a.gguf": "sha256:" + "2" * 64}}, InvalidRequest, f"blob sha256:{'2' * 64} was not uploaded"),
        ({"from_": "base", "adapters": {"a": "sha256:" + "2" * 64}}, InvalidRequest, "unknown type"),
        (
            {"from_": "base", "adapters": dict.fromkeys(("a.gguf", "b.gguf"), "sha256:" + "2" * 64)},
            InvalidRequest,
            "only one adapter is currently supported",
        ),
        ({"from_": "a b"}, InvalidModelName, "invalid model name"),
        ({"from_": "base", "template": "{{ .Prompt"}, InvalidRequest, "template error: template: :1: unclosed action"),
        (
            {"from_": "base", "template": "\n{{ $x }}"},
            InvalidRequest,
            'template error: template: :2: undefined variable "$x"',
        ),
        (
            {"from_": "quantized", "quantize": "q4_0"},
            QuantizationError,
            "quantization is only supported for F16, BF16 and F32 models",
        ),
    ],
)
async def test_errors_come_before_any_line_and_leave_nothing(
    bench: Bench, fields: dict[str, Any], error: type[Exception], text: str
) -> None:
    await bench.statuses("base", files={"tiny.gguf": bench.tiny()})
    q4 = make_gguf(bench.root / "q4", metadata={"general.file_type": 2}, tensors={"a.weight": [32, 32]})
    add_model(bench.store, "quantized", q4)
    before = bench.blob_files()
    with pytest.raises(error) as caught:
        await anext(aiter(bench.creator.create(CreateRequest(name=ModelName.parse("made"), **fields))))
    assert str(caught.value) == text
    assert bench.blob_files() == before
    assert ModelName.parse("made") not in bench.store.manifests.names()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.PT"])
async def test_a_pytorch_file_is_refused_by_name_and_told_what_to_do(bench: Bench, name: str) -> None:
    files = {name: bench.upload(b"PK\x03\x04"), "config.json": bench.upload(b"{}")}
    with pytest.raises(PickleRefused, match="save the model as safetensors") as caught:
        await anext(aiter(bench.creator.create(CreateRequest(name=ModelName.parse("made"), files=files))))
    assert caught.value.name == name


async def test_a_gguf_that_cannot_be_read_says_what_is_wrong_with_it(bench: Bench) -> None:
    with pytest.raises(InvalidGGUF, match=r"^invalid GGUF: the file ends inside the version"):
        await bench.statuses(files={"a.gguf": bench.upload(b"GGUF")})
    with pytest.raises(InvalidGGUF, match=r"general\.architecture is missing"):
        await bench.statuses(files={"a.gguf": bench.upload(b"GGUF" + (3).to_bytes(4, "little") + bytes(16))})
    with pytest.raises(InvalidRequest, match="supplied file was not in GGUF format"):
        await bench.statuses(files={"a.gguf": bench.upload(b"not a model at all")})


async def test_a_base_with_a_lost_blob_is_told_by_name(bench: Bench) -> None:
    digest = bench.tiny()
    await bench.statuses("base", files={"tiny.gguf": digest})
    bench.store.blobs.remove(Digest.parse(digest))
    with pytest.raises(BlobMissing, match=digest):
        await bench.statuses(from_="base")


async def test_a_projector_file_becomes_a_projector_layer_with_a_type(bench: Bench) -> None:
    metadata = {"general.type": "mmproj", "clip.has_vision_encoder": True}
    clip = make_gguf(bench.root / "mmproj.gguf", "clip", metadata, {"v.blk.0.weight": [4, 4]})
    files = {"model.gguf": bench.tiny(chat_template=None), "mmproj.gguf": bench.upload(clip)}
    statuses = await bench.statuses(files=files)
    assert statuses[:3] == ["parsing GGUF", "updating GGUF projector metadata", "verifying conversion"]
    (projector,) = bench.load().projectors
    assert read_header(projector).metadata["clip.projector_type"] == "mlp"


async def test_a_projector_with_a_type_is_kept_as_it_is(bench: Bench) -> None:
    metadata = {"general.type": "mmproj", "clip.has_vision_encoder": True, "clip.projector_type": "x"}
    clip = bench.upload(make_gguf(bench.root / "mmproj.gguf", "clip", metadata, {"v.blk.0.weight": [4, 4]}))
    await bench.statuses(files={"model.gguf": bench.tiny(chat_template=None), "mmproj.gguf": clip})
    manifest = bench.store.manifests.read(ModelName.parse("made"))
    (layer,) = manifest.of_type(media.PROJECTOR)
    assert (str(layer.digest), layer.source) == (clip, "mmproj.gguf")


async def test_adapters_and_drafts_follow_the_weights(bench: Bench) -> None:
    await bench.statuses("base", files={"tiny.gguf": bench.tiny(chat_template=None)})
    lora = bench.upload(make_gguf(bench.root / "lora", metadata={"general.type": "adapter", "adapter.type": "lora"}))
    draft = bench.tiny("draft.gguf", seed=1, chat_template=None)
    await bench.statuses(from_="base", adapters={"lora.gguf": lora}, draft_files={"draft.gguf": draft}, system="S")
    kinds = [layer.media_type for layer in bench.store.manifests.read(ModelName.parse("made")).layers]
    assert kinds == [media.MODEL, media.ADAPTER, media.DRAFT, media.SYSTEM]
    draft_config = bench.load().config.draft
    assert (draft_config.model_format, draft_config.architecture) == ("gguf", "llama")


async def test_an_adapter_that_is_none_is_refused(bench: Bench) -> None:
    await bench.statuses("base", files={"tiny.gguf": bench.tiny()})
    with pytest.raises(InvalidRequest, match="is no LoRA adapter"):
        await bench.statuses(from_="base", adapters={"x.gguf": bench.tiny("x.gguf", seed=3)})


async def test_a_remote_model_is_a_config_without_layers(bench: Bench) -> None:
    assert await bench.statuses(from_="qwen3:cloud") == ["writing manifest", "success"]
    config = bench.load().config
    assert (config.remote_host, config.remote_model) == ("https://ollama.com:443", "qwen3")
    with pytest.raises(InvalidRequest, match="DRAFT cannot be used with remote models"):
        await bench.statuses(from_="m", remote_host="h", draft_files={"d.gguf": bench.tiny()})
