"""A pack of kernels is used only when it is proved, ours alone and what its manifest says; the processor names it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.runner.kernels import (
    BACKEND,
    BASE,
    PROVED,
    REFUSED,
    KernelsUnusable,
    Pack,
    check_pack,
    digest_of,
    pack_folder,
    read_pack,
    usable_pack,
)
from corral.runner.processor import beyond_the_wheel, build_options, features, processor_name

AMX = ("GGML_AMX_TILE", "GGML_AMX_INT8")
ZEN4 = "flags\t\t: fpu sse4_2 avx avx2 fma f16c bmi2 avx512f avx512vbmi avx512_vnni avx512_bf16\n"
HASWELL = "flags : fpu sse4_2 avx avx2 fma f16c bmi2\n"
GRAVITON = "Features\t: fp asimd asimddp i8mm sve\n"


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    folder = pack_folder(tmp_path)
    folder.mkdir(parents=True, mode=0o700)
    for name in (BASE, BACKEND):
        (folder / name).write_bytes(name.encode())
        (folder / name).chmod(0o600)
    made = Pack(folder, ("avx2",), "c++", {name: digest_of(folder / name) for name in (BASE, BACKEND)}, PROVED)
    made.write()
    return made


def test_a_proved_pack_is_used_and_read_back_as_it_was(tmp_path: Path, pack: Pack) -> None:
    found = usable_pack(tmp_path)
    assert found is not None
    assert (found.folder, found.state, dict(found.digests)) == (pack.folder, PROVED, dict(pack.digests))


@pytest.mark.parametrize("name", [BASE, BACKEND])
def test_a_library_that_changed_is_not_used(tmp_path: Path, pack: Pack, name: str) -> None:
    (pack.folder / name).write_bytes(b"something else")
    with pytest.raises(KernelsUnusable, match="not the one that was proved"):
        check_pack(pack)
    assert usable_pack(tmp_path) is None


def test_a_pack_that_others_can_write_or_that_is_a_link_is_not_used(tmp_path: Path, pack: Pack) -> None:
    (pack.folder / BACKEND).chmod(0o666)
    with pytest.raises(KernelsUnusable, match="not ours alone"):
        check_pack(pack)
    (pack.folder / BACKEND).unlink()
    (pack.folder / BACKEND).symlink_to(pack.folder / BASE)
    with pytest.raises(KernelsUnusable, match="not ours alone"):
        check_pack(pack)
    (pack.folder / BACKEND).unlink()
    with pytest.raises(KernelsUnusable, match="No such file"):
        check_pack(pack)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_pack_of_somebody_else_is_not_used(pack: Pack) -> None:
    os.chown(pack.folder / BACKEND, 65534, 65534)
    with pytest.raises(KernelsUnusable, match="not ours alone"):
        check_pack(pack)


def test_a_refused_pack_says_why_for_ever(tmp_path: Path, pack: Pack) -> None:
    pack.marked(REFUSED, "crashed with SIGILL").write()
    assert usable_pack(tmp_path) is None
    found = read_pack(pack.folder)
    assert found is not None
    with pytest.raises(KernelsUnusable, match="crashed with SIGILL"):
        check_pack(found)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"state": "proved", "format": 0}'])
def test_a_manifest_that_makes_no_sense_is_no_pack(tmp_path: Path, pack: Pack, text: str) -> None:
    (pack.folder / "kernels.json").write_text(text)
    assert usable_pack(tmp_path) is None


def test_what_a_processor_has_decides_how_kernels_are_built() -> None:
    zen4, haswell, arm = features(ZEN4), features(HASWELL), features(GRAVITON)
    sapphire = features(ZEN4.strip() + " amx_int8\n")
    assert beyond_the_wheel(zen4) == ("avx512f", "avx512vbmi", "avx512_vnni", "avx512_bf16")
    assert beyond_the_wheel(haswell) == ()
    assert build_options(zen4)["GGML_AVX512_VNNI"] == "ON"
    assert build_options(haswell)["GGML_AVX512"] == "OFF"
    assert build_options(haswell)["GGML_AVX2"] == "ON"
    assert {name: flag for name, flag in build_options(zen4).items() if "AMX" in name} == dict.fromkeys(AMX, "OFF")
    assert {name: flag for name, flag in build_options(sapphire).items() if "AMX" in name} == dict.fromkeys(AMX, "ON")
    assert build_options(arm) == {"GGML_CPU_ARM_ARCH": "armv8.6-a+dotprod+i8mm+sve"}
    assert processor_name(zen4) != processor_name(haswell)
    assert features("") == ()
