"""What answers of a named parser look like: the tags of thinking, the opening of text, the form of calls. A table.

The parsers read whatever the model writes; these are for grammars, which make it write what was asked for. Called by
answers.py. Source: ollama model/renderers/*.go, which print earlier answers as the models write them, 2026-08.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from corral.prompt.toolformat import GENERIC_FORMAT, ArgumentForm, ToolFormat

Tags = tuple[str, str]


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """thinking: the tags around it. opening: what stands before the text, behind the thinking."""

    thinking: Tags | None = None
    calls: ToolFormat | None = None
    opening: str = ""


_THINK = ("<think>", "</think>")
_FUNCTION = "<tool_call>\n<function="
_XML_END = "</function>\n</tool_call>"
_XML = ToolFormat(
    *("<tool_call>", _FUNCTION, ">\n", f"\n{_FUNCTION}", "", _XML_END),
    ArgumentForm("<parameter={key}>\n", "\n</parameter>\n", _XML_END),
)
_PAIRS = ToolFormat(
    *("<tool_call>", "<tool_call>", "", "<tool_call>", "", "</tool_call>"),
    ArgumentForm("<arg_key>{key}</arg_key><arg_value>", "</arg_value>", "</tool_call>"),
)
_LINES = ToolFormat(
    *("<tool_call>", "<tool_call>", "\n", "\n<tool_call>", "", "</tool_call>"),
    ArgumentForm("<arg_key>{key}</arg_key>\n<arg_value>", "</arg_value>\n", "</tool_call>"),
)
_LIST = ToolFormat(
    *("<|tool_call_start|>", "<|tool_call_start|>[", "(", "<|tool_call_start|>[", "", ")]<|tool_call_end|>"),
    ArgumentForm("{key}=", "", ")]<|tool_call_end|>", ", ", '"'),
)
_DEEPSEEK_CALL = "<｜tool▁call▁begin｜>"
_DEEPSEEK_END = "<｜tool▁call▁end｜>"
_DEEPSEEK = ToolFormat(
    tag="<｜tool▁calls▁begin｜>",
    start=f"<｜tool▁calls▁begin｜>{_DEEPSEEK_CALL}",
    middle="<｜tool▁sep｜>",
    between=f"{_DEEPSEEK_END}{_DEEPSEEK_CALL}",
    end=f"{_DEEPSEEK_END}<｜tool▁calls▁end｜>",
)
_COGITO_CALL = f"{_DEEPSEEK_CALL}function<｜tool▁sep｜>"
_COGITO = ToolFormat(
    tag="<｜tool▁calls▁begin｜>",
    start=f"<｜tool▁calls▁begin｜>{_COGITO_CALL}",
    middle="\n```json\n",
    between=f"\n```{_DEEPSEEK_END}\n{_COGITO_CALL}",
    end=f"\n```{_DEEPSEEK_END}<｜tool▁calls▁end｜>",
)
_COHERE = ToolFormat(
    tag="<|START_ACTION|>",
    start='<|START_ACTION|>[\n\n    {"tool_call_id": "0", "tool_name": "',
    middle='", "parameters": ',
    between='},\n\n    {"tool_call_id": "1", "tool_name": "',
    end="}\n\n]<|END_ACTION|>",
)
_GEMMA4 = ToolFormat(
    *("<|tool_call>", "<|tool_call>call:", "{", "<|tool_call>call:", "", "}<tool_call|>"),
    ArgumentForm("{key}:", "", "}<tool_call|>", ",", '<|"|>'),
)
_FUNCTIONGEMMA_CALL = "<start_function_call>call:"
_FUNCTIONGEMMA_END = "}<end_function_call>"
_FUNCTIONGEMMA = ToolFormat(
    *("<start_function_call>", _FUNCTIONGEMMA_CALL, "{", _FUNCTIONGEMMA_CALL, "", _FUNCTIONGEMMA_END),
    ArgumentForm("{key}:", "", _FUNCTIONGEMMA_END, ",", "<escape>"),
)
_OLMO3 = ToolFormat(
    *("<function_calls>", "<function_calls>", "(", "\n<function_calls>", "", "</function_calls>"),
    ArgumentForm("{key}=", "", ")</function_calls>", ", ", '"'),
)
_MINISTRAL = ToolFormat("[TOOL_CALLS]", "[TOOL_CALLS]", "[ARGS]", "[TOOL_CALLS]", "")
_ATEM_END = "</atem:function_calls>"
_GLIMMER = ToolFormat(
    tag=" to=",
    start=" to=",
    middle='<|message|><atem:function_calls>\n<atem:invoke name="',
    between="<|eom|><|start|>assistant to=",
    end="",
    arguments_end=_ATEM_END,
    arguments=ArgumentForm(
        key='<atem:parameter name="{key}">',
        close="</atem:parameter>\n",
        ending=f"</atem:invoke>\n{_ATEM_END}",
        opening='{name}">\n',
    ),
)
_COHERE_THINKING = ("<|START_THINKING|>", "<|END_THINKING|>")
_GEMMA4_THINKING = ("<|channel>thought", "<channel|>")
_GLIMMER_THINKING = (" to=self<|message|>", "<|eom|><|start|>assistant")

FORMS: Mapping[str, AnswerForm] = {
    "cogito": AnswerForm(_THINK, _COGITO),
    "cohere": AnswerForm(_COHERE_THINKING, _COHERE, "<|START_TEXT|>"),
    "deepseek3": AnswerForm(_THINK, _DEEPSEEK),
    "functiongemma": AnswerForm(calls=_FUNCTIONGEMMA),
    "gemma4": AnswerForm(_GEMMA4_THINKING, _GEMMA4),
    "gemma4-no-thinking": AnswerForm(calls=_GEMMA4),
    "glimmer": AnswerForm(_GLIMMER_THINKING, _GLIMMER, " to=user<|message|>"),
    "glm-4.7": AnswerForm(_THINK, _PAIRS),
    "glm-ocr": AnswerForm(_THINK, _PAIRS),
    "laguna": AnswerForm(_THINK, _LINES),
    "lfm2": AnswerForm(calls=_LIST),
    "lfm2-thinking": AnswerForm(_THINK, _LIST),
    "ministral": AnswerForm(("[THINK]", "[/THINK]"), _MINISTRAL),
    "nemotron-3-nano": AnswerForm(_THINK, _XML),
    "nemotron-3.5-nano": AnswerForm(_THINK, _XML),
    "olmo3": AnswerForm(calls=_OLMO3),
    "olmo3-think": AnswerForm(_THINK),
    "ornith": AnswerForm(_THINK, _XML),
    "poolside-v1": AnswerForm(_THINK, _PAIRS),
    "qwen3": AnswerForm(calls=GENERIC_FORMAT),
    "qwen3-coder": AnswerForm(calls=_XML),
    "qwen3-thinking": AnswerForm(_THINK, GENERIC_FORMAT),
    "qwen3-vl-instruct": AnswerForm(calls=GENERIC_FORMAT),
    "qwen3-vl-thinking": AnswerForm(_THINK, GENERIC_FORMAT),
    "qwen3.5": AnswerForm(_THINK, _XML),
}
