"""What small layers and headers of models take of the server: bounded before they are read, and all that are kept."""

from __future__ import annotations

import io
import json
import resource
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.ggufs import make_gguf
from tests.fakes.registry import FakeRegistry
from tests.fakes.server import RunningServer
from tests.fakes.stores import add_model

from corral.errors import InvalidGGUF, ModelDamaged
from corral.gguf import GGUFArray, read_header
from corral.inference.running.specials import control_names
from corral.names import ModelName
from corral.sched.memory import ModelFacts
from corral.store import ModelStore
from corral.store import manifests as media
from corral.store.footprint import WeighedCache, header_bytes, model_bytes

MIB = 2**20
WIDE = "\U0001f600"  # one such character, and each of its text takes four bytes
LAYERS = {
    "messages of nothing": (media.MESSAGES, b"[" + b"{}," * 4_000_000 + b"{}]"),
    "lists in messages": (media.MESSAGES, b'[{"tool_calls":[' + b"[]," * 4_000_000 + b"[]]}]"),
    "a wide message": (media.MESSAGES, b'[{"content":"' + WIDE.encode() + b"a" * (20 * MIB) + b'"}]'),
    "lists as parameters": (media.PARAMS, b'{"stop":[' + b"[]," * 4_000_000 + b"[]]}"),
    "nested parameters": (media.PARAMS, b'{"stop":' + b"[" * 100_000),
    "a wide system prompt": (media.SYSTEM, WIDE.encode() + b"a" * (12 * MIB)),
    "a wide template": (media.TEMPLATE, WIDE.encode() + b"a" * (12 * MIB)),
    "a wide license": (media.LICENSE, WIDE.encode() + b"a" * (12 * MIB)),
    "a config of objects": (media.CONFIG, b'{"x":[' + b"{}," * 300_000 + b"{}]}"),
}


def grown_mib(before: int) -> float:
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


@pytest.mark.parametrize("what", LAYERS)
async def test_a_pulled_layer_is_bounded_before_it_is_read(
    server: RunningServer, fake: FakeRegistry, tmp_path: Path, what: str
) -> None:
    kind, data = LAYERS[what]
    layers = {media.MODEL: make_gguf(tmp_path / "x.gguf", "llama", {}, {"w": (2, 2)}).read_bytes()}
    if kind == media.CONFIG:
        fake.add_model("library/m", "latest", layers, data)
    else:
        fake.add_model("library/m", "latest", layers | {kind: data})
    body = {"model": f"{fake.host}/library/m", "insecure": True}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await server.post("/api/pull", body)
    for path in ("/api/show", "/api/generate"):
        status, reply = await server.post(path, {"model": body["model"], "prompt": "x"})
        assert status in {400, 500}, reply
        assert "damaged" in str(reply) or "not understood" in str(reply), reply
        assert len(str(reply)) < 1000
    assert (await server.call("GET", "/api/tags"))[0] == 200
    assert grown_mib(before) < 90, what


async def create(server: RunningServer, field: str, size: int) -> tuple[int, Any]:
    body = json.dumps({"model": "x", "from": "go", "stream": False, field: "a" * size}).encode()
    return await server.call("POST", "/api/create", data=io.BytesIO(body))


async def test_a_layer_that_could_not_be_read_again_is_not_made(server: RunningServer) -> None:
    server.add("go")
    for field, limit in (("system", 4 * MIB), ("license", 4 * MIB)):
        status, reply = await create(server, field, limit + 1)
        assert status == 400, reply
        assert f"the limit is {limit}" in reply["error"]
        assert (await create(server, field, limit))[0] == 200
        assert (await server.post("/api/show", {"model": "x"}))[0] == 200


def test_texts_of_a_header_have_a_bound_together(tmp_path: Path) -> None:
    raw = struct.pack("<4sIQQ", b"GGUF", 3, 0, 5)
    for number in range(5):
        text = WIDE.encode() + b"a" * (4 * MIB)
        raw += struct.pack("<Q", 1) + str(number).encode() + struct.pack("<IQ", 8, len(text)) + text
    path = tmp_path / "x.gguf"
    path.write_bytes(raw)
    with pytest.raises(InvalidGGUF, match="bytes of text"):
        read_header(path)


def test_what_is_kept_of_all_models_has_room_for_so_many_bytes(tmp_path: Path) -> None:
    """Each of the models is a legitimate one, if odd; a client can make any number of them."""
    store = ModelStore(tmp_path / "models")
    before = 0
    for number in range(30):
        gguf = make_gguf(tmp_path / "x.gguf", "llama", {"general.description": WIDE + "b" * 2**18 + str(number)}, {})
        name = add_model(store, f"m{number}", gguf, texts={"system": WIDE + "a" * 2**19 + str(number)})
        model = store.load(name)
        assert model_bytes(model) > 4 * 2**19 + header_bytes(model.header or read_header(gguf))
        if number == 2:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert grown_mib(before) < 50  # ninety else
    assert store.load(ModelName.parse("m0")).system.startswith(WIDE)


def test_a_cache_keeps_what_there_is_room_for() -> None:
    cache: WeighedCache[str, bytes] = WeighedCache(800, 5, len)
    for name in "abc":
        cache.put(name, bytes(90))
    cache.put("large", bytes(101))
    assert cache.get("large") is None
    assert cache.get("a") == bytes(90)
    for name in "de":
        cache.put(name, bytes(90))
    cache.put("f", bytes(90))  # the sixth
    assert (cache.get("b"), len(cache)) == (None, 5)
    narrow: WeighedCache[int, bytes] = WeighedCache(800, 100, len)
    for number in range(20):
        narrow.put(number % 12, bytes(100))
    assert (len(narrow), narrow.get(19 % 12)) == (8, bytes(100))


def test_a_damaged_layer_says_which(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    gguf = make_gguf(tmp_path / "x.gguf", "llama", {}, {})
    kind, data = LAYERS["lists as parameters"]
    (tmp_path / "layer").write_bytes(data[:900_000] + b"[]]}")
    name = add_model(store, "m", gguf, extra={kind: tmp_path / "layer"})
    with pytest.raises(ModelDamaged, match="the layer of params has more than 65536 objects and arrays"):
        store.load(name)


LONG_WORDS = {"tokenizer.words": [WIDE + "a" * (10 * MIB) + str(number) for number in range(5)]}  # 200 MiB of memory
WIDE_WORDS = {"tokenizer.words": [WIDE + "a" * (MIB - 100) + str(number) for number in range(80)]}  # 320
MANY_TOKENS = {
    "tokenizer.ggml.tokens": [f"t{number}" for number in range(300_000)],
    "tokenizer.ggml.token_type": [3] * 300_000,
}


@pytest.mark.parametrize("words", [LONG_WORDS, WIDE_WORDS], ids=["too long", "wide"])
async def test_strings_of_arrays_are_shown_a_few_at_a_time(server: RunningServer, words: dict[str, Any]) -> None:
    server.add("m", metadata=words)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with server.http.post(server.url + "/api/show", json={"model": "m", "verbose": True}) as answer:
        assert answer.status == 200
        async for _ in answer.content.iter_chunked(2**16):
            pass
    assert grown_mib(before) < 160


async def test_what_is_remembered_of_a_vocabulary_has_a_bound(server: RunningServer) -> None:
    server.add("m", metadata=MANY_TOKENS)
    names = await control_names(server.deps.store.load(ModelName.parse("m")))
    assert len(names) < 20_000
    assert names[5] == "t5"


@pytest.mark.parametrize("key", ["attention.head_count", "attention.head_count_kv", "feed_forward_length"])
def test_arrays_a_value_a_layer_are_read_as_far_as_there_are_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    values = {"llama.block_count": 3, "llama.embedding_length": 64, f"llama.{key}": [7] * 1000}
    header = read_header(make_gguf(tmp_path / "x.gguf", "llama", values, {}))
    read = 0
    whole = GGUFArray.iterate

    def counted(array: GGUFArray) -> Iterator[Any]:
        nonlocal read
        for value in whole(array):
            read += 1
            yield value

    monkeypatch.setattr(GGUFArray, "iterate", counted)
    ModelFacts.from_header(header)
    assert 3 <= read < 20  # a few looks
