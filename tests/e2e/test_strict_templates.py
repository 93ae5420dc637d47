"""Conversations on templates that refuse them, through the real engine: an answer, and nothing of them lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from tests.e2e.conftest import ServerProcess
from tests.fakes.made import made
from tests.fakes.scripted import scripted_llama
from tests.fakes.strict import GO_TEMPLATE, TEMPLATES, histories, missing

pytestmark = pytest.mark.e2e
ALL = [*TEMPLATES, "go"]
TELLS_NO_CALLS = {"alternating", "no-system", "keeps-one-system"}


@pytest.fixture(scope="module")
def strict(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Models `strict-NAME`, one a template."""
    folder = tmp_path_factory.mktemp("strict")
    chain = ["<|im_start|>assistant", "\n", "Well", "."]
    with ExitStack() as stack:
        for name in ALL:
            template = TEMPLATES.get(name)
            path = scripted_llama(folder / f"{name}.gguf", [chain], chat_template=template)
            more = {} if template else {"template": GO_TEMPLATE}
            stack.enter_context(made(server, f"strict-{name}", {"m.gguf": path}, **more))
        yield server


def shown(server: ServerProcess, name: str, messages: list[dict[str, Any]], **more: Any) -> str:
    """The prompt of a conversation."""
    body = {"model": f"strict-{name}", "messages": messages, "_debug_render_only": True, **more}
    reply: dict[str, Any] = server.post("/api/chat", body)
    prompt: str = reply["_debug_info"]["rendered_template"]
    return prompt


@pytest.mark.parametrize("name", ALL)  # not drawn: each would load another model
@given(history=histories())
@settings(max_examples=200 // len(ALL), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_makes_a_prompt_that_holds_all_of_it(
    strict: ServerProcess, name: str, history: list[dict[str, Any]]
) -> None:
    assert missing(history, shown(strict, name, history)) == []


@pytest.mark.parametrize("name", ALL)
@given(history=histories())
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_is_answered(strict: ServerProcess, name: str, history: list[dict[str, Any]]) -> None:
    body = {"model": f"strict-{name}", "messages": history, "options": {"num_predict": 2}}
    reply = strict.post("/api/chat", body)
    codes = {warning["code"] for warning in reply.get("warnings", ())}
    assert codes <= ({"calls_as_text"} if name in TELLS_NO_CALLS else set()), reply["warnings"]


@pytest.mark.parametrize("name", ALL)
def test_a_system_message_between_turns_stays_where_it_was_said(strict: ServerProcess, name: str) -> None:
    turns = [("system", "lead"), ("user", "first"), ("assistant", "yes"), ("user", "second"), ("system", "aside")]
    prompt = shown(strict, name, [{"role": role, "content": text} for role, text in turns])
    order = [prompt.index(text) for _, text in turns]
    assert name == "go" or order == sorted(order)


@pytest.mark.parametrize("name", ALL)
def test_a_long_talk_is_cut_so_that_its_template_takes_it(strict: ServerProcess, name: str) -> None:
    talk = [{"role": role, "content": f"{role} {place} " * 6} for place in range(14) for role in ("user", "assistant")]
    body = {"model": f"strict-{name}", "messages": [*talk, {"role": "user", "content": "last"}]}
    reply = strict.post("/api/chat", {**body, "options": {"num_ctx": 512, "num_predict": 2}})
    assert [warning["code"] for warning in reply["warnings"]] == ["history_truncated"]
    assert reply["warnings"][0]["roles"][:2] == ["user", "assistant"]
