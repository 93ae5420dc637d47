"""Manifests: Ollama's bytes and paths, tolerant reading, atomic writing, names matched whatever their case."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from corral.errors import InvalidRequest, ModelDamaged, ModelNotFound, NotEnoughSpace
from corral.names import Digest, ModelName
from corral.store import Layer, Manifest, ManifestStore
from corral.store import manifests as media

ONE, TWO = Digest("1" * 64), Digest("2" * 64)
SMALL = Manifest(Layer(media.CONFIG, ONE, 10), (Layer(media.MODEL, TWO, 20, "base:latest"),))


@pytest.fixture
def manifests(tmp_path: Path) -> ManifestStore:
    return ManifestStore(tmp_path / "models")


def test_a_new_manifest_has_the_bytes_ollama_writes() -> None:
    assert SMALL.encode() == (
        b'{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",'
        b'"config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"sha256:' + b"1" * 64 + b'",'
        b'"size":10},"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:' + b"2" * 64 + b'",'
        b'"size":20,"from":"base:latest"}]}\n'
    )


def test_a_manifest_without_layers_has_null_as_go_writes_it() -> None:
    raw = Manifest(Layer(media.CONFIG, ONE, 10), ()).encode()
    assert raw.endswith(b'"layers":null}\n')
    assert Manifest.parse(raw).layers == ()


def test_an_absent_config_is_gos_zero_value_and_reads_as_absent() -> None:
    raw = Manifest(None, (Layer(media.MODEL, TWO, 20),)).encode()
    assert b'"config":{"mediaType":"","digest":"","size":0}' in raw
    assert Manifest.parse(raw).config is None


def test_a_pulled_manifest_keeps_its_bytes_and_digest(manifests: ManifestStore) -> None:
    raw = json.dumps(
        {
            "layers": [{"size": 3, "digest": f"sha256-{'A' * 64}", "mediaType": "x/y", "new": 1}],
            "extra": {},
            "config": {},
        },
        indent=3,
    ).encode()
    name = ModelName.parse("pulled")
    manifests.write(name, raw)
    manifest = manifests.read(name)
    assert manifest.encode() == raw
    assert manifest.digest_hex == hashlib.sha256(raw).hexdigest()
    assert manifest.layers == (Layer("x/y", Digest("a" * 64), 3),)
    assert manifest.config is None


def test_sizes_are_summed_as_listed_duplicates_included() -> None:
    layer = Layer(media.MODEL, TWO, 20)
    manifest = Manifest(Layer(media.CONFIG, ONE, 10), (layer, layer))
    assert manifest.size_bytes == 50
    assert manifest.digests == {ONE, TWO}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"layers":5}',
        b'{"layers":[5]}',
        b'{"layers":[{}]}',
        b'{"layers":[{"digest":"sha256:../../etc/passwd","size":1}]}',
        b'{"layers":[{"digest":"sha256:' + b"1" * 64 + b'","size":-1}]}',
        b'{"layers":[{"digest":"sha256:' + b"1" * 64 + b'","size":"1"}]}',
        b'{"layers":[{"digest":"sha256:' + b"1" * 64 + b'","size":true}]}',
        b'{"layers":[{"digest":"sha256:' + b"1" * 64 + b'","size":1,"mediaType":[1]}]}',
        b'{"config":7}',
        b"[" * 100_000,
        b'{"layers":[' + b"{}," * 40_000 + b"{}]}",
        b'{"x":[' + b"0," * 200_000 + b"0]}",
        b" " * (16 * 2**20 + 1),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(manifests: ManifestStore, raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        Manifest.parse(raw)
    name = ModelName.parse("bad")
    manifests.write(name, raw)
    with pytest.raises(ModelDamaged, match="bad:latest"):
        manifests.read(name)


def test_bytes_after_the_value_are_tolerated_as_gos_decoder_does() -> None:
    assert Manifest.parse(SMALL.raw + b"trailing").layers == SMALL.layers


def test_names_are_paths_of_four_valid_parts(manifests: ManifestStore) -> None:
    for name in ("b:2", "a", "hf.co/user/repo:Q4_K_M"):
        manifests.write(ModelName.parse(name), SMALL.raw)
    for stray in ("registry.ollama.ai/library/b/.hidden", "registry.ollama.ai/stray", "top"):
        path = manifests.directory / stray
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(SMALL.raw)
    assert [name.short for name in manifests.names()] == ["hf.co/user/repo:Q4_K_M", "a:latest", "b:2"]
    assert (manifests.directory / "registry.ollama.ai/library/b/2").is_file()


def test_an_empty_store_has_no_names(manifests: ManifestStore) -> None:
    assert manifests.names() == []
    assert manifests.resolve(ModelName.parse("x")) == ModelName.parse("x")
    for look in (manifests.read, manifests.mtime, manifests.delete):
        with pytest.raises(ModelNotFound, match="model 'x:latest' not found"):
            look(ModelName.parse("x"))


def test_each_part_takes_the_stored_spelling_by_itself(manifests: ManifestStore) -> None:
    manifests.write(ModelName.parse("Someone/Foo:Q4"), SMALL.raw)
    manifests.write(ModelName.parse("library/bar:Latest"), SMALL.raw)
    resolved = [manifests.resolve(ModelName.parse(text)).short for text in ("someone/FOO:q4", "foo", "SOMEONE/new:x")]
    assert resolved == ["Someone/Foo:Q4", "Foo:Latest", "Someone/new:x"]


def test_the_exact_spelling_wins_over_others(manifests: ManifestStore) -> None:
    for text in ("foo:a", "Foo:b"):
        manifests.write(ModelName.parse(text), SMALL.raw)
    assert manifests.resolve(ModelName.parse("Foo:b")).short == "Foo:b"
    assert manifests.resolve(ModelName.parse("foo:b")).short == "foo:b"
    assert manifests.resolve(ModelName.parse("FOO:b")).short == "Foo:b"


def test_delete_removes_the_directories_it_empties_and_no_others(manifests: ManifestStore) -> None:
    for text in ("someone/foo:1", "someone/bar:1"):
        manifests.write(ModelName.parse(text), SMALL.raw)
    manifests.delete(ModelName.parse("someone/foo:1"))
    assert sorted(path.name for path in (manifests.directory / "registry.ollama.ai/someone").iterdir()) == ["bar"]
    manifests.delete(ModelName.parse("someone/bar:1"))
    assert list(manifests.directory.iterdir()) == []


def test_modes_are_fixed_whatever_the_umask(manifests: ManifestStore) -> None:
    before = os.umask(0o077)
    try:
        manifests.write(ModelName.parse("a"), SMALL.raw)
    finally:
        os.umask(before)
    path = manifests.path(ModelName.parse("a"))
    assert path.stat().st_mode & 0o777 == 0o644
    assert [parent.stat().st_mode & 0o777 for parent in path.parents[:4]] == [0o755] * 4


def test_a_full_disk_leaves_the_earlier_manifest(manifests: ManifestStore, monkeypatch: pytest.MonkeyPatch) -> None:
    name = ModelName.parse("a")
    manifests.write(name, SMALL.raw)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("corral.store.files.write_all", full)
    with pytest.raises(NotEnoughSpace):
        manifests.write(name, b"{}")
    assert manifests.read(name).raw == SMALL.raw
    assert [path.name for path in manifests.directory.iterdir()] == ["registry.ollama.ai"]


def test_a_directory_removed_between_making_and_renaming_is_made_again(
    manifests: ManifestStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, replace = ModelName.parse("a"), Path.replace
    lost: list[Path] = []

    def lose_directory_once(self: Path, target: Path) -> Path:
        if not lost:
            lost.append(target)
            Path(target).parent.rmdir()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", lose_directory_once)
    manifests.write(name, SMALL.raw)
    assert manifests.read(name).raw == SMALL.raw


def test_mtime_has_a_zone(manifests: ManifestStore) -> None:
    name = ModelName.parse("a")
    manifests.write(name, SMALL.raw)
    os.utime(manifests.path(name), (1_700_000_000, 1_700_000_000.5))
    assert manifests.mtime(name).timestamp() == 1_700_000_000.5
    assert manifests.mtime(name).tzinfo is not None
