"""The GGUF header reader: what it reads, what it refuses, and that no bytes whatever can make it do anything else."""

from __future__ import annotations

import math
import os
import random
import struct
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes.ggufs import make_gguf, tiny_llama

from corral.errors import InvalidGGUF
from corral.gguf import GGUFArray, GGUFHeader, is_gguf, read_header
from corral.gguf.cursor import MAX_STRING_BYTES, WINDOW_BYTES
from corral.gguf.header import shortest_float32


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def entry(key: str, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def file_of(*entries: bytes, tensors: bytes = b"", tensor_count: int = 0, version: int = 3, data: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensor_count, len(entries)) + b"".join(entries) + tensors + data


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def array(kind: int, length: int, payload: bytes) -> bytes:
    return struct.pack("<IQ", kind, length) + payload


def read_bytes(tmp_path: Path, raw: bytes) -> GGUFHeader:
    path = tmp_path / "x.gguf"
    path.write_bytes(raw)
    return read_header(path)


ARCHITECTURE = entry("general.architecture", 8, string("llama"))


def test_every_scalar_type_reads_as_its_python_value(tmp_path: Path) -> None:
    values: dict[int, tuple[str, float]] = {12: ("d", 1e-300)}
    values |= {0: ("B", 200), 1: ("b", -5), 2: ("H", 60000), 3: ("h", -30000), 4: ("I", 4_000_000_000), 5: ("i", -7)}
    values |= {10: ("Q", 2**63 + 1), 11: ("q", -(2**62))}
    entries = [entry(f"k{kind}", kind, struct.pack(f"<{letter}", value)) for kind, (letter, value) in values.items()]
    entries += [entry("yes", 7, b"\1"), entry("no", 7, b"\0"), entry("odd", 7, b"\5")]
    metadata = read_bytes(tmp_path, file_of(*entries)).metadata
    assert {key: metadata[f"k{key}"] for key in values} == {key: value for key, (_, value) in values.items()}
    assert (metadata["yes"], metadata["no"], metadata["odd"]) == (True, False, True)


def test_float32_prints_as_go_prints_it(tmp_path: Path) -> None:
    header = read_bytes(tmp_path, file_of(entry("eps", 6, struct.pack("<f", 1e-5))))
    assert header.metadata["eps"] == 1e-05


@given(st.floats(width=32, allow_nan=False))
def test_shortest_float32_is_the_same_float32(value: float) -> None:
    short = shortest_float32(value)
    assert struct.pack("<f", short) == struct.pack("<f", value)
    assert digits(short) <= digits(value)


def digits(value: float) -> int:
    """Significant ones, however the number is printed."""
    return len(Decimal(repr(value)).normalize().as_tuple().digits) if math.isfinite(value) else 0


def test_keys_are_looked_up_below_the_architecture(tmp_path: Path) -> None:
    path = make_gguf(tmp_path / "m.gguf", "bert", {"bert.context_length": 512, "context_length": 7, "split.count": 2})
    header = read_header(path)
    assert header.get("context_length") == 512
    assert header.context_length == 512
    assert header.get("general.architecture") == "bert"
    assert header.get("split.count") == 2
    assert header.get("nope", "default") == "default"


def test_architecture_may_stand_after_the_keys_that_need_it(tmp_path: Path) -> None:
    raw = file_of(entry("bert.pooling_type", 4, struct.pack("<I", 1)), entry("general.architecture", 8, string("bert")))
    header = read_bytes(tmp_path, raw)
    assert header.pooling_type == 1


def test_missing_keys_have_neutral_values(tmp_path: Path) -> None:
    header = read_bytes(tmp_path, file_of())
    assert (header.architecture, header.file_type, header.file_type_for_tags) == ("unknown", "unknown", "unknown")
    assert (header.context_length, header.embedding_length, header.pooling_type) == (0, 0, None)
    assert (header.chat_template, header.parameter_count, header.kind) == ("", 0, "unknown")
    assert [header.has_vision, header.is_projector, header.is_adapter] == [False] * 3


def test_keys_of_the_wrong_type_count_as_missing(tmp_path: Path) -> None:
    header = read_bytes(
        tmp_path,
        file_of(
            entry("general.architecture", 4, struct.pack("<I", 1)),
            entry("general.file_type", 8, string("x")),
            entry("tokenizer.chat_template", 9, array(4, 0, b"")),
        ),
    )
    assert (header.architecture, header.file_type, header.chat_template) == ("unknown", "unknown", "")


@pytest.mark.parametrize(
    ("value", "create", "tags"), [(0, "unknown", "F32"), (15, "Q4_K_M", "Q4_K_M"), (5, "unknown", "unknown")]
)
def test_file_type_zero_is_unknown_to_create_and_f32_to_tags(
    tmp_path: Path, value: int, create: str, tags: str
) -> None:
    header = read_header(make_gguf(tmp_path / "m.gguf", metadata={"general.file_type": value}))
    assert (header.file_type, header.file_type_for_tags) == (create, tags)


def test_parameter_count_is_the_sum_of_tensor_elements_whatever_the_file_claims(tmp_path: Path) -> None:
    path = make_gguf(tmp_path / "m.gguf", metadata={"general.parameter_count": 5}, tensors={"a": (4, 32), "b": (16,)})
    header = read_header(path)
    assert header.parameter_count == 4 * 32 + 16
    assert [(t.name, t.type_name, t.shape, t.size_bytes) for t in header.tensors] == [
        ("a", "F32", (32, 4), 512),
        ("b", "F32", (16,), 64),
    ]
    assert all(t.offset + t.size_bytes <= header.file_size for t in header.tensors)
    assert header.tensor_bytes == 576


@pytest.mark.parametrize(
    ("arch", "metadata", "projector"),
    [
        ("llama", {"general.type": "mmproj"}, True),
        ("llama", {"general.type": "projector"}, True),
        ("clip", {"clip.has_vision_encoder": True}, True),
        ("clip", {"clip.has_vision_encoder": False}, False),
        ("llama", {"llama.vision.block_count": 3}, True),
        ("llama", {"llama.vision.block_count": 3, "llama.block_count": 2}, False),
        ("llama", {}, False),
    ],
)
def test_projectors_are_told_from_models(tmp_path: Path, arch: str, metadata: dict[str, Any], projector: bool) -> None:
    assert read_header(make_gguf(tmp_path / "m.gguf", arch, metadata)).is_projector is projector


def test_arrays_are_read_on_demand(tmp_path: Path) -> None:
    words = [f"w{n}" for n in range(1000)]
    path = make_gguf(tmp_path / "m.gguf", metadata={"words": words, "scores": [0.1, 2.5], "ids": [-1, 7]})
    header = read_header(path)
    arrays = {key: header.metadata[key] for key in ("words", "scores", "ids")}
    assert all(isinstance(value, GGUFArray) for value in arrays.values())
    assert arrays["words"].read() == words  # type: ignore[union-attr]
    assert arrays["words"].type_name == "string"  # type: ignore[union-attr]
    assert arrays["scores"].read() == [0.1, 2.5]  # type: ignore[union-attr]
    assert arrays["ids"].read() == [-1, 7]  # type: ignore[union-attr]


def test_an_array_whose_file_shrank_is_invalid_not_a_crash(tmp_path: Path) -> None:
    path = make_gguf(tmp_path / "m.gguf", metadata={"words": ["abc"] * 50, "numbers": list(range(50))})
    header = read_header(path)
    os.truncate(path, 60)
    for key in ("words", "numbers"):
        value = header.metadata[key]
        assert isinstance(value, GGUFArray)
        with pytest.raises(InvalidGGUF):
            value.read()


def test_strings_longer_than_a_window_are_stepped_over(tmp_path: Path) -> None:
    words = ["a" * (WINDOW_BYTES + 17), "b", "c" * (WINDOW_BYTES - 8), "", "d"]
    path = make_gguf(tmp_path / "m.gguf", metadata={"words": words, "after": "here"})
    header = read_header(path)
    assert header.metadata["after"] == "here"
    value = header.metadata["words"]
    assert isinstance(value, GGUFArray)
    assert value.read() == words


def test_header_of_a_large_vocabulary_is_read_without_its_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "big.gguf"
    count = 256 * 1024
    tokens = b"".join(string(f"token{n}") for n in range(count))
    path.write_bytes(
        file_of(
            ARCHITECTURE,
            entry("tokenizer.ggml.tokens", 9, array(8, count, tokens)),
            entry("tokenizer.ggml.scores", 9, array(6, count, bytes(4 * count))),
        )
    )
    read: list[int] = []
    pread = os.pread

    def count_bytes(fd: int, size: int, at: int) -> bytes:
        read.append(size)
        return pread(fd, size, at)

    monkeypatch.setattr(os, "pread", count_bytes)
    started = time.perf_counter()
    header = read_header(path)
    lazy_s = time.perf_counter() - started
    assert sum(read) < len(tokens) + 3 * WINDOW_BYTES  # the tokens once, for their lengths; the scores not at all
    vocabulary = header.metadata["tokenizer.ggml.tokens"]
    assert isinstance(vocabulary, GGUFArray)
    started = time.perf_counter()
    assert len(vocabulary.read()) == count
    assert lazy_s < (time.perf_counter() - started) / 2  # measured: a tenth


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "ends inside the magic"),
        (b"GG", "ends inside the magic"),
        (b"JUNKJUNKJUNKJUNKJUNKJUNK", "invalid file magic"),
        (b"FUGG" + bytes(40), "big-endian"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(40), "big-endian"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(40), "version 1 is not supported"),
        (b"GGUF" + struct.pack("<I", 4) + bytes(40), "version 4 is not supported"),
        (b"GGUF" + struct.pack("<I", 3), "ends inside the number of tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "tensors cannot be"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "keys cannot be"),
        (file_of(ARCHITECTURE, ARCHITECTURE), "is there twice"),
        (file_of(entry("k", 99, b"")), "unknown type 99"),
        (file_of(struct.pack("<Q", 2**64 - 1) + bytes(20)), "the limit is"),
        (file_of(entry("k", 8, struct.pack("<Q", MAX_STRING_BYTES + 1))), "the limit is"),
        (file_of(entry("k", 8, struct.pack("<Q", 100) + b"short")), "ends inside the value of 'k'"),
        (file_of(entry("k", 9, array(4, 4 * 2**20 + 1, b""))), "the limit is 4194304"),
        (file_of(entry("k", 9, array(4, 1000, bytes(10)))), "ends inside the array 'k'"),
        (file_of(entry("k", 9, array(9, 1, bytes(10)))), "holds arrays"),
        (file_of(entry("k", 9, array(77, 1, bytes(10)))), "unknown type 77"),
        (file_of(entry("k", 9, array(8, 3, string("a")))), "ends inside the array 'k'"),
        (file_of(entry("k", 9, array(8, 1, struct.pack("<Q", 2**64 - 1)))), "the limit is 16777216"),
        (file_of(entry("k", 9, array(8, 2, struct.pack("<Q", 2**64 - 1) * 2))), "the limit is 16777216"),
        (file_of(entry("general.alignment", 4, struct.pack("<I", 0))), "alignment"),
        (file_of(entry("general.alignment", 4, struct.pack("<I", 48))), "alignment"),
        (file_of(entry("general.alignment", 8, string("32"))), "alignment"),
        (file_of(tensors=tensor("t", (1,) * 5, 0, 0), tensor_count=1), "5 dimensions"),
        (file_of(tensors=tensor("t", (32,), 5, 0), tensor_count=1), "unknown type 5"),
        (file_of(tensors=tensor("t", (31,), 2, 0), tensor_count=1, data=bytes(99)), "do not divide into blocks"),
        (file_of(tensors=tensor("t", (8,), 0, 1), tensor_count=1, data=bytes(99)), "not aligned"),
        (file_of(tensors=tensor("t", (2**62, 2**62), 0, 0), tensor_count=1, data=bytes(99)), "exceeds file size"),
        (file_of(tensors=tensor("t", (8,), 0, 2**63), tensor_count=1, data=bytes(99)), "exceeds file size"),
        (file_of(tensors=tensor("t", (8,), 0, 0) * 2, tensor_count=2, data=bytes(99)), "same name"),
        (file_of(tensors=tensor("t", (8, 0), 0, 0), tensor_count=1, data=bytes(99)), "a dimension of 0"),
    ],
)
def test_malformed_files_are_refused_with_the_reason(tmp_path: Path, raw: bytes, why: str) -> None:
    with pytest.raises(InvalidGGUF, match=why):
        read_bytes(tmp_path, raw)


def test_more_text_than_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.gguf.reader.MAX_TEXT_BYTES", 100)
    with pytest.raises(InvalidGGUF, match="bytes of text"):
        read_bytes(tmp_path, file_of(entry("k", 8, string("x" * 101))))


def test_the_smallest_gguf_has_no_data_section(tmp_path: Path) -> None:
    header = read_bytes(tmp_path, file_of(entry("general.architecture", 8, string("test"))))
    assert (header.architecture, header.tensors, header.version) == ("test", (), 3)


def test_is_gguf_looks_at_the_magic_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"GGUFxx")
    (tmp_path / "b").write_bytes(b"GG")
    assert is_gguf(tmp_path / "a")
    assert not is_gguf(tmp_path / "b")


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "nope")


def read_whatever(path: Path, raw: bytes) -> None:
    """Read a mutated file to its last array: InvalidGGUF is the only exception allowed out."""
    path.write_bytes(raw)
    try:
        header = read_header(path)
        for value in header.metadata.values():
            if isinstance(value, GGUFArray) and value.length < 10_000:
                value.read()
    except InvalidGGUF:
        return
    assert all(tensor.offset + tensor.size_bytes <= len(raw) for tensor in header.tensors)
    assert (header.architecture, header.file_type, header.has_vision, header.is_projector) is not None


@pytest.fixture(scope="module")
def sound_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "m.gguf"
    metadata = {"llama.rope.freq_base": 1e4, "llama.vision.block_count": 2, "a.b": [1, 2, 3], "flag": True}
    return tiny_llama(path, layers=1, width=8, metadata=metadata).read_bytes()


def test_three_thousand_mutations_raise_nothing_but_invalid_gguf(tmp_path: Path, sound_file: bytes) -> None:
    random_ = random.Random(20261123)
    interesting = [0, 1, 7, 8, 9, 255, 2**16, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 16 * 2**20, 64 * 2**20 + 1]
    header_bytes = min(len(sound_file), 8192)
    outcomes = set()
    for number in range(3000):
        raw = bytearray(sound_file)
        for _ in range(random_.randint(1, 3)):
            at = random_.randrange(header_bytes) if number % 2 else random_.randrange(64)
            width = random_.choice((1, 4, 8))
            raw[at : at + width] = (random_.choice(interesting) % 2 ** (8 * width)).to_bytes(width, "little")
        if number % 5 == 0:
            del raw[random_.randrange(len(raw)) :]
        path = tmp_path / "m.gguf"
        read_whatever(path, bytes(raw))
        outcomes.add(_is_readable(path))
    assert outcomes == {True, False}  # the mutations reach both ends: some harmless, some fatal


def _is_readable(path: Path) -> bool:
    try:
        read_header(path)
    except InvalidGGUF:
        return False
    return True


def test_every_truncation_of_the_header_is_refused(tmp_path: Path, sound_file: bytes) -> None:
    for length in [*range(400), *range(400, len(sound_file) - 1, 997)]:
        path = tmp_path / "m.gguf"
        path.write_bytes(sound_file[:length])
        with pytest.raises(InvalidGGUF):
            read_header(path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from([b"", b"GGUF", b"GGUF\3\0\0\0", b"GGUF\2\0\0\0"]))
def test_any_bytes_at_all_raise_nothing_but_invalid_gguf(tmp_path: Path, tail: bytes, head: bytes) -> None:
    read_whatever(tmp_path / "m.gguf", head + tail)
