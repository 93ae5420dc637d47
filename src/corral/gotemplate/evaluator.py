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
from corral.goquote import quote
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
    show,
)
from corral.gotemplate.values import Struct, format_value, is_true, type_name

MAX_DEPTH = 60  # lists and template calls inside one another: Python's own stack is the reason
_CHECK_CLOCK_EVERY = 1024  # steps
_NOTHING: Any = object()  # no value piped in
_INT_END = 2**63


@dataclass(slots=True)
class Budget:
    """What all executions for one request may take together: steps, and seconds. Real templates take some ten steps a
    message and some hundred a tool, and a long conversation is rendered a few times until it fits.
    """

    steps: int = 1_000_000
    seconds: float = 3.0

    def spend(self, steps: int, seconds: float) -> None:
        """What an execution took."""
        self.steps = max(0, self.steps - steps)
        self.seconds = max(0.0, self.seconds - seconds)


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

    def __init__(self, source: str, defined: Mapping[str, NodeList], limits: Limits, *, lenient: bool = False) -> None:
        self._lenient = lenient
        self._source = source
        self._defined = defined
        self._limits = limits
        self._output: list[str] = []
        self._made = 0
        self.steps = 0
        self._depth = 0
        self._deadline = time.monotonic() + limits.max_seconds
        self._variables: list[tuple[str, Any]] = []
        self._name = ""  # of the template that runs
        self._at: Node = NodeList(0, ())  # what an error is said of

    def run(self, root: NodeList, data: Any) -> str:
        """The text the tree makes of `data`; raises TemplateError."""
        self._variables = [("$", data)]
        try:
            self._list(root, data)
        except RecursionError as error:
            raise TemplateError("template: exceeded maximum depth of values") from error
        return "".join(self._output)

    # Bounds

    def _fail(self, why: str) -> TemplateError:
        context = f"executing {quote(self._name)} at <{show(self._at)}>: {why}"
        return Positions(self._source).error(context, self._at.pos)

    def _step(self, node: Node) -> None:
        self.steps += 1
        if self.steps > self._limits.max_steps:
            self._at = node
            raise self._fail(f"more than {self._limits.max_steps} steps")
        if self.steps % _CHECK_CLOCK_EVERY == 0 and time.monotonic() > self._deadline:
            self._at = node
            raise self._fail(f"took longer than {self._limits.max_seconds:g} s")

    def _account(self, text: str) -> None:
        self._made += len(text)
        if self._made > self._limits.max_output:
            raise self._fail(f"made more than {self._limits.max_output} characters")

    # Nodes

    def _list(self, nodes: NodeList, dot: Any) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._fail(f"exceeded maximum template depth ({MAX_DEPTH})")
        for node in nodes.nodes:
            self._node(node, dot)
        self._depth -= 1

    def _node(self, node: Node, dot: Any) -> None:
        self._step(node)
        self._at = node
        match node:
            case Text(text=text):
                self._account(text)
                self._output.append(text)
            case Action(pipe=pipe):
                value = self._pipe(pipe, dot)
                if not pipe.declares:
                    self._write(value)
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
                raise self._fail("unknown node")

    def _write(self, value: Any) -> None:
        text = format_value(value, nil="<no value>")
        self._account(text)
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
        value = self._pipe(node.pipe, dot)
        inner = len(self._variables)
        count = 0
        for key, element in self._elements(value):
            count += 1
            self._step(node)
            self._set_loop_variables(node, key, element, value)
            try:
                self._list(node.body, element)
            except _ContinueLoop:
                self._depth = depth
            except _BreakLoop:
                self._depth = depth
                break
            del self._variables[inner:]
        if count == 0 and node.orelse is not None:
            self._list(node.orelse, dot)
        del self._variables[mark:]

    def _elements(self, value: Any) -> Iterable[tuple[Any, Any]]:
        match value:
            case None:
                return ()
            case bool() | float() | complex() | str() | Struct():
                raise self._fail(f"range can't iterate over {format_value(value)}")
            case int():
                return ((index, index) for index in range(value))
            case Mapping():
                return ((key, value[key]) for key in sorted(value))
            case _:
                return enumerate(value)

    def _set_loop_variables(self, node: Range, key: Any, element: Any, over: Any) -> None:
        names = node.pipe.declares
        if isinstance(over, int) and len(names) > 1:
            raise self._fail(f"can't use {over} to iterate over more than one variable")
        values = (element,) if len(names) == 1 else (key, element)
        top = len(self._variables) - len(names)  # the pipeline has declared them, as the whole value
        for offset, (name, value) in enumerate(zip(names, values, strict=False)):
            if node.pipe.assigns:
                self._assign(name, value)
            else:
                self._variables[top + offset] = (name, value)

    def _template(self, node: TemplateCall, dot: Any) -> None:
        tree = self._defined.get(node.name)
        if tree is None:
            raise self._fail(f"template {quote(node.name)} not defined")
        data = None if node.pipe is None else self._pipe(node.pipe, dot)
        outer, self._variables = self._variables, [("$", data)]
        name, self._name = self._name, node.name
        self._list(tree, data)
        self._variables, self._name = outer, name

    # Pipelines

    def _pipe(self, pipe: Pipe, dot: Any) -> Any:
        self._at = pipe
        value: Any = _NOTHING
        for command in pipe.commands:
            value = self._command(command, dot, value)
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
        raise self._fail(f"undefined variable: {name}")

    def _command(self, command: Command, dot: Any, final: Any) -> Any:
        self._step(command)
        first, *rest = command.args
        if isinstance(first, Function):
            return self._call(first, rest, dot, final, command)
        has_args = bool(rest) or final is not _NOTHING
        match first:
            case Field() | Chain():
                return self._value(first, dot, has_args=has_args)
            case Variable(names=names):
                self._at = first
                self._lookup(names[0])
                if len(names) > 1:
                    return self._value(first, dot, has_args=has_args)
            case Pipe():
                pass
            case _:
                self._at = first
        if has_args:
            shown = f"{show(first)}"
            raise self._fail(f"can't give argument to non-function {shown}")
        if isinstance(first, Literal) and first.value is None:
            raise self._fail("nil is not a command")
        return self._value(first, dot)

    def _call(self, function: Function, args: list[Node], dot: Any, final: Any, command: Node) -> Any:
        name = function.name
        self._at = function
        piped = final is not _NOTHING
        try:
            functions.check_count(name, len(args), piped=piped)
        except ValueError as error:
            raise self._fail(str(error)) from error
        if name in functions.SHORT_CIRCUIT:
            return self._short_circuit(name, args, dot, final)
        values = []
        for position, arg in enumerate(args):
            value = self._argument(arg, dot)
            if functions.takes_text(name, position):
                self._require_text(arg, value)
            values.append(value)
        if piped:
            if functions.takes_text(name, len(args)):
                self._require_text(None, final)
            values.append(final)
        try:
            if name == "call" and values[0] is not None:
                shown = show(args[0]) if args else format_value(final)
                raise ValueError(f"non-function {shown} of type {type_name(values[0])}")
            result = functions.call(name, values)
        except ValueError as error:
            self._at = command
            raise self._fail(f"error calling {name}: {error}") from error
        if isinstance(result, str):
            self._account(result)
        return result

    def _require_text(self, arg: Node | None, value: Any) -> None:
        """Raises TemplateError unless a string parameter can take the argument."""
        if isinstance(value, str):
            return
        if isinstance(arg, Literal):
            raise self._fail("cannot assign nil to string" if value is None else f"expected string; found {show(arg)}")
        if value is None:
            raise self._fail("invalid value; expected string")
        raise self._fail(f"wrong type for value; expected string; got {type_name(value)}")

    def _short_circuit(self, name: str, args: list[Node], dot: Any, final: Any) -> Any:
        value: Any = None
        for arg in args:
            value = self._argument(arg, dot)
            if is_true(value) == (name == "or"):
                return value
        return value if final is _NOTHING else final

    def _argument(self, node: Node, dot: Any) -> Any:
        self._at = node
        if isinstance(node, Function):
            return self._call(node, [], dot, _NOTHING, node)
        return self._value(node, dot)

    def _value(self, node: Node, dot: Any, *, has_args: bool = False) -> Any:
        match node:
            case Dot():
                return dot
            case Field(names=names):
                self._at = node
                return self._fields(dot, names, has_args=has_args)
            case Variable(names=names):
                self._at = node
                return self._fields(self._lookup(names[0]), names[1:], has_args=has_args)
            case Literal(value=value):
                return self._constant(node, value)
            case Pipe():
                return self._pipe(node, dot)
            case Chain(node=inner, names=names):
                self._at = node
                return self._fields(self._argument(inner, dot), names, has_args=has_args)
            case _:
                raise self._fail("unknown operand")

    def _constant(self, node: Literal, value: Any) -> Any:
        if isinstance(value, int) and value >= _INT_END:
            self._at = node
            raise self._fail(f"{node.text} overflows int")
        return value

    def _lookup(self, name: str) -> Any:
        for known, value in reversed(self._variables):
            if known == name:
                return value
        raise self._fail(f"undefined variable: {name}")

    def _fields(self, value: Any, names: tuple[str, ...], *, has_args: bool) -> Any:
        """A chain of fields; only the last could take arguments, and none does."""
        kind = ""
        for position, name in enumerate(names):
            args = has_args and position == len(names) - 1
            match value:
                case None if self._lenient or position == 0:
                    return None  # what a pipeline made is nothing at all, only what a map gave is an interface
                case None:
                    raise self._fail(f"nil pointer evaluating interface {{}}.{name}")
                case Struct(fields=fields) if name in fields:
                    if args:
                        raise self._fail(f"{name} has arguments but cannot be invoked as function")
                    value, kind = fields[name], ""
                case Mapping():
                    if args:
                        raise self._fail(f"{name} is not a method but has arguments")
                    value, kind = value.get(name), "interface {}"
                case _:
                    raise self._fail(f"can't evaluate field {name} in type {kind or type_name(value)}")
        return value
