"""The row filter of a source: a small SQL-like language, parsed here and never evaluated as code.

``origin = 'JFK' and dep_delay between 0 and 60 and tailnum is not null``

A filter is comparisons (``= != <> < <= > >=``, ``is [not] null``, ``[not] in``, ``[not] between``, ``[not] like``) of
columns with literals or other columns, joined by ``and``, ``or``, ``not`` and parentheses. Literals are numbers,
``'texts'`` (a quote inside is doubled), ``true``, ``false``, ``DATE '2013-01-31'`` and
``TIMESTAMP '2013-01-31 12:00:00+00:00'``. A column whose name is no plain word is written ``"with quotes"`` or with
backquotes. The logic is SQL's, with three values: a row is kept only where the filter is true, so neither
``x = 1`` nor ``not x = 1`` keeps a row in which ``x`` is null.

This module holds the language; `predicates` gives it a meaning for the types of a schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa

from featuremill.artifacts.errors import FeaturemillError, ParameterError, ParameterTypeError

if TYPE_CHECKING:
    from featuremill.core.predicates import Predicate

__all__ = ["Where"]

MAX_DEPTH = 100
"""How deep parentheses and `not` may nest; far below Python's own recursion limit."""

MAX_EXPONENT = 400
"""The largest power of ten in a number: beyond float64's 308, small enough that no literal costs memory."""

KEYWORDS = frozenset({"and", "or", "not", "in", "is", "null", "like", "between", "true", "false"})

TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<string>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")+"|`(?:[^`]|``)+`)
    | (?P<word>[^\W\d]\w*)
    | (?P<symbol><=|>=|<>|!=|==|[=<>(),+-])
    """,
    re.VERBOSE,
)

HINTS = {
    "==": "Write =.",
    "&": "Write and.",
    "|": "Write or.",
    "!": "Write != or not.",
    "'": "The text is never closed: add a quote ('); a quote inside a text is doubled ('').",
    '"': 'The name is never closed: add a double quote (").',
    "`": "The name is never closed: add a backquote (`).",
    ".": "Fields inside a column cannot be named here.",
    **dict.fromkeys("+-*/", "Arithmetic is not part of the filter language; compute the column beforehand."),
    ";": "A filter is one condition.",
}


# --- the parsed form ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A column, by name."""

    name: str
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Literal:
    """A constant. `kind` is number (value: Decimal), text (str), bool, null, date or timestamp (str, as written)."""

    kind: str
    value: Any
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Compare:
    """``left op right``; `op` is one of ``= != < <= > >=``, the left side is always a column."""

    op: str
    left: Column
    right: Column | Literal


@dataclass(frozen=True)
class IsNull:
    """``column is null``"""

    column: Column


@dataclass(frozen=True)
class In:
    """``column in (literal, …)``"""

    column: Column
    values: tuple[Literal, ...]


@dataclass(frozen=True)
class Like:
    """``column like 'pattern'``: % is any text, _ one character, a backslash takes the next character as it is."""

    column: Column
    pattern: str


@dataclass(frozen=True)
class Truth:
    """A boolean column, or a constant, on its own."""

    value: Column | bool


@dataclass(frozen=True)
class Not:
    """``not item``"""

    item: Node


@dataclass(frozen=True)
class Join:
    """``item op item op …`` with `op` and / or."""

    op: str
    items: tuple[Node, ...]


Node = Compare | IsNull | In | Like | Truth | Not | Join

FLIPPED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True)
class Token:
    """A piece of the text: `kind` is a group of `TOKEN`, a keyword, or end."""

    kind: str
    text: str
    at: int


def point_at(text: str, at: int, message: str, kind: type[FeaturemillError], **facts: Any) -> NoReturn:
    """Raise `kind` with the line of the filter in which `at` lies, and a caret below the place."""
    start = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    line = text[start : len(text) if end < 0 else end]
    raise kind(
        f"where: {message}\n  {line}\n  {' ' * (at - start)}^", parameter="where", value=text, position=at, **facts
    )


def tokens(text: str) -> Iterator[Token]:
    """The pieces of a filter, spaces left out, with an end token last."""
    at = 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            hint = HINTS.get(text[at], "")
            point_at(text, at, f"{text[at]!r} is not understood here. {hint}".rstrip(), ParameterError)
        kind, piece = str(match.lastgroup), match.group()
        if kind == "word" and piece.lower() in KEYWORDS:
            kind = piece.lower()
        if kind != "space":
            yield Token(kind, piece, at)
        at = match.end()
    yield Token("end", "", at)


class Parser:
    """Recursive descent over the tokens of one filter."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(tokens(text))
        self.position = 0
        self.depth = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.position]

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        point_at(self.text, self.token.at if at is None else at, message, ParameterError)

    def got(self) -> str:
        return "the end of the filter" if self.token.kind == "end" else repr(self.token.text)

    def accept(self, *wanted: str) -> Token | None:
        """The next token if it is one of these kinds or symbols."""
        token = self.token
        if token.kind in wanted or (token.kind == "symbol" and token.text in wanted):
            self.position += 1
            return token
        return None

    def expect(self, wanted: str, why: str) -> Token:
        token = self.accept(wanted)
        if token is None:
            self.fail(f"expected {why}, got {self.got()}.")
        return token

    def parse(self) -> Node:
        node = self.join("or")
        if self.token.kind != "end":
            hint = HINTS.get(self.token.text) or (
                "Is it a text? Write it in 'quotes'." if self.token.kind == "word" else ""
            )
            self.fail(f"expected and, or, or the end of the filter, got {self.got()}. {hint}".rstrip())
        return node

    def join(self, op: str) -> Node:
        below: Callable[[], Node] = self.negation if op == "and" else lambda: self.join("and")
        items = [below()]
        while self.accept(op):
            items.append(below())
        return items[0] if len(items) == 1 else Join(op, tuple(items))

    def negation(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"the filter nests deeper than {MAX_DEPTH} levels; write it flatter.")
        try:
            if self.accept("not"):
                return Not(self.negation())
            if self.accept("("):
                node = self.join("or")
                self.expect(")", "a closing parenthesis")
                return node
            return self.condition()
        finally:
            self.depth -= 1

    def condition(self) -> Node:
        start = self.token
        left = self.operand()
        operator = self.token
        if self.accept("=", "!=", "<>", "<", "<=", ">", ">="):
            return self.comparison(left, "!=" if operator.text == "<>" else operator.text, operator)
        if operator.text in HINTS and operator.kind == "symbol":
            self.fail(f"{operator.text!r} is not understood here. {HINTS[operator.text]}")
        if isinstance(left, Literal):
            if left.kind == "bool":
                return Truth(left.value)
            self.fail(f"expected a comparison after {start.text}, got {self.got()}.")
        if self.accept("is"):
            negated = self.accept("not") is not None
            self.expect("null", "null")
            return Not(IsNull(left)) if negated else IsNull(left)
        negated = self.accept("not") is not None
        node = self.membership(left)
        if node is None:
            if negated:
                self.fail(f"expected in, between or like after not, got {self.got()}.")
            return Truth(left)
        return Not(node) if negated else node

    def comparison(self, left: Column | Literal, op: str, operator: Token) -> Node:
        right = self.operand()
        for side in (left, right):
            if isinstance(side, Literal) and side.kind == "null":
                self.fail("nothing compares with null, not even null. Write is null or is not null.", side.at)
        if isinstance(left, Column):
            return Compare(op, left, right)
        if isinstance(right, Column):
            return Compare(FLIPPED[op], right, left)
        self.fail("a comparison needs a column on one side.", operator.at)

    def membership(self, left: Column) -> Node | None:
        if self.accept("in"):
            self.expect("(", "a parenthesis")
            values = [self.literal()]
            while self.accept(","):
                values.append(self.literal())
            self.expect(")", "a comma or a closing parenthesis")
            return In(left, tuple(values))
        if self.accept("between"):
            low = self.bound()
            self.expect("and", "and, and the upper bound")
            return Join("and", (Compare(">=", left, low), Compare("<=", left, self.bound())))
        if self.accept("like"):
            at = self.token.at
            pattern = self.operand()
            if not isinstance(pattern, Literal) or pattern.kind != "text":
                self.fail("like needs a pattern in 'quotes', such as 'N1%'.", at)
            if (len(pattern.value) - len(pattern.value.rstrip("\\"))) % 2:
                self.fail("the pattern ends in a single backslash; write two for the character itself.", at)
            return Like(left, pattern.value)
        return None

    def bound(self) -> Column | Literal:
        operand = self.operand()
        if isinstance(operand, Literal) and operand.kind == "null":
            self.fail("nothing lies between null and something else.", operand.at)
        return operand

    def literal(self) -> Literal:
        at = self.token.at
        operand = self.operand()
        if isinstance(operand, Column):
            self.fail(f"a list holds literals; {operand.name!r} is a column. Is it a text? Write '{operand.name}'.", at)
        return operand

    def operand(self) -> Column | Literal:
        token = self.token
        if self.accept("-", "+"):
            number = self.expect("number", f"a number after {token.text}")
            return self.number(number, negative=token.text == "-", at=token.at)
        if self.accept("number"):
            return self.number(token, negative=False, at=token.at)
        if self.accept("string"):
            return Literal("text", token.text[1:-1].replace("''", "'"), token.at)
        if self.accept("true", "false"):
            return Literal("bool", token.kind == "true", token.at)
        if self.accept("null"):
            return Literal("null", None, token.at)
        if self.accept("quoted"):
            mark = token.text[0]
            return Column(token.text[1:-1].replace(mark * 2, mark), token.at)
        if self.accept("word"):
            if token.text.lower() in ("date", "timestamp") and (text := self.accept("string")):
                return Literal(token.text.lower(), text.text[1:-1], token.at)
            return Column(token.text, token.at)
        self.fail(f"expected a column or a literal, got {self.got()}.")

    def number(self, token: Token, *, negative: bool, at: int) -> Literal:
        value = Decimal(token.text)
        if value and abs(value.adjusted()) > MAX_EXPONENT:
            self.fail("the number is beyond what any column can hold.", token.at)
        return Literal("number", value.copy_negate() if negative else value, at)


# --- back to text ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dialect:
    """How names and texts are written down."""

    name: Callable[[str], str]
    text: Callable[[str], str]


def _plain_name(name: str) -> str:
    plain = re.fullmatch(r"[^\W\d]\w*", name) and name.lower() not in KEYWORDS | {"date", "timestamp"}
    return name if plain else '"' + name.replace('"', '""') + '"'


def _googlesql_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
    return f"'{escaped}'"


PLAIN = Dialect(name=_plain_name, text=lambda text: "'" + text.replace("'", "''") + "'")
GOOGLESQL = Dialect(
    name=lambda name: "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`",
    text=_googlesql_text,
)


def render(node: Node, dialect: Dialect) -> str:
    """The filter as text with one way of writing each thing; parses back to an equal node in the plain dialect."""
    match node:
        case Compare(op, left, right):
            return f"{dialect.name(left.name)} {op} {_operand(right, dialect)}"
        case IsNull(column):
            return f"{dialect.name(column.name)} is null"
        case In(column, values):
            return f"{dialect.name(column.name)} in ({', '.join(_operand(v, dialect) for v in values)})"
        case Like(column, pattern):
            return f"{dialect.name(column.name)} like {dialect.text(pattern)}"
        case Truth(value):
            return dialect.name(value.name) if isinstance(value, Column) else str(value).lower()
        case Not(IsNull(column)):
            return f"{dialect.name(column.name)} is not null"
        case Not(item):
            inner = render(item, dialect)
            return f"not {inner}" if isinstance(item, Truth | Not) else f"not ({inner})"
        case Join(op, items):
            return f" {op} ".join(
                f"({render(i, dialect)})" if isinstance(i, Join) else render(i, dialect) for i in items
            )


def _operand(operand: Column | Literal, dialect: Dialect) -> str:
    if isinstance(operand, Column):
        return dialect.name(operand.name)
    match operand.kind:
        case "text":
            return dialect.text(operand.value)
        case "date" | "timestamp":
            return f"{operand.kind.upper()} {dialect.text(operand.value)}"
        case "bool" | "null":
            return str(operand.value).lower() if operand.kind == "bool" else "null"
        case _:
            return number_text(operand.value)


def number_text(value: Decimal) -> str:
    """The shortest plain way to write a number; a power of ten only where zeros would pile up.

    >>> number_text(Decimal("1e1")), number_text(Decimal("2.50")), number_text(Decimal("1E-30"))
    ('10', '2.5', '1e-30')
    """
    if not -20 < value.adjusted() < 20:
        return str(value).lower().replace("e+", "e")
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def column_names(node: Node) -> Iterator[str]:
    """The columns that a filter reads, in the order of the text, repeats included."""
    match node:
        case Compare(_, left, right):
            yield left.name
            if isinstance(right, Column):
                yield right.name
        case IsNull(column) | In(column, _) | Like(column, _):
            yield column.name
        case Truth(value):
            if isinstance(value, Column):
                yield value.name
        case Not(item):
            yield from column_names(item)
        case Join(_, items):
            for item in items:
                yield from column_names(item)


@dataclass(frozen=True)
class Where:
    """A parsed filter.

    Parameters
    ----------
    text
        The filter, in the language of this module.

    Raises
    ------
    ParameterError
        With the place in the text, when it does not parse.
    ParameterTypeError
        When `text` is no string.

    Examples
    --------
    >>> where = Where("origin = 'JFK' AND (dep_delay > 1e1 OR dep_delay IS NULL)")
    >>> str(where)
    "origin = 'JFK' and (dep_delay > 10 or dep_delay is null)"
    >>> where.columns
    ['origin', 'dep_delay']
    >>> where.to_sql()
    "`origin` = 'JFK' and (`dep_delay` > 10 or `dep_delay` is null)"
    >>> schema = pa.schema({"origin": pa.string(), "dep_delay": pa.int16()})
    >>> batch = pa.record_batch([["JFK", "JFK", "EWR"], [20, None, 20]], schema=schema)
    >>> where.bind(schema).filter(batch).num_rows
    2
    >>> Where("origin = 'JFK' an dest = 'LAX'")
    Traceback (most recent call last):
    featuremill.artifacts.errors.ParameterError: where: expected and, or, or the end of the filter, got 'an'. ...
      origin = 'JFK' an dest = 'LAX'
                     ^
    """

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise ParameterTypeError(f"where must be a text, got {self.text!r}.", parameter="where", value=self.text)
        if not self.text.strip():
            raise ParameterError(f"where got {self.text!r}, expected a condition. Leave it out to keep all rows.")
        _ = self.node

    @cached_property
    def node(self) -> Node:
        """The parsed form."""
        return Parser(self.text).parse()

    @property
    def columns(self) -> list[str]:
        """The columns that the filter reads, each once, in the order of the text."""
        return list(dict.fromkeys(column_names(self.node)))

    def __str__(self) -> str:
        """The filter with one way of writing each thing; equal filters written differently give equal texts."""
        return render(self.node, PLAIN)

    def to_sql(self) -> str:
        """The filter in GoogleSQL, for BigQuery's ``row_restriction``."""
        return render(self.node, GOOGLESQL)

    def bind(self, schema: pa.Schema) -> Predicate:
        """The filter for the types of a schema: masks for batches, and what statistics rule out.

        Raises
        ------
        MissingColumnError
            For a column that is not in the schema, with the names that look alike.
        ColumnTypeError
            For a comparison of values that do not compare, such as a text with a number.
        """
        from featuremill.core.predicates import bind

        return bind(self, schema)
