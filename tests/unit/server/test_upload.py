"""A form with a file, however its bytes are cut: the same file, or an error and nothing left."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from corral.errors import InvalidRequest
from corral.server.openai.files.upload import FormReader

KIND = "multipart/form-data; boundary=b0"
HEAD = b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
PURPOSE = b'Content-Disposition: form-data; name="purpose"\r\n\r\nbatch'


def fed(data: bytes, cuts: list[int], folder: Path) -> tuple[bytes, dict[str, str]]:
    reader = FormReader(KIND, folder, 10_000)
    try:
        places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
        for start, end in itertools.pairwise(places):
            reader.feed(data[start:end])
        reader.close()
        return reader.upload.path.read_bytes(), reader.upload.fields
    finally:
        reader.abandon()


@settings(max_examples=150, deadline=None)
@given(
    content=st.binary(max_size=300)
    | st.lists(st.sampled_from([b"\r\n", b"--b0", b"\r\n--b", b"--", b"x"])).map(b"".join),
    cuts=st.lists(st.integers(0, 2000), max_size=6),
)
def test_a_file_is_the_same_however_it_is_cut(content: bytes, cuts: list[int]) -> None:
    if b"\r\n--b0" in content or content.startswith(b"--b0"):
        return  # no client may choose a boundary that is in the file
    data = b"--b0\r\n" + PURPOSE + b"\r\n--b0\r\n" + HEAD + content + b"\r\n--b0--\r\n"
    with tempfile.TemporaryDirectory() as folder:
        assert fed(data, cuts, Path(folder)) == (content, {"purpose": "batch"})
        assert list(Path(folder).iterdir()) == []


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200), cut=st.integers(0, 150), cuts=st.lists(st.integers(0, 2000), max_size=4))
def test_anything_else_is_a_bad_request_and_leaves_nothing(data: bytes, cut: int, cuts: list[int]) -> None:
    whole = b"--b0\r\n" + PURPOSE + b"\r\n--b0\r\n" + HEAD + b"content\r\n--b0--\r\n"
    with tempfile.TemporaryDirectory() as folder:
        for spoilt in (data, whole[:cut], whole[:cut] + data):
            with contextlib.suppress(InvalidRequest):
                fed(spoilt, cuts, Path(folder))
            assert list(Path(folder).iterdir()) == []


def test_very_many_parts_are_refused_and_so_is_a_boundary_that_is_too_long(tmp_path: Path) -> None:
    """Four million parts of one name fit in a form; each takes far longer to read than its bytes say."""
    with pytest.raises(InvalidRequest, match="more than 64 parts"):
        fed(b'--b0\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 100, [], tmp_path)
    with pytest.raises(InvalidRequest, match="failed to parse multipart form: Boundary"):
        FormReader("multipart/form-data; boundary=" + "b" * 5000, tmp_path, 1)
    assert list(tmp_path.iterdir()) == []
