"""Term frequency times inverse document frequency: how much a term says about its document.

A document is a row: a list of integer terms, as ``ComputeAndApplyVocabulary`` makes them from texts. The statistic is
in how many documents each term is, in integers, so that it merges exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pt

from featuremill.transforms.contract import Accumulator, Analyzer, State
from featuremill.transforms.prefixed import PrefixedTransform
from featuremill.transforms.ragged import Ragged, flat_leaf_type, list_of, ragged

__all__ = ["TFIDF", "DocumentFrequencies", "inverse_document_frequencies", "term_counts"]

COMPACT_AT = 1 << 20
"""Buffered terms of single batches after which an accumulator adds them up."""

SCHEMA = pa.schema([("index", pa.int64()), ("documents", pa.int64())])
"""Of partials and states: one row per term, ascending; first, with a null index, the number of all documents."""

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]

# --- arithmetic ------------------------------------------------------------------------------------------------------


def terms_of(array: pa.Array, vocab_size: int | None) -> Ragged:
    """The terms of each document as int64; with a vocabulary size, modulo it as in TFT, so that -1 is the last."""
    found = ragged(array)
    values = found.values.cast(pa.int64())
    if vocab_size is not None:
        values = pa.array(np.mod(values.to_numpy(), vocab_size))
    return Ragged(values, found.offsets, found.nulls)


def term_counts(rows: Int64, terms: Int64, row_count: int) -> tuple[Int64, Int64, Int64]:
    """Each distinct (row, term) pair and how often it comes up: ``(rows, terms, counts)``, ordered by row, then term.

    >>> [a.tolist() for a in term_counts(np.array([0, 0, 0, 1]), np.array([7, 3, 7, 3]), 2)]
    [[0, 0, 1], [3, 7, 3], [1, 2, 1]]
    """
    if len(terms) == 0:
        return terms, terms, terms
    lowest = int(terms.min())
    span = int(terms.max()) - lowest + 1
    if span * row_count >= 2**62:
        # Terms too far apart to share an integer with the row: number them first, in their order.
        known, codes = np.unique(terms, return_inverse=True)
        keys, counts = np.unique(rows * len(known) + codes, return_counts=True)
        return keys // len(known), known[keys % len(known)], counts
    keys, counts = np.unique(rows * span + (terms - lowest), return_counts=True)
    return keys // span, keys % span + lowest, counts


def inverse_document_frequencies(documents: npt.NDArray[np.generic], corpus: int, smooth: bool) -> Float32:
    """``1 + log((corpus + 1) / (documents + 1))`` if `smooth`, else ``1 + log(corpus / documents)``; float32.

    ``tft.tfidf``'s formula, in float64 until the end. A term that was in no document counts as one in a single document
    where the formula would divide by zero.
    """
    seen = documents.astype(np.float64)
    ratio = (corpus + 1.0) / (seen + 1.0) if smooth else max(corpus, 1) / np.maximum(seen, 1.0)
    return (np.log(ratio) + 1.0).astype(np.float32)


# --- statistic -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DocumentFrequencies(Analyzer):
    """In how many documents each term is, and how many documents there are.

    Every row is a document, empty and null ones too. The state is a table ``index, documents`` (int64), ordered by
    index; its first row, whose index is null, counts the documents. Without `vocab_size` negative terms do not count.

    >>> analyzer = DocumentFrequencies("x")
    >>> found = analyzer.accumulator()
    >>> found.update(pa.array([[0, 2, 2], [2, -1], None]))
    >>> analyzer.finish(found.partial()).to_pydict()
    {'index': [None, 0, 2], 'documents': [3, 1, 2]}
    """

    vocab_size: int | None = None

    def accumulator(self) -> Accumulator:
        return _Documents(self.vocab_size)

    def merge(self, partials: Sequence[pa.Table]) -> pa.Table:
        total = sum(p.column("documents")[0].as_py() for p in partials)
        indices = np.concatenate([p.column("index")[1:].to_numpy() for p in partials])
        counts = np.concatenate([p.column("documents")[1:].to_numpy() for p in partials])
        return _table(total, *_added_up(indices, counts))

    def finish(self, partial: pa.Table) -> State:
        return partial

    def split(self, partial: pa.Table, shards: int) -> list[pa.Table]:
        total = partial.column("documents")[0].as_py()
        indices, counts = partial.column("index")[1:].to_numpy(), partial.column("documents")[1:].to_numpy()
        shard = np.mod(indices, shards)
        return [_table(total if i == 0 else 0, indices[shard == i], counts[shard == i]) for i in range(shards)]


class _Documents:
    """The accumulator of :class:`DocumentFrequencies`."""

    def __init__(self, vocab_size: int | None) -> None:
        self._vocab_size = vocab_size
        self._total = 0
        self._buffered = 0
        empty = np.zeros(0, dtype=np.int64)
        self._pieces: list[tuple[Int64, Int64]] = [(empty, empty)]

    def update(self, array: pa.Array) -> None:
        documents = terms_of(array, self._vocab_size)
        self._total += len(array)
        terms = documents.values.to_numpy()
        rows, terms = documents.rows[terms >= 0], terms[terms >= 0]
        piece = np.unique(term_counts(rows, terms, len(array))[1], return_counts=True)
        self._pieces.append(piece)
        self._buffered += len(piece[0])
        # The sum so far is added up again only after as many new terms, which keeps the work linear.
        if self._buffered > max(COMPACT_AT, len(self._pieces[0][0])):
            self._compact()

    def _compact(self) -> None:
        self._pieces = [_added_up(*(np.concatenate(arrays) for arrays in zip(*self._pieces, strict=True)))]
        self._buffered = 0

    def partial(self) -> pa.Table:
        self._compact()
        return _table(self._total, *self._pieces[0])


def _added_up(indices: Int64, counts: Int64) -> tuple[Int64, Int64]:
    """Distinct indices, ascending, and the sum of the counts of each."""
    order = np.argsort(indices, kind="stable")
    indices, counts = indices[order], counts[order]
    starts = np.flatnonzero(np.diff(indices, prepend=indices[:1] - 1))
    return indices[starts], np.add.reduceat(counts, starts) if len(starts) else counts


def _table(total: int, indices: Int64, counts: Int64) -> pa.Table:
    index = pa.concat_arrays([pa.nulls(1, pa.int64()), pa.array(indices, pa.int64())])
    documents = pa.concat_arrays([pa.array([total], pa.int64()), pa.array(counts, pa.int64())])
    return pa.Table.from_arrays([index, documents], schema=SCHEMA)


# --- transform -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Weights:
    """What applying works with: the known terms, ascending, their idf, that of an unknown term, and the output
    types."""

    indices: Int64
    idf: Float32
    unseen: np.float32
    types: tuple[pa.DataType, pa.DataType]

    def of(self, terms: Int64) -> Float32:
        if len(self.indices) == 0:
            return np.full(len(terms), self.unseen)
        at = np.minimum(np.searchsorted(self.indices, terms), len(self.indices) - 1)
        return np.where(self.indices[at] == terms, self.idf[at], self.unseen)


@dataclass(frozen=True)
class TFIDF(PrefixedTransform):
    """How much each distinct term of a row says about it: its share in the row times its inverse document frequency.

    Returns, for each column, ``<column>_vocab_index``, shape (n_rows,), lists of int64: the row's distinct terms,
    ascending; and ``<column>_tfidf_weight``, lists of float32: their weights. The column itself is left as it is. The
    weight is (how often the term is in the row) / (number of terms in the row) times ``1 + log((documents + 1) /
    (documents with the term + 1))``: ``tft.tfidf``.

    Null rows give null, and empty rows empty lists; both are documents, as in TFT. Nulls inside lists are left out. A
    scalar is a row of one term. Fitting counts documents; applying never changes the counts, and a term that fitting
    never saw is one of no documents.

    Parameters
    ----------
    columns
        Columns of lists of integers.
    vocab_size
        The number of terms. Terms are taken modulo it, as in TFT: -1, the usual mark of an unknown word, becomes the
        last term. None: terms are what they are, of any number, and negative ones have no weight, though they count in
        the length of the row.
    smooth
        Whether to add one document that has every term. Without, the logarithm is of documents / (documents with the
        term), and a term that fitting never saw counts as one in a single document.
    output
        What the outputs' names begin with instead of the column's name.
    name
        A label for people.

    Raises
    ------
    ParameterError, ParameterTypeError
        For parameters that cannot work.
    ColumnTypeError
        When the schema is known, for a column of anything but integers or lists of them.

    >>> op = TFIDF(["x"])
    >>> batch = pa.record_batch({"x": [[3, 2, 0, 0, 0], [1, 1, 0]]})
    >>> found = op.analyzers()["x"].accumulator()
    >>> found.update(batch.column("x"))
    >>> for array in op.apply(batch, op.prepare({"x": found.partial()}, batch.schema)):
    ...     print(array.to_pylist())
    [[0, 2, 3], [0, 1]]
    [[0.6000000238418579, 0.281093031167984, 0.281093031167984], [0.3333333432674408, 0.9369767904281616]]
    >>> TFIDF(["x"], vocab_size=0)
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: TFIDF('x'): vocab_size got 0, expected a positive integer or None.
    """

    vocab_size: int | None = None
    smooth: bool = True

    def check(self) -> None:
        size = self.vocab_size
        if size is not None and type(size) is not int:
            raise self.wrong("vocab_size", size, "a positive integer or None", wrong_type=True)
        if size is not None and not 1 <= size < 2**63:
            raise self.wrong("vocab_size", size, "a positive integer or None")
        if not isinstance(self.smooth, bool):
            raise self.wrong("smooth", self.smooth, "true or false", wrong_type=True)

    @property
    def suffixes(self) -> list[str]:
        return ["vocab_index", "tfidf_weight"]

    def output_types(self, column: pa.Field) -> list[pa.DataType]:
        leaf = flat_leaf_type(column.type)
        if leaf is None or not (pt.is_integer(leaf) or pt.is_null(leaf)) or pt.is_uint64(leaf):
            raise self.wrong_column(
                column, "lists of integers below 2**63. Put ComputeAndApplyVocabulary before it to number words"
            )
        return [list_of(column.type, pa.int64()), list_of(column.type, pa.float32())]

    def analyzer(self, column: str) -> Analyzer:
        return DocumentFrequencies(column, self.vocab_size)

    def prepare_column(self, state: State | None, column: pa.Field) -> _Weights:
        if state is None:
            raise self.wrong("columns", list(self.columns), f"a state for {column.name!r}; fit the transform first")
        corpus = state.column("documents")[0].as_py()
        documents = state.column("documents")[1:].to_numpy()
        idf = inverse_document_frequencies(documents, corpus, self.smooth)
        unseen = inverse_document_frequencies(np.zeros(1), corpus, self.smooth)[0]
        index, weight = self.output_types(column)
        return _Weights(state.column("index")[1:].to_numpy(), idf, unseen, (index, weight))

    def apply_column(self, array: pa.Array, prepared: _Weights) -> list[pa.Array]:
        documents = terms_of(array, self.vocab_size)
        terms = documents.values.to_numpy()
        known = terms >= 0
        rows, terms, counts = term_counts(documents.rows[known], terms[known], len(array))
        shares = (counts / documents.lengths[rows]).astype(np.float32)
        offsets = np.searchsorted(rows, np.arange(len(array) + 1))
        made = (pa.array(terms, pa.int64()), pa.array(shares * prepared.of(terms), pa.float32()))
        return [
            Ragged(values, offsets, documents.nulls).to_lists(type_)
            for values, type_ in zip(made, prepared.types, strict=True)
        ]

    def row_function(self, prepared: _Weights, column: pa.Field) -> Callable[[Any], list[Any]] | None:
        size = self.vocab_size
        if pt.is_dictionary(column.type):
            return None

        def weigh(value: Any) -> list[Any]:
            if value is None:
                return [None, None]
            given = [v for v in (value if isinstance(value, list) else [value]) if v is not None]
            found = Counter(given if size is None else [v % size for v in given])
            terms = sorted(t for t in found if t >= 0)
            shares = np.array([found[t] for t in terms], dtype=np.int64) / max(len(given), 1)
            return [terms, (shares.astype(np.float32) * prepared.of(np.array(terms, dtype=np.int64))).tolist()]

        return weigh
