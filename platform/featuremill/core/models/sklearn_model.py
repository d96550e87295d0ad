"""scikit-learn's models, from skops files: data and names of types, of which only those of a fixed list are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.errors import BadRows, MissingExtraError, ParameterError, suggest
from featuremill.core.models.contract import Arrays, Model, ModelFileError, PredictionError, Signature, TensorSpec
from featuremill.core.models.extras import import_extra
from featuremill.core.models.pickles import load_pickle
from featuremill.core.models.sniff import looks_pickled
from featuremill.core.models.spec import ModelSpec

__all__ = ["ALLOWED", "METHODS", "SklearnModel", "load", "load_estimator"]

ALLOWED = frozenset({
    "numpy.dtype",
    "scipy._lib.array_api_compat.numpy._aliases.asarray",
    "scipy.interpolate._bsplines.BSpline",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.feature_selection._univariate_selection.f_classif",
    "sklearn.feature_selection._univariate_selection.f_regression",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.DotProduct",
    "sklearn.gaussian_process.kernels.Matern",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.gaussian_process.kernels.RationalQuadratic",
    "sklearn.gaussian_process.kernels.Sum",
    "sklearn.gaussian_process.kernels.WhiteKernel",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
})
"""Types beside those that skops itself trusts. Trees, whose code does not check what it is given, are checked here;
those of neighbours (KDTree, BallTree) are left out for that reason."""

SAFE_SINCE = (0, 12)
"""Before this release of skops a crafted file could call what was not on the list (CVE-2025-54412, CVE-2025-54413)."""

METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples", "transform")
"""The methods that are outputs."""

OPTIONS = {"method": METHODS, "feature_names": ("check", "ignore")}


class SklearnModel(Model):
    """An estimator. Its outputs are the methods that are asked for, and only they are computed.

    Parameters
    ----------
    estimator
        Fitted, and not used for anything else: it forgets the names of its features, which it would miss at every call.
    methods
        Of :data:`METHODS`.
    where
        What to call it in errors.
    check_names
        Whether the names of the features that it was trained on are its columns.
    threads
        Of BLAS and OpenMP, which count for the process, or with OpenMP for the calling thread; they are set again
        whenever somebody else changed them.
    """

    def __init__(
        self, estimator: Any, methods: tuple[str, ...], *, where: str, check_names: bool = True, threads: int = 1
    ) -> None:
        from threadpoolctl import ThreadpoolController

        self._threads = threads
        self._libraries = ThreadpoolController().lib_controllers
        self._estimator = estimator
        self._methods = methods
        self._where = where
        names = getattr(estimator, "feature_names_in_", None)
        width = getattr(estimator, "n_features_in_", None)
        self._width = None if width is None else int(width)
        self._frame_columns = None if names is None or not _selects_by_name(estimator) else list(names)
        if self._frame_columns is None:
            for part in _parts(estimator):
                getattr(part, "__dict__", {}).pop("feature_names_in_", None)
        self._nothing = self._probe()
        columns = tuple(map(str, names)) if names is not None and check_names else ()
        shape = None if self._width is None else (self._width,)
        outputs = () if self._nothing is None else tuple(
            TensorSpec(name, str(array.dtype), array.shape[1:]) for name, array in self._nothing.items()
        )
        self._signature = Signature((TensorSpec("X", None, shape),), outputs, columns)

    @property
    def signature(self) -> Signature:
        return self._signature

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        if len(inputs) != 1:
            raise ParameterError(
                f"{self._where}: a scikit-learn model has one input, got {', '.join(inputs)}. Put the columns into one "
                "matrix.",
                parameter="inputs",
            )
        array = next(iter(inputs.values()))
        if self._width is not None and (array.ndim != 2 or array.shape[1] != self._width):
            raise ParameterError(
                f"{self._where}: the model takes rows of shape ({self._width},), got {array.shape[1:]}.",
                parameter="inputs", expected=self._width, got=array.shape[1:],
            )
        if not len(array) and self._nothing is not None:
            return {name: empty.copy() for name, empty in self._nothing.items()}
        try:
            found = self._call(array)
        except ValueError as error:
            raise _about_rows(error, array) or error from error
        if self._nothing is None:
            return found
        # By the input's type, some estimators give another one.
        return {name: a.astype(self._nothing[name].dtype, copy=False) for name, a in found.items()}

    def _call(self, array: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        for library in self._libraries:
            if library.num_threads != self._threads:
                # BLAS would wait for its next call in busy threads, which costs other workers their cores.
                library.set_num_threads(self._threads)
        data: Any = array
        if self._frame_columns is not None:
            pandas = import_extra("pandas", "sklearn", f"{self._where}, which selects columns by name,")
            data = pandas.DataFrame(array, columns=self._frame_columns)
        return {method: _plain(method, getattr(self._estimator, method)(data)) for method in self._methods}

    def _probe(self) -> dict[str, npt.NDArray[Any]] | None:
        """The outputs for no rows, found out with one of zeros or of empty texts; None when it takes neither."""
        width = 1 if self._width is None else self._width
        for row in (np.zeros((1, width)), np.full((1, width), "", dtype=object), np.full(1, "", dtype=object)):
            try:
                return {name: array[:0] for name, array in self._call(row).items()}
            except (ValueError, TypeError, AttributeError):
                continue
        return None


def _plain(method: str, result: Any) -> npt.NDArray[Any]:
    if isinstance(result, list):
        if len({r.shape for r in result}) != 1:
            raise PredictionError(
                f"{method} gave arrays of different widths for the targets of a model of several. Use predict.",
                output=method,
            )
        return np.stack(result, axis=1)
    if hasattr(result, "toarray"):
        result = result.toarray()
    array = np.asarray(result)
    return array.astype(object) if array.dtype.kind in "US" else array


def _about_rows(error: ValueError, array: npt.NDArray[Any]) -> BadRows | None:
    """The rows that an error about NaN or infinity is about, all at once; None for another error."""
    if array.dtype.kind != "f" or not ("NaN" in str(error) or "infinity" in str(error)):
        return None
    bad = ~np.isfinite(array.reshape(len(array), -1))
    rows = np.flatnonzero(bad.any(axis=1))
    if not len(rows):
        return None
    return BadRows(f"ValueError: {str(error).splitlines()[0]}", rows=rows.tolist())


def _parts(estimator: Any) -> Iterator[Any]:
    """Everything of scikit-learn inside an estimator, itself first."""
    seen: set[int] = set()
    pending = [estimator]
    while pending:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Mapping):
            pending.extend(part.values())
        elif isinstance(part, list | tuple) or (isinstance(part, np.ndarray) and part.dtype == object):
            pending.extend(part)
        elif type(part).__module__.startswith("sklearn."):
            yield part
            pending.extend(getattr(part, "__dict__", {}).values())


def _selects_by_name(estimator: Any) -> bool:
    """Whether a ColumnTransformer in it names its columns, and so needs a frame."""
    for part in _parts(estimator):
        for _, _, columns in getattr(part, "transformers_", None) or []:
            named = [columns] if isinstance(columns, str) else columns
            if isinstance(named, list | tuple | np.ndarray) and any(isinstance(c, str) for c in named):
                return True
    return False


def load(path: str, spec: ModelSpec) -> SklearnModel:
    """The model in a skops file; in a pickle or joblib file, where the job allows that very file.

    Raises
    ------
    ModelFileError
        When the file is damaged, or wants types that are not on the list.
    ParameterError
        When an option or an output is none that the model has.
    MissingExtraError
        When scikit-learn or skops is not installed.
    """
    _check_options(spec)
    estimator = load_estimator(path, spec)
    for part in _parts(estimator):
        if "n_jobs" in getattr(part, "__dict__", {}):
            part.n_jobs = spec.threads or 1
    methods = _methods(spec, estimator)
    check_names = spec.options.get("feature_names", "check") == "check"
    where, threads = str(spec.path or path), spec.threads or 1
    return SklearnModel(estimator, methods, where=where, check_names=check_names, threads=threads)


def load_estimator(path: str, spec: ModelSpec) -> Any:
    """The estimator in a file, as it was saved; errors as of :func:`load`."""
    import_extra("sklearn", "sklearn", path)
    pickled = looks_pickled(Path(path)) or spec.allow_pickle
    return load_pickle(path, spec) if pickled else _from_skops(path)


def _check_options(spec: ModelSpec) -> None:
    for name, value in spec.options.items():
        if name not in OPTIONS:
            raise ParameterError(f"options: {name!r} is none of scikit-learn's. {suggest(name, list(OPTIONS))}",
                                 parameter="options", value=name)
        if value not in OPTIONS[name]:
            raise ParameterError(f"options.{name} got {value!r}. {suggest(str(value), OPTIONS[name])}",
                                 parameter="options", value=value)
    if spec.device != "cpu":
        raise ParameterError(f"device got {spec.device!r}, and scikit-learn runs on the cpu.", parameter="device")


def _methods(spec: ModelSpec, estimator: Any) -> tuple[str, ...]:
    asked = [o.output for o in (spec.outputs or {}).values() if o.output is not None]
    first = "predict" if hasattr(estimator, "predict") else "transform"
    methods = tuple(dict.fromkeys(asked)) or (spec.options.get("method", first),)
    has = [m for m in METHODS if hasattr(estimator, m)]
    for method in methods:
        if method not in has:
            raise ParameterError(
                f"{spec.path}: {type(estimator).__name__} has no output {method!r}. {suggest(method, has)}",
                parameter="outputs", output=method, known=has,
            )
    return methods


def _from_skops(path: str) -> Any:
    skops = import_extra("skops", "sklearn", path)
    io = import_extra("skops.io", "sklearn", path)
    if tuple(int(p) for p in skops.__version__.split(".")[:2]) < SAFE_SINCE:
        raise MissingExtraError(
            f"{path} needs skops 0.12 or newer: crafted files get round the checks of {skops.__version__}. "
            "pip install -U 'featuremill[sklearn]'",
            package="skops", extra="sklearn",
        )
    try:
        more = sorted(set(io.get_untrusted_types(file=path)) - ALLOWED)
    except Exception as error:  # A damaged archive fails anywhere in it.
        raise _damaged(path, error) from error
    if more:
        raise ModelFileError(
            f"{path} wants {len(more)} types that are not on the list of what is loaded: {', '.join(more[:8])}. Save "
            "the model without them, or convert it to ONNX where it was trained.",
            path=path, types=more,
        )
    try:
        estimator = io.load(path, trusted=sorted(ALLOWED))
    except Exception as error:
        # A damaged file fails anywhere in what reads it.
        raise _damaged(path, error) from error
    features = 0
    for part in _parts(estimator):
        # Ensembles come before the trees in them, and say how many features there are.
        features = int(getattr(part, "n_features_in_", features) or features)
        _check_tree(part, path, features)
    return estimator


def _damaged(path: str, error: Exception) -> ModelFileError:
    told = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ModelFileError(
        f"{path} cannot be loaded by skops: {told}. Save it anew, with a version of scikit-learn like this one.",
        path=path,
    )


def _check_tree(part: Any, path: str, features: int) -> None:
    """Refuse a tree that points outside itself or in a circle: its code would follow."""
    kind = type(part).__name__
    if kind == "Tree":
        left, right, feature, width = part.children_left, part.children_right, part.feature, part.n_features
        inner = left != -1
        inner |= right != -1
    elif kind == "TreePredictor":
        # How many features there are is known to the ensemble; it refuses rows of another width.
        nodes, width = part.nodes, features
        inner = nodes["is_leaf"] == 0
        left, right, feature = (nodes[n].astype(np.int64) for n in ("left", "right", "feature_idx"))
    else:
        return
    at = np.flatnonzero(inner)
    count = len(left)
    for child in (left[at], right[at]):
        if ((child <= at) | (child >= count)).any():
            raise ModelFileError(f"{path} is damaged: a tree points outside itself.", path=path)
    if ((feature[at] < 0) | (feature[at] >= width)).any():
        raise ModelFileError(f"{path} is damaged: a tree asks for a feature that there is not.", path=path)
