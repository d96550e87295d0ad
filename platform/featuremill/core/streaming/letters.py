"""Dead letters of what never became a row: a message that is no JSON object, a file that is no Parquet."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from featuremill.core.feature_recipe import FRAGMENT, ROW
from featuremill.transforms.rejects import Reject

__all__ = ["MESSAGE", "letters_without_rows", "streaming_letters_schema"]

MESSAGE = "_message"
"""The column with the message itself."""

MESSAGE_FIELD = pa.field(MESSAGE, pa.binary())


def streaming_letters_schema(schema: pa.Schema, *, messages: bool) -> pa.Schema:
    """The schema of a job's dead letters, with a column for messages where it reads such."""
    return schema.append(MESSAGE_FIELD) if messages else schema


def letters_without_rows(
    rejects: Sequence[Reject], fragment: str, messages: Sequence[bytes] | None = None
) -> pa.RecordBatch:
    """Dead letters that say why and where, and hold the messages; a position below 0 becomes null.

    >>> letters_without_rows([Reject(4, "too odd")], "messages-7", [b"?"]).to_pylist()
    [{'_reason': 'too odd', '_column': None, '_fragment': 'messages-7', '_row': 4, '_message': b'?'}]
    """
    columns = {
        "_reason": pa.array([r.reason for r in rejects], pa.string()),
        "_column": pa.array([r.column for r in rejects], pa.string()),
        FRAGMENT: pa.array([fragment] * len(rejects), pa.string()),
        ROW: pa.array([None if r.row < 0 else r.row for r in rejects], pa.int64()),
    }
    if messages is not None:
        columns[MESSAGE] = pa.array(messages, pa.binary())
    return pa.RecordBatch.from_pydict(columns)
