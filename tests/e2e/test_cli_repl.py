"""The REPL on a pseudo-terminal, against the scripted server: keys, commands, multi-line, history, files."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import pytest
from tests.fakes.native_api import FakeApi, Reply, serving
from tests.fakes.terminal import TerminalChild, on_terminal

pytestmark = pytest.mark.e2e

HINT = "Send a message"


class Start(Protocol):
    """Start `corral run m FLAGS...` on a terminal."""

    def __call__(self, *flags: str, **environ: str) -> AbstractContextManager[TerminalChild]: ...


@pytest.fixture
def api() -> Iterator[FakeApi]:
    """A scripted server."""
    with serving(FakeApi()) as running:
        yield running


@pytest.fixture
def model(api: FakeApi) -> FakeApi:
    """A server whose model repeats the last message and counts the messages it got."""

    def chat(body: Any) -> Reply:
        messages = body["messages"]
        text = f"<{len(messages)}:{messages[-1]['content']}>"
        return Reply(stream=[{"message": {"role": "assistant", "content": text}}, {"done": True, "eval_count": 3}])

    api.routes["POST /api/show"] = Reply({"capabilities": ["completion"], "details": {"parent_model": ""}})
    api.routes["POST /api/generate"] = Reply(stream=[{"done": True, "done_reason": "load"}])
    api.routes["POST /api/chat"] = chat
    return api


@pytest.fixture
def start(model: FakeApi, tmp_path: Path) -> Start:
    """See Start."""

    def run(*flags: str, **environ: str) -> AbstractContextManager[TerminalChild]:
        base = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        settings = {**base, "CORRAL_HOME": str(tmp_path / "home"), **model.environ, **environ}
        return on_terminal([sys.executable, "-m", "corral", "run", "m", *flags], settings)

    return run


def say(child: TerminalChild, line: str, answer: str, *, times: int = 1) -> None:
    child.type(f"{line}\r")
    child.wait_for(answer, times=times)
    child.wait_for(">>> ")


def test_a_conversation_keeps_its_history_and_bye_ends_it(start: Start, model: FakeApi) -> None:
    with start() as child:
        child.wait_for(HINT)
        say(child, "hello", "<1:hello>")
        say(child, "again", "<3:again>")
        child.type("/bye\r")
        assert child.wait() == 0
    roles = [message["role"] for message in model.bodies("POST /api/chat")[1]["messages"]]
    assert roles == ["user", "assistant", "user"]
    assert model.bodies("POST /api/generate")[0]["prompt"] == ""


@pytest.mark.parametrize("word", ["/exit", "/quit"])
def test_the_other_goodbyes(start: Start, word: str) -> None:
    with start() as child:
        child.wait_for(HINT)
        child.type(f"{word}\r")
        assert child.wait() == 0


def test_ctrl_c_drops_the_line_and_ctrl_d_leaves(start: Start, model: FakeApi) -> None:
    with start() as child:
        child.wait_for(HINT)
        child.type("unwanted\x03")
        child.wait_for("Use Ctrl + d or /bye to exit.")
        child.wait_for(HINT, times=2)
        child.type("\x04")
        assert child.wait() == 0
    assert model.bodies("POST /api/chat") == []


def test_ctrl_c_stops_an_answer_and_the_conversation_goes_on(start: Start, model: FakeApi) -> None:
    resume = threading.Event()

    def endless() -> Iterator[dict[str, Any]]:
        yield {"message": {"content": "begun"}}
        while not resume.wait(0.02):
            yield {"message": {"content": "."}}

    model.routes["POST /api/chat"] = Reply(stream=endless())
    try:
        with start() as child:
            child.wait_for(HINT)
            child.type("hello\r")
            child.wait_for("begun")
            child.type("\x03")
            assert model.gone.wait(20), "the client kept the connection"
            child.wait_for(HINT, times=2)
            model.routes["POST /api/chat"] = Reply(stream=[{"message": {"content": "fine"}}, {"done": True}])
            say(child, "next", "fine")
            child.type("\x04")
            assert child.wait() == 0
    finally:
        resume.set()
        assert "(stopped)" in child.screen
    question, cut, following = model.bodies("POST /api/chat")[-1]["messages"]
    assert (question["content"], cut["role"], following["content"]) == ("hello", "assistant", "next")
    assert cut["content"].startswith("begun")


def test_three_quotes_open_a_message_of_several_lines(start: Start, model: FakeApi) -> None:
    with start() as child:
        child.wait_for(HINT)
        child.type('"""one\r')
        child.wait_for("Press Enter to send")
        child.type("/two\r")
        child.wait_for("... ", times=2)
        child.type('three"""\r')
        child.wait_for("<1:one")
        say(child, '"""whole"""', "<3:whole>")
    assert model.bodies("POST /api/chat")[0]["messages"][0]["content"] == "one\n/two\nthree"


def test_pasted_lines_and_ctrl_j_are_one_message(start: Start, model: FakeApi) -> None:
    with start() as child:
        child.wait_for(HINT)
        child.type("\x1b[200~first\nsecond\x1b[201~\r")
        child.wait_for("<1:first")
        child.wait_for(HINT, times=2)
        child.type("third\nfourth\r")
        child.wait_for("<3:third")
    contents = [body["messages"][-1]["content"] for body in model.bodies("POST /api/chat")]
    assert contents == ["first\nsecond", "third\nfourth"]


def test_set_changes_what_is_sent(start: Start, model: FakeApi) -> None:
    with start() as child:
        child.wait_for(HINT)
        say(child, "/set parameter temperature 0.5", "Set parameter 'temperature' to '0.5'")
        say(child, "/set parameter stop a b", "Set parameter 'stop' to 'a, b'")
        say(child, "/set parameter foo 1", "Couldn't set parameter: \"unknown parameter 'foo'\"")
        say(child, "/set parameter top_k x", 'Couldn\'t set parameter: "invalid int value [x]"')
        say(child, "/set parameter", "/set parameter seed <int>")
        say(child, "/set system You are old.", "Set system message.")
        say(child, "/set format json", "Set format to 'json' mode.")
        say(child, "/set format xml", "Invalid or missing format. For 'json' mode use '/set format json'")
        say(child, "/set think high", "Set 'think' mode to 'high'.")
        say(child, "/set verbose", "Set 'verbose' mode.")
        say(child, "/set nowordwrap", "Set 'nowordwrap' mode.")
        say(child, "/set color", "Unknown command '/set color'. Type /? for help")
        assert 'warning: model "m" does not support thinking output' in child.screen
        say(child, "hi", "eval count:           3 token(s)")
        say(child, "/set noformat", "Disabled format.")
        say(child, "/set nothink", "Set 'nothink' mode.")
        say(child, "again", "<4:again>")
    first, second = model.bodies("POST /api/chat")
    assert first["options"] == {"temperature": 0.5, "stop": ["a", "b"]}
    assert (first["format"], first["think"]) == ("json", "high")
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert ("format" in second, second["think"]) == (False, False)


def test_show_prints_what_the_server_says(start: Start, model: FakeApi) -> None:
    model.routes["POST /api/show"] = Reply(
        {"capabilities": ["completion"], "details": {"family": "test"}, "parameters": "stop x", "modelfile": "FROM z"}
    )
    with start() as child:
        child.wait_for(HINT)
        say(child, "/show info", "architecture    test")
        say(child, "/show license", "No license was specified for this model.")
        say(child, "/show template", "No prompt template was specified for this model.")
        say(child, "/show system", "No system message was specified for this model.")
        say(child, "/show modelfile", "FROM z")
        say(child, "/set parameter seed 7", "to '7'")
        say(child, "/set parameter min_p 0.123456789", "to '0.123456789'")
        say(child, "/set parameter top_k 1000000", "to '1000000'")
        say(child, "/set parameter repeat_penalty 1000000", "to '1000000'")
        rows = (("seed", "7"), ("min_p", "0.12345679"), ("top_k", "1000000"), ("repeat_penalty", "1e+06"))
        table = "".join(f"  {name:<30} {value}\n" for name, value in rows)
        say(child, "/show parameters", f"User defined parameters:\n{table}")
        say(child, "/show colors", "Unknown command '/show colors'. Type /? for help")
        say(child, "/show", "/show modelfile    Show Modelfile for this model")
        assert "Model defined parameters:\n  stop x\n" in child.screen


def test_help_and_unknown_commands(start: Start) -> None:
    with start() as child:
        child.wait_for(HINT)
        say(child, "/?", "/? shortcuts")
        say(child, "/? shortcuts", "Ctrl + l")
        say(child, "/help set", "/set nohistory")
        say(child, "/foo bar", "Unknown command '/foo'. Type /? for help")
        say(child, "/listx", "Unknown command '/listx'. Type /? for help; did you mean /list?")
        say(child, "/set wordwarp", "did you mean /set wordwrap?")


def test_load_changes_the_model_and_forgets_and_model_remembers(start: Start, model: FakeApi) -> None:
    shown = model.routes["POST /api/show"]
    assert isinstance(shown, Reply)
    missing = Reply({"error": "model 'gone' not found"}, 404)
    model.routes["POST /api/show"] = lambda body: missing if body["model"] == "gone" else shown
    with start() as child:
        child.wait_for(HINT)
        say(child, "hello", "<1:hello>")
        say(child, "/load gone", "Couldn't find model 'gone'")
        say(child, "/model other", "Switched to model: other")
        say(child, "kept", "<3:kept>")
        say(child, "/load third", "Loading model 'third'")
        say(child, "fresh", "<1:fresh>")
        say(child, "/load", "Usage:\n  /load <modelname>")
    assert [body["model"] for body in model.bodies("POST /api/chat")] == ["m", "other", "third"]


def test_load_keeps_the_system_message(start: Start, model: FakeApi) -> None:
    with start() as child:
        child.wait_for(HINT)
        say(child, "/set system S", "Set system message.")
        say(child, "hello", "<2:hello>")
        say(child, "/load other", "Loading model 'other'")
        say(child, "again", "<2:again>")
    assert model.bodies("POST /api/chat")[1]["messages"] == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "again"},
    ]


def test_clear_keeps_the_system_message(start: Start, model: FakeApi) -> None:
    with start() as child:
        child.wait_for(HINT)
        say(child, "/set system S", "Set system message.")
        say(child, "hello", "<2:hello>")
        say(child, "/clear", "Cleared session context")
        say(child, "again", "<2:again>")


def test_save_makes_a_model_of_the_session(start: Start, model: FakeApi) -> None:
    shown = model.routes["POST /api/show"]
    assert isinstance(shown, Reply)
    model.routes["POST /api/show"] = lambda body: shown if body["model"] == "m" else Reply({"error": "not found"}, 404)
    model.routes["POST /api/create"] = lambda body: (
        Reply({"error": "invalid model name"}, 400)
        if body["model"] == "a:b:c"
        else Reply(stream=[{"status": "success"}])
    )
    with start() as child:
        child.wait_for(HINT)
        say(child, "/set parameter seed 7", "to '7'")
        say(child, "/set system S", "Set system message.")
        say(child, "hello", "<2:hello>")
        say(child, "/save m", "error: a model 'm' is here already; /save! m replaces it")
        say(child, "/save! m", "Created new model 'm'")
        say(child, "/save mine", "Created new model 'mine'")
        say(child, "/save a:b:c", "error: The model name 'a:b:c' is invalid")
        say(child, "/save", "Usage:\n  /save <modelname>")
    over, body = model.bodies("POST /api/create")[:2]
    assert over["model"] == "m"
    assert (body["model"], body["from"], body["system"], body["parameters"]) == ("mine", "m", "S", {"seed": 7})
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant"]


def test_the_guides_files_save_and_load_the_conversation(start: Start, model: FakeApi, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    with start() as child:
        child.wait_for(HINT)
        say(child, "hello", "<1:hello>")
        say(child, f"/save {file}", "History saved to:")
        say(child, "/clear", "Cleared session context")
        say(child, f"/load {file}", "History loaded from:")
        say(child, "more", "<3:more>")
        say(child, "/load ./missing.json", "error: couldn't load './missing.json': no such file or directory\n")
    saved = json.loads(file.read_text())
    assert saved == [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "<1:hello>"}]


def test_history_comes_back_with_the_arrow_and_in_the_next_session(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "home" / "history"
    with start() as child:
        child.wait_for(HINT)
        say(child, "hello", "<1:hello>")
        say(child, "/set nohistory", ">>> ", times=3)
        say(child, "secret", "<3:secret>")
        child.type("\x1b[A\r")
        child.wait_for("<5:secret>")
        child.type("/bye\r")
        assert child.wait() == 0
    assert file.read_text() == "hello\n/set nohistory\n"
    assert file.stat().st_mode & 0o777 == 0o600
    with start() as child:
        child.wait_for(HINT)
        child.type("\x1b[A\x1b[A\r")
        child.wait_for("<1:hello>")


def test_the_editor_gets_the_line_and_gives_it_back_unsent(start: Start, model: FakeApi, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho "$(cat "$1") edited" > "$1"\n')
    editor.chmod(0o755)
    with start(CORRAL_EDITOR=str(editor)) as child:
        child.wait_for(HINT)
        child.type("draft\x07")
        child.wait_for("draft edited")
        assert model.bodies("POST /api/chat") == []
        child.type("\r")
        child.wait_for("<1:draft edited>")
    with start(CORRAL_EDITOR="no-such-editor") as child:
        child.wait_for(HINT)
        child.type("\x07")
        child.wait_for('error: editor "no-such-editor" not found, set CORRAL_EDITOR to the path of your preferred')


def test_keys_edit_the_line(start: Start, model: FakeApi) -> None:
    with start() as child:
        child.wait_for(HINT)
        child.type("one two\x17three\x01zero \x05!\r")
        child.wait_for("<1:zero one three!>")
        child.wait_for(HINT, times=2)
        child.type("abc\x02\x02\x0b\tz\x15\x19d\x7fe\r")
        child.wait_for("<3:")
    assert model.bodies("POST /api/chat")[1]["messages"][-1]["content"] == f"a{' ' * 8}ze"


def test_tab_completes_commands_models_and_paths(start: Start, model: FakeApi, tmp_path: Path) -> None:
    model.routes["GET /api/tags"] = Reply({"models": [{"name": "smollm2:135m"}]})
    (tmp_path / "picture one.png").write_bytes(b"x")
    with start() as child:
        child.wait_for(HINT)
        child.type("/reg\t\r")
        child.wait_for("There is no answer yet.")
        child.type("/load smo\t\r")
        child.wait_for("Loading model 'smollm2:135m'")
        child.type("/set parameter temp\t 0.5\r")
        child.wait_for("Set parameter 'temperature' to '0.5'")
        child.type("look at ~/pict\t\r")
        child.wait_for("look at ~/picture one.png>")
        child.type("/se\t")
        child.wait_for("/set")


def test_an_answer_is_made_anew_and_a_question_is_changed(start: Start, model: FakeApi) -> None:
    with start() as child:
        child.wait_for(HINT)
        say(child, "/regenerate", "There is no answer yet.")
        say(child, "/edit", "There is no message yet.")
        say(child, "one", "<1:one>")
        say(child, "two", "<3:two>")
        say(child, "/regenerate", "<3:two>", times=2)
        child.type("/edit\r")
        child.wait_for(">>> two")
        child.type(" more\r")
        child.wait_for("<3:two more>")
        child.wait_for(HINT, times=7)
        child.type("/edit\r")
        child.wait_for("/edit", times=3)
        child.type("!")
        child.wait_for("two more!")
        child.type("\x03")
        child.wait_for("Use Ctrl + d or /bye to exit.")
        say(child, "four", "<5:four>")
    assert len(model.bodies("POST /api/chat")) == 5


def test_the_system_message_is_shown_and_set(start: Start, model: FakeApi) -> None:
    with start() as child:
        child.wait_for(HINT)
        say(child, "/system", "No system message was specified for this model.")
        say(child, "/system Be brief.", "Set system message.")
        child.type('/system """One\r')
        child.type('two"""\r')
        child.wait_for("Set system message.", times=2)
        say(child, "/system", "One\ntwo")


def test_a_window_over_the_models_own_is_told_at_once(start: Start, model: FakeApi) -> None:
    info = {"general.architecture": "llama", "llama.context_length": 8192}
    model.routes["POST /api/show"] = Reply({"capabilities": ["completion"], "model_info": info})
    with start() as child:
        child.wait_for(HINT)
        say(child, "/set parameter num_ctx 100000", "m was made for 8192 tokens; its window will be 8192")


def test_a_picture_for_a_model_that_does_not_see_is_told(start: Start, model: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    with start() as child:
        child.wait_for(HINT)
        child.type(f"{tmp_path}/a.png what is it?\r")
        child.wait_for("what is it?>")
        assert f"m takes no images and no sounds; '{tmp_path}/a.png' is sent as text" in child.screen


def test_markdown_is_drawn_block_by_block_where_it_is_asked_for(start: Start, model: FakeApi) -> None:
    pieces = ["# Ti", "tle\n\nSome **bo", "ld** text\n\n```python\nx = 1\n", "```\n", "\x1b]0;taken\x07finis"]
    chat: list[dict[str, Any]] = [*({"message": {"content": piece}} for piece in pieces), {"done": True}]
    model.routes["POST /api/chat"] = Reply(stream=chat)
    with start() as child:
        child.wait_for(HINT)
        say(child, "/set markdown", "Set 'markdown' mode.")
        say(child, "hi", "finis")
        assert "**" not in child.screen
        assert "```" not in child.screen
        assert "x = 1" in child.screen
        assert "\x1b]0;" not in child.raw
        say(child, "/set nomarkdown", "Set 'nomarkdown' mode.")
        say(child, "hi", "**bold**")


def test_ctrl_d_typed_during_an_answer_ends_the_chat_after_it(start: Start, model: FakeApi) -> None:
    go_on = threading.Event()

    def slow() -> Iterator[dict[str, Any]]:
        yield {"message": {"content": "begun"}}
        go_on.wait(20)
        yield {"message": {"content": " ended"}}
        yield {"done": True}

    model.routes["POST /api/chat"] = Reply(stream=slow())
    with start() as child:
        child.wait_for(HINT)
        child.type("hello\r")
        child.wait_for("begun")
        child.type("\x04")
        go_on.set()
        assert child.wait() == 0
    assert "begun ended" in child.screen


def test_what_the_request_has_wrong_ends_the_program_and_a_thinking_error_does_not(
    start: Start, model: FakeApi
) -> None:
    model.routes["POST /api/chat"] = Reply({"error": '"m" does not support thinking'}, 400)
    with start() as child:
        child.wait_for(HINT)
        say(child, "hi", 'error: 400 Bad Request: "m" does not support thinking')
        model.routes["POST /api/chat"] = Reply({"error": "no such model"}, 404)
        child.type("hi\r")
        assert child.wait() == 1
        assert "Error: 404 Not Found: no such model" in child.screen


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (Reply({"error": "boom"}, 500), "Error: 500 Internal Server Error: boom\n"),
        (
            Reply(stream=[{"message": {"content": "begun"}}, {"error": "the runner died"}]),
            "begun\nError: the runner died\n",
        ),
        (Reply(stream=[{"message": {"content": "begun"}}]), "begun\nError: the answer was cut short"),
    ],
)
def test_what_the_server_has_wrong_leaves_the_conversation_and_the_message(
    start: Start, model: FakeApi, failure: Reply, told: str
) -> None:
    answers = model.routes["POST /api/chat"]
    with start() as child:
        child.wait_for(HINT)
        say(child, "hello", "<1:hello>")
        model.routes["POST /api/chat"] = failure
        child.type("again\r")
        child.wait_for(told)
        child.wait_for(">>> again", times=2)
        model.routes["POST /api/chat"] = answers
        child.type("\r")
        child.wait_for("<3:again>")
        child.type("/bye\r")
        assert child.wait() == 0


def test_the_models_own_messages_are_printed_at_the_start(start: Start, model: FakeApi) -> None:
    messages = [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "me."}]
    model.routes["POST /api/show"] = Reply({"capabilities": ["completion"], "messages": messages})
    with start() as child:
        child.wait_for(HINT)
        assert ">>> who?\nme.\n\n" in child.screen
        say(child, "hi", "<1:hi>")
