"""The room Now under load: who is served, who waits, what it costs, and a button that stops one."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Scripted, Visits

pytestmark = pytest.mark.browser


def test_the_live_page_shows_slots_queue_and_estimates_and_stops_a_request(scripted: Scripted, visits: Visits) -> None:
    scripted.engine.reply = " ".join(["word"] * 40)
    let_go = scripted.hold()
    body = {"model": "go", "prompt": "a few words to read"}
    calls = [scripted.begin(scripted.running.post("/api/generate", body)) for _ in range(6)]
    page = visits.open(f"{scripted.url}#/now")
    requests = page.locator("table.cards tbody tr")
    expect(requests).to_have_count(6)
    expect(requests.filter(has_text="running")).to_have_count(4)
    expect(requests.filter(has_text="queued, place 2, about")).to_have_count(1)
    expect(page.locator(".tiles")).to_contain_text("4 of 4")
    expect(page.locator(".slot.busy")).to_have_count(4)
    expect(requests.first.locator("[data-label=Prompt]")).to_have_text(re.compile(r"^\d+$"))
    for words in ("KV cache", "Kernels", "Threads", "Huge pages"):
        expect(page.locator(".loaded li")).to_contain_text(words)
    expect(page.get_by_role("meter", name="Process, of what was planned")).to_be_visible()
    expect(page.locator(".plots canvas")).to_have_count(4)
    page.get_by_role("button", name="Stop the request for go:latest").last.click()
    expect(requests).to_have_count(5)
    statuses = [call for call in calls if call.done()]
    assert len(statuses) == 1
    let_go()
    expect(page.locator("#requests ~ p")).to_have_text("None.")
    expect(page.locator(".plots figcaption").first).to_contain_text(re.compile(r"at most [1-9]"))
    assert sorted(call.result(30)[0] for call in calls)[:5] == [200] * 5


def test_a_prompt_that_is_being_read_says_how_far_it_is(scripted: Scripted, visits: Visits) -> None:
    """A step of an engine at work is not to be caught in time, so the rows are what the server would say."""
    page = visits.open(scripted.url)
    page.wait_for_selector(".composer")
    row = {"id": "1", "model": "go:latest", "client": "", "route": "/api/chat", "state": "running", "running_s": 2.0}
    read = {"prompt_tokens": 8000, "processed_tokens": 2500, "cached_tokens": 500, "eval_tokens": 0}
    answer = json.dumps({"requests": [row | read]})
    page.route("**/api/requests", lambda route: route.fulfill(body=answer, content_type="application/json"))
    page.goto(f"{scripted.url}#/now")
    expect(page.get_by_role("progressbar", name="Prompt read")).to_have_attribute("value", "2500")
    expect(page.locator("[data-label=Prompt]")).to_contain_text("2,500 of 8,000 read")


def test_engine_limits_and_doors_are_told(scripted: Scripted, visits: Visits) -> None:
    page = visits.open(f"{scripted.url}#/now")
    facts = page.locator(".facts.wide")
    for words in ("xllamacpp", "Cores", "Most waiting512", "this machine only", "Sandboxon"):
        expect(facts).to_contain_text(words)


def test_a_page_that_nobody_sees_and_a_closed_room_ask_nothing(scripted: Scripted, visits: Visits) -> None:
    page = visits.open(f"{scripted.url}#/now")
    page.wait_for_selector(".plots canvas")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2500)
    assert len(asked) >= 4
    page.get_by_role("link", name="Models").click()
    page.wait_for_selector(".cards")
    asked.clear()
    page.wait_for_timeout(2500)
    assert [url for url in asked if "metrics" in url] == []


def test_a_server_that_is_gone_is_said_and_found_again(scripted: Scripted, visits: Visits) -> None:
    visits.allowed = ("Failed to load resource",)
    page = visits.open(f"{scripted.url}#/now")
    page.wait_for_selector(".plots canvas")
    page.context.set_offline(True)
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    page.context.set_offline(False)
    expect(page.get_by_role("alert")).to_have_count(0)
