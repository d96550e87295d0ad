"""Several models' predictions for the same rows made one: the mean of numbers, or the value that most of them give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.artifacts.errors import JobError, ParameterError
from featuremill.core.inference.predictions import Predictions, constant, nothing
from featuremill.core.models.groups import Combine
from featuremill.transforms.rejects import Reject

__all__ = ["combine", "combined_schema", "mean", "vote"]

Combining = Combine | Mapping[str, Combine]


def combine(predictions: Sequence[Predictions], how: Combining, rows: int) -> Predictions:
    """One prediction for each row that every model has one for; a row that one cannot take is rejected.

    Parameters
    ----------
    predictions
        Of each model, for the same batch.
    how
        ``mean`` or ``vote``, for all columns or by column.
    rows
        The batch's.
    """
    rejects: dict[int, Reject] = {}
    for predicted in predictions:
        for reject in predicted.rejects:
            rejects.setdefault(reject.row, reject)
    aside = tuple(rejects[row] for row in sorted(rejects))
    if len(aside) == rows:
        return nothing(aside, rows)
    kept = None
    batches = [p.columns for p in predictions]
    if aside:
        keep = np.ones(rows, dtype=bool)
        keep[list(rejects)] = False
        kept = np.flatnonzero(keep)
        batches = [p.columns.filter(pa.array(keep[p.positions])) for p in predictions]
    schema = combined_schema([b.schema for b in batches], how)
    columns = [
        (mean if _how(how, name) == "mean" else vote)([b.column(name) for b in batches]) for name in schema.names
    ]
    # Constant in each: a step's models change between batches, not within one.
    version = "+".join(p.versions[0].as_py() for p in predictions)
    made = pa.RecordBatch.from_arrays(columns, schema=schema)
    return Predictions(made, constant(version, made.num_rows), kept, aside)


def combined_schema(schemas: Sequence[pa.Schema], how: Combining) -> pa.Schema:
    """The columns of an ensemble.

    Raises
    ------
    ParameterError
        When models give different columns, or values that cannot be combined as asked.

    >>> combined_schema([pa.schema({"p": pa.float32()}), pa.schema({"p": pa.float64()})], "mean")
    p: double
    >>> combined_schema([pa.schema({"p": pa.string()}), pa.schema({"p": pa.string()})], "mean")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: combine: 'p' holds string, which has no mean. Write combine: vote, or \
by column, as in {p: vote}.
    """
    names = schemas[0].names
    for schema in schemas[1:]:
        if set(schema.names) != set(names):
            raise ParameterError(
                f"combine: the models give different columns, {', '.join(names)} and {', '.join(schema.names)}. Give "
                "them the same names with outputs.",
                parameter="combine",
            )
    if isinstance(how, Mapping) and set(how) != set(names):
        name = min(set(how) ^ set(names))
        raise ParameterError(
            f"combine: {name!r} is "
            + ("not said" if name in names else "no column of the models")
            + ". The columns are "
            f"{', '.join(names)}.",
            parameter="combine",
        )
    return pa.schema([(name, _type(name, [s.field(name).type for s in schemas], _how(how, name))) for name in names])


def mean(columns: Sequence[pa.Array]) -> pa.Array:
    """The mean of each row: float32 where all columns are, else float64; null where one is null.

    Vectors (fixed-size lists) have the mean of each element.

    >>> mean([pa.array([1, 2]), pa.array([2, None])]).to_pylist()
    [1.5, None]
    """
    type_ = _type("", [c.type for c in columns], "mean")
    if pt.is_fixed_size_list(type_):
        flat = mean([_all_values(c) for c in columns])
        valid = columns[0].is_valid()
        for column in columns[1:]:
            valid = pc.and_(valid, column.is_valid())
        mask = None if valid.false_count == 0 else pc.invert(valid)
        return pa.FixedSizeListArray.from_arrays(flat, type=type_, mask=mask)
    total = columns[0].cast(pa.float64(), safe=False)
    for column in columns[1:]:
        total = pc.add(total, column.cast(pa.float64(), safe=False))
    return pc.divide(total, float(len(columns))).cast(type_, safe=False)


def vote(columns: Sequence[pa.Array]) -> pa.Array:
    """The value that most columns have in each row; among equals that of the first column. A null does not vote.

    >>> vote([pa.array(["a", "b", None]), pa.array(["c", "c", None]), pa.array(["a", "d", "e"])]).to_pylist()
    ['a', 'b', 'e']
    """
    rows = len(columns[0])
    every = pa.concat_arrays([c.dictionary_decode() if pt.is_dictionary(c.type) else c for c in columns])
    codes = every.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False).reshape(len(columns), rows)
    votes = np.stack([(codes == own).sum(axis=0) for own in codes])
    votes[codes < 0] = 0
    return every.take(pa.array(votes.argmax(axis=0) * rows + np.arange(rows)))


def _how(how: Combining, name: str) -> Combine:
    return how if isinstance(how, str) else how[name]


def _type(name: str, types: Sequence[pa.DataType], how: Combine) -> pa.DataType:
    if how == "vote":
        plain = {t.value_type if pt.is_dictionary(t) else t for t in types}
        if len(plain) > 1:
            raise ParameterError(
                f"combine: the models' {name!r} have different types, {' and '.join(sorted(map(str, plain)))}. Give "
                "them the same with outputs.",
                parameter="combine",
            )
        type_ = plain.pop()
        if pt.is_nested(type_):
            raise ParameterError(
                f"combine: {name!r} holds {type_}; a vote is between single values. Choose one with index in outputs.",
                parameter="combine",
            )
        return type_
    if all(pt.is_fixed_size_list(t) for t in types) and len({t.list_size for t in types}) == 1:
        return pa.list_(_type(name, [t.value_type for t in types], how), types[0].list_size)
    for type_ in types:
        if not (pt.is_integer(type_) or pt.is_floating(type_) or pt.is_boolean(type_)):
            raise ParameterError(
                f"combine: {name!r} holds {type_}, which has no mean. Write combine: vote, or by column, as in "
                f"{{{name}: vote}}.",
                parameter="combine",
            )
    return pa.float32() if all(pt.is_float32(t) for t in types) else pa.float64()


def _all_values(lists: pa.FixedSizeListArray) -> pa.Array:
    """The values of all rows, null rows' too."""
    size = lists.type.list_size
    values = lists.values.slice(lists.offset * size, len(lists) * size)
    if len(values) != len(lists) * size:
        raise JobError(f"A column of vectors of {size} has {len(values)} values in {len(lists)} rows.")
    return values
