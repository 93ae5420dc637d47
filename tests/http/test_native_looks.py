"""What people's programs ask about a server: its options, its catalog, its state, and models that are not here yet."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.fakes.ggufs import make_gguf
from tests.fakes.registry import FakeRegistry
from tests.fakes.server import RunningServer, running_server

from corral.options import OPTIONS
from corral.store import manifests as media


async def test_every_option_has_a_meaning_a_range_and_the_servers_default(
    server: RunningServer, tmp_path: Path
) -> None:
    _, body = await server.call("GET", "/api/options")
    rows = {row["name"]: row for row in body["options"]}
    assert list(rows) == list(OPTIONS)
    assert all(row["meaning"].endswith(".") for row in rows.values())
    assert rows["temperature"]["default"] == 0.8
    assert (rows["top_p"]["low"], rows["top_p"]["high"]) == (0.0, 1.0)
    assert "default" not in rows["num_ctx"]
    async with running_server(tmp_path / "guide", defaults="guide") as guide:
        _, body = await guide.call("GET", "/api/options")
        assert {row["name"]: row.get("default") for row in body["options"]}["num_ctx"] == 2048


async def test_the_catalog_says_what_each_model_would_fetch(server: RunningServer) -> None:
    _, body = await server.call("GET", "/api/catalog")
    rows = {row["name"]: row for row in body["models"]}
    assert rows["smollm2:135m"]["size"] == 92871040
    assert rows["smollm2:135m"]["license"].startswith("Apache")
    assert "about" not in rows["smollm2:135m"]
    assert rows["gemma3:270m-pt"]["aliases"] == ["gemma3:270m"]
    assert rows["gemma3:270m-pt"]["about"].startswith("a base model: ")
    status, entry = await server.call("POST", "/api/show", {"model": "smollm2:135m", "remote": True})
    assert (status, entry["size"], entry["verdict"]) == (200, 92871040, {"runs": True})


async def test_status_tells_of_engine_host_and_limits_when_asked(server: RunningServer) -> None:
    _, plain = await server.call("GET", "/api/status")
    assert plain == {"cloud": {"disabled": True, "source": "env"}}
    _, body = await server.call("GET", "/api/status?verbose=1")
    assert body["engine"]["name"].startswith("xllamacpp ")
    assert 0 < body["host"]["memory"]["available"] <= body["host"]["memory"]["total"]
    assert body["limits"]["queue"] == 512
    assert body["security"] == {"sandbox": True, "keys": False, "beyond_this_machine": False}
    assert str(server.deps.settings.models) not in str(body)


async def test_the_list_says_what_deleting_would_free(server: RunningServer) -> None:
    await server.call("POST", "/api/copy", {"source": "go", "destination": "twin"})
    _, body = await server.call("GET", "/api/tags?verbose=1")
    freed = {row["name"]: row["freed_by_delete"] for row in body["models"]}
    sizes = {row["name"]: row["size"] for row in body["models"]}
    assert freed["go:latest"] == freed["twin:latest"] == 0
    assert 0 < freed["jinja:latest"] <= sizes["jinja:latest"]
    blobs = server.deps.store.blobs.directory
    before = sum(path.stat().st_size for path in blobs.iterdir())
    await server.call("DELETE", "/api/delete", {"model": "jinja"})
    assert before - sum(path.stat().st_size for path in blobs.iterdir()) == freed["jinja:latest"]
    _, body = await server.call("GET", "/api/tags")
    assert "freed_by_delete" not in body["models"][0]


async def test_a_loaded_model_tells_its_plan_and_its_engine(server: RunningServer) -> None:
    await server.post("/api/generate", {"model": "go", "prompt": "x"})
    _, body = await server.call("GET", "/api/ps?verbose=1")
    row = body["models"][0]
    assert row["engine"] == "fake"
    assert row["planned"]["total"] >= row["planned"]["weights"] + row["planned"]["kv_cache"]
    assert row["idle_seconds"] >= 0


async def test_a_model_elsewhere_is_described_without_fetching_it(server: RunningServer, tmp_path: Path) -> None:
    metadata = {"llama.context_length": 8192, "llama.block_count": 2, "llama.embedding_length": 64}
    known = make_gguf(tmp_path / "a.gguf", "llama", metadata, {"w": (256, 256)})
    strange = make_gguf(tmp_path / "b.gguf", "solar", {}, {"w": (2, 2)})
    async with contextlib.AsyncExitStack() as stack:
        registry = FakeRegistry()
        await stack.enter_async_context(registry.serve())
        for name, path in (("known", known), ("strange", strange)):
            registry.add_model(f"library/{name}", "latest", {media.MODEL: path.read_bytes() + bytes(2**21)})
        ask = {"remote": True, "insecure": True}
        status, body = await server.call("POST", "/api/show", {"model": f"{registry.host}/library/known", **ask})
        assert (status, body["verdict"]["runs"], body["details"]["context_length"]) == (200, True, 8192)
        assert body["memory"]["fits"] is True
        assert body["memory"]["needed"] > 0
        assert body["size"] > 2**21 > registry.body_bytes - 2**20
        _, body = await server.call("POST", "/api/show", {"model": f"{registry.host}/library/strange", **ask})
        assert body["verdict"]["runs"] is False
        assert "solar" in body["verdict"]["why_not"]
        status, body = await server.call("POST", "/api/show", {"model": f"{registry.host}/library/none", **ask})
        assert status >= 400
        assert "manifest" in body["error"]
    _, body = await server.call("GET", "/api/tags")
    assert {row["name"] for row in body["models"]} == {"go:latest", "jinja:latest", "vectors:latest"}
