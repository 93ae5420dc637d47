"""The renderers by the names that models' configs use. Called by `inference/`; a name from outside only chooses here.

Source of the names: ollama model/renderers/renderer.go, 2026-08.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from corral.core import Message, Think, Tool
from corral.prompt.renderers import olmo3
from corral.prompt.renderers.cogito import Cogito
from corral.prompt.renderers.cohere import Cohere
from corral.prompt.renderers.deepseek import DeepSeek31
from corral.prompt.renderers.functiongemma import FunctionGemma
from corral.prompt.renderers.gemma4 import Gemma4
from corral.prompt.renderers.glimmer import Glimmer
from corral.prompt.renderers.glm import GLM47, GLMOCR
from corral.prompt.renderers.laguna import Laguna, PoolsideV1
from corral.prompt.renderers.lfm2 import LFM2
from corral.prompt.renderers.nemotron import Nemotron3Nano, Nemotron35Nano
from corral.prompt.renderers.qwen3coder import Qwen3Coder
from corral.prompt.renderers.qwen3vl import Qwen3VL
from corral.prompt.renderers.qwen35 import Qwen35, Qwen38


class Renderer(Protocol):
    """Writes the prompt of a conversation as one family of models wants it. Stateless; the same each time."""

    bos: str
    """The text of the token that the prompt begins with, "" for none: the engine may add that token itself."""

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt, images as `[img-N]`; raises InvalidRequest for what the model's template does not allow."""
        ...


RENDERERS: Mapping[str, Renderer] = MappingProxyType(
    {
        "cogito": Cogito(),
        "cohere": Cohere(),
        "deepseek3.1": DeepSeek31(),
        "functiongemma": FunctionGemma(),
        "gemma4": Gemma4(empty_thought=False),
        "gemma4-small": Gemma4(empty_thought=False),
        "gemma4-large": Gemma4(empty_thought=True),
        "glimmer": Glimmer(),
        "glm-4.7": GLM47(),
        "glm-ocr": GLMOCR(),
        "laguna": Laguna(),
        "lfm2": LFM2(thinking=False),
        "lfm2-thinking": LFM2(thinking=True),
        "nemotron-3-nano": Nemotron3Nano(),
        "nemotron-3.5-nano": Nemotron35Nano(),
        "olmo3": olmo3.Olmo3(olmo3.FUNCTION_CALLER),
        "olmo3.1": olmo3.Olmo3(olmo3.OLMO),
        "olmo3-think": olmo3.Olmo3Think(olmo3.OLMO),
        "olmo3-32b-think": olmo3.Olmo3Think(olmo3.ASSISTANT),
        "ornith": Qwen35(keeps_thoughts=True),
        "poolside-v1": PoolsideV1(),
        "qwen3-coder": Qwen3Coder(),
        "qwen3-vl-instruct": Qwen3VL(thinking=False),
        "qwen3-vl-thinking": Qwen3VL(thinking=True),
        "qwen3.5": Qwen35(),
        "qwen3.8": Qwen38(),
    }
)


def renderer(name: str) -> Renderer | None:
    """The renderer of a name, None for one that nobody here knows."""
    return RENDERERS.get(name)
