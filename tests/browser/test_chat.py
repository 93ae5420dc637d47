"""The room Chat: streaming, stopping, branches, settings, thinking, tools, pictures, and what is kept."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.browser.conftest import Scripted, Visits, say, scripted_server

pytestmark = pytest.mark.browser
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGD4DwABBAEAX+XDSwAAAABJRU5ErkJggg=="
)


def answers(page: Page) -> Locator:
    """The shown answers."""
    return page.locator(".message.assistant corral-text")


def ended(page: Page, count: int = 1) -> None:
    """Wait until so many answers have their figures."""
    expect(page.locator(".message.assistant .figures", has_text="tokens")).to_have_count(count)
    page.wait_for_selector(".composer button.send")


def choose(page: Page, model: str) -> None:
    page.wait_for_selector(f"select option[value='{model}']", state="attached")
    page.select_option(".model select", model)


def test_an_answer_is_seen_while_it_is_made_and_ends_with_its_figures(scripted: Scripted, visits: Visits) -> None:
    scripted.engine.reply = "One two **three** four"
    let_go = scripted.hold()
    page = visits.open(scripted.url)
    say(page, "Count")
    expect(page.locator(".message.assistant corral-text")).to_have_text("One")
    expect(page.locator(".message.assistant")).to_have_attribute("aria-busy", "true")
    let_go()
    ended(page)
    expect(answers(page)).to_have_text(["One two three four"])
    assert page.locator(".message.assistant strong").inner_text() == "three"
    figures = page.locator(".message.assistant .figures").inner_text()
    assert "tokens/s" in figures
    assert "from the cache" in figures
    expect(page.locator(".window")).to_contain_text("/ 4,096")
    expect(page.locator("#live")).to_have_text("Answer: One two three four")


@pytest.mark.parametrize("how", ["button", "Escape"])
def test_stop_ends_the_work_in_the_engine(scripted: Scripted, visits: Visits, how: str) -> None:
    scripted.engine.reply = "One two three four"
    scripted.hold()
    page = visits.open(scripted.url)
    say(page, "Count")
    expect(page.locator(".message.assistant corral-text")).to_have_text("One")
    page.click("button.stop") if how == "button" else page.press("#say", "Escape")
    expect(page.locator(".message.assistant .note")).to_have_text("Stopped.")
    scripted.run(scripted.running.until_idle())
    assert scripted.engine.cancelled == 1
    expect(answers(page)).to_have_text(["One"])


def test_answering_again_and_editing_make_branches_and_lose_nothing(scripted: Scripted, visits: Visits) -> None:
    page = visits.open(scripted.url)
    scripted.engine.reply = "first"
    say(page, "Hello")
    ended(page)
    scripted.engine.reply = "second"
    page.get_by_role("button", name="Answer again").click()
    expect(page.locator(".message.assistant corral-text")).to_have_text("second")
    ended(page)
    expect(page.locator(".message.assistant .branches")).to_contain_text("2 of 2")
    page.get_by_role("button", name="Earlier branch").click()
    expect(answers(page)).to_have_text(["first"])
    scripted.engine.reply = "third"
    page.get_by_role("button", name="Edit").click()
    page.fill("form.edit textarea", "Good day")
    page.get_by_role("button", name="Send as a branch").click()
    expect(page.locator(".message.assistant corral-text")).to_have_text("third")
    ended(page)
    expect(page.locator(".message.user .said")).to_have_text(["Good day"])
    page.locator(".message.user").get_by_role("button", name="Earlier branch").click()
    expect(page.locator(".message.user .said")).to_have_text(["Hello"])


def test_a_conversation_goes_on_with_all_that_was_said(scripted: Scripted, visits: Visits) -> None:
    page = visits.open(scripted.url)
    scripted.engine.reply = "Nice name"
    say(page, "I am Ada")
    ended(page)
    say(page, "Who am I?")
    ended(page, 2)
    prompt = str(scripted.engine.bodies[-1][1]["prompt"])
    assert prompt.index("I am Ada") < prompt.index("Nice name") < prompt.index("Who am I?")


def test_conversations_are_kept_in_this_browser_until_they_are_deleted(scripted: Scripted, visits: Visits) -> None:
    page = visits.open(scripted.url)
    say(page, "Remember this")
    ended(page)
    page.reload()
    page.get_by_role("link", name="Remember this").click()
    expect(page.locator(".message.assistant corral-text")).to_have_text("Hello from the fake runner.")
    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".message")).to_have_count(0)
    say(page, "Another one")
    ended(page)
    expect(page.locator(".list li")).to_have_count(2)
    page.get_by_role("button", name="Delete Remember this").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator(".list li")).to_have_count(1)
    page.reload()
    expect(page.locator(".list li")).to_have_count(1)


def test_settings_go_with_the_request_and_say_what_they_mean(scripted: Scripted, visits: Visits) -> None:
    page = visits.open(scripted.url)
    choose(page, "go:latest")
    page.get_by_role("button", name="Settings").click()
    expect(page.locator(".settings")).to_contain_text("How much chance there is in the choice of words")
    assert page.get_by_label("temperature").get_attribute("placeholder") == "0.8"
    page.get_by_label("temperature").fill("0.25")
    page.get_by_label("System prompt").fill("Speak like a pirate.")
    page.get_by_label("Form of the answer").select_option("json")
    scripted.engine.reply = '{"a": [1, 2]}'
    say(page, "Hello")
    ended(page)
    path, body = scripted.engine.bodies[-1]
    assert path.endswith("completion")
    assert body["temperature"] == 0.25
    assert "Speak like a pirate." in str(body["prompt"])
    assert "grammar" in body or "json_schema" in body
    expect(page.locator(".structured code")).to_have_text('{\n  "a": [\n    1,\n    2\n  ]\n}')


def test_warnings_stand_below_the_answer_they_belong_to(scripted: Scripted, visits: Visits) -> None:
    page = visits.open(scripted.url)
    page.get_by_role("button", name="Settings").click()
    page.wait_for_selector("#option-temperature")
    page.get_by_text("More options").click()
    page.get_by_label("num_batch").fill("1")
    say(page, "Hello")
    ended(page)
    expect(page.locator(".message.assistant .warnings li")).to_contain_text("num_batch_raised")


def test_thinking_is_folded_and_a_tool_call_asks_for_its_result(scripted: Scripted, visits: Visits) -> None:
    call = {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city":"Rome"}'},
    }
    scripted.engine.chat_deltas = [
        {"reasoning_content": "Let me "},
        {"reasoning_content": "see."},
        {"tool_calls": [call]},
    ]
    page = visits.open(scripted.url)
    choose(page, "jinja:latest")
    say(page, "Weather?")
    expect(page.locator(".calls")).to_contain_text("weather")
    assert '"city": "Rome"' in page.locator(".calls .arguments").inner_text()
    summary = page.locator(".thinking summary")
    expect(page.locator(".thinking corral-text")).to_be_hidden()
    summary.click()
    expect(page.locator(".thinking corral-text")).to_have_text("Let me see.")
    scripted.engine.chat_deltas = [{"content": "It is sunny."}]
    page.get_by_label("What it returned").fill("sunny")
    page.get_by_role("button", name="Give the result").click()
    expect(page.locator(".message.assistant corral-text").last).to_have_text("It is sunny.")
    turns = scripted.engine.bodies[-1][1]["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "tool"]
    assert turns[-1]["content"] == "sunny"


def test_pictures_come_by_button_paste_and_drop(scripted: Scripted, visits: Visits, tmp_path: Path) -> None:
    visits.allowed = ("Failed to load resource",)  # the model does not see, so the server refuses
    page = visits.open(scripted.url)
    (tmp_path / "a.png").write_bytes(PIXEL)
    page.wait_for_selector(".composer button.send:enabled")
    page.set_input_files(".attach input", tmp_path / "a.png")
    expect(page.locator(".composer .pictures img")).to_have_count(1)
    send = """([kind, base64]) => {
        const bytes = Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], `${kind}.png`, {type: "image/png"}));
        const at = document.getElementById("say");
        at.dispatchEvent(kind === "paste"
            ? new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true, cancelable: true})
            : new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
    }"""
    encoded = base64.b64encode(PIXEL).decode()
    page.evaluate(send, ["paste", encoded])
    page.evaluate(send, ["drop", encoded])
    expect(page.locator(".composer .pictures img")).to_have_count(3)
    page.get_by_role("button", name="Take out drop.png").click()
    expect(page.locator(".composer .pictures img")).to_have_count(2)
    expect(page.locator(".composer .note")).to_contain_text("does not say that it sees")
    with page.expect_request("**/api/chat") as sent:
        page.fill("#say", "What is it?")
        page.press("#say", "Enter")
    images = json.loads(sent.value.post_data or "{}")["messages"][0]["images"]
    assert [base64.b64decode(image) for image in images] == [PIXEL, PIXEL]
    expect(page.locator(".message.user .pictures img")).to_have_count(2)
    expect(page.locator(".message.assistant .error")).to_be_visible()


def test_texts_are_attached_and_what_is_no_text_is_named(scripted: Scripted, visits: Visits, tmp_path: Path) -> None:
    page = visits.open(scripted.url)
    (tmp_path / "notes.md").write_text("Buy ```milk```.\n")
    (tmp_path / "code.py").write_text("x = 1\n")
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04\xff\xfe")
    page.wait_for_selector(".composer button.send:enabled")
    page.set_input_files(".attach input", [tmp_path / name for name in ("notes.md", "a.zip", "code.py")])
    expect(page.locator(".composer .chip")).to_have_text(["▤ notes.md", "▤ code.py"])
    expect(page.locator(".composer [role=alert]")).to_have_text("a.zip is no picture, no sound and no text.")
    say(page, "What must I buy?")
    ended(page)
    expect(page.locator(".message.user .chip")).to_have_count(2)
    prompt = str(scripted.engine.bodies[-1][1]["prompt"])
    wanted = "notes.md:\n````\nBuy ```milk```.\n````\n\ncode.py:\n```\nx = 1\n```\n\nWhat must I buy?"
    assert wanted in prompt


def test_an_answer_can_be_changed_and_the_model_goes_on_from_that(scripted: Scripted, visits: Visits) -> None:
    page = visits.open(scripted.url)
    scripted.engine.reply = "Paris"
    say(page, "Where are you?")
    ended(page)
    page.get_by_role("button", name="Change").click()
    page.get_by_label("The answer").fill("Rome")
    page.get_by_role("button", name="Keep as a branch").click()
    expect(answers(page)).to_have_text(["Rome"])
    expect(page.locator(".message.assistant .branches")).to_contain_text("2 of 2")
    say(page, "And tomorrow?")
    ended(page)
    prompt = str(scripted.engine.bodies[-1][1]["prompt"])
    assert "Rome" in prompt
    assert "Paris" not in prompt


def test_chats_are_found_saved_and_loaded_elsewhere(scripted: Scripted, visits: Visits, tmp_path: Path) -> None:
    page = visits.open(scripted.url)
    scripted.engine.reply = "It grows **tall**."
    for text in ("About oaks", "About boats"):
        page.get_by_role("button", name="New chat").click()
        expect(page.locator(".message")).to_have_count(0)
        say(page, text)
        ended(page)
    page.get_by_label("Find in chats").fill("OAK")
    expect(page.locator(".list li")).to_have_count(1)
    page.get_by_label("Find in chats").fill("tall")
    expect(page.locator(".list li")).to_have_count(2)
    page.locator(".list li", has_text="oaks").hover()
    with page.expect_download() as one:
        page.get_by_role("button", name="Save About oaks").click()
    assert one.value.suggested_filename == "About-oaks.md"
    wanted = "# About oaks\n\n## You\n\nAbout oaks\n\n## go:latest\n\nIt grows **tall**.\n"
    assert one.value.path().read_text() == wanted
    with page.expect_download() as every:
        page.get_by_role("button", name="Save all").click()
    other = visits.open(scripted.url)
    other.set_input_files(".files input", every.value.path())
    expect(other.locator(".list li")).to_have_count(2)
    other.get_by_role("link", name="About oaks").click()
    expect(answers(other)).to_have_text(["It grows tall."])
    (tmp_path / "other.json").write_text('{"form": "something else"}')
    other.set_input_files(".files input", tmp_path / "other.json")
    expect(other.locator("dialog")).to_contain_text("this is no file of saved chats")


def test_who_scrolled_up_stays_there_and_gets_back_by_a_button(scripted: Scripted, visits: Visits) -> None:
    scripted.engine.reply = "\n\n".join(f"Line {number}" for number in range(60))
    page = visits.open(scripted.url)
    say(page, "Count")
    ended(page)
    expect(page.get_by_text("Line 59", exact=True)).to_be_in_viewport()
    page.hover(".messages")
    page.mouse.wheel(0, -900)
    page.get_by_role("button", name="To the newest").click()
    expect(page.get_by_text("Line 59", exact=True)).to_be_in_viewport()
    expect(page.get_by_role("button", name="To the newest")).to_have_count(0)


def test_an_answer_goes_on_while_another_room_is_open(scripted: Scripted, visits: Visits) -> None:
    scripted.engine.reply = "One two three four"
    let_go = scripted.hold()
    page = visits.open(scripted.url)
    say(page, "Count")
    expect(page.locator(".message.assistant corral-text")).to_have_text("One")
    page.get_by_role("link", name="Models").click()
    page.wait_for_selector("h1:has-text('Models')")
    let_go()
    page.get_by_role("link", name="Chat").click()
    expect(page.locator(".message.assistant corral-text")).to_have_text("One two three four")


def test_a_server_that_fails_says_so_in_the_conversation(scripted: Scripted, visits: Visits) -> None:
    visits.allowed = ("Failed to load resource",)
    scripted.engine.load_error = "out of weather"
    page = visits.open(scripted.url)
    say(page, "Hello")
    expect(page.locator(".message.assistant .error")).to_contain_text("out of weather")
    scripted.engine.load_error = ""
    page.get_by_role("button", name="Answer again").click()
    ended(page)


def test_a_key_is_asked_for_kept_in_this_browser_and_goes_in_a_header_only(visits: Visits, tmp_path: Path) -> None:
    visits.allowed = ("Failed to load resource",)
    with scripted_server(tmp_path, api_keys=("secret-key",)) as server:
        page = visits.open(server.url)
        page.locator("dialog input[name=key]").fill("secret-key")
        page.get_by_role("button", name="Use it").click()
        say(page, "Hello")
        ended(page)
        assert "secret-key" not in page.url
        assert page.evaluate("[localStorage.length, Object.values(sessionStorage)]") == [0, ["secret-key"]]
        assert page.context.cookies() == []
