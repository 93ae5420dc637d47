"""The room Models: pulls with progress and cancel, what would run here, and what can be done with what is here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from tests.browser.conftest import Scripted, Visits, scripted_server
from tests.fakes.ggufs import make_gguf
from tests.fakes.registry import FakeRegistry

from corral.store import manifests as media

pytestmark = pytest.mark.browser
SIZE = 6 * 2**20


@pytest.fixture
def registry(tmp_path: Path) -> FakeRegistry:
    """A registry with `known` and `strange`, whose architecture no engine knows; the default one of `shop`."""
    registry = FakeRegistry()
    metadata = {"llama.context_length": 8192, "llama.block_count": 2, "llama.embedding_length": 64}
    for name, architecture, values in (("known", "llama", metadata), ("strange", "solar", {})):
        gguf = make_gguf(tmp_path / f"{name}.gguf", architecture, values, {"w": (256, 256)})
        registry.add_model(f"library/{name}", "latest", {media.MODEL: gguf.read_bytes() + bytes(SIZE)})
    return registry


@pytest.fixture
def shop(registry: FakeRegistry, tmp_path: Path) -> Iterator[Scripted]:
    """A server whose default registry is `registry`."""
    from corral.address import Address

    with scripted_server(tmp_path / "early") as early:
        context = registry.serve()
        early.run(context.__aenter__())
        try:
            with scripted_server(tmp_path / "shop", mirrors=(registry.url,), host=Address(port=0)) as server:
                yield server
        finally:
            early.run(context.__aexit__(None, None, None))


def rows(page: Page) -> list[str]:
    """The names of the models that are here."""
    page.wait_for_selector(".cards tbody tr")
    return page.locator(".cards tbody th").all_inner_texts()


def test_a_pull_shows_how_far_it_is_and_brings_the_model(
    shop: Scripted, registry: FakeRegistry, visits: Visits
) -> None:
    registry.pace_s = 0.01
    page = visits.open(f"{shop.url}#/models")
    page.get_by_label("Name", exact=True).fill("known")
    page.get_by_role("button", name="Pull", exact=True).first.click()
    bar = page.get_by_role("progressbar", name="Progress of known")
    expect(bar).to_be_visible()
    page.wait_for_selector(".transfers progress[value]:not([value='0'])")
    assert 0 < float(bar.get_attribute("value") or 0) <= float(bar.get_attribute("max") or 0)
    expect(page.locator(".transfers li")).to_contain_text("of 6.")
    expect(page.locator(".transfers li")).to_contain_text("Done")
    expect(page.locator(".cards tbody th").first).to_have_text("known:latest")
    expect(page.locator("#live")).to_have_text("known: is here")


def test_a_pull_that_is_cancelled_stops_the_download_and_can_go_on(
    shop: Scripted, registry: FakeRegistry, visits: Visits
) -> None:
    registry.pace_s = 0.05
    page = visits.open(f"{shop.url}#/models")
    page.get_by_label("Name", exact=True).fill("known")
    page.get_by_role("button", name="Pull", exact=True).first.click()
    page.wait_for_selector(".transfers progress[value]:not([value='0'])")
    page.get_by_role("button", name="Cancel known").click()
    expect(page.locator(".transfers li")).to_contain_text("Cancelled")
    page.wait_for_timeout(500)
    sent = registry.body_bytes
    page.wait_for_timeout(500)
    assert registry.body_bytes == sent < SIZE
    assert "known:latest" not in rows(page)
    registry.pace_s = 0.0
    page.get_by_role("button", name="Pull", exact=True).first.click()
    expect(page.locator(".transfers li").first).to_contain_text("Done")
    assert registry.body_bytes < SIZE + SIZE // 2


def test_whether_it_will_run_here_is_said_before_the_pull(
    shop: Scripted, registry: FakeRegistry, visits: Visits
) -> None:
    visits.allowed = ("Failed to load resource",)
    page = visits.open(f"{shop.url}#/models")
    for name, words in (
        ("known", "Runs here."),
        ("strange", "Cannot run here: its architecture"),
        ("none", "manifest"),
    ):
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_role("button", name="Will it run here?").click()
        expect(page.locator(".look")).to_contain_text(words)
    page.get_by_label("Name", exact=True).fill("known")
    page.get_by_role("button", name="Will it run here?").click()
    expect(page.locator(".look")).to_contain_text("window 8,192")
    expect(page.locator(".look")).to_contain_text("of memory with")
    page.get_by_label("Name", exact=True).fill("smollm2:135m")
    page.get_by_role("button", name="Will it run here?").click()
    expect(page.locator(".look")).to_contain_text("92.9 MB")
    assert registry.body_bytes < SIZE


def test_copy_details_and_delete_with_what_it_frees(scripted: Scripted, visits: Visits) -> None:
    page = visits.open(f"{scripted.url}#/models")
    assert rows(page) == ["go:latest", "jinja:latest"]
    page.get_by_role("button", name="Copy go:latest").click()
    page.get_by_label("New name").fill("twin")
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.locator(".cards tbody tr")).to_have_count(3)
    page.get_by_role("button", name="Details of twin:latest").click()
    expect(page.locator("dialog")).to_contain_text("llama")
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Delete twin:latest").click()
    expect(page.locator("dialog")).to_contain_text("This frees nothing")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Delete jinja:latest").click()
    expect(page.locator("dialog")).to_contain_text("This frees ")
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator(".cards tbody tr")).to_have_count(2)
    assert sorted(rows(page)) == ["go:latest", "twin:latest"]


def test_a_model_is_made_from_a_modelfile_and_a_wrong_one_says_why(scripted: Scripted, visits: Visits) -> None:
    visits.allowed = ("Failed to load resource",)
    page = visits.open(f"{scripted.url}#/models")
    rows(page)
    page.get_by_role("button", name="Create from a Modelfile").click()
    page.get_by_label("Name", exact=True).last.fill("mine")
    page.get_by_label("Modelfile").fill('FROM go\nSYSTEM """Be brief."""\n')
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.locator(".transfers li")).to_contain_text("Done")
    expect(page.locator(".cards tbody tr")).to_have_count(3)
    page.get_by_role("button", name="Details of mine:latest").click()
    page.get_by_text("System prompt").click()
    expect(page.get_by_label("System prompt")).to_have_text("Be brief.")
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Create from a Modelfile").click()
    page.get_by_label("Name", exact=True).last.fill("bad")
    page.get_by_label("Modelfile").fill("FROM go\nPARAMETER warmth 3\n")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.locator(".transfers li[data-state=failed]")).to_contain_text("warmth")


def test_a_loaded_model_shows_its_memory_and_can_be_unloaded(scripted: Scripted, visits: Visits) -> None:
    scripted.run(scripted.running.post("/api/generate", {"model": "go", "prompt": "x"}))
    page = visits.open(f"{scripted.url}#/models")
    expect(page.locator(".cards tbody tr").first).to_contain_text("900 B")
    page.get_by_role("button", name="Unload go:latest").click()
    expect(page.locator(".cards tbody tr").first).not_to_contain_text("900 B")


def test_a_chat_with_a_model_is_one_step_away(scripted: Scripted, visits: Visits) -> None:
    page = visits.open(f"{scripted.url}#/models")
    page.get_by_role("button", name="Chat with jinja:latest").click()
    expect(page.locator(".model select")).to_have_value("jinja:latest")
    expect(page.locator(".welcome")).to_contain_text("Say something to jinja:latest.")
    assert page.url.endswith("#/chat")


def test_the_catalog_is_offered_until_it_is_here(scripted: Scripted, visits: Visits) -> None:
    page = visits.open(f"{scripted.url}#/models")
    expect(page.locator(".offer li").first).to_contain_text("smollm2:135m")
    expect(page.locator(".offer li").first).to_contain_text("92.9 MB")
    base = page.locator(".offer li", has_text="gemma3:270m-pt")
    expect(base).to_contain_text("A base model: it goes on with a text, but was not taught to chat")
    scripted.run(scripted.running.call("POST", "/api/copy", {"source": "go", "destination": "smollm2:135m"}))
    page.reload()
    expect(page.locator(".offer")).not_to_contain_text("smollm2:135m")
