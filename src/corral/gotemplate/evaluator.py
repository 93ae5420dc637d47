"""Executes the tree of a Go template over data. `Template.execute` calls it; pure, and bounded.

A template may come from a stranger, so every run has a limit of steps, of characters made, of nesting and of time.
Source of the semantics: Go text/template exec.go; what templates see is in spec models §5.1 and §5.2.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from corral.errors import TemplateError
from corral.gotemplate import functions
from corral.gotemplate.lexer import Positions
from corral.gotemplate.nodes import (
    Action,
    Branch,
    Break,
    Chain,
    Command,
    Continue,
    Dot,
    Field,
    Function,
    Literal,
    Node,
    NodeList,
    Pipe,
    Range,
    TemplateCall,
    Text,
    Variable,
    With,
)
from corral.gotemplate.values import Struct, format_value, is_true, type_name

MAX_DEPTH = 60  # lists and template calls inside one another: Python's own stack is the reason
_CHECK_CLOCK_EVERY = 1024  # steps
_NOTHING: Any = object()  # no value piped in


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one execution; `max_output` counts characters, also of values that functions make."""

    max_output: int
    max_steps: int
    max_seconds: float


class _BreakLoop(Exception):
    pass


class _ContinueLoop(Exception):
    pass


class Evaluator:
    """One execution."""

    def __init__(self, source: str, defined: Mapping[str, NodeList], limits: Limits) -> None:
        self._source = source
        self._defined = defined
        self._limits = limits
        self._output: list[str] = []
        self._made = 0
        self._steps = 0
        self._depth = 0
        self._deadline = time.monotonic() + limits.max_seconds
        self._variables: list[tuple[str, Any]] = []

    def run(self, root: NodeList, data: Any) -> str:
        """The text the tree makes of `data`; raises TemplateError."""
        self._variables = [("$", data)]
        try:
            self._list(root, data)
        except RecursionError as error:
            raise TemplateError("exceeded maximum depth of values") from error
        return "".join(self._output)

    # Bounds

    def _fail(self, why: str, node: Node) -> TemplateError:
        line = self._source[node.pos : node.pos + 60].split("\n")[0].split("}}")[0].strip()
        positions = Positions(self._source)
        if not line:
            return positions.error(why, node.pos)
        return positions.error(f'executing "" at <{line.removeprefix("{{").strip("- ")}>: {why}', node.pos)

    def _step(self, node: Node) -> None:
        self._steps += 1
        if self._steps > self._limits.max_steps:
            raise self._fail(f"more than {self._limits.max_steps} steps", node)
        if self._steps % _CHECK_CLOCK_EVERY == 0 and time.monotonic() > self._deadline:
            raise self._fail(f"took longer than {self._limits.max_seconds:g} s", node)

    def _account(self, text: str, node: Node) -> None:
        self._made += len(text)
        if self._made > self._limits.max_output:
            raise self._fail(f"made more than {self._limits.max_output} characters", node)

    # Nodes

    def _list(self, nodes: NodeList, dot: Any) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._fail("exceeded maximum template depth", nodes)
        for node in nodes.nodes:
            self._node(node, dot)
        self._depth -= 1

    def _node(self, node: Node, dot: Any) -> None:
        self._step(node)
        match node:
            case Text(text=text):
                self._account(text, node)
                self._output.append(text)
            case Action(pipe=pipe):
                value = self._pipe(pipe, dot)
                if not pipe.declares:
                    self._write(value, node)
            case Range():
                self._range(node, dot)
            case Branch():
                self._branch(node, dot)
            case TemplateCall():
                self._template(node, dot)
            case Break():
                raise _BreakLoop
            case Continue():
                raise _ContinueLoop
            case _:
                raise self._fail("unknown node", node)

    def _write(self, value: Any, node: Node) -> None:
        text = format_value(value, nil="<no value>")
        self._account(text, node)
        self._output.append(text)

    def _branch(self, node: Branch, dot: Any) -> None:
        mark = len(self._variables)
        value = self._pipe(node.pipe, dot)
        if is_true(value):
            self._list(node.body, value if isinstance(node, With) else dot)
        elif node.orelse is not None:
            self._list(node.orelse, dot)
        del self._variables[mark:]

    def _range(self, node: Range, dot: Any) -> None:
        mark = len(self._variables)
        depth = self._depth
        value = self._pipe(node.pipe, dot, in_range=True)
        count = 0
        for key, element in self._elements(value, node):
            count += 1
            self._step(node)
            self._set_loop_variables(node, key, element, counts=isinstance(value, int))
            try:
                self._list(node.body, element)
            except _ContinueLoop:
                self._depth = depth
            except _BreakLoop:
                self._depth = depth
                break
            del self._variables[mark:]
        del self._variables[mark:]
        if count == 0 and node.orelse is not None:
            self._list(node.orelse, dot)

    def _elements(self, value: Any, node: Range) -> Iterable[tuple[Any, Any]]:
        match value:
            case None:
                return ()
            case bool() | float() | str() | Struct():
                raise self._fail(f"range can't iterate over {format_value(value)}", node.pipe)
            case int():
                return ((index, index) for index in range(value))
            case Mapping():
                return ((key, value[key]) for key in sorted(value))
            case _:
                return enumerate(value)

    def _set_loop_variables(self, node: Range, key: Any, element: Any, *, counts: bool) -> None:
        names = node.pipe.declares
        if counts and len(names) > 1:
            raise self._fail("can't use an integer to iterate over more than one variable", node.pipe)
        values = (element,) if len(names) == 1 else (key, element)
        for name, value in zip(names, values, strict=False):
            if node.pipe.assigns:
                self._assign(name, value)
            else:
                self._variables.append((name, value))

    def _template(self, node: TemplateCall, dot: Any) -> None:
        tree = self._defined.get(node.name)
        if tree is None:
            raise self._fail(f'template "{node.name}" not defined', node)
        data = self._pipe(node.pipe, dot)
        outer, self._variables = self._variables, [("$", data)]
        self._list(tree, data)
        self._variables = outer

    # Pipelines

    def _pipe(self, pipe: Pipe, dot: Any, *, in_range: bool = False) -> Any:
        value: Any = _NOTHING
        for command in pipe.commands:
            value = self._command(command, dot, value)
        if in_range:
            return value  # the loop sets its variables itself, once an element
        for name in pipe.declares:
            if pipe.assigns:
                self._assign(name, value)
            else:
                self._variables.append((name, value))
        return value

    def _assign(self, name: str, value: Any) -> None:
        for index in range(len(self._variables) - 1, -1, -1):
            if self._variables[index][0] == name:
                self._variables[index] = (name, value)
                return

    def _command(self, command: Command, dot: Any, final: Any) -> Any:
        self._step(command)
        first, *rest = command.args
        if isinstance(first, Function):
            return self._call(first, rest, dot, final)
        if rest or final is not _NOTHING:
            raise self._fail("can't give argument to non-function", first)
        return self._value(first, dot)

    def _call(self, function: Function, args: list[Node], dot: Any, final: Any) -> Any:
        name = function.name
        try:
            if name in functions.SHORT_CIRCUIT:
                return self._short_circuit(name, args, dot, final)
            values = [self._argument(arg, dot) for arg in args]
            if final is not _NOTHING:
                values.append(final)
            result = functions.call(name, values)
        except ValueError as error:
            raise self._fail(f"error calling {name}: {error}", function) from error
        if isinstance(result, str):
            self._account(result, function)
        return result

    def _short_circuit(self, name: str, args: list[Node], dot: Any, final: Any) -> Any:
        functions.check_count(name, len(args) + (final is not _NOTHING))
        value: Any = None
        for arg in args:
            value = self._argument(arg, dot)
            if is_true(value) == (name == "or"):
                return value
        return value if final is _NOTHING else final

    def _argument(self, node: Node, dot: Any) -> Any:
        if isinstance(node, Function):
            return self._call(node, [], dot, _NOTHING)
        return self._value(node, dot)

    def _value(self, node: Node, dot: Any) -> Any:
        match node:
            case Dot():
                return dot
            case Field(names=names):
                return self._fields(dot, names, node)
            case Variable(names=names):
                return self._fields(self._lookup(names[0], node), names[1:], node)
            case Literal(value=value):
                return value
            case Pipe():
                return self._pipe(node, dot)
            case Chain(node=inner, names=names):
                return self._fields(self._argument(inner, dot), names, node)
            case _:
                raise self._fail("unknown operand", node)

    def _lookup(self, name: str, node: Node) -> Any:
        for known, value in reversed(self._variables):
            if known == name:
                return value
        raise self._fail(f"undefined variable: {name}", node)

    def _fields(self, value: Any, names: tuple[str, ...], node: Node) -> Any:
        for name in names:
            match value:
                case Struct(fields=fields) if name in fields:
                    value = fields[name]
                case Mapping():
                    value = value.get(name)
                case None:
                    raise self._fail(f"nil pointer evaluating interface {{}}.{name}", node)
                case _:
                    raise self._fail(f"can't evaluate field {name} in type {type_name(value)}", node)
        return value
