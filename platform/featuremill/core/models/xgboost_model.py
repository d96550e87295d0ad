"""XGBoost's models, from its JSON and UBJ files: data, whatever is in them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.errors import ParameterError, suggest
from featuremill.core.models.contract import Arrays, Model, ModelFileError, Signature, TensorSpec
from featuremill.core.models.extras import import_extra
from featuremill.core.models.pickles import load_pickle
from featuremill.core.models.spec import ModelSpec

__all__ = ["XGBoostModel", "load"]

OPTIONS = {"feature_names": ("check", "ignore"), "iterations": ("best", "all")}


class XGBoostModel(Model):
    """A booster.

    Its outputs: ``predict``, what the objective gives (a probability for a logistic one); ``margin``, the sum of the
    trees before that; and for classifiers ``label``, the position of the class, int64.

    Parameters
    ----------
    booster
        An ``xgboost.Booster``.
    outputs
        Those of its outputs that are wanted.
    where
        What to call it in errors.
    check_names
        Whether the names of the features that it was trained on are its columns.
    trees
        The first and last round of boosting, ``(0, 0)`` for all.
    """

    def __init__(
        self, booster: Any, outputs: tuple[str, ...], *, where: str, check_names: bool = True,
        trees: tuple[int, int] = (0, 0),
    ) -> None:
        self._booster = booster
        self._outputs = outputs
        self._where = where
        self._trees = trees
        self._width = int(booster.num_features())
        # A linear booster has no trees to go through in place.
        self._in_place = _setting(booster, "learner", "gradient_booster", "name") != "gblinear"
        self._nothing = {name: array[:0] for name, array in self._call(np.zeros((1, self._width), np.float32)).items()}
        names = booster.feature_names if check_names else None
        self._signature = Signature(
            (TensorSpec("X", None, (self._width,)),),
            tuple(TensorSpec(n, str(a.dtype), a.shape[1:]) for n, a in self._nothing.items()),
            tuple(names or ()),
        )

    @property
    def signature(self) -> Signature:
        return self._signature

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        if len(inputs) != 1:
            raise ParameterError(
                f"{self._where}: an XGBoost model has one input, got {', '.join(inputs)}. Put the columns into "
                "one matrix.",
                parameter="inputs",
            )
        array = next(iter(inputs.values()))
        if array.ndim != 2 or array.shape[1] != self._width:
            raise ParameterError(
                f"{self._where}: the model takes rows of shape ({self._width},), got {array.shape[1:]}.",
                parameter="inputs", expected=self._width, got=array.shape[1:],
            )
        if not len(array):
            return {name: empty.copy() for name, empty in self._nothing.items()}
        return self._call(array)

    def _call(self, array: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        found = {}
        if "predict" in self._outputs or "label" in self._outputs:
            found["predict"] = self._run(array, margin=False)
        if "margin" in self._outputs:
            found["margin"] = self._run(array, margin=True)
        if "label" in self._outputs:
            values = found["predict"]
            # As XGBClassifier.predict does: one half is the first class's.
            label = values > 0.5 if values.ndim == 1 else values.argmax(axis=1)
            found["label"] = label.astype(np.int64)
        return {name: found[name] for name in self._outputs}

    def _run(self, array: npt.NDArray[Any], *, margin: bool) -> npt.NDArray[Any]:
        if self._in_place:
            kind = "margin" if margin else "value"
            result = self._booster.inplace_predict(
                array, iteration_range=self._trees, predict_type=kind, validate_features=False
            )
        else:
            xgboost = import_extra("xgboost", "xgboost", self._where)
            result = self._booster.predict(
                xgboost.DMatrix(array, nthread=1), output_margin=margin, iteration_range=self._trees,
                validate_features=False,
            )
        return np.asarray(result)


def load(path: str, spec: ModelSpec) -> XGBoostModel:
    """The model in a JSON or UBJ file.

    Raises
    ------
    ModelFileError
        When the file is damaged.
    ParameterError
        When an option or output is unknown, or the device is not there.
    MissingExtraError
        When XGBoost is not installed.
    """
    for name, value in spec.options.items():
        if name not in OPTIONS:
            raise ParameterError(f"options: {name!r} is none of XGBoost's. {suggest(name, list(OPTIONS))}",
                                 parameter="options", value=name)
        if value not in OPTIONS[name]:
            raise ParameterError(f"options.{name} got {value!r}. {suggest(str(value), OPTIONS[name])}",
                                 parameter="options", value=value)
    xgboost = import_extra("xgboost", "xgboost", path)
    if spec.device != "cpu" and not xgboost.build_info().get("USE_CUDA"):
        raise ParameterError(
            f"device got {spec.device!r}, and this XGBoost was built without CUDA. Install the package xgboost instead "
            "of xgboost-cpu, or set device: cpu.",
            parameter="device", value=spec.device,
        )
    booster = _booster(path, spec, xgboost)
    booster.set_param({"nthread": spec.threads or 1, "device": spec.device})
    objective = str(_setting(booster, "learner", "objective", "name"))
    has = ["predict", "margin"]
    if objective == "binary:logistic" or objective.startswith("multi:softprob"):
        has.append("label")
    asked = tuple(dict.fromkeys(o.output for o in (spec.outputs or {}).values() if o.output is not None))
    for output in asked:
        if output not in has:
            raise ParameterError(
                f"{spec.path}: a booster with the objective {objective} has no output {output!r}. "
                f"{suggest(output, has)}",
                parameter="outputs", output=output, known=has,
            )
    return XGBoostModel(
        booster, asked or ("predict",), where=str(spec.path or path),
        check_names=spec.options.get("feature_names", "check") == "check", trees=_trees(booster, spec),
    )


def _booster(path: str, spec: ModelSpec, xgboost: Any) -> Any:
    if spec.allow_pickle:
        found = load_pickle(path, spec)
        return found.get_booster() if hasattr(found, "get_booster") else found
    booster = xgboost.Booster()
    try:
        booster.load_model(path)
    except (xgboost.core.XGBoostError, ValueError, UnicodeDecodeError) as error:
        told = str(error).strip().splitlines()
        raise ModelFileError(
            f"{path} is no model that XGBoost {xgboost.__version__} can load: {told[0] if told else error}. Save it "
            "with save_model('model.ubj').",
            path=path,
        ) from error
    return booster


def _trees(booster: Any, spec: ModelSpec) -> tuple[int, int]:
    """Up to the best round, where training was stopped early, as XGBoost's own classes for scikit-learn do."""
    best = booster.attr("best_iteration")
    if best is None or spec.options.get("iterations", "best") == "all":
        return 0, 0
    return 0, int(best) + 1


def _setting(booster: Any, *keys: str) -> Any:
    value: Any = json.loads(booster.save_config())
    for key in keys:
        value = value[key]
    return value


