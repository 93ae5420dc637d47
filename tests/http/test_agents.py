"""What agents really send (tests/golden/agents), on a template that refuses much and on a Go template.

The requests were recorded: `{method, path, headers, body}`; long texts are filler of the same length. `turn1` and
`turn2` are two turns of one conversation, `tool-loop` has calls and results. How much of a second turn the engine reads
anew is a matter of real engines (tests/e2e).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.runner import FakeEngine
from tests.fakes.server import RunningServer, running_server
from tests.fakes.strict import GO_TEMPLATE
from tests.fuzz.histories import TEMPLATES

RECORDED = sorted((Path(__file__).parents[1] / "golden" / "agents").glob("*.json"))
WINDOW = 2**17
TAKES_NO_CALLS = {"alternating", "no-system"}  # calls stand there as text, which is told
TOOLS = "{% if tools %}{{ tools }}{% endif %}{{ messages }}{{ tool_calls }}"
GO_TOOLS = "{{ range .Tools }}{{ . }}\n{{ end }}" + GO_TEMPLATE


@pytest.fixture
async def agents(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """`jinja` and `go`, with tools and a window for agents."""
    async with running_server(tmp_path, FakeEngine(context_window=WINDOW), context_length=WINDOW) as running:
        wide = {"llama.context_length": WINDOW}
        running.add("jinja", jinja=TOOLS, metadata=wide)
        running.add("go", texts={"template": GO_TOOLS}, metadata=wide)
        yield running


def texts_of(value: Any) -> list[str]:
    """Every text of the conversation that the model must get."""
    if isinstance(value, dict):
        own = [value["text"]] if isinstance(value.get("text"), str) else []
        return own + [text for key, child in value.items() if key != "tools" for text in texts_of(child)]
    if isinstance(value, list):
        return [text for child in value for text in texts_of(child)]
    return []


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda path: path.stem)
async def test_an_agents_request_is_answered_whole_and_without_noise(agents: RunningServer, recorded: Path) -> None:
    request = json.loads(recorded.read_text())
    for template in (*TEMPLATES, "go"):
        agents.engine.refuses = TEMPLATES.get(template)
        body = {**request["body"], "model": "go" if template == "go" else "jinja", "stream": False}
        status, reply = await agents.call(request["method"], request["path"], body, headers=request["headers"])
        assert status == 200, (template, reply)
        got = json.dumps(agents.engine.bodies[-1][1])
        assert [text for text in texts_of(body) if json.dumps(text.strip())[1:-1] not in got] == [], template
        codes = [warning["code"] for warning in reply.get("warnings", [])]
        told = ["calls_as_text"] if "tool-loop" in recorded.stem and template in TAKES_NO_CALLS else []
        assert codes == told, (template, reply["warnings"])
