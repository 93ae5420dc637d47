"""instructor: an object as it grows, then one that it has to ask for again. Runs in an environment of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import instructor
from openai import OpenAI
from pydantic import BaseModel, ValidationInfo, field_validator


class PartialNote(BaseModel):
    """A note. It is named as instructor names what it streams, so both kinds of request have one tool."""

    text: str

    @field_validator("text")
    @classmethod
    def _is_an_answer(cls, text: str, info: ValidationInfo) -> str:
        if info.context and text == info.context["known"]:
            raise ValueError("that is known")
        return text


client = instructor.from_openai(OpenAI(base_url=f"{os.environ['PEER_URL']}/v1", api_key="any"))
model, messages = os.environ["PEER_MODEL"], [{"role": "user", "content": sys.argv[1]}]
grown = list(client.create_partial(PartialNote, messages, model=model, stream_options={"include_usage": True}))
Path("made.txt").write_text(grown[-1].text)
again = client.create(PartialNote, messages, model=model, max_retries=2, context={"known": grown[-1].text})
print(again.text)
