"""LangGraph: its ready-made agent with one tool, streamed. Runs in an environment of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.prebuilt import create_react_agent


@tool
def keep(text: str) -> str:
    """Keep a note."""
    Path("made.txt").write_text(text)
    return "kept"


url = f"{os.environ['PEER_URL']}/v1"
model = ChatOpenAI(model=os.environ["PEER_MODEL"], base_url=url, api_key="any", streaming=True, stream_usage=True)
graph = create_react_agent(model, [keep])
for piece, _ in graph.stream({"messages": [("user", sys.argv[1])]}, stream_mode="messages"):
    if piece.type == "AIMessageChunk":
        print(piece.content, end="")
