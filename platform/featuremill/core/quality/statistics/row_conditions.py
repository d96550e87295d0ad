"""Row conditions: which rows an expectation is asked of.

The two forms of Great Expectations: condition objects (as the plain data that they are saved as), and query strings of
the condition parser "pandas". A string is parsed here and never evaluated. The logic is pandas': a comparison with a
missing value is false, only ``!=`` and ``not in`` are true of it.
"""

from __future__ import annotations

import ast
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from featuremill.artifacts.errors import MissingColumnError, ParameterError, suggest
from featuremill.core.quality.statistics.comparisons import comparable, compare, members, valid_mask

__all__ = ["RowCondition", "parse_row_condition"]

Columns = Mapping[str, pa.Array]

OPERATORS = {"==": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}

FLIPPED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

AST_OPERATORS: dict[type[ast.cmpop], str] = {
    ast.Eq: "=", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}

MAX_LENGTH = 20_000
"""Characters of a query string: far more than anybody writes, few enough that Python's parser takes them."""

PIECES = re.compile(r"""(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|`(?P<name>[^`]+)`|(?P<join>[&|])""")


class RowCondition(ABC):
    """A condition on rows; frozen, hashable, with a truth value for every row."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads, each once."""

    @abstractmethod
    def mask(self, columns: Columns) -> pa.BooleanArray:
        """Where it is true, shape (n_rows,), without nulls."""

    def check(self, schema: pa.Schema) -> None:
        """Refuse a schema that the condition cannot be asked of.

        Raises
        ------
        MissingColumnError, ColumnTypeError
            Naming the column.
        """
        for name in self.columns:
            if name not in schema.names:
                raise MissingColumnError(
                    f"row_condition: there is no column {name!r}. {suggest(name, schema.names)}", column=name
                )
        self.mask({name: pa.array([], schema.field(name).type) for name in self.columns})


@dataclass(frozen=True)
class Compared(RowCondition):
    """``column op value``"""

    column: str
    op: str
    value: Any

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def mask(self, columns: Columns) -> pa.BooleanArray:
        found = pc.fill_null(compare(columns[self.column], "=" if self.op == "!=" else self.op, self.value), False)
        return pc.invert(found) if self.op == "!=" else found


@dataclass(frozen=True)
class Among(RowCondition):
    """``column in [value, …]``"""

    column: str
    constants: tuple[Any, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def mask(self, columns: Columns) -> pa.BooleanArray:
        array = comparable(columns[self.column])
        return pc.fill_null(pc.is_in(array, value_set=members(array.type, self.constants)), False)


@dataclass(frozen=True)
class Missing(RowCondition):
    """``column.isnull()``: null or NaN."""

    column: str

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def mask(self, columns: Columns) -> pa.BooleanArray:
        array = columns[self.column]
        valid = valid_mask(array)
        return pa.nulls(len(array), pa.bool_()).fill_null(False) if valid is None else pc.invert(valid)


@dataclass(frozen=True)
class Negated(RowCondition):
    """``not condition``"""

    item: RowCondition

    @property
    def columns(self) -> tuple[str, ...]:
        return self.item.columns

    def mask(self, columns: Columns) -> pa.BooleanArray:
        return pc.invert(self.item.mask(columns))


@dataclass(frozen=True)
class Joined(RowCondition):
    """``condition and …`` / ``condition or …``"""

    op: str
    items: tuple[RowCondition, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for item in self.items for name in item.columns))

    def mask(self, columns: Columns) -> pa.BooleanArray:
        join = pc.and_ if self.op == "and" else pc.or_
        return reduce(join, [item.mask(columns) for item in self.items])


def parse_row_condition(condition: Any, parser: str | None = None) -> RowCondition | None:
    """The condition from what Great Expectations keeps: a condition's plain data, or a query string.

    Parameters
    ----------
    condition
        None for all rows.
    parser
        The ``condition_parser`` of a string; only "pandas" is known.

    Raises
    ------
    ParameterError
        For anything else, with what is understood.

    >>> condition = parse_row_condition("x > 1 and not (y == 'a' | z.isnull())", "pandas")
    >>> condition.columns
    ('x', 'y', 'z')
    >>> rows = {"x": pa.array([2, 2, None]), "y": pa.array(["b", "a", "b"]), "z": pa.array([1, 1, 1])}
    >>> condition.mask(rows).to_pylist()
    [True, False, False]
    >>> parse_row_condition("x > @limit", "pandas")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: row_condition 'x > @limit' is not understood: invalid syntax. ...
    """
    if not condition:
        return None
    if isinstance(condition, Mapping):
        return _of_data(condition)
    if not isinstance(condition, str):
        _refuse(condition, f"it is a {type(condition).__name__}")
    if parser != "pandas":
        _refuse(condition, f"the condition_parser of a string is {parser!r}; only 'pandas' is known")
    return _of_query(condition)


def _refuse(condition: Any, reason: str) -> NoReturn:
    raise ParameterError(
        f"row_condition {condition!r} is not understood: {reason}. Write comparisons of a column with constants "
        "(== != < <= > >= in, not in), isnull() and notnull(), joined by and, or, not.",
        parameter="row_condition",
        value=condition,
    )


def _of_data(data: Mapping[str, Any]) -> RowCondition:
    """From the plain data of a condition object."""
    column = data.get("column")
    name = column.get("name") if isinstance(column, Mapping) else column
    match data:
        case {"type": "comparison", "operator": operator, "parameter": parameter} if isinstance(name, str):
            operator = getattr(operator, "value", operator)
            if operator in ("IN", "NOT_IN"):
                among = Among(name, tuple(parameter))
                return Negated(among) if operator == "NOT_IN" else among
            if operator in OPERATORS:
                return Compared(name, OPERATORS[operator], parameter)
        case {"type": "nullity", "is_null": is_null} if isinstance(name, str):
            return Missing(name) if is_null else Negated(Missing(name))
        case {"type": "and" | "or" as op, "conditions": [_, *_] as conditions}:
            return Joined(op, tuple(_of_data(c) for c in conditions))
        case {"type": "pass_through", "pass_through_filter": str(query)}:
            return _of_query(query)
    _refuse(dict(data), "it is no condition of Great Expectations")


# --- query strings --------------------------------------------------------------------------------------------------


def _of_query(query: str) -> RowCondition:
    names: list[str] = []

    def rewrite(piece: re.Match[str]) -> str:
        if piece["name"]:
            names.append(piece["name"])
            return f"__column_{len(names) - 1}__"
        return {"&": " and ", "|": " or "}.get(piece[0], piece[0])

    if len(query) > MAX_LENGTH:
        _refuse(query[:80] + "…", f"it has more than {MAX_LENGTH:,} characters")
    try:
        tree = ast.parse(PIECES.sub(rewrite, query).strip(), mode="eval")
        return _Query(query, names).condition(tree.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, ParameterError):
            raise
        _refuse(query, error.msg if isinstance(error, SyntaxError) else type(error).__name__)


class _Query:
    """The parts of a query, as Python's parser gives them; nothing is evaluated."""

    def __init__(self, text: str, names: list[str]) -> None:
        self.text = text
        self.names = names

    def condition(self, node: ast.expr) -> RowCondition:
        match node:
            case ast.BoolOp(op=op, values=values):
                return Joined("and" if isinstance(op, ast.And) else "or", tuple(self.condition(v) for v in values))
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
                return Negated(self.condition(operand))
            case ast.Compare():
                found = list(self.comparisons(node))
                return found[0] if len(found) == 1 else Joined("and", tuple(found))
            case ast.Call(func=ast.Attribute(value=value, attr=method), args=args, keywords=[]):
                return self.method(value, method, args)
            case ast.Name():
                return Compared(self.column(node), "=", True)
        _refuse(self.text, f"{ast.unparse(node)} is no condition")

    def method(self, value: ast.expr, method: str, args: list[ast.expr]) -> RowCondition:
        methods: dict[tuple[str, int], Callable[[], RowCondition]] = {
            ("isnull", 0): lambda: Missing(self.column(value)),
            ("isna", 0): lambda: Missing(self.column(value)),
            ("notnull", 0): lambda: Negated(Missing(self.column(value))),
            ("notna", 0): lambda: Negated(Missing(self.column(value))),
            ("isin", 1): lambda: Among(self.column(value), tuple(self.constant(args[0]))),
        }
        if (method, len(args)) not in methods:
            _refuse(self.text, f"the method {method}() is not known")
        return methods[method, len(args)]()

    def comparisons(self, node: ast.Compare) -> Iterator[RowCondition]:
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            yield self.comparison(left, operator, right)
            left = right

    def comparison(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> RowCondition:
        if isinstance(operator, ast.In | ast.NotIn):
            among = Among(self.column(left), tuple(self.constant(right)))
            return Negated(among) if isinstance(operator, ast.NotIn) else among
        op = AST_OPERATORS.get(type(operator))
        if op is None:
            _refuse(self.text, f"the operator {type(operator).__name__} is not known")
        if not isinstance(left, ast.Name):
            left, right, op = right, left, FLIPPED[op]
        value = self.constant(right)
        if isinstance(value, list | tuple | set) and op in ("=", "!="):
            among = Among(self.column(left), tuple(value))
            return Negated(among) if op == "!=" else among
        return Compared(self.column(left), op, value)

    def column(self, node: ast.expr) -> str:
        if not isinstance(node, ast.Name):
            _refuse(self.text, f"{ast.unparse(node)} is no column")
        found = re.fullmatch(r"__column_(\d+)__", node.id)
        return self.names[int(found[1])] if found else node.id

    def constant(self, node: ast.expr) -> Any:
        try:
            return ast.literal_eval(node)
        except ValueError:
            _refuse(self.text, f"{ast.unparse(node)} is no constant")
