"""docs/scoring.md: every job file, command and example in it is run, in its order, on models of real frameworks."""

from __future__ import annotations

import doctest
import hashlib
import io
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import skops.io
import xgboost
import yaml
from sklearn.linear_model import LinearRegression, LogisticRegression

from featuremill.artifacts import load, move, publish
from featuremill.artifacts.build import build_files
from featuremill.core.loading import load_job
from featuremill.core.models.groups import ByKey, Ensemble, Shares
from featuremill.core.models.spec import InputSpec, ModelSpec, OutputSpec, Padding
from featuremill.jobs.cli import main
from featuremill.jobs.score import plan, run
from featuremill.transforms.contract import Transform
from featuremill.transforms.imputation import Impute
from featuremill.transforms.scaling import ScaleToZScore
from featuremill.transforms.splitting import fingerprint_keys, split_of
from featuremill.transforms.vocabulary import ComputeAndApplyVocabulary
from support.serving import fitted_states

PAGE = (Path(__file__).parents[2] / "docs" / "scoring.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FIRST, *PARTS = [yaml.safe_load(text) for language, text in BLOCKS if language == "yaml"]
(MODULE,) = [text for language, text in BLOCKS if text.startswith("# my_models.py")]
COMMANDS = [line for language, text in BLOCKS if not language for line in text.splitlines()]

ROWS = 400
FEATURES = ["carrier_index", "distance", "dep_delay"]
TRUSTED = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
"""The digest on the page, of a file that nobody has."""


def flights() -> pa.Table:
    rng = np.random.default_rng(3)
    delay = rng.normal(10, 20, ROWS)
    words = np.array(["bag", "crew", "fog", "late", "snow", "storm"])
    return pa.table(
        {
            "flight_id": [f"F{i:04}" for i in range(ROWS)],
            "carrier": rng.choice(["UA", "AA", "B6"], ROWS),
            "distance": rng.integers(100, 2500, ROWS),
            "dep_delay": pa.array(delay, mask=rng.random(ROWS) < 0.05),
            "remark": [" ".join(rng.choice(words, rng.integers(1, 20))) for _ in range(ROWS)],
            "late": delay + rng.normal(0, 5, ROWS) > 15,
        }
    )


TABLE = flights()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that the page speaks of."""
    home = tmp_path_factory.mktemp("scoring")
    for name in ("data/flights", "models"):
        (home / name).mkdir(parents=True)
    for i in range(2):
        pq.write_table(TABLE.slice(i * 200, 200), home / "data/flights" / f"{i}.parquet")
    (home / "late.yaml").write_text(next(text for language, text in BLOCKS if language == "yaml"))
    (home / "my_models.py").write_text(MODULE)
    transforms: list[Transform] = [
        ComputeAndApplyVocabulary(["carrier"], num_oov_buckets=1, output="carrier_index"),
        ComputeAndApplyVocabulary(["remark"], split_string_by_delimiter=" ", num_oov_buckets=1, output="remark_words"),
        ScaleToZScore(["distance"]),
        Impute(["dep_delay"], strategy="median"),
    ]
    (batch,) = TABLE.combine_chunks().to_batches()
    root = str(home / "artifacts")
    files = build_files(transforms, TABLE.schema, fitted_states(transforms, batch), name="flights")
    move(root, "flights", "prod", publish(root, "flights", files), "for the page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.syspath_prepend(str(home))
        write_models(home / "models")
        yield home


def write_models(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    made = load("artifacts/flights@prod").transform(TABLE)
    x = np.column_stack([made[name].to_numpy() for name in FEATURES])
    y = TABLE["late"].to_numpy()
    late = LogisticRegression(max_iter=1000).fit(x, y)
    for name, rows in (("late", slice(None)), ("ua", slice(0, 200)), ("aa", slice(200, None))):
        skops.io.dump(LogisticRegression(max_iter=1000).fit(x[rows], y[rows]), folder / f"{name}.skops")
    joblib.dump(late, folder / "old.joblib")
    delay = LinearRegression().fit(x[:, 1:], x[:, 2] + 3)
    skops.io.dump(delay, folder / "delay.skops")
    by_delay = LogisticRegression(max_iter=1000).fit(np.column_stack([delay.predict(x[:, 1:]), x[:, 0]]), y)
    skops.io.dump(by_delay, folder / "late_by_delay.skops")
    xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(x, y).save_model(folder / "late.ubj")
    module: Any = import_module("my_models")
    torch.manual_seed(0)
    save_file(module.Network(8).state_dict(), folder / "late.safetensors")
    save_file(module.Words(16).state_dict(), folder / "words.safetensors")


@pytest.fixture(scope="module")
def told(home: Path) -> str:
    """What the commands of the page print, run in its order."""
    with redirect_stdout(io.StringIO()) as printed:
        for line in COMMANDS:
            program, *words = shlex.split(line, comments=True)
            assert program == "featuremill" and main(words) == 0, line
    return printed.getvalue()


def test_the_commands_are_run(told: str, home: Path) -> None:
    assert len(COMMANDS) == 6
    assert (home / "predictions/late/first/run.json").is_file() and (home / "models/late.skops.stamp.json").is_file()
    assert "models/late.onnx gives what models/late.skops gives" in told
    assert "late: what it would do" in told and "0 set aside" in told


def test_the_examples_are_right(told: str, home: Path) -> None:
    found = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    text = "".join(block for language, block in BLOCKS if language == "python" and ">>>" in block)
    found.run(doctest.DocTestParser().get_doctest(text, {}, "scoring.md", None, 0))
    assert found.tries > 5 and not found.failures


def scored(part: dict[str, Any], home: Path, name: str) -> pa.Table:
    """The predictions of the page's job with this part in the place of its model, in the order of the rows.

    Of the rows without one, the reasons are on the page.
    """
    job = {key: value for key, value in FIRST.items() if key != "model"} | part
    text = yaml.safe_dump(job, sort_keys=False)
    (home / f"{name}.yaml").write_text(
        text.replace(TRUSTED, hashlib.sha256((home / "models/old.joblib").read_bytes()).hexdigest())
    )
    loaded: Any = load_job(home / f"{name}.yaml", ["runner.mode=in_memory"])
    planned = plan(loaded)
    record = run(loaded, run_id=name)
    assert record.rows is not None and record.rows.balanced and bool(record.rows.aside) == ("max_bad_rows" in part)
    if record.dead_letters:
        letters = pq.read_table(record.dead_letters, partitioning=None)
        assert len(letters) == record.rows.aside and letters["_column"].unique().to_pylist() == ["carrier"]
        assert all(reason in PAGE.replace("\n", " ") for reason in letters["_reason"].to_pylist())
    found = pq.read_table(f"{record.dataset}/predictions", partitioning=None)
    assert found.schema.equals(planned.output_schema)
    return found.sort_by("flight_id")


def wanted() -> pa.Table:
    """The evaluation split."""
    codes = split_of(fingerprint_keys([TABLE["flight_id"].combine_chunks()]), {"train": 0.8, "eval": 0.2})
    return TABLE.filter(pa.array(codes == 1))


@pytest.mark.parametrize("number", range(len(PARTS)))
def test_every_job_file_runs(number: int, told: str, home: Path) -> None:
    found = scored(PARTS[number], home, f"part-{number}")
    rows = wanted()
    if "max_bad_rows" in PARTS[number]:
        rows = rows.filter(pc.is_in(rows["carrier"], pa.array(list(PARTS[number]["models"]))))
    assert found["flight_id"].to_pylist() == rows["flight_id"].to_pylist() and len(found) > 50
    for name in set(found.schema.names) - {"flight_id", "late"}:
        assert found[name].null_count == 0
    scores = found["score"].to_numpy()
    assert 0 <= scores.min() < scores.max() <= 1
    # All but the words, which nobody trained, tell late flights from others.
    if "Network" not in str(PARTS[number]) and "Words" not in str(PARTS[number]):
        late = found["late"].to_numpy()
        assert scores[late].mean() > scores[~late].mean() + 0.2


def test_every_way_is_on_the_page() -> None:
    models = [part["models"] for part in PARTS if "models" in part]
    assert {"by", "share_by", "combine"} <= {key for group in models if isinstance(group, dict) for key in group}
    assert any(isinstance(group, list) for group in models)
    assert set(FIRST) == {"kind", "name", "source", "split", "artifact", "model", "output"}


@pytest.mark.parametrize("kind", [ModelSpec, InputSpec, OutputSpec, Padding, ByKey, Shares, Ensemble])
def test_every_key_is_on_the_page(kind: Any) -> None:
    for name, field in kind.model_fields.items():
        assert re.search(rf"\b{field.alias or name}\b", PAGE), name
