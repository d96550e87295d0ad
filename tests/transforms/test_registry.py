"""The registry: names to classes, configurations there and back, mistakes told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pytest

import featuremill.transforms as front
from featuremill.artifacts.errors import ParameterError, ParameterTypeError
from featuremill.transforms import registry
from featuremill.transforms.bucketing import ApplyBuckets, Bucketize
from featuremill.transforms.contract import ColumnTransform, Transform
from featuremill.transforms.numeric import Clip
from featuremill.transforms.registry import (
    CATALOGUE,
    from_config,
    register,
    to_config,
    transform_class,
    transform_names,
)
from featuremill.transforms.vocabulary import ComputeAndApplyVocabulary


@dataclass(frozen=True)
class Halve(ColumnTransform):
    """Half of each number."""

    def output_type(self, column: pa.Field) -> pa.DataType:
        return pa.float64()

    def apply_column(self, array: pa.Array, prepared: None) -> pa.Array:
        return pa.array([None if v is None else v / 2 for v in array.to_pylist()], pa.float64())


@pytest.fixture
def halve() -> Iterator[type[Transform]]:
    yield register(Halve)
    registry._registered.pop("Halve")


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_the_catalogue_leads_to_a_class_of_that_name(name: str) -> None:
    kind = transform_class(name)
    assert kind.__name__ == name
    assert issubclass(kind, Transform)
    assert kind.__doc__


def test_every_transform_of_the_catalogue_is_exported() -> None:
    assert set(CATALOGUE) <= set(front.__all__)
    assert transform_names() == sorted(CATALOGUE)


def test_configurations_survive_json() -> None:
    transforms = [
        Clip(["x", "y"], min_value=-1.5),
        ComputeAndApplyVocabulary(["t"], " ", num_oov_buckets=2, output="{column}_id", name="words"),
        ApplyBuckets(["z"], [1.0, 2.0], output=["z_bucket"]),
        Bucketize(["w"], 3),
    ]
    written = json.loads(json.dumps(to_config(transforms)))
    assert written[0] == {"type": "Clip", "config": {"columns": ["x", "y"], "min_value": -1.5}}
    assert from_config(written) == transforms


def test_what_mltransform_is_given_reads_back_as_the_plain_transform() -> None:
    wrapped = front.Clip(columns=["x"], max_value=2.0)
    assert to_config([wrapped]) == to_config([Clip(["x"], max_value=2.0)])


def test_a_registered_transform_is_known_by_its_name(halve: type[Transform]) -> None:
    assert transform_class("Halve") is Halve
    assert "Halve" in transform_names()
    assert from_config([{"type": "Halve", "config": {"columns": ["x"]}}]) == [Halve(["x"])]


def test_a_name_of_featuremill_cannot_be_taken() -> None:
    kind = type("Clip", (Halve,), {})
    with pytest.raises(ParameterError, match=r"^register: Clip is a transform of featuremill; give yours another name"):
        register(kind)


@pytest.mark.parametrize(
    ("name", "config", "kind", "message"),
    [
        ("Clipp", {}, ParameterError, "There is no transform 'Clipp'. Did you mean 'Clip'?"),
        ("os.system", {}, ParameterError, "There is no transform 'os.system'."),
        ("Clip", {"columns": ["x"], "maxvalue": 2}, ParameterError, "Clip has no parameter 'maxvalue'. Did you mean"),
        ("Clip", {"max_value": 2}, ParameterTypeError, "Clip needs the parameter 'columns'."),
        ("Bucketize", {"columns": ["x"]}, ParameterTypeError, "Bucketize needs the parameter 'num_buckets'."),
        ("Clip", {"columns": "x"}, ParameterTypeError, "columns must be a list of names, got the string 'x'"),
        ("Clip", {"columns": [1]}, ParameterTypeError, "columns must be a list of names, got [1]"),
        ("Clip", {"columns": []}, ParameterError, "expected at least one column"),
        ("Clip", {"columns": ["x", "x"], "max_value": 1}, ParameterError, "remove the repeated 'x'"),
        ("Clip", {"columns": ["x", "y"], "max_value": 1, "output": "z"}, ParameterError, "a list of 2 names"),
        ("Clip", {"columns": ["x", "y"], "max_value": 1, "output": ["z", "z"]}, ParameterError, "'z' comes twice"),
        (
            "Clip",
            {"columns": ["x"], "max_value": 1, "output": 5},
            ParameterTypeError,
            "output must be a name or a list",
        ),
    ],
)
def test_mistakes_are_told(name: str, config: dict[str, object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        from_config([{"type": name, "config": config}])
    assert message in str(caught.value)


def test_no_heavy_package_is_imported_for_any_transform() -> None:
    code = (
        "import sys\n"
        "from featuremill.transforms.registry import CATALOGUE, transform_class\n"
        "import featuremill.transforms.pipeline, featuremill.transforms.artifact_cache\n"
        "import featuremill.transforms.fragments, featuremill.transforms.rejects\n"
        "[transform_class(name) for name in CATALOGUE]\n"
        "heavy = {'apache_beam', 'tensorflow', 'torch', 'pandas', 'sklearn', 'polars'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
