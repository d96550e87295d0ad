"""Pickles are refused: whoever wrote one decides what loading it runs.

Pickle, joblib, cloudpickle and dill write programs for a small machine that can call any function by name. There is no
checking one for harm, so that trust is given to the very file: under ``allow_pickle: true`` with its SHA-256.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

from featuremill.core.models.contract import ModelFileError
from featuremill.core.models.extras import import_extra
from featuremill.core.models.spec import ModelSpec

__all__ = ["PICKLE_SUFFIXES", "load_pickle", "require_trust", "trusted_bytes"]

PICKLE_SUFFIXES = (".pkl", ".pickle", ".joblib", ".sav", ".dill", ".cloudpickle")


def require_trust(path: str, spec: ModelSpec) -> None:
    """Nothing, when the job file takes the responsibility for a pickle; its digest is compared on loading.

    Raises
    ------
    ModelFileError
        When it does not.

    >>> require_trust("late.pkl", ModelSpec(path="late.pkl"))
    Traceback (most recent call last):
    ...
    featuremill.transforms.onnx_sessions.ModelFileError: late.pkl is a pickle: loading it runs whatever code was put in
    it, so it is refused. ...
    """
    if spec.allow_pickle and spec.sha256 is not None:
        return
    raise ModelFileError(
        f"{path} is a pickle: loading it runs whatever code was put in it, so it is refused. Save the model in a safe "
        "format: skops.io.dump(model, 'model.skops') or ONNX for scikit-learn, safetensors or ONNX for PyTorch, "
        "save_model('model.ubj') for XGBoost. If you trust this very file, set allow_pickle: true and its sha256.",
        path=path,
    )


def trusted_bytes(path: str, spec: ModelSpec) -> bytes:
    """The bytes of the very file that the job trusts.

    Raises
    ------
    ModelFileError
        When it trusts none, or another.
    """
    require_trust(path, spec)
    # The bytes that were compared are those that are loaded: a file could change in between.
    data = Path(path).read_bytes()
    if hashlib.sha256(data).hexdigest() != spec.sha256:
        raise ModelFileError(
            f"{path} is not the file that the job trusts: its SHA-256 is {hashlib.sha256(data).hexdigest()}, the job "
            f"says {spec.sha256}. Nothing was loaded.",
            path=path,
        )
    return data


def load_pickle(path: str, spec: ModelSpec) -> Any:
    """What a pickle or joblib file holds, for a job that allows it.

    Raises
    ------
    ModelFileError
        When the job does not allow it, the file is not the one that it trusts, or cannot be read.
    """
    data = trusted_bytes(path, spec)
    joblib = import_extra("joblib", "sklearn", path)
    try:
        return joblib.load(io.BytesIO(data))
    except Exception as error:  # Anything can go wrong in code that anybody wrote.
        raise ModelFileError(f"{path} cannot be unpickled: {type(error).__name__}: {error}", path=path) from error
