"""What the engine is told about formats, tools and thinking.

The grammars were run on the real engine when they were written; here their form is pinned, because the engine takes
a grammar that it cannot compile for none at all.
"""

from __future__ import annotations

import json
import re

import pytest
from tests.unit.constraint.matching import begins, matches, ready

from corral.constraint.compiling import ANY_OBJECT
from corral.constraint.fields import (
    EngineFields,
    Thinking,
    ToolGrammar,
    chat_fields,
    engine_fields,
    reopen,
    special_token,
)
from corral.core import Constraint, Tool, ToolChoice
from corral.errors import InvalidRequest
from corral.prompt.toolformat import GENERIC_FORMAT, ToolFormat

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
BOUND = Constraint("schema", ready(SCHEMA))
JSON = Constraint("schema", ANY_OBJECT)
CHOICE = Constraint("choice", ["a"])
THINK = Thinking("<think>", "</think>")
INSIDE = Thinking("<think>", "</think>", inside=True)
TOOLS = (Tool("add", parameters=SCHEMA), Tool("stop"))


def grammar(fields: EngineFields) -> str:
    assert set(fields.body) == {"grammar"}
    text: str = fields.body["grammar"]
    return text


def rules(text: str) -> dict[str, str]:
    assert re.match(r'%llguidance (\{\}|\{"no_forcing": true\})\nstart: ', text)
    return dict(line.split(": ", 1) for line in text.splitlines()[1:] if line)


def bound(choice: ToolChoice, form: ToolFormat = GENERIC_FORMAT) -> ToolGrammar:
    return ToolGrammar(TOOLS, choice, form, {"add": ready(SCHEMA)})


def test_a_schema_alone_is_the_whole_grammar() -> None:
    text = grammar(engine_fields(BOUND))
    assert matches(text, '{"a": 1}')
    assert not begins(text, " ")
    assert not begins(text, '{"b')


def test_json_means_one_object() -> None:
    text = grammar(engine_fields(JSON))
    assert matches(text, '{"a": [1, {"b": null}], "c": -1.5e3}')
    assert not begins(text, "[")


def test_choice_and_regex() -> None:
    assert rules(grammar(engine_fields(Constraint("choice", ["red", 'a"\nb']))))["r1"] == '"red" | "a\\"\\nb"'
    assert rules(grammar(engine_fields(Constraint("regex", ("(?:a)", "(?:b)")))))["T1"] == "/(?:a)/ & /(?:b)/"


def test_thinking_is_part_of_the_grammar_and_optional_unless_begun() -> None:
    free = rules(grammar(engine_fields(BOUND, thinking=THINK)))
    assert re.fullmatch(r'\("<think>" (r\d+) T\d+\)\? r\d+', free["start"])
    begun = rules(grammar(engine_fields(BOUND, thinking=INSIDE)))
    assert re.fullmatch(r"r\d+ T\d+ r\d+", begun["start"])
    lazy = grammar(engine_fields(BOUND, thinking=INSIDE))
    assert re.search(r"^r\d+\[lazy\]: /\(\?s:\.\*\)<\\/think>/$", lazy, re.MULTILINE)


def test_tags_that_are_control_tokens_are_written_as_such() -> None:
    text = grammar(engine_fields(JSON, thinking=THINK, specials={"<think>": 7, "</think>": 8}))
    assert "<[7]>" in rules(text)["start"]
    assert "<[8]>" in rules(text)["start"]


def test_control_tokens_within_a_tag_are_written_as_such_too() -> None:
    tags = Thinking("<|a|>analysis<|m|>", "<|end|>assistant<|a|>final<|m|>")
    specials = {"<|a|>": 1, "<|m|>": 2, "<|end|>": 3}
    made = rules(grammar(engine_fields(CHOICE, thinking=tags, specials=specials)))
    assert made["start"] == '(<[1]> "analysis" <[2]> T3 <[3]> "assistant" <[1]> "final" <[2]> T2)? r1'
    assert made["T3"] == "/(?s:.*)/"


def test_text_before_the_first_control_token_of_a_tag_ends_the_thinking_with_it() -> None:
    tags = Thinking("<think>", "done.<|end|>")
    made = rules(grammar(engine_fields(CHOICE, thinking=tags, specials={"<|end|>": 3})))
    assert made["start"] == '("<think>" T3 <[3]> T2)? r1'
    assert made["T3"] == "/(?s:.*)done\\./"


def test_a_thinking_budget_is_the_engines_in_every_case() -> None:
    engine = engine_fields(thinking=Thinking("<think>", "</think>", budget=9)).body
    assert engine["reasoning_budget_tokens"] == 9
    assert engine["reasoning_budget_start_tag"] == "<think>"
    assert engine["reasoning_budget_end_tags"] == ["</think>"]
    assert "grammar" not in engine
    both = engine_fields(JSON, thinking=Thinking("<think>", "</think>", budget=9)).body
    assert (both["reasoning_budget_tokens"], "grammar" in both) == (9, True)
    assert engine_fields(thinking=THINK) == EngineFields()


def test_a_budget_behind_an_opened_tag_moves_the_tag_into_the_reply() -> None:
    budget = Thinking("<think>", "</think>", inside=True, budget=9)
    prompt, moved = reopen("hi <think>\n", budget)
    assert (prompt, moved) == ("hi ", Thinking("<think>", "</think>", budget=9, lead="<think>\n"))
    alone = engine_fields(thinking=moved, specials={"<x>": 5})
    assert alone.body["reasoning_budget_tokens"] == 9
    assert rules(alone.body["grammar"])["start"].startswith('"<think>\\n" r')
    assert "<[5]>" in alone.body["grammar"]  # the rest may hold any control token the caller knows
    with_json = engine_fields(JSON, thinking=moved).body["grammar"]
    assert '"<think>\\n"' in rules(with_json)["start"]
    own = Constraint("grammar", 'root ::= "a"')
    for unmoved in (reopen("<think>", budget, own), reopen("<think>", budget, llguidance=False)):
        assert unmoved == ("<think>", budget)
    assert [notice.code for notice in engine_fields(thinking=budget).notices] == ["think_budget_not_enforced"]
    assert reopen("<think>", INSIDE) == ("<think>", INSIDE)


def test_the_models_own_end_of_turn_ends_every_answer() -> None:
    text = grammar(engine_fields(Constraint("regex", ("a+",)), ends=(2, 7)))
    assert re.search(r"^start: r\d+ \(<\[2,7\]>\)\?$", text, re.MULTILINE)


def test_required_calls_leave_no_other_text() -> None:
    text = rules(grammar(engine_fields(tools=bound(ToolChoice("required", parallel=False)))))
    call = text[text["start"]]
    assert call.startswith(json.dumps(GENERIC_FORMAT.start))
    assert call.endswith(json.dumps(GENERIC_FORMAT.end))
    assert "){0,15}" not in call
    assert '"add\\", \\"arguments\\": "' in "".join(text.values())


def test_parallel_calls_repeat() -> None:
    text = rules(grammar(engine_fields(tools=bound(ToolChoice("required")))))
    assert "){0,15}" in text[text["start"]]


def test_a_named_tool_is_the_only_one() -> None:
    text = grammar(engine_fields(tools=bound(ToolChoice("named", name="stop"))))
    assert "stop" in text
    assert '"add\\"' not in text
    with pytest.raises(InvalidRequest, match='"nope"'):
        engine_fields(tools=bound(ToolChoice("named", name="nope")))


def test_auto_lets_text_be_and_binds_a_call_once_it_starts() -> None:
    text = rules(grammar(engine_fields(tools=bound(ToolChoice("auto")))))
    assert re.fullmatch(r"r\d+ \| T\d+", text[text["start"]])
    whole = grammar(engine_fields(tools=bound(ToolChoice("auto"))))
    assert re.search(r"^r\d+\[lazy\]: /\(\?s:\.\*\)<tool_call>/$", whole, re.MULTILINE)


def test_auto_with_a_bare_tag_binds_nothing() -> None:
    bare = ToolFormat("{", '{"name": "', '", "arguments": ', '}\n{"name": "', "}")
    assert engine_fields(tools=bound(ToolChoice("auto"), bare)) == EngineFields()
    assert engine_fields(tools=bound(ToolChoice("required"), bare)).body


def test_a_format_beside_tools_allows_either() -> None:
    text = rules(grammar(engine_fields(JSON, tools=bound(ToolChoice("auto")))))
    assert re.fullmatch(r"r\d+ \| r\d+", text[text["start"]])


def test_arguments_are_held_to_their_schema_or_are_any_object() -> None:
    text = grammar(engine_fields(tools=bound(ToolChoice("required", parallel=False))))
    start, end = GENERIC_FORMAT.start, GENERIC_FORMAT.end
    assert matches(text, f'{start}add", "arguments": {{"a": 1}}{end}')
    assert not begins(text, f'{start}add", "arguments": {{"b')
    assert matches(text, f'{start}stop", "arguments": {{"b": 2}}{end}')


def test_free_arguments_end_with_their_mark_and_control_tokens_may_stand_in_them() -> None:
    free = ToolFormat("<call>", "<call>call:", "{", "<call>call:", "", "}<end>")
    specials = {"<call>": 5, "<end>": 6, "<q>": 7}
    fields = engine_fields(tools=bound(ToolChoice("required", parallel=False), free), specials=specials)
    text = rules(grammar(fields))
    assert text[text["start"]].startswith('<[5]> "call:" r')
    assert [body for body in text.values() if "<[7]>" in body] == ["(T1 | <[5]> | <[7]>)*", "(T3 | <[5]> | <[7]>)*"]
    assert '"add{" r2 <[6]> | "stop{" r4 <[6]>' in text.values()
    assert {notice.code for notice in fields.notices} == {"tool_schema_not_enforced"}
    assert engine_fields(tools=bound(ToolChoice("auto"), free)) == EngineFields()
    plain = rules(grammar(engine_fields(tools=bound(ToolChoice("required"), free))))
    assert r"/(?s:.*)\}<end>/" in plain.values()


def test_what_stands_before_text_stands_before_the_bound_text_and_not_before_calls() -> None:
    fields = engine_fields(CHOICE, tools=bound(ToolChoice("auto")), opening="<text>", specials={"<text>": 4})
    text = rules(grammar(fields))
    assert re.fullmatch(r"r\d+ \| <\[4\]> r1", text[text["start"]])
    own = 'root ::= "a"'
    assert grammar(engine_fields(Constraint("grammar", own), opening="<t>")) == (
        'root ::= "<t>" answer-root\nanswer-root ::= "a"\n'
    )
    behind = grammar(engine_fields(Constraint("grammar", own), thinking=INSIDE, opening="!"))
    assert 'thought-8 ::= "!"' in behind


def test_gbnf_stays_gbnf_and_gets_its_thinking_in_front() -> None:
    own = 'root ::= "root" rooty [root]\nrooty ::= "y"  # root'
    assert engine_fields(Constraint("grammar", own)).body == {"grammar": own}
    text = grammar(engine_fields(Constraint("grammar", own), thinking=INSIDE))
    assert text.startswith("root ::= thought-0 ")
    assert 'answer-root ::= "root" rooty [root]\nrooty ::= "y"  # root' in text
    assert 'thought-7 ::= "/" thought-0 | "<" thought-1 | ">" | ' in text
    assert '"<think>"' in grammar(engine_fields(Constraint("grammar", own), thinking=THINK))
    budget = engine_fields(Constraint("grammar", own), thinking=Thinking("<a>", "</a>", inside=True, budget=3))
    assert [notice.code for notice in budget.notices] == ["think_budget_not_enforced"]


def test_an_engine_without_llguidance_gets_json_schema_and_gbnf() -> None:
    plain = engine_fields(BOUND, llguidance=False)
    assert plain.body == {"json_schema": {**SCHEMA, "additionalProperties": False}}
    lazy = engine_fields(JSON, thinking=INSIDE, llguidance=False).body
    assert lazy["grammar_lazy"] is True
    assert re.search(lazy["grammar_triggers"][0]["value"], "hm</think>\n{").group(1) == "{"  # type: ignore[union-attr]
    assert engine_fields(Constraint("choice", ["a", '"']), llguidance=False).body == {"grammar": 'root ::= "a" | "\\""'}
    with pytest.raises(InvalidRequest, match="regex"):
        engine_fields(Constraint("regex", ("a",)), llguidance=False)
    calls = engine_fields(tools=bound(ToolChoice("required")), llguidance=False)
    assert [notice.code for notice in calls.notices] == ["tool_grammar_unavailable"]


def test_what_an_engine_without_llguidance_cannot_hold_is_refused_with_its_place() -> None:
    pattern = Constraint("schema", ready({"properties": {"a": {"type": "string", "pattern": "^a+$"}}}))
    with pytest.raises(InvalidRequest, match=r"no patterns.*\(at #/properties/a\)"):
        engine_fields(pattern, llguidance=False)


def test_the_chat_endpoint_gets_the_grammar_and_the_budget() -> None:
    both = chat_fields(BOUND, budget=5, ends=(2,)).body
    assert both["thinking_budget_tokens"] == 5
    assert both["grammar"] == engine_fields(BOUND, ends=(2,)).body["grammar"]
    assert "grammar" in chat_fields(Constraint("choice", ["a"])).body
    assert chat_fields().body == {}


def test_the_chat_endpoint_of_an_engine_without_llguidance_gets_a_response_format() -> None:
    form = chat_fields(BOUND, llguidance=False).body["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["schema"]["additionalProperties"] is False


def test_special_tokens_are_single_and_differ_from_their_text() -> None:
    assert special_token([5], [1, 2, 3]) == 5
    assert special_token([5], [5]) is None
    assert special_token([1, 2], [1, 2]) is None
