from __future__ import annotations

import json
from pathlib import Path

import pytest

from corral.registry import parts
from corral.registry.parts import Part

MIB = 2**20


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    path = tmp_path / "sha256-00-partial"
    path.write_bytes(bytes(100))
    return path


def write(partial: Path, number: int, offset: int, size: int, completed: int) -> None:
    text = json.dumps({"N": number, "Offset": offset, "Size": size, "Completed": completed})
    partial.with_name(f"{partial.name}-{number}").write_text(text + "\n")


def is_cover(found: list[Part], total: int) -> bool:
    ends = [0, *(part.end for part in found)]
    return [part.offset for part in found] == ends[:-1] and ends[-1] == total


@pytest.mark.parametrize("total", [1, 32 * MIB, 32 * MIB + 1, 5_000 * MIB, 100_000 * MIB])
@pytest.mark.parametrize("streams", [1, 4])
def test_a_plan_covers_the_blob(total: int, streams: int) -> None:
    found = parts.plan(total, streams=streams)
    assert is_cover(found, total)
    assert len(found) == 1 if streams == 1 else len(found) <= 128


def test_what_was_saved_is_resumed(partial: Path) -> None:
    saved = [Part(0, 0, 60, 40), Part(1, 60, 40, 10)]
    parts.save_all(partial, saved)
    assert parts.load(partial, 100, streams=4) == saved


def test_a_partial_of_ollamas_is_resumed(partial: Path) -> None:
    write(partial, 0, 0, 50, 50)
    write(partial, 1, 50, 50, 7)
    assert parts.load(partial, 100, streams=4) == [Part(0, 0, 50, 50), Part(1, 50, 50, 7)]


def test_a_record_that_ollama_would_read_is_written(partial: Path) -> None:
    parts.save(partial, Part(3, 10, 20, 5))
    record = json.loads(partial.with_name(f"{partial.name}-3").read_text())
    assert record == {"N": 3, "Offset": 10, "Size": 20, "Completed": 5}


def test_a_shorter_record_leaves_nothing_of_a_longer_one(partial: Path) -> None:
    parts.save(partial, Part(0, 0, 10**12, 10**11))
    parts.save(partial, Part(0, 0, 100, 1))
    assert parts.load(partial, 100, streams=1) == [Part(0, 0, 100, 1)]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"N":"x"}', '{"N":1,"Offset":-5,"Size":50,"Completed":9}'])
def test_a_damaged_record_costs_only_its_own_part(partial: Path, damage: str) -> None:
    write(partial, 0, 0, 50, 30)
    partial.with_name(f"{partial.name}-1").write_text(damage)
    assert parts.load(partial, 100, streams=4) == [Part(0, 0, 50, 30), Part(1, 50, 50, 0)]


@pytest.mark.parametrize(
    ("offset", "size", "completed"), [(0, 50, 500), (40, 50, 50), (50, 51, 1), (60, 0, 0), (-10, 20, 20), (2**62, 9, 9)]
)
def test_records_that_do_not_fit_never_make_a_hole(partial: Path, offset: int, size: int, completed: int) -> None:
    write(partial, 0, 0, 50, 30)
    write(partial, 1, offset, size, completed)
    found = parts.load(partial, 100, streams=4)
    assert is_cover(found, 100)
    assert all(0 <= part.completed <= part.size for part in found)


def test_bytes_that_the_file_does_not_have_are_not_believed(partial: Path) -> None:
    partial.write_bytes(bytes(20))
    write(partial, 0, 0, 50, 50)
    write(partial, 1, 50, 50, 50)
    assert [part.completed for part in parts.load(partial, 100, streams=4)] == [20, 0]


def test_without_the_partial_file_its_records_mean_nothing(partial: Path) -> None:
    write(partial, 0, 0, 100, 100)
    partial.unlink()
    assert parts.load(partial, 100, streams=1) == [Part(0, 0, 100, 0)]


def test_forgetting_leaves_other_blobs_alone(partial: Path) -> None:
    other = partial.with_name("sha256-01-partial-0")
    other.write_text("{}")
    parts.save_all(partial, [Part(0, 0, 50), Part(1, 50, 50)])
    parts.save_all(partial, [Part(0, 0, 100)])
    assert not partial.with_name(f"{partial.name}-1").exists()
    parts.forget(partial)
    assert sorted(path.name for path in partial.parent.iterdir()) == [partial.name, other.name]
