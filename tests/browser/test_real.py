"""The page on a real server with real models: chat with stop, the live room under load, pull from the catalog."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Visits, say
from tests.e2e.conftest import ServerProcess, start_server
from tests.fakes.processes import until

pytestmark = pytest.mark.browser
LEAVES_S = 5.0  # an answer whose client has left


def test_a_real_model_answers_again_from_its_cache_and_stops(real: ServerProcess, visits: Visits) -> None:
    page = visits.open(f"{real.url}/ui")
    page.wait_for_selector("select option[value='smollm2:135m']", state="attached")
    page.select_option(".model select", "smollm2:135m")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("num_predict", exact=True).fill("24")
    say(page, "Show me a Python function that adds two numbers, and explain it in one sentence.")
    expect(page.locator(".message.assistant .code code").first).to_contain_text("def ")
    expect(page.locator(".message.assistant .figures")).to_contain_text("from the cache")
    say(page, "And one that multiplies them.")
    second = page.locator(".message.assistant .figures").nth(1)
    expect(second).to_contain_text("from the cache")
    share = int(second.inner_text().split(" % from the cache")[0].split(" ")[-1])
    assert share > 50
    expect(page.locator(".window meter")).to_be_visible()
    page.get_by_label("num_predict", exact=True).fill("")
    say(page, "Tell me a very long story about a horse.")
    expect(page.locator(".message.assistant .figures").nth(2)).to_contain_text("tokens/s")
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator(".message.assistant .note").last).to_have_text("Stopped.")
    until(lambda: real.request("GET", "/api/requests") == {"requests": []}, LEAVES_S, "the stopped answer has left")


def test_the_live_room_follows_real_requests(real: ServerProcess, visits: Visits) -> None:
    page = visits.open(f"{real.url}/ui#/now")
    body = {"model": "smollm2:135m", "prompt": "Write a long story.", "options": {"num_predict": 150}}
    calls = [threading.Thread(target=real.post, args=("/api/generate", body)) for _ in range(6)]
    for call in calls:
        call.start()
    running = page.locator("table.cards tbody tr", has_text="running")
    expect(running).to_have_count(4)
    expect(page.locator("table.cards tbody tr", has_text="queued")).to_have_count(2)
    expect(page.locator(".loaded li")).to_contain_text("Sandbox: ")
    expect(page.locator(".loaded li")).to_contain_text("Weights")
    for call in calls:
        call.join()
    expect(page.locator("table.cards")).to_have_count(0)
    assert float(page.locator(".plots figcaption .hint").first.inner_text().split("at most ")[1]) > 1


def test_a_model_of_the_catalog_is_pulled_and_answers(tmp_path: Path, visits: Visits, models_dir: Path) -> None:
    server = start_server(tmp_path)
    try:
        page = visits.open(f"{server.url}/ui")
        page.get_by_role("link", name="Get one").click()
        page.get_by_role("button", name="Pull smollm2:135m").click()
        expect(page.get_by_role("progressbar", name="Progress of smollm2:135m")).to_be_visible()
        expect(page.locator(".cards tbody th")).to_have_text("smollm2:135m", timeout=120_000)
        page.get_by_role("link", name="Chat").click()
        say(page, "Say hello.")
        expect(page.locator(".message.assistant .figures")).to_contain_text("tokens/s", timeout=60_000)
        page.close()
    finally:
        server.stop()
