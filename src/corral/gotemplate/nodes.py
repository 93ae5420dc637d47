"""The syntax tree of a Go template, and the walks over it that detection and cutting need.

Made by `parser.py`, executed by `evaluator.py`, inspected by `answer/` and `store/capabilities.py`. Nodes are
immutable; `pos` is the offset of the node's first character in the source.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from corral.goquote import quote


@dataclass(frozen=True, slots=True)
class Node:
    """Any node; `pos` is a 0-based character offset."""

    pos: int


@dataclass(frozen=True, slots=True)
class Text(Node):
    """Literal text between actions, trimmed as the markers ask."""

    text: str


@dataclass(frozen=True, slots=True)
class NodeList(Node):
    """The nodes of a template or of one branch, in order."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Field(Node):
    """`.A.B`."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variable(Node):
    """`$x.A`; names[0] is the variable with its dollar."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """`(pipeline).A`."""

    node: Node
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dot(Node):
    """`.`."""


@dataclass(frozen=True, slots=True)
class Function(Node):
    """The name of a function."""

    name: str


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A constant: str, int, float, complex, bool, or None for `nil`; `text` is how it is written."""

    value: str | int | float | complex | bool | None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Command(Node):
    """A function or operand with its arguments."""

    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Pipe(Node):
    """Commands joined by bars; `declares` are the variables before `:=` or, when `assigns`, before `=`."""

    commands: tuple[Command, ...]
    declares: tuple[str, ...] = ()
    assigns: bool = False


@dataclass(frozen=True, slots=True)
class Action(Node):
    """`{{ pipeline }}`: printed unless it declares."""

    pipe: Pipe


@dataclass(frozen=True, slots=True)
class Branch(Node):
    """What if, with and range have in common."""

    pipe: Pipe
    body: NodeList
    orelse: NodeList | None = None


@dataclass(frozen=True, slots=True)
class If(Branch):
    """`{{ if }}`."""


@dataclass(frozen=True, slots=True)
class With(Branch):
    """`{{ with }}`."""


@dataclass(frozen=True, slots=True)
class Range(Branch):
    """`{{ range }}`."""


@dataclass(frozen=True, slots=True)
class TemplateCall(Node):
    """`{{ template "name" pipeline }}`, also what a `block` leaves in its place."""

    name: str
    pipe: Pipe | None


@dataclass(frozen=True, slots=True)
class Break(Node):
    """`{{ break }}`."""


@dataclass(frozen=True, slots=True)
class Continue(Node):
    """`{{ continue }}`."""


def children(node: Node) -> tuple[Node, ...]:
    """A node's parts in document order."""
    match node:
        case NodeList(nodes=nodes):
            return nodes
        case Action(pipe=pipe):
            return (pipe,)
        case TemplateCall(pipe=argument):
            return () if argument is None else (argument,)
        case Branch(pipe=pipe, body=body, orelse=orelse):
            return (pipe, body) if orelse is None else (pipe, body, orelse)
        case Pipe(commands=commands):
            return commands
        case Command(args=args):
            return args
        case Chain(node=inner):
            return (inner,)
        case _:
            return ()


def walk(node: Node, ancestors: tuple[Node, ...] = ()) -> Iterator[tuple[Node, tuple[Node, ...]]]:
    """Every node below and including `node`, in document order, each with its ancestors, outermost first."""
    yield node, ancestors
    inner = (*ancestors, node)
    for child in children(node):
        yield from walk(child, inner)


def identifiers(node: Node) -> Iterator[str]:
    """The names in every field and variable, as written (spec models §5.3).

    Nothing of `(pipeline).A` counts, neither what is inside nor what is behind. Source: ollama template.Identifiers,
    2026-08.
    """
    if isinstance(node, Field | Variable):
        yield from node.names
    elif not isinstance(node, Chain):
        for child in children(node):
            yield from identifiers(child)


def show(node: Node) -> str:
    """A node as Go prints it in its errors: its source with single blanks. Source: Go parse/node.go String."""
    match node:
        case Text(text=text):
            return text
        case NodeList(nodes=nodes):
            return "".join(map(show, nodes))
        case Action(pipe=pipe):
            return f"{{{{{show(pipe)}}}}}"
        case Branch(pipe=pipe, body=body, orelse=orelse):
            other = "" if orelse is None else "{{else}}" + show(orelse)
            return f"{{{{{type(node).__name__.lower()} {show(pipe)}}}}}{show(body)}{other}{{{{end}}}}"
        case TemplateCall(name=name, pipe=argument):
            return f"{{{{template {quote(name)}{'' if argument is None else ' ' + show(argument)}}}}}"
        case Break() | Continue():
            return f"{{{{{type(node).__name__.lower()}}}}}"
        case _:
            return _show_operand(node)


def _show_operand(node: Node) -> str:
    match node:
        case Pipe(commands=commands, declares=declares, assigns=assigns):
            names = ", ".join(declares) + (" = " if assigns else " := ") if declares else ""
            return names + " | ".join(map(show, commands))
        case Command(args=args):
            return " ".join(map(_in_parentheses, args))
        case Field(names=names):
            return "".join(f".{name}" for name in names)
        case Variable(names=names):
            return ".".join(names)
        case Chain(node=inner, names=names):
            return _in_parentheses(inner) + "".join(f".{name}" for name in names)
        case Function(name=text) | Literal(text=text):
            return text
        case _:
            return "."


def _in_parentheses(node: Node) -> str:
    return f"({show(node)})" if isinstance(node, Pipe) else show(node)


class _Cutter:
    """Copies a tree up to and with its first `.Response`."""

    def __init__(self) -> None:
        self.done = False

    def cut(self, nodes: NodeList) -> NodeList:
        kept: list[Node] = []
        for node in nodes.nodes:
            if self.done:
                break
            part = self._node(node)
            if part is not None:
                kept.append(part)
        return replace(nodes, nodes=tuple(kept))

    def _pipe(self, pipe: Pipe) -> Pipe | None:
        """The pipe without the operands behind `.Response`; None when a command has none left."""
        commands: list[Command] = []
        for command in pipe.commands:
            args = [arg for arg in map(self._operand, command.args) if arg is not None]
            if not args:
                return None
            commands.append(replace(command, args=tuple(args)))
        return replace(pipe, commands=tuple(commands))

    def _operand(self, node: Node) -> Node | None:
        if isinstance(node, Field) and "Response" in node.names:
            self.done = True
            return node
        if self.done:
            return None
        return self._pipe(node) if isinstance(node, Pipe) else node

    def _node(self, node: Node) -> Node | None:
        if isinstance(node, Action):
            pipe = self._pipe(node.pipe)
            return None if pipe is None else replace(node, pipe=pipe)
        if not isinstance(node, Branch):
            return node
        body = self.cut(node.body)
        orelse = node.orelse
        if orelse is not None:
            # A branch behind the cut is dropped, yet the else must stay an (empty) branch.
            orelse = replace(orelse, nodes=()) if self.done else self.cut(orelse)
        return replace(node, body=body, orelse=orelse)


def cut_after_response(root: NodeList) -> NodeList:
    """The tree without anything behind its first printed `.Response`, in document order.

    A `.Response` inside a condition does not count, `$.Response` never does. Source: ollama template.deleteNode,
    2026-08, without its panic on a `.Response` inside an if that has an else.
    """
    return _Cutter().cut(root)
