"""Models: Ollama's blobs to the byte, what load and list say, what delete removes, damage that is named."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.fakes.ggufs import make_gguf
from tests.fakes.stores import add_model

from corral.core import Capability, Message, ToolCall
from corral.errors import BlobMissing, CloudDisabled, InvalidModelName, InvalidRequest, ModelDamaged, ModelNotFound
from corral.names import Digest, ModelName
from corral.store import Layer, Manifest, ModelConfig, ModelStore
from corral.store import manifests as media
from corral.store.care import Problem, fsck
from corral.store.layers import encode_messages, encode_params, parse_messages, parse_params
from corral.store.modelconfig import DraftConfig


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    metadata = {"llama.context_length": 8192, "llama.embedding_length": 576, "general.file_type": 3}
    return make_gguf(tmp_path / "w.gguf", metadata=metadata, tensors={"t": (1000, 32)})


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_blobs_have_the_digests_ollama_gives_them() -> None:
    params = encode_params({"top_k": 10, "temperature": 1.0, "stop": ["USER:", "ASSISTANT:"]})
    assert sha256(params) == "1d0ad71299d48c2fb7ae2b98e683643e771f8a5b72be34942af90d97a91c1e37"
    params = encode_params({"stop": ["<|endoftext|>"], "temperature": 0.6, "top_k": 10.0, "top_p": 0.7})
    assert sha256(params) == "12f58bb75cb3042d69a7e013ab87fb3c3c7088f50ddc62f0c77bd332f0d44d35"
    config = ModelConfig("gguf", "test", ("test",), "0", "unknown")
    assert sha256(config.encode()) == "99759ad5b91e723db0393d698ffbb448b1b7df5ff6377a108c49254583b1bc8c"
    smallest = (
        b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 20) + b"general.architecture" + struct.pack("<IQ", 8, 4) + b"test"
    )
    assert sha256(smallest) == "89a2116c3a82d6a97f59f748d86ed4417214353fd178ee54df418fde32495fad"


def test_config_keys_stand_in_ollamas_order_and_empty_ones_are_left_out() -> None:
    config = ModelConfig(
        model_format="safetensors",
        renderer="qwen3.5",
        parser="qwen3",
        requires="0.19.0",
        remote_host="http://h:1",
        remote_model="m",
        capabilities=("vision", "tools"),
        context_length=7,
        embedding_length=8,
        base_name="b",
        draft=DraftConfig(tensor_prefix="draft."),
    )
    assert config.encode() == (
        b'{"model_format":"safetensors","model_family":"","model_families":null,"model_type":"","file_type":"",'
        b'"renderer":"qwen3.5","parser":"qwen3","requires":"0.19.0","remote_host":"http://h:1","remote_model":"m",'
        b'"capabilities":["vision","tools"],"context_length":7,"embedding_length":8,"base_name":"b",'
        b'"draft":{"tensor_prefix":"draft."},"architecture":"amd64","os":"linux"}\n'
    )
    assert ModelConfig.parse(config.encode()) == config


def test_published_configs_with_unknown_keys_and_nulls_are_read() -> None:
    raw = b'{"model_family":"llama","model_families":null,"rootfs":{"type":"layers","diff_ids":["x"]},"parser":null}'
    assert ModelConfig.parse(raw) == ModelConfig(model_family="llama")


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"model_family":5}', b'{"context_length":"x"}', b"[" * 100_000])
def test_configs_that_make_no_sense_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        ModelConfig.parse(raw)


def test_messages_are_written_in_ollamas_key_order_and_read_back() -> None:
    call = ToolCall("f", {"b": 1, "a": "<x>"}, id="c1", index=2)
    messages = (
        Message("user", "hi", images=(b"\x89PNG",)),
        Message("assistant", "", thinking="hm", tool_calls=(call,)),
        Message("tool", "42", tool_name="f", tool_call_id="c1"),
    )
    raw = encode_messages(messages)
    assert raw == (
        b'[{"role":"user","content":"hi","images":["iVBORw=="]},'
        b'{"role":"assistant","content":"","thinking":"hm","tool_calls":[{"id":"c1","function":{"index":2,"name":"f",'
        b'"arguments":{"a":"\\u003cx\\u003e","b":1}}}]},'
        b'{"role":"tool","content":"42","tool_name":"f","tool_call_id":"c1"}]\n'
    )
    assert parse_messages(raw) == messages


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"{}",
        b"[5]",
        b'[{"role":5}]',
        b'[{"images":5}]',
        b'[{"images":[5]}]',
        b'[{"tool_calls":[{}]}]',
        b'[{"tool_calls":[{"function":{"arguments":"x"}}]}]',
    ],
)
def test_messages_that_make_no_sense_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_messages(raw)


def test_params_that_make_no_sense_are_refused_and_null_is_none() -> None:
    assert parse_params(b"null\n") == {}
    with pytest.raises(InvalidRequest):
        parse_params(b"[1]")


def test_a_model_is_everything_its_layers_say(store: ModelStore, weights: Path) -> None:
    name = add_model(
        store,
        "Someone/Chat:v1",
        weights,
        texts={"template": "{{ .Prompt }}", "system": "be kind", "license": "MIT"},
        parameters={"stop": ["a", "b"], "temperature": 0.5},
        messages=(Message("user", "hi"),),
    )
    model = store.load(store.resolve("someone/chat:V1"))
    assert model.name == name
    assert model.digest == store.manifests.read(name).digest_hex
    assert model.weights is not None
    assert model.weights.read_bytes() == weights.read_bytes()
    assert (model.template, model.system, model.licenses) == ("{{ .Prompt }}", "be kind", ("MIT",))
    assert model.parameters == {"stop": ["a", "b"], "temperature": 0.5}
    assert model.messages == (Message("user", "hi"),)
    assert (model.family, model.families, model.parameter_size, model.quantization_level) == (
        "llama",
        ("llama",),
        "32K",
        "Q4_1",
    )
    assert (model.context_length, model.embedding_length) == (8192, 576)
    assert model.capabilities == (Capability.COMPLETION,)
    assert model.header is not None
    assert model.header.architecture == "llama"
    assert model.size_bytes == sum(layer.size for layer in model.manifest.all_layers)


def test_later_layers_win_params_merge_and_licenses_add_up(store: ModelStore) -> None:
    def layer(kind: str, data: bytes) -> Layer:
        return Layer(kind, store.blobs.put(data)[0], len(data))

    name = ModelName.parse("layers")
    layers = (
        layer(media.PROMPT, b"old"),
        layer(media.TEMPLATE, b"new"),
        layer(media.PARAMS, b'{"a":1,"b":1}'),
        layer(media.PARAMS, b'{"b":2}'),
        layer(media.LICENSE, b"one"),
        layer(media.LICENSE, b"two"),
        layer(media.SYSTEM, b"first"),
        layer(media.SYSTEM, b"last"),
        layer(media.MESSAGES, b'[{"role":"user","content":"gone"}]'),
        layer(media.MESSAGES, b'[{"role":"user","content":"stays"}]'),
        layer("application/vnd.ollama.image.embed", b"ignored"),
    )
    store.write(name, Manifest(None, layers))
    model = store.load(name)
    assert (model.template, model.parameters, model.licenses) == ("new", {"a": 1, "b": 2}, ("one", "two"))
    assert (model.system, model.messages) == ("last", (Message("user", "stays"),))
    assert (model.weights, model.header, model.capabilities) == (None, None, ())


def test_a_model_is_read_once_and_again_when_its_manifest_changes(store: ModelStore, weights: Path) -> None:
    name = add_model(store, "m", weights)
    first = store.load(name)
    assert store.load(name) is first
    os.utime(store.manifests.path(name), (1_700_000_000, 1_700_000_000))
    touched = store.load(name)
    assert touched.modified_at.timestamp() == 1_700_000_000
    add_model(store, "m", weights, texts={"system": "new"})
    assert store.load(name).system == "new"


def test_copies_share_one_header(store: ModelStore, weights: Path) -> None:
    name = add_model(store, "m", weights)
    copy = store.resolve("copy")
    store.copy(name, copy)
    assert store.load(name).header is store.load(copy).header


def test_list_has_the_fields_of_tags_newest_first(store: ModelStore, weights: Path) -> None:
    assert store.list() == []
    names = [add_model(store, text, weights) for text in ("old", "new", "b", "a")]
    for name, at in zip(names, (100, 300, 200.9, 200.1), strict=True):
        os.utime(store.manifests.path(name), (at, at))
    rows = store.list()
    assert [row.name.short for row in rows] == ["new:latest", "a:latest", "b:latest", "old:latest"]
    row = rows[0]
    assert (row.format, row.family, row.families, row.parameter_size) == ("gguf", "llama", ("llama",), "32K")
    assert (row.quantization_level, row.context_length, row.embedding_length) == ("Q4_1", 8192, 576)
    assert (row.capabilities, row.parent_model, row.problem) == ((Capability.COMPLETION,), "", "")
    assert row.digest == sha256(store.manifests.path(row.name).read_bytes())


def test_an_unknown_quantization_is_repaired_from_the_file(store: ModelStore, tmp_path: Path) -> None:
    gguf = make_gguf(tmp_path / "f32.gguf", metadata={"general.file_type": 0})
    name = add_model(store, "m", gguf)
    assert store.load(name).quantization_level == "unknown"
    assert store.list()[0].quantization_level == "F32"


def test_remote_stubs_are_listed(store: ModelStore) -> None:
    config = ModelConfig(remote_host="https://ollama.com:443", remote_model="big", capabilities=("completion", "tools"))
    add_model(store, "stub", config=config)
    row = store.list()[0]
    assert (row.remote_host, row.remote_model) == ("https://ollama.com:443", "big")
    assert row.capabilities == (Capability.COMPLETION, Capability.TOOLS)


def test_a_bad_manifest_is_listed_as_unusable_and_logged_once(
    store: ModelStore, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add_model(store, "good", weights)
    store.manifests.write(ModelName.parse("bad"), b"{")
    for _ in range(3):
        assert {row.name.short: bool(row.problem) for row in store.list()} == {"bad:latest": True, "good:latest": False}
    assert caplog.text.count("bad:latest cannot be read") == 1


@pytest.mark.parametrize("kind", ["a folder", "a link to nothing", "cut"])
def test_nothing_is_removed_while_a_manifest_cannot_be_read(
    store: ModelStore, weights: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept = add_model(store, "kept", weights)
    gone = add_model(store, "gone", weights)
    path = store.manifests.path(kept)
    whole = path.read_bytes()
    path.unlink()
    if kind == "a folder":
        path.mkdir()
    elif kind == "cut":
        path.write_bytes(whole[:100])
    else:
        path.symlink_to("nowhere")
    assert store.delete(gone) == []
    assert "kept:latest" in caplog.text
    assert [row.problem for row in store.list()] != [""]
    assert any(finding.problem is Problem.BAD_MANIFEST for finding in fsck(store).findings)
    path.rmdir() if kind == "a folder" else path.unlink()
    path.write_bytes(whole)
    assert store.load(kept).weights is not None


def test_create_beside_delete_of_one_name_ends_in_one_of_the_two_orders(store: ModelStore, weights: Path) -> None:
    name = add_model(store, "m", weights)
    manifest = store.manifests.read(name)

    def again(step: Callable[[], object]) -> None:
        for _ in range(200):
            with contextlib.suppress(ModelNotFound, BlobMissing):  # the other one was first
                step()

    with store.blobs.reserve(manifest.digests), ThreadPoolExecutor() as pool:
        steps = [lambda: store.write(name, manifest), lambda: store.delete(name)]
        for done in [pool.submit(again, step) for step in steps]:
            done.result()


def test_a_model_without_its_weights_is_listed_as_unusable_and_says_how_to_repair(
    store: ModelStore, weights: Path
) -> None:
    name = add_model(store, "m", weights)
    path = store.load(name).weights
    assert path is not None
    path.unlink()
    with pytest.raises(BlobMissing, match="corral pull m:latest"):
        store.load(name)
    row = store.list()[0]
    assert row.capabilities == ()
    assert "missing" in row.problem
    assert str(store.root) not in row.problem


def test_a_blob_of_another_size_than_the_manifest_says_is_refused(store: ModelStore, weights: Path) -> None:
    name = add_model(store, "m", weights)
    path = store.load(name).weights
    assert path is not None
    os.truncate(path, 50)
    with pytest.raises(ModelDamaged, match="50 bytes instead of"):
        store.load(name)


def test_unreadable_weights_are_listed_without_capabilities(store: ModelStore, tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"no gguf at all")
    add_model(store, "m", extra={media.MODEL: junk}, config=ModelConfig("gguf", "llama", ("llama",)))
    row = store.list()[0]
    assert (row.capabilities, row.problem) == ((), "the weights are not readable")


@pytest.mark.parametrize("kind", [media.PARAMS, media.MESSAGES])
def test_a_layer_that_does_not_parse_names_the_model(store: ModelStore, tmp_path: Path, kind: str) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"{{{")
    name = add_model(store, "m", extra={kind: junk})
    with pytest.raises(ModelDamaged, match="m:latest"):
        store.load(name)


def test_names_are_resolved_with_suffixes_and_stored_case(store: ModelStore, weights: Path) -> None:
    add_model(store, "Foo:Bar", weights)
    assert store.resolve(" foo:bar ").short == "Foo:Bar"
    assert store.resolve("x:local").short == "x:latest"
    with pytest.raises(InvalidModelName):
        store.resolve("a b")
    for cloud in ("x:cloud", "gpt-oss:20b-cloud"):
        with pytest.raises(CloudDisabled):
            store.resolve(cloud)


def test_a_manifest_is_not_written_before_its_blobs_are_there(store: ModelStore) -> None:
    name = ModelName.parse("m")
    with pytest.raises(BlobMissing):
        store.write(name, Manifest(None, (Layer(media.MODEL, Digest("1" * 64), 5),)))
    with pytest.raises(ModelNotFound):
        store.manifests.read(name)


def test_copy_keeps_the_bytes_and_a_copy_to_itself_is_nothing(store: ModelStore, weights: Path) -> None:
    name, copy = add_model(store, "m", weights), ModelName.parse("c")
    store.copy(name, copy)
    assert store.manifests.read(copy).raw == store.manifests.read(name).raw
    absent = ModelName.parse("absent")
    store.copy(absent, absent)
    with pytest.raises(ModelNotFound):
        store.copy(absent, copy)


def test_delete_removes_blobs_that_nothing_else_refers_to(store: ModelStore, weights: Path) -> None:
    one = add_model(store, "one", weights, texts={"system": "only one"})
    two = add_model(store, "two", weights)
    shared = store.manifests.read(one).digests & store.manifests.read(two).digests
    mine = store.manifests.read(one).digests - shared
    assert set(store.delete(one)) == mine
    assert set(store.blobs.digests()) == shared
    assert set(store.delete(two)) == shared
    assert store.blobs.digests() == []
    assert list(store.manifests.directory.iterdir()) == []
    with pytest.raises(ModelNotFound):
        store.delete(two)


def test_delete_leaves_what_somebody_is_about_to_refer_to(store: ModelStore, weights: Path) -> None:
    name = add_model(store, "m", weights)
    digests = store.manifests.read(name).digests
    with store.blobs.reserve(digests):
        assert store.delete(name) == []
        assert set(store.blobs.digests()) == digests
    assert set(store.release_unreferenced(digests)) == digests


def test_a_damaged_manifest_can_be_deleted(store: ModelStore) -> None:
    name = ModelName.parse("bad")
    store.manifests.write(name, b"{")
    assert store.delete(name) == []
    assert store.manifests.names() == []


def test_a_read_only_store_can_be_listed_and_loaded(store: ModelStore, weights: Path) -> None:
    name = add_model(store, "m", weights)
    before = sorted(path for path in store.root.rglob("*"))
    assert store.load(name).capabilities == (Capability.COMPLETION,)
    store.list()
    assert sorted(path for path in store.root.rglob("*")) == before


_WRITER = """
import sys
from pathlib import Path
from corral.names import ModelName
from corral.store import ModelStore
store = ModelStore(Path(sys.argv[1]))
source, mine = ModelName.parse("base"), ModelName.parse(sys.argv[2])
sys.stdin.read(1)
for _ in range(40):
    store.copy(source, mine)
    store.load(mine)
    store.delete(mine)
"""


def test_two_processes_copy_and_delete_at_once_and_the_shared_blobs_stay(store: ModelStore, weights: Path) -> None:
    base = add_model(store, "base", weights)
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(store.root), name], stdin=subprocess.PIPE, stderr=-1)
        for name in ("same/x", "same/y")
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"x")
        writer.stdin.flush()
    assert [(writer.communicate()[1], writer.returncode) for writer in writers] == [(b"", 0)] * 2
    assert store.load(base).header is not None
    assert [name.short for name in store.manifests.names()] == ["base:latest"]
    assert json.loads(store.manifests.read(base).raw)["schemaVersion"] == 2
