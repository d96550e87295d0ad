"""One local BigQuery for all tests of a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.bigquery import LocalBigQuery, local_bigquery


@pytest.fixture(scope="session")
def bigquery() -> Iterator[LocalBigQuery]:
    with local_bigquery() as server:
        yield server
