"""Beam's machine-learning base classes, without the deep-learning frameworks that importing them may bring.

`apache_beam.ml.inference.base` of 2.77 imports torch wherever it is installed, for a manager of models on GPUs that it
can do without until it is asked for: 1.5 s and 150 MB in every process that prepares data. The manager is hidden while
Beam's module is imported, and there again afterwards.
"""

from __future__ import annotations

import sys

_MANAGER = "apache_beam.ml.inference.model_manager"

if _MANAGER not in sys.modules:
    sys.modules[_MANAGER] = None  # type: ignore[assignment]  # how Python is told that a module cannot be imported
    try:
        from apache_beam.ml.transforms.base import ArtifactMode, MLTransform, MLTransformProvider, ProcessHandler
    finally:
        del sys.modules[_MANAGER]
else:
    from apache_beam.ml.transforms.base import ArtifactMode, MLTransform, MLTransformProvider, ProcessHandler

__all__ = ["ArtifactMode", "MLTransform", "MLTransformProvider", "ProcessHandler"]
