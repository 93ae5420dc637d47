"""The header that is told beforehand is the one that is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.library import KitModel, kit, model_names

from corral.gguf import GGUFArray, GGUFHeader, read_header
from corral.translate import Translation, recognize, write
from corral.translate.heading import heading


def metadata_of(header: GGUFHeader) -> dict[str, object]:
    return {key: value.read() if isinstance(value, GGUFArray) else value for key, value in header.metadata.items()}


def check(plan: Translation, source: GGUFHeader, path: Path) -> None:
    told = heading(plan, source)
    with path.open("wb") as file:
        write(source.path, plan, file)
    written = read_header(path)
    assert metadata_of(told) == metadata_of(written)
    assert told.tensors == written.tensors
    assert (told.alignment, told.file_size, told.version) == (written.alignment, written.file_size, written.version)


@pytest.mark.parametrize("name", model_names(kit()))
def test_the_header_is_known_before_the_file_is_written(name: str, tmp_path: Path) -> None:
    source = read_header(KitModel(kit(), name).weights)
    layout = recognize(source)
    if layout is None:
        return  # the engine opens it as it is
    text, projector = layout.text_plan(), layout.projector_plan()
    assert text is not None
    check(text, source, tmp_path / "text.gguf")
    if projector is not None:
        check(projector, source, tmp_path / "projector.gguf")
