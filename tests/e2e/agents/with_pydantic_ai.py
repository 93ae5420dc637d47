"""pydantic-ai: an agent with one tool, streamed. Runs in an environment of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url=f"{os.environ['PEER_URL']}/v1", api_key="any")
agent = Agent(OpenAIChatModel(os.environ["PEER_MODEL"], provider=provider))


@agent.tool_plain
def keep(text: str) -> str:
    """Keep a note."""
    Path("made.txt").write_text(text)
    return "kept"


async def main() -> None:
    """One question, to its end."""
    async with agent.run_stream(sys.argv[1]) as result:
        print(await result.get_output())


asyncio.run(main())
