"""What strangers send: GGUF files, templates, a registry's answers; by the thousand: `make fuzz`."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from tests.fakes.ggufs import make_gguf
from tests.fakes.registry import FakeRegistry, digest_of
from tests.fakes.server import RunningServer, running_server
from tests.fuzz.bodies import ODD

from corral.errors import TemplateError
from corral.gotemplate import Budget, parse
from corral.store import manifests as media

pytestmark = pytest.mark.fuzz
LONG = settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
FEWER = settings(LONG, max_examples=400)  # each is several requests

NUMBERS = (0, 1, 7, 8, 9, 255, 2**16, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 16 * 2**20, 2**30)
EDITS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from([1, 4, 8]), st.sampled_from(NUMBERS)), max_size=3
)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """An empty one."""
    async with running_server(tmp_path) as running:
        yield running


@pytest.fixture
def sound(tmp_path: Path) -> list[bytes]:
    """Files that are right: a llama, an embedder, a projector."""
    llama = {
        "llama.context_length": 64,
        "tokenizer.ggml.tokens": ["a", "b"],
        "tokenizer.chat_template": "{{ messages }}",
    }
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("llama", {**llama, "general.alignment": 32, "llama.block_count": 2}),
        ("bert", {"bert.pooling_type": 1, "bert.context_length": 9}),
        ("clip", {"general.type": "mmproj", "clip.has_vision_encoder": True}),
    ]
    return [
        make_gguf(tmp_path / f"{arch}.gguf", arch, keys, {"w": (4, 8), "blk.0.v": (3,)}).read_bytes()
        for arch, keys in kinds
    ]


def edited(data: bytes, edits: list[tuple[float, int, int]], keep: float) -> bytes:
    """Some numbers of the file's front are others, and its end is gone."""
    raw = bytearray(data)
    for place, width, value in edits:
        at = int(place * min(len(raw), 700))
        raw[at : at + width] = (value % 2 ** (8 * width)).to_bytes(width, "little")
    return bytes(raw[: max(1, int(len(raw) * keep))])


@FEWER
@given(kind=st.integers(0, 2), edits=EDITS, keep=st.sampled_from([1.0, 1.0, 1.0, 0.5]), more=st.booleans())
async def test_any_gguf_makes_a_model_or_is_refused(
    server: RunningServer, sound: list[bytes], kind: int, edits: list[tuple[float, int, int]], keep: float, more: bool
) -> None:
    data = edited(sound[kind], edits, keep)
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    assert (await server.call("POST", f"/api/blobs/{digest}", data))[0] in (200, 201)
    body = {"model": "m", "files": {"m.gguf": digest}, **({"quantize": "f16"} if more else {})}
    status, reply = await server.post("/api/create", body)
    assert status in (200, 400), (edits, reply)
    if status == 200:
        for path, ask in (
            ("/api/show", {"model": "m", "verbose": True}),
            ("/api/chat", {"model": "m", "messages": []}),
        ):
            status, reply = await server.post(path, ask)
            assert status in (200, 400), (path, edits, reply)
        assert (await server.call("GET", "/api/tags"))[0] == 200
        assert (await server.call("DELETE", "/api/delete", {"model": "m"}))[0] == 200


_PIECES = (
    "{{ .Prompt }} {{ .System }} {{ range .Messages }} {{ range $i, $m := .Messages }} {{ end }} {{ if .A }} "
    '{{ else }} {{ with .B }} {{ define "x" }} {{ template "x" . }} {{ block "y" .Messages }} {{ break }} '
    "{{ continue }} "
    "{{ range 9999999 }} {{ json . }} {{ len .Messages }} {{ index .Messages 3 }} {{ slice $.Messages 1 }} "
    '{{ $m.Role }} {{- .Content -}} {{ printf "%v%9999d%s" 1 2 }} {{ eq .Role "user" "tool" }} '
    "{{ and .A (or .B .C) }} {{ $x := 1 }} "
    "{{ $x = .Tools }} {{ /* c */ }} {{ .Tools.Nope.Nope }} {{ range .Tools }} {{ . }} {{ not . }} text"
)
TEMPLATES: SearchStrategy[str] = st.lists(
    st.one_of(
        st.sampled_from([piece for piece in _PIECES.replace("{{", "\0{{").split("\0") if piece]), st.text(max_size=4)
    ),
    max_size=12,
).map("".join)
DATA = {
    "Prompt": "p",
    "System": "s",
    "Messages": [{"Role": "user", "Content": "hi"}, {"Role": "tool", "Content": "x"}],
    "Tools": [],
    "A": True,
    "B": {"C": 1},
}


@LONG
@given(text=TEMPLATES)
def test_any_template_renders_or_is_refused_within_its_budget(text: str) -> None:
    begin = time.process_time()
    with contextlib.suppress(TemplateError):
        parse(text).execute(DATA, max_output=100_000, budget=Budget())
    assert time.process_time() - begin < 3, text


MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": "", "size": 0},
    "layers": [
        {"mediaType": media.MODEL, "digest": "", "size": 0},
        {"mediaType": media.PARAMS, "digest": "", "size": 0},
    ],
}
FIELDS = [("config",), ("layers",), ("schemaVersion",), ("mediaType",)] + [
    (*place, key) for place in (("config",), ("layers", 0), ("layers", 1)) for key in ("mediaType", "digest", "size")
]


@FEWER
@given(
    changes=st.lists(st.tuples(st.sampled_from(FIELDS), ODD), max_size=2),
    config=st.one_of(st.just({"model_format": "gguf"}), ODD),
    parameters=st.one_of(st.just({"stop": ["x"]}), ODD),
    raw=st.one_of(st.none(), st.none(), st.none(), st.binary(max_size=40)),
)
async def test_any_answer_of_a_registry_makes_a_model_or_is_refused(
    server: RunningServer,
    sound: list[bytes],
    changes: list[tuple[tuple[Any, ...], Any]],
    config: Any,
    parameters: Any,
    raw: bytes | None,
) -> None:
    manifest: dict[str, Any] = copy.deepcopy(MANIFEST)
    blobs = [json.dumps(config).encode(), sound[0], json.dumps(parameters).encode()]
    for entry, data in zip([manifest["config"], *manifest["layers"]], blobs, strict=True):
        entry |= {"digest": digest_of(data), "size": len(data)}
    for place, value in changes:
        parent: Any = manifest
        try:
            for key in place[:-1]:
                parent = parent[key]
            parent[place[-1]] = copy.deepcopy(value)
        except (TypeError, KeyError, IndexError):
            continue  # an earlier change took it away
    async with FakeRegistry().serve() as registry:
        registry.blobs = {digest_of(data): data for data in blobs}
        registry.manifests["library/m", "latest"] = json.dumps(manifest).encode() if raw is None else raw
        name = f"{registry.host}/library/m"
        status, reply = await server.post("/api/pull", {"model": name, "insecure": True})
        assert "internal server error" not in str(reply), (manifest, reply)
        if status == 200:
            status, reply = await server.post("/api/show", {"model": name})
            assert "internal server error" not in str(reply), (manifest, reply)
            assert (await server.call("GET", "/api/tags"))[0] == 200
            assert (await server.call("DELETE", "/api/delete", {"model": name}))[0] == 200
