"""The pictures of the docs, taken from the real program with real models; written by `make pictures` only."""

from __future__ import annotations

import os
import threading

import pytest
from playwright.sync_api import Page, expect
from tests.browser.conftest import Visits, picture, say
from tests.e2e.conftest import ServerProcess

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not os.environ.get("CORRAL_PICTURES"), reason="`make pictures` renews the pictures"),
]
QUESTION = "Show me a Python function that adds two numbers, and explain it in one sentence."


def ask(page: Page, model: str, *questions: str) -> None:
    """A conversation with a real model."""
    page.wait_for_selector(f"select option[value='{model}']", state="attached")
    page.select_option(".model select", model)
    for place, question in enumerate(questions):
        say(page, question)
        expect(page.locator(".message.assistant .figures").nth(place)).to_contain_text(
            "from the cache", timeout=120_000
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_room_chat(real: ServerProcess, visits: Visits, scheme: str) -> None:
    page = visits.open(f"{real.url}/ui", height=760, color_scheme=scheme)
    ask(page, "smollm2:135m", QUESTION, "And one that multiplies them.")
    page.wait_for_selector(".hljs-keyword")
    picture(page, "chat" if scheme == "light" else "chat-dark")


def test_the_room_models(real: ServerProcess, visits: Visits) -> None:
    page = visits.open(f"{real.url}/ui#/models", height=620)
    page.get_by_label("Name", exact=True).fill("all-minilm")
    page.get_by_role("button", name="Will it run here?").click()
    expect(page.locator(".look")).to_contain_text("Runs here")
    expect(page.locator(".cards tbody tr")).to_have_count(3)
    picture(page, "models")


def test_the_room_now(real: ServerProcess, visits: Visits) -> None:
    page = visits.open(f"{real.url}/ui#/now", height=1340)
    body = {"model": "smollm2:135m", "prompt": "Write a long story.", "options": {"num_predict": 300}}
    long = {**body, "prompt": "The quick brown fox jumps over the lazy dog. " * 300}
    bodies = (body, body, body, long, body, body)
    calls = [threading.Thread(target=real.post, args=("/api/generate", each)) for each in bodies]
    for call in calls:
        call.start()
    expect(page.locator("table.cards tbody tr", has_text="running")).to_have_count(4)
    page.wait_for_timeout(9000)
    picture(page, "now")
    for call in calls:
        call.join()


def test_on_a_phone(real: ServerProcess, visits: Visits) -> None:
    page = visits.open(f"{real.url}/ui", width=390, height=760, device_scale_factor=2, is_mobile=True, has_touch=True)
    ask(page, "smollm2:135m", QUESTION)
    picture(page, "phone")
