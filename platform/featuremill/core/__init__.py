"""What jobs are made of: job files, sources, sinks, runners and records.

The names below are looked up when they are asked for, so that a command that only prints needs none of what they bring.

>>> from featuremill.core import Where
>>> str(Where("x  >  1.0"))
'x > 1'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featuremill.core.fragments import Fragment
    from featuremill.core.parquet_fragment import ParquetFragment
    from featuremill.core.parquet_source import ParquetSource
    from featuremill.core.where import Where

__all__ = ["Fragment", "ParquetFragment", "ParquetSource", "Where"]

_MODULES = {
    "Fragment": "fragments",
    "ParquetFragment": "parquet_fragment",
    "ParquetSource": "parquet_source",
    "Where": "where",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
