"""For everybody: by keyboard alone, with a screen reader, light and dark, on a phone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from tests.browser.conftest import Scripted, Visits, check_accessibility, say

pytestmark = pytest.mark.browser
RICH = (
    "# Title\n\nText with `code`, [a link](https://example.com) and\n\n"
    "```python\nx = 1  # y\n```\n\n| a | b |\n|--|--|\n| 1 | 2 |\n\n> said\n"
)


def focused(page: Page) -> str:
    """The name of what has the focus."""
    return str(
        page.evaluate(
            "(e => e.getAttribute('aria-label') ?? e.labels?.[0]?.innerText ?? e.innerText)(document.activeElement)"
        )
    ).strip()


def tab_to(page: Page, name: str, key: str = "Tab") -> None:
    """Press Tab until something of this name has the focus."""
    for _ in range(80):
        if focused(page).startswith(name):
            return
        page.keyboard.press(key)
    raise AssertionError(f"{name} cannot be reached with {key}")


def test_everything_can_be_done_by_keyboard(scripted: Scripted, visits: Visits) -> None:
    page = visits.open(scripted.url)
    page.wait_for_selector(".composer button.send:enabled")
    page.keyboard.press("Alt+m")
    page.keyboard.type("Hello")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("there")
    page.keyboard.press("Enter")
    expect(page.locator(".message.user .said")).to_have_text("Hello\nthere")
    expect(page.locator(".message.assistant .figures")).to_contain_text("tokens/s")
    tab_to(page, "Edit", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("form.edit textarea")).to_be_focused()
    page.keyboard.press("Control+a")
    page.keyboard.type("Good day")
    tab_to(page, "Send as a branch")
    page.keyboard.press("Enter")
    expect(page.locator(".message.user .said")).to_have_text("Good day")
    expect(page.locator(".message.assistant .figures")).to_contain_text("tokens/s")
    page.keyboard.press("Alt+r")
    expect(page.locator(".message.assistant .branches")).to_contain_text("2 of 2")
    page.keyboard.press("Alt+n")
    expect(page.locator(".message")).to_have_count(0)
    page.keyboard.press("Alt+2")
    page.wait_for_selector(".cards")
    tab_to(page, "Copy go:latest")
    page.keyboard.press("Enter")
    page.keyboard.type("twin")
    page.keyboard.press("Enter")
    expect(page.locator(".cards tbody tr")).to_have_count(3)
    tab_to(page, "Delete twin:latest")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    assert focused(page) == "Delete twin:latest"
    page.keyboard.press("Enter")
    tab_to(page, "Delete")
    page.keyboard.press("Enter")
    expect(page.locator(".cards tbody tr")).to_have_count(2)
    let_go = scripted.hold()
    call = scripted.begin(scripted.running.post("/api/generate", {"model": "go", "prompt": "x"}))
    page.keyboard.press("Alt+3")
    page.wait_for_selector("table.cards tbody tr")
    tab_to(page, "Stop the request")
    page.keyboard.press("Enter")
    expect(page.locator("table.cards")).to_have_count(0)
    let_go()
    call.result(30)
    page.locator("#main").focus()
    page.keyboard.press("?")
    expect(page.locator("dialog")).to_contain_text("Alt+N")


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1200, "light"),
        (390, "dark"),
        pytest.param(1200, "dark", marks=pytest.mark.bench),  # by `make browser`; each half of them is above
        pytest.param(390, "light", marks=pytest.mark.bench),
    ],
)
def test_no_rule_of_accessibility_is_broken_in_any_room(
    scripted: Scripted, visits: Visits, axe: str, width: int, scheme: str
) -> None:
    scripted.engine.reply = RICH
    page = visits.open(scripted.url, width=width, color_scheme=scheme)
    page.wait_for_selector(".composer")
    check_accessibility(page, axe)
    say(page, "Hello")
    expect(page.locator(".message.assistant .figures")).to_contain_text("tokens/s")
    page.wait_for_selector(".hljs-comment")
    check_accessibility(page, axe)
    page.get_by_role("button", name="Settings").click()
    page.wait_for_selector("#option-temperature")
    check_accessibility(page, axe)
    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.wait_for_selector("dialog")
    page.wait_for_timeout(300)
    check_accessibility(page, axe)
    page.keyboard.press("Escape")
    page.keyboard.press("Alt+2")
    page.wait_for_selector(".cards")
    check_accessibility(page, axe)
    page.get_by_role("button", name="Details of go:latest").click()
    page.wait_for_selector("dialog")
    page.wait_for_timeout(300)
    check_accessibility(page, axe)
    page.keyboard.press("Escape")
    let_go = scripted.hold()
    calls = [scripted.begin(scripted.running.post("/api/generate", {"model": "go", "prompt": "x"})) for _ in range(5)]
    page.keyboard.press("Alt+3")
    expect(page.locator("table.cards tbody tr")).to_have_count(5)
    check_accessibility(page, axe)
    let_go()
    for call in calls:
        call.result(30)


def test_on_a_phone_nothing_is_wider_than_the_screen(scripted: Scripted, visits: Visits) -> None:
    scripted.engine.reply = RICH + "\n" + "x" * 500 + "\n\n```\n" + "y" * 500 + "\n```\n"
    page = visits.open(scripted.url, width=360, height=640, has_touch=True, is_mobile=True)

    def fits() -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate("document.documentElement.scrollHeight") <= 640

    say(page, "Hello")
    expect(page.locator(".message.assistant .figures")).to_contain_text("tokens/s")
    fits()
    assert page.locator("#say").bounding_box() is not None
    page.get_by_text("Chats", exact=True).tap()
    expect(page.get_by_role("link", name="Hello")).to_be_visible()
    page.get_by_text("Chats", exact=True).tap()
    page.get_by_role("button", name="Settings").tap()
    page.wait_for_selector("#option-temperature")
    fits()
    for room in ("Models", "Now"):
        page.get_by_role("link", name=room).tap()
        page.wait_for_selector(f"h1:has-text('{room}')")
        page.wait_for_timeout(500)
        fits()


def test_the_colours_can_be_chosen_and_are_kept(scripted: Scripted, visits: Visits) -> None:
    page = visits.open(scripted.url)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.locator("#theme").click()
    page.locator("#theme").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark
    expect(page.locator("#theme")).to_have_attribute("aria-label", "Colours: dark")
