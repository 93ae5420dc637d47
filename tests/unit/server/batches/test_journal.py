"""A batch's journal: wherever its writer is killed, a line is there whole and once, or not at all."""

from __future__ import annotations

import errno
import stat
from contextlib import closing
from pathlib import Path

import pytest

from corral.errors import NotEnoughSpace
from corral.server.openai.batches.journal import Journal


def filled(path: Path) -> Journal:
    journal = Journal(path, 5)
    for index, result in ((3, b'{"a":3}'), (0, b'{"a":0}'), (4, b'{"a":"4"}')):
        journal.append(index, result, answered=index != 4)
    return journal


def test_results_come_in_the_inputs_order_and_parted(tmp_path: Path) -> None:
    journal = filled(tmp_path / "results")
    assert journal.write(tmp_path / "out", answered=True)
    assert (tmp_path / "out").read_bytes() == b'{"a":0}\n{"a":3}\n'
    assert journal.write(tmp_path / "errors", answered=False)
    assert (tmp_path / "errors").read_bytes() == b'{"a":"4"}\n'
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    journal.close()
    with closing(Journal(tmp_path / "empty", 3)) as empty:
        assert not empty.write(tmp_path / "none", answered=True)


def test_cut_anywhere_it_goes_on_from_the_last_whole_line(tmp_path: Path) -> None:
    journal = filled(tmp_path / "whole")
    journal.close()
    data = (tmp_path / "whole").read_bytes()
    ends = [place + 1 for place, byte in enumerate(data) if byte == ord("\n")]
    for cut in range(len(data) + 1):
        path = tmp_path / "cut"
        path.write_bytes(data[:cut])
        again = Journal(path, 5)
        there = sum(end <= cut for end in ends)
        assert (again.ok + again.failed, again.size_bytes) == (there, [0, *ends][there])
        again.append(1, b'{"a":1}', answered=True)
        again.close()
        last = Journal(path, 5)
        assert 1 in last
        assert last.ok + last.failed == there + 1
        last.close()


@pytest.mark.parametrize(
    "tail", [b"\0" * 40, b"0 1 00000000 {}\n", b"7 1 a3830348 {}\n", b"3 1 a3830348 {}\n", b"no record\n"]
)
def test_what_is_no_record_of_its_own_is_dropped(tmp_path: Path, tail: bytes) -> None:
    filled(tmp_path / "results").close()
    with (tmp_path / "results").open("ab") as file:
        file.write(tail)
    again = Journal(tmp_path / "results", 5)
    assert again.ok == 2
    assert [index in again for index in range(5)] == [True, False, False, True, True]
    again.close()


def test_a_full_disk_leaves_it_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = filled(tmp_path / "results")
    before = (tmp_path / "results").read_bytes()

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(NotEnoughSpace):
            journal.append(1, b"{}", answered=True)
    assert (tmp_path / "results").read_bytes() == before
    assert 1 not in journal
    journal.append(1, b"{}", answered=True)
    assert journal.ok == 3
    journal.close()
