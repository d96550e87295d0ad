"""The stores of the clouds against the contract of all stores."""

from __future__ import annotations

import pytest

from featuremill.artifacts.store import Store, open_store
from support.store_conformance import StoreConformance


class TestEveryPlace(StoreConformance):
    @pytest.fixture
    def store(self, root: str) -> Store:
        return open_store(root)
