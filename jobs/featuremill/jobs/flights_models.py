"""Trains the two models of the example ``late.yaml`` on the dataset that ``flights.yaml`` made, and stamps them.

    python -m featuremill.jobs.flights_models flights.yaml late.yaml

The score job is the one place that says which columns become which input: training makes its arrays from the dataset by
the same mapping, so that the models are given in scoring what they were given in training.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds

from featuremill.artifacts.errors import FeaturemillError, MissingExtraError, RequestError
from featuremill.core.jobfile import PrepareJob
from featuremill.core.models.contract import Signature
from featuremill.core.models.inputs import ModelInputs
from featuremill.core.models.spec import ModelSpec
from featuremill.core.scorefile import ScoreJob

if TYPE_CHECKING:
    from featuremill.core.record import RunRecord

__all__ = ["LABEL", "Trained", "auc", "latest_run", "require_packages", "train"]

LABEL = "late"
"""The column of the dataset that the models learn, and of the predictions that they are held against."""
PACKAGES = {"sklearn": "sklearn", "skops": "sklearn", "torch": "torch", "safetensors": "torch"}
"""What training imports, and the extra that it comes with."""

ROUNDS = 120
"""Of boosting; with so many the trees have learnt most of what there is, in a few seconds."""
EPOCHS, NETWORK_BATCH, LEARNING_RATE = 3, 1024, 0.005
SEED = 0

Arrays = dict[str, npt.NDArray[Any]]
Labels = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Trained:
    """A model in its file, stamped."""

    name: str
    """As in the score job."""
    what: str
    path: str
    rows: int
    """On so many it was trained."""
    seconds: float


def require_packages() -> None:
    """Nothing, where all that training needs is installed.

    Raises
    ------
    MissingExtraError
        Otherwise.
    """
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        extras = ",".join(dict.fromkeys(PACKAGES[package] for package in missing))
        raise MissingExtraError(
            f"Training the models needs {', '.join(missing)}, not installed here. pip install 'featuremill[{extras}]'",
            package=missing[0], extra=extras,
        )


def train(
    dataset: str | os.PathLike[str], job: ScoreJob, *, tell: Callable[[str], None] = print
) -> tuple[Trained, ...]:
    """Each model of a score job like ``late.yaml``, trained, written to its path, and stamped.

    Parameters
    ----------
    dataset
        The folder of a run of ``flights.yaml``; the artifact that made it is what the models are stamped with.
    job
        Its `models` are a sequence of a ``.skops`` and a ``.safetensors`` file, with `inputs`.
    tell
        Called with a line before each model.

    Raises
    ------
    RequestError
        When the dataset lacks a column, or a model is none that can be trained here.
    MissingExtraError
        When scikit-learn or PyTorch is not installed.
    """
    from featuremill.core.models.stamp import stamp

    require_packages()
    folder, steps = Path(dataset), _models(job)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    split = job.split.fitted if job.split else "train"
    rows = ds.dataset(str(folder / split)).to_table()
    if LABEL not in rows.schema.names:
        raise RequestError(f"{folder} has no column {LABEL!r}, which the models are to learn.", column=LABEL)
    labels = rows[LABEL].combine_chunks().to_numpy(zero_copy_only=False).astype(bool)
    made = []
    for name, spec, fit in steps:
        tell(f"training {name} on {len(labels):,} rows")
        started = time.perf_counter()
        path = Path(str(spec.path))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        what = fit(spec, _arrays(spec, rows), labels, partial)
        os.replace(partial, path)
        stamp(path, manifest["artifact"]["reference"])
        made.append(Trained(name, what, str(spec.path), len(labels), round(time.perf_counter() - started, 3)))
    return tuple(made)


def auc(record: RunRecord) -> dict[str, float]:
    """By column of predictions, the area under the ROC curve: how often a late flight has the higher one of two.

    Parameters
    ----------
    record
        Of a score job whose output has the column :data:`LABEL` beside its predictions.
    """
    from sklearn.metrics import roc_auc_score

    columns = [str(made["name"]) for model in record.models for made in model["makes"]]
    rows = ds.dataset(f"{record.dataset}/predictions").to_table(columns=[LABEL, *columns])
    labels = rows[LABEL].to_numpy()
    return {name: float(roc_auc_score(labels, rows[name].to_numpy())) for name in columns}


def latest_run(dataset: str | os.PathLike[str]) -> Path:
    """The folder of the newest finished run below a prepare job's ``dataset.path``.

    Raises
    ------
    RequestError
        When there is none.
    """
    found = sorted(Path(dataset).glob("*/manifest.json"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        raise RequestError(f"{dataset} holds no dataset. Make one first: featuremill run flights.yaml")
    return found[-1].parent


# --- one model --------------------------------------------------------------------------------------------------------

Fit = Callable[[ModelSpec, Arrays, Labels, Path], str]


def _models(job: ScoreJob) -> list[tuple[str, ModelSpec, Fit]]:
    fits: dict[str, Fit] = {".skops": _fit_trees, ".safetensors": _fit_network}
    found: list[tuple[str, ModelSpec, Fit]] = []
    for spec in job.the_models if isinstance(job.the_models, list) else []:
        fit = fits.get(Path(spec.path).suffix) if isinstance(spec, ModelSpec) and spec.path else None
        if not isinstance(spec, ModelSpec) or fit is None or spec.inputs is None:
            found.clear()
            break
        found.append((spec.name, spec, fit))
    if found:
        return found
    raise RequestError(
        f"The job {job.name!r} has other models than those that are trained here: a list of .skops and .safetensors "
        "files with inputs, as in the example late.yaml. Write it anew, or train the models yourself.",
        parameter="models",
    )


def _arrays(spec: ModelSpec, rows: pa.Table) -> Arrays:
    """The model's inputs, as scoring will make them."""
    inputs = ModelInputs(spec.inputs, Signature(), rows.schema)
    (batch,) = rows.select(inputs.columns).combine_chunks().to_batches()
    built = inputs.build(batch)
    if built.kept is not None:
        first = built.rejects[0].reason
        raise RequestError(
            f"{spec.path}: {len(built.rejects):,} rows cannot be its inputs; of the first, {first}. Impute the column.",
            path=spec.path,
        )
    return built.groups[0].arrays


def _fit_trees(_spec: ModelSpec, arrays: Arrays, labels: Labels, path: Path) -> str:
    import skops.io
    from sklearn.ensemble import HistGradientBoostingClassifier

    (features,) = arrays.values()
    model = HistGradientBoostingClassifier(max_iter=ROUNDS, learning_rate=0.15, early_stopping=False, random_state=SEED)
    skops.io.dump(model.fit(features, labels), path)
    return type(model).__name__


def _fit_network(spec: ModelSpec, arrays: Arrays, labels: Labels, path: Path) -> str:
    import torch
    from safetensors.torch import save_file

    from featuremill.core.models.custom_model import custom_class

    kind = custom_class(spec)
    tensors = {
        name: torch.from_numpy(np.array(a, dtype=np.float32 if a.dtype.kind == "f" else a.dtype))
        for name, a in arrays.items()
    }
    wanted = torch.from_numpy(labels.astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = kind(**spec.arguments)
        optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
        steps = EPOCHS * -(-len(labels) // NETWORK_BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=steps)
        loss = torch.nn.BCEWithLogitsLoss()
        for _ in range(EPOCHS):
            for rows in torch.split(torch.randperm(len(labels)), NETWORK_BATCH):
                optimizer.zero_grad()
                found = model.logits(**{name: tensor[rows] for name, tensor in tensors.items()})
                loss(found, wanted[rows]).backward()
                optimizer.step()
                schedule.step()
    save_file(model.state_dict(), path)
    return kind.__name__


def main() -> int:
    """Train the models of a score job on the newest dataset of a prepare job."""
    from featuremill.core.loading import load_job

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prepare", help="the job that made the dataset, such as flights.yaml")
    parser.add_argument("score", help="the job with the models, such as late.yaml")
    given = parser.parse_args()
    try:
        prepare, score = load_job(given.prepare), load_job(given.score)
        if not isinstance(prepare, PrepareJob) or not isinstance(score, ScoreJob):
            raise RequestError(
                f"expected a prepare job and a score job, {given.prepare} is a {prepare.kind} job and {given.score} a "
                f"{score.kind} job."
            )
        for made in train(latest_run(prepare.dataset.path), score):
            print(f"{made.path}: {made.what}, {made.seconds:.1f} s")
    except FeaturemillError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
