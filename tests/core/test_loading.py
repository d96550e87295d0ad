"""Job files: what is right loads; everything that is wrong is told with its line, the value and what was expected."""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from featuremill.core.jobfile import PrepareJob
from featuremill.core.loading import JobFileError, job_from_mapping, load_job, place_of

JOB = """\
kind: prepare
name: flights
source:
  parquet:
    path: data/*.parquet
    fragment_rows: 1000
transforms:
  - type: ComputeAndApplyVocabulary
    config:
      columns: [carrier, dest]
      num_oov_buckets: 1
  - {type: ScaleToZScore, config: {columns: [air_time]}}
split:
  by: [flight_id]
  train: 0.8
  eval: 0.2
artifact: {root: artifacts}
dataset:
  path: datasets/flights
"""


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "flights.yaml"
    path.write_text(JOB)
    return path


def wrong(path: Path, overrides: Sequence[str] = ()) -> list[str]:
    """The lines of the message that a job file gives, with shorter places: ``line 3: …``."""
    with pytest.raises(JobFileError) as caught:
        load_job(path, overrides)
    return (
        re.sub(rf"{re.escape(str(path))}:(\d)", r"line \1", str(caught.value))
        .replace(f"{path.parent}/", "")
        .splitlines()
    )


def wrong_text(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "flights.yaml"
    path.write_text(text)
    return wrong(path)


def test_a_right_file_loads(job_file: Path) -> None:
    job = load_job(job_file)
    assert isinstance(job, PrepareJob)
    assert [type(t).__name__ for t in job.transforms] == ["ComputeAndApplyVocabulary", "ScaleToZScore"]
    assert job.transforms[0].num_oov_buckets == 1
    assert job.split is not None and job.split.shares == {"train": 0.8, "eval": 0.2}
    assert job.artifact_name == "flights"


def test_what_a_job_dumps_loads_again(job_file: Path) -> None:
    job = load_job(job_file)
    assert job_from_mapping(job.model_dump(mode="json")) == job


REPLACED = {
    "unknown key": (
        "name: flights",
        "name: flights\ndatset: x",
        "line 3: datset: unknown key 'datset'. Did you mean 'dataset'?",
    ),
    "nested unknown key": (
        "fragment_rows",
        "fragment_row",
        "line 6: source.parquet.fragment_row: unknown key 'fragment_row'. Did you mean 'fragment_rows'?",
    ),
    "text for a number": (
        "fragment_rows: 1000",
        "fragment_rows: many",
        "line 6: source.parquet.fragment_rows: got 'many', expected a whole number.",
    ),
    "a number that YAML takes for text": (
        "fragment_rows: 1000",
        "fragment_rows: 1e6",
        "line 6: source.parquet.fragment_rows: got '1e6', expected a whole number. "
        "YAML reads it as text. Write 1000000.",
    ),
    "a fraction": (
        "fragment_rows: 1000",
        "fragment_rows: 1000.0",
        "line 6: source.parquet.fragment_rows: got 1000.0, expected a whole number. Write 1000.",
    ),
    "too small": (
        "fragment_rows: 1000",
        "fragment_rows: 0",
        "line 6: source.parquet.fragment_rows: got 0, expected a number above 0.",
    ),
    "number for a text": ("name: flights", "name: 2013", "line 2: name: got 2013, expected a text. Put it in quotes."),
    "boolean for a text": (
        "name: flights",
        "name: no",
        "line 2: name: got False, expected a text. YAML reads yes, no, on and off as true and false. Put it in quotes.",
    ),
    "no value": ("name: flights", "name:", "line 2: name: there is no value, expected a text."),
    "bad name": (
        "name: flights",
        "name: my flights",
        "line 2: name: 'my flights': letters, digits, '.', '_' and '-' only.",
    ),
    "text for a list": (
        "by: [flight_id]",
        "by: flight_id",
        "line 14: split.by: got 'flight_id', expected a list. Write [flight_id].",
    ),
    "text for a mapping": (
        "artifact: {root: artifacts}",
        "artifact: artifacts",
        "line 17: artifact: got 'artifacts', expected a mapping with the keys root, name, alias, "
        "embedding_cache.",
    ),
    "one of two types": (
        "path: data/*.parquet",
        "path: 3",
        "line 5: source.parquet.path: got 3, expected a text or a list of texts. Put it in quotes.",
    ),
    "inside one of two types": (
        "path: data/*.parquet",
        "path: [a, 3]",
        "line 5: source.parquet.path.1: got 3, expected a text. Put it in quotes.",
    ),
    "missing": ("name: flights\n", "", "line 1: name: the key 'name' is missing."),
    "missing inside": (
        "  path: datasets/flights",
        "  format: parquet",
        "line 18: dataset.path: the key 'path' is missing.",
    ),
    "misspelled, so missing too": (
        "  path: datasets/flights",
        "  pth: datasets/flights",
        "line 19: dataset.pth: unknown key 'pth'. Did you mean 'path'?",
    ),
    "not among the choices": (
        "  path: datasets/flights",
        "  path: d\n  compression: zst",
        "line 20: dataset.compression: got 'zst', expected one of 'snappy', 'zstd', 'lz4', 'gzip', 'none'. "
        "Did you mean 'zstd'?",
    ),
    "unknown transform": (
        "type: ComputeAndApplyVocabulary",
        "type: ComputeAndApplyVocab",
        "line 8: transforms.0.type: There is no transform 'ComputeAndApplyVocab'. "
        "Did you mean 'ComputeAndApplyVocabulary'?",
    ),
    "unknown parameter": (
        "num_oov_buckets: 1",
        "num_oov_bucket: 1",
        "line 11: transforms.0.config.num_oov_bucket: ComputeAndApplyVocabulary has no parameter 'num_oov_bucket'. "
        "Did you mean 'num_oov_buckets'?",
    ),
    "bad parameter": (
        "num_oov_buckets: 1",
        "num_oov_buckets: -1",
        "line 11: transforms.0.config.num_oov_buckets: ComputeAndApplyVocabulary('carrier', 'dest'): "
        "num_oov_buckets got -1, "
        "expected an integer of at least 0.",
    ),
    "no columns": (
        "config: {columns: [air_time]}",
        "config: {}",
        "line 12: transforms.1.type: ScaleToZScore needs the parameter 'columns'.",
    ),
    "a transform that is no mapping": (
        "- {type: ScaleToZScore, config: {columns: [air_time]}}",
        "- ScaleToZScore",
        "line 12: transforms.1: expected {type: NAME, config: {columns: [...], ...}}.",
    ),
    "a parameter beside config": (
        "config: {columns: [air_time]}",
        "columns: [air_time]",
        "line 12: transforms.1: a transform has the keys type and config, got 'columns'; parameters go below config.",
    ),
    "another package's transform": (
        "type: ScaleToZScore",
        "type: os.system",
        "line 12: transforms.1.type: a stock transform is named by its full path below apache_beam.ml.transforms.",
    ),
    "shares": ("eval: 0.2", "eval: 0.3", "line 13: split: the shares must add up to 1, got 1.1."),
    "negative share": (
        "eval: 0.2",
        "eval: -0.2",
        "line 13: split: the share of eval must be above 0 and at most 1, got -0.2.",
    ),
    "share that is a text": (
        "eval: 0.2",
        "eval: half",
        "line 16: split.eval: got 'half', expected a share between 0 and 1 for the split 'eval'.",
    ),
    "unknown fit_on": (
        "eval: 0.2",
        "eval: 0.2\n  fit_on: test",
        "line 13: split: fit_on names 'test', which is none of the splits ['train', 'eval'].",
    ),
    "kind": (
        "kind: prepare",
        "kind: prepair",
        "line 1: kind: got 'prepair', expected one of 'prepare', 'score', 'report'. "
        "Did you mean 'prepare' or 'report'?",
    ),
    "kind that is a list": (
        "kind: prepare",
        "kind: [prepare]",
        "line 1: kind: got ['prepare'], expected one of 'prepare', 'score', 'report'.",
    ),
    "no kind": (
        "kind: prepare\n", "", "line 1: kind: the key 'kind' is missing. Write kind: prepare, score or report."
    ),
    "a number as a key": (
        "name: flights",
        "name: flights\n3: x",
        "line 3: 3: the key 3 must be a text. Put it in quotes.",
    ),
    "twice": (
        "name: flights",
        "name: flights\nname: other",
        "line 3: the key 'name' is in line 2 already. Remove one.",
    ),
    "twice inside": (
        "num_oov_buckets: 1",
        "num_oov_buckets: 1\n      num_oov_buckets: 2",
        "line 12: the key 'num_oov_buckets' is in line 11 already. Remove one.",
    ),
}


@pytest.mark.parametrize("case", REPLACED)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, case: str) -> None:
    before, after, expected = REPLACED[case]
    assert JOB.count(before) >= 1
    assert wrong_text(tmp_path, JOB.replace(before, after, 1)) == [expected]


def test_all_mistakes_are_told_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = (
        JOB.replace("name: flights", "nme: flights").replace("1000", "'1000'").replace("path: datasets", "to: datasets")
    )
    assert [line.partition(": ")[0] for line in wrong_text(tmp_path, text)] == [
        "line 2",
        "line 6",
        "line 18",
        "line 19",
    ]


# --- not YAML, not a file -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("kind: prepare\nname: a: b\n", "line 2:8", "needs quotes"),
        ("kind: prepare\n\tname: a\n", "line 2:1", "never with tabs"),
        ("kind: prepare\ntransforms: [a,\nname: b\n", "line ", "What opens in line 2 is not closed."),
        ("kind: prepare\n---\nkind: prepare\n", "line 2:1", "remove the line ---"),
        ("kind: !!python/object/apply:os.system [ls]\n", "line 1:7", "plain values only"),
    ],
)
def test_what_is_not_yaml(tmp_path: Path, text: str, place: str, hint: str) -> None:
    (line,) = wrong_text(tmp_path, text)
    assert line.startswith(place) and "this is not YAML" in line and hint in line


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("", "it is empty"),
        ("# nothing\n", "it is empty"),
        ("- a\n- b\n", "this is a list"),
        ("prepare", "this is a text"),
    ],
)
def test_what_is_no_mapping(tmp_path: Path, text: str, got: str) -> None:
    assert wrong_text(tmp_path, text) == [
        f"flights.yaml: a job file is a mapping that begins with kind: prepare, score or report; {got}."
    ]


def test_a_missing_file_with_one_like_it(job_file: Path) -> None:
    assert wrong(job_file.with_name("flihgts.yaml")) == [
        "flihgts.yaml: there is no such job file. Did you mean 'flights.yaml'?"
    ]


def test_a_folder_and_a_binary_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert wrong(tmp_path / "folder") == ["folder: this is a folder, expected a job file."]
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "this is no UTF-8 text" in wrong(tmp_path / "binary.yaml")[0]


# --- --set ----------------------------------------------------------------------------------------------------------


def test_set_replaces_values(job_file: Path) -> None:
    job = load_job(
        job_file,
        [
            "dataset.path=/tmp/out",
            "transforms.0.config.top_k=5",
            "runner.workers=2",
            "split=",
            "source.parquet.where=origin = 'JFK'",
        ],
    )
    assert job.dataset.path == "/tmp/out"
    assert job.transforms[0].top_k == 5
    assert job.runner.workers == 2
    assert job.split is None
    assert job.source.parquet.where == "origin = 'JFK'"


def test_a_later_set_wins(job_file: Path) -> None:
    assert load_job(job_file, ["name=a", "name=b"]).name == "b"


def test_set_changes_one_of_two_that_share_an_anchor(tmp_path: Path) -> None:
    path = tmp_path / "flights.yaml"
    shared = "  - {type: ScaleTo01, config: &c {columns: [x]}}\n  - {type: ScaleToZScore, config: *c}\nsplit:"
    path.write_text(JOB.replace("split:", shared, 1))
    job = load_job(path, ["transforms.2.config.output=y"])
    assert (job.transforms[2].output, job.transforms[3].output) == ("y", None)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("dataset.path", "--set dataset.path: expected key=value, such as dataset.path=/tmp/out."),
        ("=3", "--set =3: expected key=value, such as dataset.path=/tmp/out."),
        ("dataset..path=3", "--set dataset..path=3: expected key=value, such as dataset.path=/tmp/out."),
        ("name=[a", "--set name=[a: the value is not YAML. Put it in quotes."),
        (
            "transforms.9.type=X",
            "--set transforms.9.type=X: transforms is a list of 2, counted from 0; '9' is none of its positions.",
        ),
        (
            "transforms.last.type=X",
            "--set transforms.last.type=X: transforms is a list of 2, counted from 0; 'last' is none of its positions.",
        ),
        ("name.first=X", "--set name.first=X: name is a text, 'flights'; it has no 'first'."),
        ("dataset.pth=X", "--set dataset.pth=X: unknown key 'pth'. Did you mean 'path'?"),
        (
            "dataset.compression=rar",
            "--set dataset.compression=rar: got 'rar', expected one of 'snappy', 'zstd', 'lz4', 'gzip', 'none'.",
        ),
        ("dataset={pth: x}", "--set dataset={pth: x}: dataset.pth: unknown key 'pth'. Did you mean 'path'?"),
        (
            "kind=guess",
            "--set kind=guess: got 'guess', expected one of 'prepare', 'score', 'report'. "
            "Known: 'prepare', 'score', 'report'.",
        ),
    ],
)
def test_a_wrong_set(job_file: Path, override: str, expected: str) -> None:
    assert wrong(job_file, [override]) == [expected]


# --- the error itself -----------------------------------------------------------------------------------------------


def test_the_error_survives_pickling(job_file: Path) -> None:
    with pytest.raises(JobFileError) as caught:
        load_job(job_file, ["name=3", "dataset.path=4"])
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, JobFileError) and isinstance(again, ValueError)
    assert str(again) == str(caught.value) and len(again.problems) == 2 and again.path == str(job_file)


def test_the_place_of_an_error_that_only_the_data_can_tell(job_file: Path) -> None:
    place = place_of(job_file, [], {"transform": "ComputeAndApplyVocabulary", "column": "dest"})
    assert place == f"{job_file}:10: transforms.0.config.columns.1"
    assert place_of(job_file, [], {"transform": "ScaleToZScore"}) == f"{job_file}:12: transforms.1"
    assert place_of(job_file, [], {"transform": "ScaleTo01", "column": "dest"}) is None
    assert place_of(job_file, [], {"column": "dest"}) is None
    assert place_of(job_file.with_name("gone.yaml"), [], {"column": "flight_id"}) is None
    changed = place_of(job_file, ["transforms.1.config.columns=[x]"], {"transform": "ScaleToZScore", "column": "x"})
    assert changed == "--set transforms.1.config.columns=[x]: transforms.1.config.columns.0"


def test_the_place_of_what_is_wrong_with_the_source_and_the_split(job_file: Path) -> None:
    assert place_of(job_file, [], {"column": "flight_id"}) == f"{job_file}:14: split.by.0"
    assert place_of(job_file, [], {"path": "data/*.parquet"}) == f"{job_file}:5: source.parquet.path"
    where = ["source.parquet.where=x >"]
    assert place_of(job_file, where, {"parameter": "where"}) == "--set source.parquet.where=x >"
    assert place_of(job_file, [], {"parameter": "where"}) is None
