"""What the SDKs raise when the runner is killed in the middle of a stream, and that the next request works."""

from __future__ import annotations

import os
import signal
from typing import Any

import anthropic
import openai
import pytest
from tests.e2e.conftest import ServerProcess

pytestmark = pytest.mark.e2e

MODEL = "smollm2:135m"
LONG: list[Any] = [{"role": "user", "content": "Count to one thousand."}]


def kill_runner(server: ServerProcess) -> None:
    (loaded,) = server.request("GET", "/api/ps?verbose=true")["models"]
    os.kill(loaded["pid"], signal.SIGKILL)


def test_a_killed_runner_is_an_api_error_of_every_sdk(own_server: ServerProcess) -> None:
    with openai.OpenAI(base_url=f"{own_server.url}/v1", api_key="x", max_retries=0, timeout=60) as client:
        chat = client.chat.completions.create(model=MODEL, messages=LONG, max_tokens=4000, stream=True)
        next(chat)
        kill_runner(own_server)
        with pytest.raises(openai.APIError, match=r"signal|terminated|died|killed"):
            list(chat)
        response = client.responses.create(model=MODEL, input="Count to one thousand.", stream=True)
        kinds = []
        for event in response:
            kinds.append(event.type)
            if event.type == "response.output_text.delta" and kinds.count(event.type) == 1:
                kill_runner(own_server)
        assert kinds[-1] == "response.failed"
    with anthropic.Anthropic(base_url=own_server.url, api_key="x", max_retries=0, timeout=60) as client:
        events = client.messages.create(model=MODEL, messages=LONG, max_tokens=4000, stream=True)
        assert next(events).type == "message_start"
        assert next(events).type == "content_block_start"
        kill_runner(own_server)
        with pytest.raises(anthropic.APIError) as caught:
            list(events)
        assert caught.value.body["error"]["type"] == "api_error"  # type: ignore[index]
        reply = client.messages.create(model=MODEL, messages=LONG, max_tokens=4)
    assert reply.usage.output_tokens == 4
