"""smolagents: its agent with one tool, streamed, until `final_answer` is called. Runs in an environment of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from smolagents import OpenAIServerModel, ToolCallingAgent, tool


@tool
def keep(text: str) -> str:
    """Keep a note.

    Args:
        text: What to keep.
    """
    Path("made.txt").write_text(text)
    return "kept"


model = OpenAIServerModel(os.environ["PEER_MODEL"], api_base=f"{os.environ['PEER_URL']}/v1", api_key="any")
agent = ToolCallingAgent([keep], model, stream_outputs=True, max_steps=3)
print(agent.run(sys.argv[1]))
