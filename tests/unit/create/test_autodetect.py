from __future__ import annotations

import hashlib
import json
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.create.autodetect import NEAR, detect_template, edit_distance, known_template
from corral.gotemplate import parse

KNOWN: list[tuple[str, str]] = json.loads((resources.files("corral.create") / "templates/known.json").read_text())
NAMES = sorted({name for name, _ in KNOWN} | {"vicuna"})

TALK = [("system", "be kind"), ("user", "hi"), ("assistant", "hello"), ("user", "bye")]
RENDERED = {
    "alfred": "<start_system>be kind<end_message><start_user>hi<end_message><start_assistant>hello<end_message>"
    "<start_user>bye<end_message><start_assistant>",
    "alpaca": "be kind\n\n### Instruction:\nhi\n\n### Response:\nhello\n\n### Instruction:\nbye\n\n### Response:\n",
    "chatml": "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhello"
    "<|im_end|>\n<|im_start|>user\nbye<|im_end|>\n<|im_start|>assistant\n",
    "chatqa": "System: be kind\n\nUser: hi\n\nAssistant: hello\n\nUser: bye\n\nAssistant:",
    "codellama-70b-instruct": "Source: system\n\n be kind <step> Source: user\n\n hi <step> Source: assistant"
    "\n\n hello <step> Source: user\n\n bye <step> Source: assistant\nDestination: user\n\n ",
    "command-r": "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>be kind<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|>"
    "<|USER_TOKEN|>hi<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>hello<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>bye<|END_OF_TURN_TOKEN|><|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|>"
    "<|CHATBOT_TOKEN|>\n",
    "falcon-instruct": "System: be kind\nUser:\nhi\nFalcon:\nhello\nUser:\nbye\nFalcon:\n",
    "gemma-instruct": "<start_of_turn>user\nbe kind\nhi<end_of_turn>\n<start_of_turn>model\nhello<end_of_turn>\n"
    "<start_of_turn>user\nbye<end_of_turn>\n<start_of_turn>model\n",
    "gemma3-instruct": "<start_of_turn>user\nbe kind\n\nhi<end_of_turn>\n<start_of_turn>model\nhello<end_of_turn>\n"
    "<start_of_turn>user\nbye<end_of_turn>\n<start_of_turn>model\n\n",
    "granite-instruct": "System:\nbe kind\n\nQuestion:\nhi\n\nAnswer:\nhello\n\nQuestion:\nbye\n\nAnswer:\n",
    "llama2-chat": "[INST] <<SYS>>\nbe kind\n<</SYS>>\n\nhi [/INST] hello</s><s>[INST] <<SYS>><</SYS>>\n\nbye [/INST]",
    "llama3-instruct": "<|start_header_id|>system<|end_header_id|>\n\nbe kind<|eot_id|><|start_header_id|>user"
    "<|end_header_id|>\n\nhi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nhello<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nbye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "magicoder": "be kind\n\n@@ Instruction\nhi\n\n@@ Response\nhello\n\n@@ Instruction\nbye\n\n@@ Response\n",
    "mistral-instruct": "[INST] be kind\n\nhi[/INST] hello</s>[INST] bye[/INST]",
    "openchat": "GPT4 Correct System: be kind<|end_of_turn|>GPT4 Correct User: hi<|end_of_turn|>GPT4 Correct Assistant:"
    " hello<|end_of_turn|>GPT4 Correct User: bye<|end_of_turn|>GPT4 Correct Assistant:",
    "phi-3": "<|system|>\nbe kind<|end|>\n<|user|>\nhi<|end|>\n<|assistant|>\nhello<|end|>\n<|user|>\nbye<|end|>\n"
    "<|assistant|>\n",
    "solar-instruct": "### System:\nbe kind\n\n### User:\nhi\n\n### Assistant:\nhello</s>\n\n### User:\nbye\n\n"
    "### Assistant:\n",
    "starcoder2-instruct": "be kind\n\n### Instruction\nhi\n\n### Response\nhello<|endoftext|>\n\n### Instruction"
    "\nbye\n\n### Response\n",
    "vicuna": "be kind\n\nUSER: hi\nASSISTANT: hello</s>\nUSER: bye\nASSISTANT:",
    "zephyr": "<|system|>\nbe kind</s>\n<|user|>\nhi</s>\n<|assistant|>\nhello</s>\n<|user|>\nbye</s>\n<|assistant|>\n",
}


def render(name: str, messages: list[tuple[str, str]], **more: Any) -> str:
    data = {
        "System": "\n\n".join(text for role, text in messages if role == "system"),
        "Messages": [{"Role": role, "Content": text} for role, text in messages],
        "Tools": [],
        "Response": "",
    }
    return parse(known_template(name).text).execute(data | more)


@pytest.mark.parametrize("name", NAMES)
def test_a_known_template_renders_the_prompt_its_model_was_trained_on(name: str) -> None:
    assert render(name, TALK) == RENDERED[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_known_template_has_stop_sequences_and_takes_messages(name: str) -> None:
    known = known_template(name)
    assert known.stop
    assert "messages" in parse(known.text).identifiers


def test_the_chatml_layer_has_ollamas_digest() -> None:
    digest = hashlib.sha256(known_template("chatml").text.encode()).hexdigest()
    assert digest == "e3b2721cec511e3a627ae0993753abbf5c72cdf4cfcdbc8f5c33ce15c4c4e04b"


@pytest.mark.parametrize(("name", "jinja"), KNOWN, ids=[f"{index}-{name}" for index, (name, _) in enumerate(KNOWN)])
def test_a_published_template_is_recognized_in_spite_of_small_edits(name: str, jinja: str) -> None:
    found = detect_template(jinja[:40] + "{# local change #}" + jinja[40:])
    assert found is not None
    assert found.name == name


def test_an_unknown_template_is_not_guessed_at() -> None:
    assert detect_template("{{ messages }}" + "x" * 2 * NEAR) is None
    assert detect_template("{% for m in messages %}" + "{{ m.content | upper }}" * 40 + "{% endfor %}") is None


def test_a_huge_chat_template_costs_nothing() -> None:
    assert detect_template("x" * 16_000_000) is None


def by_table(left: str, right: str) -> int:
    row = list(range(len(right) + 1))
    for i, char in enumerate(left, 1):
        above, row = row, [i]
        for j, other in enumerate(right, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (char != other)))
    return row[-1]


@given(st.text("abé", max_size=14), st.text("abé", max_size=14), st.integers(1, 15))
def test_edit_distance_is_the_textbooks_up_to_the_limit(left: str, right: str, limit: int) -> None:
    assert edit_distance(left, right, limit) == min(limit, by_table(left, right))
