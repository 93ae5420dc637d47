"""Turns what the answer must match into fields of the engine's requests. `inference/` calls it, whatever the way.

One pass, also for thinking models: the thinking is part of the grammar, and a thinking budget is a bound inside it.
What comes here was checked (checks.py); the whole of a grammar still is to be, by who sends it.

/completion          engine_fields: format, tools, thinking and its budget
/v1/chat/completions chat_fields: format and budget, where nothing else is in the answer
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from corral.constraint.arguments import ArgumentGrammar
from corral.constraint.compiling import ANY_OBJECT
from corral.constraint.engineschema import engine_schema
from corral.constraint.gbnf import gbnf_after_thinking, gbnf_behind, gbnf_choice
from corral.constraint.lark import Lark
from corral.constraint.meeting import CannotHold
from corral.constraint.schema import Schema
from corral.core import Constraint, Notice, Tool, ToolChoice
from corral.errors import InvalidRequest
from corral.prompt.toolformat import ToolFormat

_MAX_GRAMMAR_BYTES = 2 << 20
MAX_CALLS = 16  # in one answer: a small model that repeats itself would call for ever


@dataclass(frozen=True, slots=True)
class Thinking:
    """The thinking of a reply: its tags, whether the prompt already opened it, and its budget in tokens.

    lead: what the reply must begin with, because it was taken off the prompt (see `reopen`).
    """

    open_tag: str
    close_tag: str
    inside: bool = False
    budget: int | None = None
    lead: str = ""


@dataclass(frozen=True, slots=True)
class ToolGrammar:
    """The calls a reply may make, and how the model writes them. schemas: of their arguments, by the tools' names."""

    tools: tuple[Tool, ...]
    choice: ToolChoice
    format: ToolFormat
    schemas: Mapping[str, Schema] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineFields:
    """Members for the body of an engine request, and what the caller must be told."""

    body: dict[str, Any] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()


def reopen(
    prompt: str, thinking: Thinking | None, constraint: Constraint | None = None, *, llguidance: bool = True
) -> tuple[str, Thinking | None]:
    """The prompt and its thinking, so that a budget can be counted.

    The engine counts from an opening tag that it sees being written; one that ends the prompt is taken off it, and the
    grammar makes the model write it. Not with a client's own GBNF, where the tag may come out as other tokens.
    """
    own = constraint is not None and constraint.kind == "grammar"
    if thinking is None or not thinking.inside or not thinking.budget or own or not llguidance:
        return prompt, thinking
    cut = prompt.rfind(thinking.open_tag)
    return prompt[:cut], replace(thinking, inside=False, lead=prompt[cut:])


def engine_fields(
    constraint: Constraint | None = None,
    *,
    thinking: Thinking | None = None,
    tools: ToolGrammar | None = None,
    specials: Mapping[str, int] | None = None,
    ends: Sequence[int] = (),
    opening: str = "",
    llguidance: bool = True,
) -> EngineFields:
    """Fields for /completion; raises InvalidRequest. `constraint`: as checks.check_constraint returns it.

    `specials`: tags that are control tokens of the model, by text, with their ids (see `special_token`).
    `ends`: tokens that end the model's turn. `opening`: what the model writes before text, behind its thinking.
    `llguidance`: whether the engine was built with it; without it, only what GBNF and json_schema can say is enforced.
    """
    if tools is not None and not _binds(tools):
        tools = None
    if constraint is None and tools is None:
        return _budget_only(thinking, Lark(specials or {}, ends))
    if constraint is not None and constraint.kind == "grammar":
        return _user_grammar(constraint.value, thinking, (), opening)
    if not llguidance:
        return _without_llguidance(constraint, thinking, tools)
    lark = Lark(specials or {}, ends)
    answer, notices = _answer(lark, constraint, tools, opening)
    text = lark.text(_with_thinking(lark, thinking, answer))
    if len(text) > _MAX_GRAMMAR_BYTES:
        raise InvalidRequest("the tools' schemas and the format make too large a grammar", field="tools")
    if thinking is None or thinking.budget is None:
        return EngineFields({"grammar": text}, notices)
    if thinking.inside:
        notices = (*notices, _unbounded(thinking.budget))
    return EngineFields({"grammar": text, **_budget_fields(thinking)}, notices)


def chat_fields(
    constraint: Constraint | None = None,
    *,
    budget: int | None = None,
    ends: Sequence[int] = (),
    llguidance: bool = True,
) -> EngineFields:
    """Fields for /v1/chat/completions, where the engine itself knows the model's thinking tags.

    For an engine with llguidance the grammar is ours, which stands for the whole answer: with thinking or tools the
    constraint belongs on /completion.
    """
    body: dict[str, Any] = {} if budget is None else {"thinking_budget_tokens": budget}
    if constraint is None:
        return EngineFields(body)
    if not llguidance and constraint.kind == "schema":
        form = {"name": "schema", "schema": _engine_schema(constraint.value)}
        return EngineFields({**body, "response_format": {"type": "json_schema", "json_schema": form}})
    fields = engine_fields(constraint, ends=ends, llguidance=llguidance)
    return EngineFields(body | fields.body, fields.notices)


def special_token(with_specials: Sequence[int], without_specials: Sequence[int]) -> int | None:
    """The id of a tag that is one control token: its tokens with and without `parse_special` tell."""
    if len(with_specials) == 1 and list(with_specials) != list(without_specials):
        return with_specials[0]
    return None


def _binds(tools: ToolGrammar) -> bool:
    """Whether there is a call to bind; in auto mode neither bare JSON, which may be no call, nor free arguments."""
    if not tools.tools or tools.choice.mode == "none":
        return False
    return tools.choice.mode != "auto" or (tools.format.tag not in ("{", "[") and not tools.format.arguments_end)


def _answer(
    lark: Lark, constraint: Constraint | None, tools: ToolGrammar | None, opening: str
) -> tuple[str, tuple[Notice, ...]]:
    text = "" if constraint is None else _constrained(lark, constraint)
    if text and opening:
        text = f"{lark.literal(opening)} {text}"
    if tools is None:
        return text, ()
    forced = tools.choice.mode in ("required", "named")
    calls, notices = _calls(lark, tools, anywhere=not forced and not text)
    return calls if forced else lark.rule(f"{calls} | {text or lark.free_text()}"), notices


def _constrained(lark: Lark, constraint: Constraint) -> str:
    match constraint.kind:
        case "schema":
            return lark.json(constraint.value)
        case "regex":
            return lark.regex(constraint.value)
        case _:
            return lark.rule(" | ".join(lark.literal(choice) for choice in constraint.value))


def _calls(lark: Lark, tools: ToolGrammar, *, anywhere: bool) -> tuple[str, tuple[Notice, ...]]:
    """One or more calls of the tools that may be called, arguments held to their schemas; `anywhere`: behind text."""
    chosen = [tool for tool in tools.tools if tools.choice.mode != "named" or tool.name == tools.choice.name]
    if not chosen:
        raise InvalidRequest(
            f'tool_choice names "{tools.choice.name}", which is not among the tools', field="tool_choice"
        )
    notices: list[Notice] = []
    arms = []
    for tool in chosen:
        name, arguments = _named_arguments(lark, tool, tools, notices)
        arms.append(lark.literal(name + tools.format.middle) + " " + arguments)
    call = lark.rule(" | ".join(arms))
    start, end = lark.literal(tools.format.start), lark.literal(tools.format.end)
    if anywhere:
        rest = tools.format.start.removeprefix(tools.format.tag)
        start = f"{lark.through(tools.format.tag)} {lark.literal(rest)}"
    more = f" ({lark.literal(tools.format.between)} {call}){{0,{MAX_CALLS - 1}}}" if tools.choice.parallel else ""
    return lark.rule(f"{start} {call}{more} {end}"), tuple(notices)


def _named_arguments(lark: Lark, tool: Tool, tools: ToolGrammar, notices: list[Notice]) -> tuple[str, str]:
    """A tool's name as calls spell it, and a rule for its arguments; free ones are told."""
    form, schema = tools.format, tools.schemas.get(tool.name, ANY_OBJECT)
    if not form.arguments_end:
        return json.dumps(tool.name)[1:-1], lark.json(schema)
    return tool.name, _written_arguments(lark, tool, form, schema, notices) or lark.across(form.arguments_end)


def _written_arguments(lark: Lark, tool: Tool, form: ToolFormat, schema: Schema, notices: list[Notice]) -> str:
    """A rule for arguments that are not one JSON object; "" (with a Notice) where they cannot be held to a schema."""

    def tell(why: str) -> None:
        notices.append(Notice("tool_schema_not_enforced", f'tool "{tool.name}": {why}', {"tool": tool.name}))

    if form.arguments is None:
        tell("its arguments are not held to their schema, since this model does not write JSON")
        return ""
    grammar = ArgumentGrammar(lark, form.arguments, schema)
    if not grammar.names_any:
        tell("its arguments are not held to their schema, which names none")
        return ""
    try:
        rule = grammar.rule(tool.name)
    except InvalidRequest as error:
        tell(str(error))
        return ""
    if grammar.loosened:
        tell(f"these are any text here, whatever their schema says: {', '.join(grammar.loosened)}")
    return rule


def _with_thinking(lark: Lark, thinking: Thinking | None, answer: str) -> str:
    if thinking is None:
        return answer
    blanks = lark.rule("/\\s{0,4}/", terminal=True)
    thought = f"{lark.through(thinking.close_tag)} {blanks}"
    if thinking.inside:
        return f"{thought} {answer}"
    if thinking.lead:
        return f"{lark.literal(thinking.lead)} {thought} {answer}"
    return f"({lark.literal(thinking.open_tag)} {thought})? {answer}"


def _budget_only(thinking: Thinking | None, lark: Lark) -> EngineFields:
    """Nothing to match, but perhaps a bound on the thinking."""
    if thinking is None or thinking.budget is None:
        return EngineFields()
    if thinking.inside:
        return EngineFields(notices=(_unbounded(thinking.budget),))
    body = _budget_fields(thinking)
    if thinking.lead:
        lead = lark.literal(thinking.lead)
        body["grammar"] = lark.text(f"{lead} {lark.through(thinking.close_tag)} {lark.anything()}")
    return EngineFields(body)


def _budget_fields(thinking: Thinking) -> dict[str, Any]:
    return {
        "reasoning_budget_tokens": thinking.budget,
        "reasoning_budget_start_tag": thinking.open_tag,
        "reasoning_budget_end_tags": [thinking.close_tag],
        "reasoning_budget_message": "",
    }


def _unbounded(budget: int) -> Notice:
    text = f"the thinking budget of {budget} tokens is not enforced together with this format"
    return Notice("think_budget_not_enforced", text, {"budget": budget})


def _user_grammar(
    grammar: str, thinking: Thinking | None, notices: tuple[Notice, ...], opening: str = ""
) -> EngineFields:
    """A client's GBNF stays GBNF; the thinking and the opening of text are written in front of it."""
    if thinking is None:
        return EngineFields({"grammar": gbnf_behind(opening, grammar) if opening else grammar}, notices)
    close_tag = thinking.close_tag + opening
    text = gbnf_after_thinking(grammar, thinking.open_tag, close_tag, inside=thinking.inside)
    body: dict[str, Any] = {"grammar": text}
    if thinking.budget is not None and not thinking.inside:
        body.update(_budget_fields(thinking))
    elif thinking.budget is not None:
        notices = (*notices, _unbounded(thinking.budget))
    return EngineFields(body, notices)


def _without_llguidance(
    constraint: Constraint | None, thinking: Thinking | None, tools: ToolGrammar | None
) -> EngineFields:
    """For an engine built without llguidance: its own JSON grammars, no bound calls."""
    notices: tuple[Notice, ...] = ()
    if tools is not None:
        notices = (Notice("tool_grammar_unavailable", "this engine cannot hold tool calls to their schemas"),)
    if constraint is None:
        return EngineFields({}, notices)
    if constraint.kind == "regex":
        raise InvalidRequest("this engine does not support regex constraints", field="regex")
    if constraint.kind == "choice":
        inner = _user_grammar(gbnf_choice(constraint.value), thinking, notices)
        return EngineFields(inner.body, inner.notices)
    body: dict[str, Any] = {"json_schema": _engine_schema(constraint.value)}
    if thinking is not None:
        # A lazy grammar sets in behind the closing tag; pattern triggers are type 2, group 1 is the grammar's start.
        trigger = {"type": 2, "value": _closing_pattern(thinking.close_tag)}
        body |= {"grammar_lazy": True, "grammar_triggers": [trigger]}
    return EngineFields(body, notices)


def _engine_schema(schema: Schema) -> dict[str, Any]:
    try:
        return engine_schema(schema)
    except CannotHold as error:
        raise InvalidRequest(f"invalid format: {error} (at {error.place or '#'})", field="format") from error


def _closing_pattern(close_tag: str) -> str:
    escaped = "".join("\\" + char if char in r"\.^$|()[]{}*+?" else char for char in close_tag)
    return f"{escaped}\\s*([\\s\\S]*)"
