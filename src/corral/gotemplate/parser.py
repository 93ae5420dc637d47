"""Builds the syntax tree of a Go template. `gotemplate.parse` calls it.

Everything that Go's text/template refuses while parsing is refused here in its words: unknown functions, undeclared
variables, `break` outside a range. The line is Go's (that of the token read last), the column is ours. Nesting is
bounded, because the evaluator recurses over the tree. Source: Go text/template/parse parse.go, go1.26.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from corral.goquote import quote
from corral.gotemplate.functions import FUNCTION_NAMES
from corral.gotemplate.lexer import Kind, Token
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
    show,
)
from corral.gotemplate.tokenreader import Mark, TokenReader

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
        Kind.COMPLEX,
        Kind.CHAR_CONSTANT,
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
    """How a list of nodes ended: `end`, `else`, or EOF, and where."""

    nodes: NodeList
    keyword: str
    pos: int


@dataclass(slots=True)
class _Scope:
    """What a define or block has of its own; Go has a parser of its own for each, which remembers its last token."""

    variables: list[str] = field(default_factory=lambda: ["$"])
    ranges: int = 0
    depth: int = 0
    mark: Mark = field(default_factory=Mark)


class Parser(TokenReader):
    """One run over one source text."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self._scope = _Scope(mark=self.mark)
        self._defined: dict[str, NodeList] = {}

    def parse(self) -> Parsed:
        """The whole source; raises TemplateError."""
        ended = self._list(top=True)
        if ended.keyword:
            self._fail(f"unexpected {{{{{ended.keyword}}}}}", ended.pos)
        own = self._defined.pop("", None)
        if own is not None and not _is_empty(own):
            if not _is_empty(ended.nodes):
                self._fail('template: multiple definition of template ""', ended.pos)
            return Parsed(own, self._defined)
        return Parsed(ended.nodes, self._defined)

    def _deeper(self, pos: int) -> None:
        self._scope.depth += 1
        if self._scope.depth > MAX_DEPTH:
            self._fail(f"nested more than {MAX_DEPTH} levels deep", pos)

    # Lists and actions

    def _list(self, *, top: bool = False) -> _Ended:
        """Nodes up to `end`, `else` or EOF; at the top level `define` may stand among them."""
        nodes: list[Node] = []
        start = self._peek_word().pos
        while True:
            token = self._next_word()
            if token.kind is Kind.EOF:
                if not top:
                    self._fail("unexpected EOF", token.pos)
                return _Ended(NodeList(start, tuple(nodes)), "", token.pos)
            if token.kind is Kind.TEXT:
                nodes.append(Text(token.pos, token.text))
                continue
            if token.kind is not Kind.LEFT:
                self._unexpected(token, "input")
            if top and self._peek_word().text == "define" and self._peek().kind is Kind.KEYWORD:
                self._define(self._next())
                continue
            self.mark.action = token.pos
            node = self._action()
            self.mark.action = None
            if isinstance(node, Token):
                return _Ended(NodeList(start, tuple(nodes)), node.text, node.pos)
            nodes.append(node)

    def _action(self) -> Node | Token:
        """An action; for `end` and `else` their token."""
        first = self._next_word()
        if first.kind is Kind.KEYWORD:
            match first.text:
                case "if" | "with" | "range":
                    return self._branch(first)
                case "template":
                    return self._template_call()
                case "block":
                    return self._block(first)
                case "end":
                    self._expect(Kind.RIGHT, "end")
                    return first
                case "else":
                    following = self._peek_word()
                    if following.kind is not Kind.KEYWORD or following.text not in ("if", "with"):
                        self._expect(Kind.RIGHT, "else")
                    return first
                case "break" | "continue":
                    return self._jump(first)
        self._pushed.append(first)
        return Action(first.pos, self._pipe("command", Kind.RIGHT))

    def _jump(self, token: Token) -> Break | Continue:
        self._expect(Kind.RIGHT, f"{{{{{token.text}}}}}")
        if not self._scope.ranges:
            self._fail(f"{{{{{token.text}}}}} outside {{{{range}}}}", token.pos)
        return Break(token.pos) if token.text == "break" else Continue(token.pos)

    def _branch(self, token: Token) -> Node:
        """if, with and range with their else; `else if` and `else with` nest in the else."""
        kind = token.text
        self._deeper(token.pos)
        variables = len(self._scope.variables)
        pipe = self._pipe(kind, Kind.RIGHT)
        self._scope.ranges += kind == "range"
        body = self._list()
        self._scope.ranges -= kind == "range"
        orelse: NodeList | None = None
        if body.keyword == "else":
            following = self._peek()
            if kind != "range" and following.kind is Kind.KEYWORD and following.text == kind:
                orelse = NodeList(body.pos, (self._branch(self._next()),))
            else:
                other = self._list()
                if other.keyword != "end":
                    self._fail(f"expected end; found {{{{{other.keyword}}}}}", other.pos)
                orelse = other.nodes
        del self._scope.variables[variables:]
        self._scope.depth -= 1
        return _BRANCHES[kind](pipe.pos, pipe, body.nodes, orelse)

    def _name(self, token: Token, context: str) -> str:
        if token.kind not in (Kind.STRING, Kind.RAW_STRING):
            self._unexpected(token, context)
        return self._unquoted(token)

    def _template_call(self) -> TemplateCall:
        token = self._next_word()
        name = self._name(token, "template clause")
        if self._peek_word().kind is Kind.RIGHT:
            # Ollama refuses the bare form, once all is parsed: identifiers() of it has no pipeline to look at.
            self._next()
            return TemplateCall(token.pos, name, None)
        return TemplateCall(token.pos, name, self._pipe("template clause", Kind.RIGHT))

    def _block(self, keyword: Token) -> TemplateCall:
        token = self._next_word()
        name = self._name(token, "block clause")
        pipe = self._pipe("block clause", Kind.RIGHT)
        self._definition(name, keyword, "block clause", inner=False)
        return TemplateCall(token.pos, name, pipe)

    def _define(self, keyword: Token) -> None:
        outer = self._scope
        self._enter(_Scope(depth=outer.depth))
        name = self._name(self._next_word(), "define clause")
        self._expect(Kind.RIGHT, "define clause")
        self._definition(name, keyword, "define clause", inner=True)
        self._enter(outer)

    def _enter(self, scope: _Scope) -> None:
        self._scope, self.mark = scope, scope.mark

    def _definition(self, name: str, keyword: Token, context: str, *, inner: bool) -> None:
        """The body of a define or block: its own variables, no loop around it."""
        outer = self._scope
        self._enter(_Scope(depth=outer.depth, mark=Mark(outer.mark.read if inner else None)))
        self._deeper(keyword.pos)
        body = self._list()
        if body.keyword != "end":
            if not inner:
                self._enter(outer)
            self._fail(f"unexpected {{{{{body.keyword}}}}} in {context}", body.pos)
        known = self._defined.get(name)
        if known is None or _is_empty(known):
            self._defined[name] = body.nodes
        elif not _is_empty(body.nodes):
            self._fail(f"template: multiple definition of template {quote(name)}", keyword.pos)
        self._enter(outer)

    # Pipelines

    def _pipe(self, context: str, end: Kind) -> Pipe:
        start = self._peek_word()
        declares, assigns = self._declarations(context)
        commands: list[Command] = []
        while True:
            token = self._next_word()
            if token.kind is end:
                break
            if not _is_operand(token):
                self._unexpected(token, context)
            self._pushed.append(token)
            commands.append(self._command())
        if not commands:
            self._fail(f"missing value for {context}", start.pos)
        for position, command in enumerate(commands[1:], start=2):
            if isinstance(command.args[0], Literal | Dot):
                self._fail(f"non executable command in pipeline stage {position}", command.pos)
        return Pipe(start.pos, tuple(commands), declares, assigns)

    def _declarations(self, context: str) -> tuple[tuple[str, ...], bool]:
        """`$x :=`, `$x =`, and in a range `$i, $x :=`; nothing is consumed if there is none."""
        names: list[str] = []
        while self._peek_word().kind is Kind.VARIABLE:
            variable = self._next()
            after = self._peek()
            following = self._peek_word()
            if following.kind in (Kind.DECLARE, Kind.ASSIGN):
                self._next()
                self._declare(names, variable)
                return tuple(names), following.kind is Kind.ASSIGN
            if following.kind is Kind.CHAR and following.text == ",":
                self._next()
                self._declare(names, variable)
                if context != "range" or len(names) > 1:
                    self._fail(f"too many declarations in {context}", following.pos)
                if self._peek_word().kind not in (Kind.VARIABLE, Kind.RIGHT, Kind.CLOSE):
                    self._fail("range can only initialize variables", following.pos)
                continue
            if after.kind is Kind.SPACE:
                self._pushed.append(after)
            self._pushed.append(variable)
            break
        return tuple(names), False

    def _declare(self, names: list[str], variable: Token) -> None:
        names.append(variable.text)
        self._scope.variables.append(variable.text)

    def _command(self) -> Command:
        args: list[Node] = []
        start = self._peek_word().pos
        while True:
            self._peek_word()
            operand = self._operand()
            if operand is not None:
                args.append(operand)
            token = self._next()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.RIGHT, Kind.CLOSE):
                self._pushed.append(token)
            elif token.kind is not Kind.PIPE:
                self._unexpected(token, "operand")
            break
        if not args:
            self._fail("empty command", start)
        return Command(start, tuple(args))

    def _operand(self) -> Node | None:
        node = self._term()
        if node is None or self._peek().kind is not Kind.FIELD:
            return node
        pos = self._peek().pos
        names: list[str] = []
        while self._peek().kind is Kind.FIELD:
            names.append(self._next().text[1:])
        match node:
            case Field(names=own):
                return Field(pos, (*own, *names))
            case Variable(names=own):
                return Variable(pos, (*own, *names))
            case Literal() | Dot():
                self._fail(f"unexpected . after term {quote(show(node))}", node.pos)
            case _:
                return Chain(pos, node, tuple(names))

    def _term(self) -> Node | None:
        token = self._next_word()
        match token.kind:
            case Kind.IDENTIFIER:
                if token.text not in FUNCTION_NAMES:
                    self._fail(f"function {quote(token.text)} not defined", token.pos)
                return Function(token.pos, token.text)
            case Kind.DOT:
                return Dot(token.pos)
            case Kind.FIELD:
                return Field(token.pos, (token.text[1:],))
            case Kind.VARIABLE:
                if token.text not in self._scope.variables:
                    self._fail(f"undefined variable {quote(token.text)}", token.pos)
                return Variable(token.pos, (token.text,))
            case Kind.OPEN:
                self._deeper(token.pos)
                pipe = self._pipe("parenthesized pipeline", Kind.CLOSE)
                self._scope.depth -= 1
                return pipe
            case _ if _is_operand(token):
                return Literal(token.pos, self._constant(token), token.text)
            case _:
                self._pushed.append(token)
                return None

    def _constant(self, token: Token) -> str | int | float | complex | bool | None:
        if token.kind in (Kind.STRING, Kind.RAW_STRING):
            return self._unquoted(token)
        try:
            match token.kind:
                case Kind.NUMBER | Kind.COMPLEX:
                    return parse_number(token.text)
                case Kind.CHAR_CONSTANT:
                    return parse_char(token.text)
                case _:
                    return None if token.text == "nil" else token.text == "true"
        except ValueError as error:
            raise self._error(str(error), token.pos) from None

    def _unquoted(self, token: Token) -> str:
        try:
            return unquote(token.text)
        except ValueError as error:
            raise self._error(str(error), token.pos) from None


def _is_operand(token: Token) -> bool:
    return token.kind in _OPERANDS or (token.kind is Kind.KEYWORD and token.text == "nil")


def _is_empty(nodes: NodeList) -> bool:
    """Whether a tree is nothing but blanks: an empty definition never replaces a real one, nor clashes with it."""
    return all(isinstance(node, Text) and not node.text.strip() for node in nodes.nodes)
