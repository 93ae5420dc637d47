"""Builds the syntax tree of a Go template. `gotemplate.parse` calls it.

Everything that Go's text/template refuses while parsing is refused here with its line and column: unknown functions,
undeclared variables, `break` outside a range. Nesting is bounded, because the evaluator recurses over the tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from corral.gotemplate.functions import FUNCTION_NAMES
from corral.gotemplate.lexer import Kind, Positions, Token, tokenize
from corral.gotemplate.literals import parse_char, parse_number, unquote
from corral.gotemplate.nodes import (
    Action,
    Break,
    Chain,
    Command,
    Continue,
    Dot,
    Field,
    Function,
    If,
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

MAX_DEPTH = 60  # blocks and parentheses inside one another; real templates stay below 10
_BRANCHES: dict[str, type[If | With | Range]] = {"if": If, "with": With, "range": Range}
_OPERANDS = frozenset(
    (
        Kind.IDENTIFIER,
        Kind.DOT,
        Kind.FIELD,
        Kind.VARIABLE,
        Kind.BOOL,
        Kind.NUMBER,
        Kind.CHAR,
        Kind.STRING,
        Kind.RAW_STRING,
        Kind.OPEN,
    )
)


@dataclass(frozen=True, slots=True)
class Parsed:
    """The root tree and the trees that define and block made."""

    root: NodeList
    defined: dict[str, NodeList]


@dataclass(slots=True)
class _Ended:
    """How a list of nodes ended: `end`, `else`, or EOF, and what stood behind the else."""

    nodes: NodeList
    keyword: str
    pos: int


@dataclass(slots=True)
class _Scope:
    variables: list[str] = field(default_factory=lambda: ["$"])
    ranges: int = 0
    depth: int = 0


class Parser:
    """One run over one source text."""

    def __init__(self, source: str) -> None:
        self._positions = Positions(source)
        self._tokens: Iterator[Token] = tokenize(source, self._positions)
        self._pushed: list[Token] = []
        self._scope = _Scope()
        self._defined: dict[str, NodeList] = {}

    def parse(self) -> Parsed:
        """The whole source; raises TemplateError."""
        ended = self._list(top=True)
        if ended.keyword:
            self._fail(f"unexpected {{{{{ended.keyword}}}}}", ended.pos)
        return Parsed(ended.nodes, self._defined)

    # Tokens

    def _next(self) -> Token:
        return self._pushed.pop() if self._pushed else next(self._tokens)

    def _peek(self) -> Token:
        token = self._next()
        self._pushed.append(token)
        return token

    def _skip_space(self) -> Token:
        """Drops blanks and peeks at what follows."""
        while self._peek().kind is Kind.SPACE:
            self._next()
        return self._peek()

    def _expect(self, kind: Kind, context: str) -> Token:
        self._skip_space()
        token = self._next()
        if token.kind is not kind:
            self._unexpected(token, context)
        return token

    def _fail(self, why: str, pos: int) -> NoReturn:
        raise self._positions.error(why, pos)

    def _unexpected(self, token: Token, context: str) -> NoReturn:
        what = {Kind.EOF: "EOF", Kind.KEYWORD: f"<{token.text}>"}.get(token.kind, f'"{token.text.strip()}"')
        self._fail(f"unexpected {what} in {context}", token.pos)

    def _deeper(self, pos: int) -> None:
        self._scope.depth += 1
        if self._scope.depth > MAX_DEPTH:
            self._fail(f"nested more than {MAX_DEPTH} levels deep", pos)

    # Lists and actions

    def _list(self, *, top: bool = False) -> _Ended:
        """Nodes up to `end`, `else` or EOF; at the top level `define` may stand among them."""
        nodes: list[Node] = []
        start = self._peek().pos
        while True:
            token = self._next()
            if token.kind is Kind.TEXT:
                nodes.append(Text(token.pos, token.text))
                continue
            if token.kind is Kind.EOF:
                return _Ended(NodeList(start, tuple(nodes)), "", token.pos)
            first = self._skip_space()
            if first.kind is Kind.KEYWORD:
                self._next()
                if first.text in ("end", "else"):
                    return _Ended(NodeList(start, tuple(nodes)), first.text, first.pos)
                node = self._keyword(first, top=top)
                if node is not None:
                    nodes.append(node)
            else:
                nodes.append(self._action(token.pos))

    def _action(self, pos: int) -> Action:
        pipe = self._pipe("command", Kind.RIGHT)
        return Action(pos, pipe)

    def _keyword(self, token: Token, *, top: bool) -> Node | None:
        match token.text:
            case "if" | "with" | "range":
                return self._branch(token)
            case "template":
                return self._template_call(token)
            case "block":
                return self._block(token)
            case "define":
                if not top:
                    self._unexpected(token, "block")
                self._define(token)
                return None
            case "break" | "continue":
                if not self._scope.ranges:
                    self._fail(f"{{{{{token.text}}}}} outside {{{{range}}}}", token.pos)
                self._expect(Kind.RIGHT, f"{{{{{token.text}}}}}")
                return Break(token.pos) if token.text == "break" else Continue(token.pos)
            case _:
                self._fail("nil is not a command", token.pos)

    def _branch(self, token: Token) -> Node:
        """if, with and range with their else; `else if` and `else with` nest in the else."""
        kind = token.text
        self._deeper(token.pos)
        variables = len(self._scope.variables)
        pipe = self._pipe(kind, Kind.RIGHT, in_range=kind == "range")
        self._scope.ranges += kind == "range"
        body = self._list()
        self._scope.ranges -= kind == "range"
        orelse: NodeList | None = None
        if body.keyword == "else":
            following = self._skip_space()
            chained = following.text if following.kind is Kind.KEYWORD else ""
            if chained and chained == kind and kind != "range":
                self._next()
                orelse = NodeList(following.pos, (self._branch(following),))
            else:
                self._expect(Kind.RIGHT, "else")
                other = self._list()
                self._require_end(other, kind)
                orelse = other.nodes
        else:
            self._require_end(body, kind)
        del self._scope.variables[variables:]
        self._scope.depth -= 1
        return _BRANCHES[kind](token.pos, pipe, body.nodes, orelse)

    def _require_end(self, ended: _Ended, context: str) -> None:
        if ended.keyword == "":
            self._fail("unexpected EOF", ended.pos)
        if ended.keyword != "end":
            self._fail(f"unexpected {{{{{ended.keyword}}}}} in {context}", ended.pos)
        self._expect(Kind.RIGHT, "end")

    def _name(self, context: str) -> str:
        token = self._skip_space()
        if token.kind not in (Kind.STRING, Kind.RAW_STRING):
            self._unexpected(token, context)
        self._next()
        return self._string(token)

    def _template_call(self, token: Token) -> TemplateCall:
        name = self._name("template clause")
        if self._skip_space().kind is Kind.RIGHT:
            # Ollama refuses the bare form: identifiers() of it has no pipeline to look at.
            self._fail("undefined template specified", token.pos)
        return TemplateCall(token.pos, name, self._pipe("template clause", Kind.RIGHT))

    def _block(self, token: Token) -> TemplateCall:
        name = self._name("block clause")
        pipe = self._pipe("block clause", Kind.RIGHT)
        self._definition(name, token, "block clause")
        return TemplateCall(token.pos, name, pipe)

    def _define(self, token: Token) -> None:
        name = self._name("define clause")
        self._expect(Kind.RIGHT, "define clause")
        self._definition(name, token, "define clause")

    def _definition(self, name: str, token: Token, context: str) -> None:
        """The body of a define or block: its own variables, no loop around it."""
        outer = self._scope
        self._scope = _Scope(depth=outer.depth)
        self._deeper(token.pos)
        body = self._list()
        self._require_end(body, context)
        self._scope = outer
        blank = all(isinstance(node, Text) and not node.text.strip() for node in body.nodes.nodes)
        if name not in self._defined or not blank:  # an empty definition never replaces a real one
            self._defined[name] = body.nodes

    # Pipelines

    def _pipe(self, context: str, end: Kind, *, in_range: bool = False) -> Pipe:
        start = self._skip_space()
        declares, assigns = self._declarations(context, in_range=in_range)
        commands: list[Command] = []
        while True:
            token = self._skip_space()
            if token.kind is end:
                self._next()
                break
            if token.kind not in _OPERANDS and not (token.kind is Kind.KEYWORD and token.text == "nil"):
                self._unexpected(token, context)
            commands.append(self._command(context, end))
        if not commands:
            self._fail(f"missing value for {context}", start.pos)
        for position, command in enumerate(commands[1:], start=2):
            if isinstance(command.args[0], Literal | Dot):
                self._fail(f"non executable command in pipeline stage {position}", command.pos)
        if not assigns:
            self._scope.variables.extend(declares)
        return Pipe(start.pos, tuple(commands), declares, assigns)

    def _declarations(self, context: str, *, in_range: bool) -> tuple[tuple[str, ...], bool]:
        """`$x :=`, `$x =`, and in a range `$i, $x :=`; nothing is consumed if there is none."""
        seen: list[Token] = []
        names: list[str] = []
        while self._peek().kind is Kind.VARIABLE:
            seen.append(self._next())
            names.append(seen[-1].text)
            while self._peek().kind is Kind.SPACE:
                seen.append(self._next())
            following = self._next()
            seen.append(following)
            if following.kind in (Kind.DECLARE, Kind.ASSIGN):
                return self._declared(names, following)
            if following.kind is not Kind.COMMA:
                break
            if not in_range or len(names) > 1:
                self._fail(f"too many declarations in {context}", following.pos)
            while self._peek().kind is Kind.SPACE:
                seen.append(self._next())
            if self._peek().kind is not Kind.VARIABLE:
                self._fail("range can only initialize variables", following.pos)
        if len(names) > 1:
            self._fail("range can only initialize variables", seen[0].pos)
        self._pushed.extend(reversed(seen))
        return (), False

    def _declared(self, names: list[str], operator: Token) -> tuple[tuple[str, ...], bool]:
        assigns = operator.kind is Kind.ASSIGN
        if assigns:
            for name in names:
                self._known(name, operator.pos)
        return tuple(names), assigns

    def _command(self, context: str, end: Kind) -> Command:
        args: list[Node] = []
        start = self._peek().pos
        while True:
            self._skip_space()
            token = self._peek()
            if token.kind in _OPERANDS or (token.kind is Kind.KEYWORD and token.text == "nil"):
                args.append(self._operand())
                token = self._next()
                if token.kind is Kind.SPACE:
                    continue
            else:
                token = self._next()
            if token.kind is Kind.PIPE:
                if self._skip_space().kind is end:
                    self._fail(f"missing value for {context}", token.pos)
            elif token.kind is end:
                self._pushed.append(token)
            else:
                self._unexpected(token, "operand")
            break
        if isinstance(args[0], Literal) and args[0].value is None:
            self._fail("nil is not a command", start)
        return Command(start, tuple(args))

    def _operand(self) -> Node:
        node = self._term()
        names: list[str] = []
        while self._peek().kind is Kind.FIELD:
            names.append(self._next().text[1:])
        if not names:
            return node
        match node:
            case Field(pos=pos, names=own):
                return Field(pos, (*own, *names))
            case Variable(pos=pos, names=own):
                return Variable(pos, (*own, *names))
            case Literal() | Dot():
                self._fail(f"unexpected . after term {names[0]!r}", node.pos)
            case _:
                return Chain(node.pos, node, tuple(names))

    def _term(self) -> Node:
        token = self._next()
        match token.kind:
            case Kind.IDENTIFIER:
                if token.text not in FUNCTION_NAMES:
                    self._fail(f'function "{token.text}" not defined', token.pos)
                return Function(token.pos, token.text)
            case Kind.DOT:
                return Dot(token.pos)
            case Kind.FIELD:
                return Field(token.pos, (token.text[1:],))
            case Kind.VARIABLE:
                self._known(token.text, token.pos)
                return Variable(token.pos, (token.text,))
            case Kind.OPEN:
                self._deeper(token.pos)
                pipe = self._pipe("parenthesized pipeline", Kind.CLOSE)
                self._scope.depth -= 1
                return pipe
            case _:
                return Literal(token.pos, self._constant(token))

    def _known(self, name: str, pos: int) -> None:
        if name not in self._scope.variables:
            self._fail(f'undefined variable "{name}"', pos)

    def _constant(self, token: Token) -> str | int | float | bool | None:
        try:
            match token.kind:
                case Kind.NUMBER:
                    return parse_number(token.text)
                case Kind.CHAR:
                    return parse_char(token.text)
                case Kind.BOOL:
                    return token.text == "true"
                case Kind.KEYWORD:
                    return None
                case _:
                    return unquote(token.text)
        except ValueError as error:
            self._fail(str(error), token.pos)

    def _string(self, token: Token) -> str:
        value = self._constant(token)
        assert isinstance(value, str)
        return value
