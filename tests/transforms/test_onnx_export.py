"""ONNX graphs of transforms, run by ONNX Runtime beside the batch path."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.test_transforms import CASES
from featuremill.artifacts import Artifact
from featuremill.artifacts.errors import MissingColumnError, ParameterError
from featuremill.transforms.arrays import is_list, value_type
from featuremill.transforms.bucketing import ApplyBuckets, Bucketize
from featuremill.transforms.contract import Transform
from featuremill.transforms.crossing import FeatureCross
from featuremill.transforms.datetime_parts import DatetimeParts
from featuremill.transforms.encoding import OneHot
from featuremill.transforms.hashing import HashStrings
from featuremill.transforms.imputation import Impute
from featuremill.transforms.numeric import LogTransform
from featuremill.transforms.onnx_columns import CONVERSIONS, REASONS
from featuremill.transforms.onnx_export import array_feeds, export, output_tensors
from featuremill.transforms.onnx_graph import Unsupported, physical_type, storage
from featuremill.transforms.registry import CATALOGUE
from featuremill.transforms.scaling import ScaleToZScore
from featuremill.transforms.text import NGrams
from featuremill.transforms.vocabulary import ComputeAndApplyVocabulary
from support.serving import artifact_of, run_graph, session_of
from support.strategies import columns, example_column
from support.transform_conformance import SETTINGS, Case

ROWS = 60
ROUNDED = {"float32": 3e-7, "float64": 1e-14}
"""How far results may be apart where a logarithm or an exponential is taken."""


def exportable(case: Case) -> bool:
    """Whether a configuration has a place in a graph, whatever the types."""
    op: Any = case.transform
    hashes = getattr(op, "num_oov_buckets", 0) > 1 or getattr(op, "hash_buckets", None) is not None
    splits = getattr(op, "split_string_by_delimiter", None)
    return type(op).__name__ in CONVERSIONS and not (hashes or splits or getattr(op, "elementwise", False))


def flat_types(case: Case) -> list[pa.DataType]:
    found = []
    for type_ in case.types():
        try:
            physical_type(type_)
        except Unsupported:
            continue
        # Arrow writes no sample rows of string views into an artifact.
        if not pt.is_string_view(type_):
            found.append(type_)
    return found


def spread(case: Case) -> tuple[list[Transform], dict[str, pa.DataType]]:
    """The case's transform over a column of every type that has a place in a graph."""
    types = {f"c{i}": type_ for i, type_ in enumerate(flat_types(case))}
    if isinstance(case.transform, FeatureCross):
        types = {n: t for n, t in types.items() if not pt.is_date(value_type(t))}
        pairs = [*pairwise(types), (next(iter(types)), next(reversed(types)))]
        more = list(types)[: len(case.transform.columns) - 2]
        return [
            replace(case.transform, columns=(*p, *(m for m in more if m not in p)), output=f"x{i}")
            for i, p in enumerate(pairs)
        ], types
    return [replace(case.transform, columns=tuple(types), output="{column}_out")], types


def repeated(array: pa.Array, rows: int) -> pa.Array:
    return pa.concat_arrays([array] * (rows // len(array) + 1)).slice(0, rows)


def example(case: Case, types: dict[str, pa.DataType]) -> pa.RecordBatch:
    return pa.record_batch({n: repeated(example_column(t, case.domain), ROWS) for n, t in types.items()})


def expected_batch(artifact: Artifact, batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch path, with null for the rows that it would set aside for a logarithm."""
    transforms = [replace(t, on_invalid="null") if isinstance(t, LogTransform) else t for t in artifact.transforms]
    pipeline = type(artifact.bound.pipeline)(transforms, artifact.input_schema)
    return pipeline.bind(dict(artifact.states)).apply(batch)


def check_equal(found: dict[str, Any], tensor: str, wanted: pa.Array, *, rounded: bool) -> None:
    """A column of a graph's outputs against one of Arrow's: to the bit, or within :data:`ROUNDED`."""
    got = found[tensor]
    if is_list(wanted.type):
        got, wanted = got.reshape(-1), wanted.flatten()
    wanted = wanted.dictionary_decode() if pt.is_dictionary(wanted.type) else wanted
    assert len(got) == len(wanted)
    if pt.is_floating(wanted.type):
        want = wanted.to_numpy(zero_copy_only=False).astype(wanted.type.to_pandas_dtype())
        assert got.dtype == want.dtype
        if rounded:
            np.testing.assert_allclose(got, want, rtol=ROUNDED[got.dtype.name], atol=ROUNDED[got.dtype.name])
        else:
            nan = np.isnan(want)
            assert (np.isnan(got) == nan).all()
            assert got[~nan].tobytes() == want[~nan].tobytes()
        return
    nulls = found.get(tensor + "__is_null", np.zeros(len(got), bool))
    assert nulls.tolist() == wanted.is_null().to_pylist()
    assert [None if n else v for v, n in zip(got.tolist(), nulls, strict=True)] == storage(wanted).to_pylist()


def check_parity(
    artifact: Artifact, batch: pa.RecordBatch, session: Any, tensors: dict[str, str], *, rounded: bool
) -> None:
    wanted = expected_batch(artifact, batch)
    found = run_graph(session, batch)
    for name, tensor in tensors.items():
        try:
            check_equal(found, tensor, wanted.column(name), rounded=rounded)
        except AssertionError as error:
            error.add_note(f"{name} of {batch.to_pydict()} as {batch.schema.types}")
            raise


ALL = [case for cases in CASES.values() for case in cases]


@pytest.mark.parametrize("case", [c for c in ALL if exportable(c)], ids=str)
def test_a_graph_gives_what_the_batch_path_gives(case: Case, tmp_path: Path) -> None:
    """Every type: nulls, NaN, infinities, unknown values, the ends of ranges, texts with zeros; no row, one, many."""
    transforms, types = spread(case)
    batch = example(case, types)
    artifact = artifact_of(tmp_path, transforms, batch)
    model = export(artifact)
    session, tensors = session_of(model), output_tensors(model)
    op: Any = case.transform
    rounded = type(op).__name__ in ("LogTransform", "ScaleToGaussian") or getattr(op, "on_constant", "") == "sigmoid"
    for some in (batch, batch.slice(0, 1), batch.slice(0, 0)):
        check_parity(artifact, some, session, tensors, rounded=rounded)

    def drawn(rows: int) -> st.SearchStrategy[pa.RecordBatch]:
        arrays = st.tuples(*(columns(t, rows, case.domain) for t in types.values()))
        return arrays.map(lambda found: pa.record_batch(list(found), schema=batch.schema))

    @SETTINGS
    @given(st.sampled_from([1, 3, 6]).flatmap(drawn))
    def check(some: pa.RecordBatch) -> None:
        check_parity(artifact, some, session, tensors, rounded=rounded)

    check()


def test_every_transform_of_the_catalogue_is_written_or_refused_with_a_reason() -> None:
    assert set(CONVERSIONS) | set(REASONS) == set(CATALOGUE)
    assert not set(CONVERSIONS) & set(REASONS)
    assert {type(c.transform).__name__ for c in ALL if exportable(c)} == set(CONVERSIONS)


# --- what is in a graph -----------------------------------------------------------------------------------------------

CHAIN: list[Transform] = [
    Impute(["price"], strategy="median", indicator=True),
    Impute(["town"], strategy="constant", fill_value="?"),
    LogTransform(["price"], on_invalid="null", output="log_price"),
    Bucketize(["log_price"], 3, output="bucket"),
    ScaleToZScore(["price", "rooms"]),
    FeatureCross(["town", "bucket"], output="town_x_bucket"),
    ComputeAndApplyVocabulary(["town"], num_oov_buckets=1),
    OneHot(["bucket"], categories=[0, 1, 2], output="bucket_one_hot"),
]


def houses(rows: int = 30) -> pa.RecordBatch:
    return pa.record_batch(
        {
            "price": pa.array([None if i % 7 == 3 else float(i % 11) * 10 - 5 for i in range(rows)]),
            "rooms": pa.array([None if i % 5 == 2 else i % 4 for i in range(rows)], pa.int16()),
            "town": pa.array([None if i % 6 == 1 else f"town {i % 3}" for i in range(rows)]),
            "id": pa.array(range(rows), pa.uint64()),
        }
    )


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return artifact_of(tmp_path_factory.mktemp("chain"), CHAIN, houses())


def test_transforms_that_build_on_one_another(chain: Artifact) -> None:
    model = export(chain, columns=[*chain.output_schema.names])
    fresh = houses(100).set_column(2, "town", pa.array([None, "elsewhere", "", "town 1"] * 25))
    for batch in (houses(), fresh):
        check_parity(chain, batch, session_of(model), output_tensors(model), rounded=True)


def test_only_what_the_columns_need_is_there(chain: Artifact) -> None:
    model = export(chain, columns=["rooms", "price_missing"])
    session = session_of(model)
    assert [i.name for i in session.get_inputs()] == ["price", "rooms"]
    assert [i.name for i in session.get_overridable_initializers()] == ["rooms__is_null"]
    assert [o.name for o in session.get_outputs()] == ["rooms__out", "price_missing"]
    assert not any(node.op_type in ("Log", "LabelEncoder", "ReduceSum") for node in model.graph.node)


def test_the_file_says_whose_transforms_it_has(chain: Artifact) -> None:
    about = {p.key: p.value for p in export(chain, columns=["bucket", "id"]).metadata_props}
    assert (about["featuremill.artifact"], about["featuremill.version"]) == (chain.name, chain.version)
    assert about["featuremill.inputs"] == (
        '[{"tensor": "price", "column": "price", "type": "double"}, {"tensor": "id", "column": "id", "type": "uint64"}]'
    )
    assert output_tensors(export(chain, columns=["id", "bucket"])) == {"id": "id__out", "bucket": "bucket"}


def test_nulls_may_be_left_out(chain: Artifact) -> None:
    session = session_of(export(chain, columns=["rooms", "town"]))
    feeds = {"rooms": np.array([2], np.int16), "town": np.array(["town 1"], object)}
    rooms, town = session.run(None, feeds)
    wanted = chain.transform({"rooms": [2], "town": ["town 1"], "price": [1.0]})
    assert (rooms.tolist(), town.tolist()) == (wanted["rooms"], wanted["town"])


def test_nulls_of_some_columns_may_be_left_out(tmp_path: Path) -> None:
    rows = {name: [f"{name}{i % 2}" for i in range(6)] for name in ("a", "b", "c")}
    crosses = [FeatureCross(["a", "b"], output="ab"), FeatureCross(["b", "c"], output="bc")]
    artifact = artifact_of(tmp_path, crosses, pa.record_batch(rows))
    model = export(artifact)
    session, tensors = session_of(model), output_tensors(model)
    for holes in ([], ["a"], ["b"], ["c"], ["a", "c"], ["a", "b", "c"], ["b"], []):
        some = pa.record_batch({n: [None, *v[1:]] if n in holes else v for n, v in rows.items()})
        for part in (some, some.slice(0, 1)):
            check_parity(artifact, part, session, tensors, rounded=False)


def test_nan_and_null_are_told_apart_where_that_matters(tmp_path: Path) -> None:
    batch = pa.record_batch({"x": [1.0, float("nan"), None], "y": [1.0, float("nan"), None]})
    transforms: list[Transform] = [ApplyBuckets(["x"], [0.0], output="bucket"), ScaleToZScore(["y"])]
    artifact = artifact_of(tmp_path, transforms, batch)
    session = session_of(export(artifact))
    assert [i.name for i in session.get_overridable_initializers()] == ["x__is_null"]
    found = run_graph(session, batch)
    assert found["bucket"].tolist()[:2] == [1, 1] and found["bucket__is_null"].tolist() == [False, False, True]
    without = session.run(["bucket", "bucket__is_null"], {n: np.array([np.nan]) for n in ("x", "y")})
    assert [a.tolist() for a in without] == [[1], [False]], "without the input for nulls, NaN is no null"


# --- what is refused --------------------------------------------------------------------------------------------------


def test_all_that_has_no_place_is_named_at_once(tmp_path: Path) -> None:
    batch = pa.record_batch(
        {
            "a": ["x y", "y"], "b": [b"x", b"y"], "n": [1.0, 2.0],
            "v": pa.array([[1, 2], [3, 4]], pa.list_(pa.int64(), 2)),
            "t": pa.array([0, 1], pa.timestamp("s")),
        }
    )  # fmt: skip
    transforms: list[Transform] = [
        HashStrings(["a"], 10, output="hashed"),
        ComputeAndApplyVocabulary(["a"], num_oov_buckets=2, output="many"),
        ComputeAndApplyVocabulary(["a"], " ", output="split"),
        FeatureCross(["a", "b"], hash_buckets=5, output="cross"),
        NGrams(["a"], output="grams"),
        DatetimeParts(["t"], parts=["hour"]),
        ComputeAndApplyVocabulary(["b"], output="bytes"),
        ScaleToZScore(["v", "n"]),
        OneHot(["hashed"], categories=[1, 2], output="of_hashed"),
        OneHot(["a"], categories=["x y"], output="vector"),
    ]
    artifact = artifact_of(tmp_path, transforms, batch)
    with pytest.raises(ParameterError) as caught:
        export(artifact)
    assert caught.value.exportable == ["n", "vector"]
    assert [reason.partition(":")[0] for reason in caught.value.refused] == [
        "the column 'b'", "the column 'v'", "HashStrings('a')", "ComputeAndApplyVocabulary('a')",
        "ComputeAndApplyVocabulary('a')", "NGrams('a')", "DatetimeParts('t')",
    ]  # fmt: skip
    assert "num_oov_buckets=2" in str(caught.value) and "These columns can be: n, vector." in str(caught.value)
    model = export(artifact, columns=caught.value.exportable)
    check_parity(artifact, batch, session_of(model), output_tensors(model), rounded=False)


def test_an_unknown_column_is_named(chain: Artifact) -> None:
    with pytest.raises(MissingColumnError, match="made has no column 'prise'. Did you mean 'price'"):
        export(chain, columns=["prise"])
    with pytest.raises(MissingColumnError, match="'rooms' is missing"):
        array_feeds(pa.record_batch({"price": [1.0]}), ["price", "rooms"])


def test_a_column_with_the_name_of_anothers_nulls_is_refused(tmp_path: Path) -> None:
    batch = pa.record_batch({"n": [1, None], "n__is_null": [1, 2]})
    artifact = artifact_of(tmp_path, [ScaleToZScore(["n"], output="z")], batch)
    with pytest.raises(ParameterError, match="there is a column 'n__is_null'"):
        export(artifact)


def test_values_that_the_data_did_not_have_cannot_be_filled_in(tmp_path: Path) -> None:
    batch = pa.record_batch({"x": pa.array([None, None], pa.float64())})
    artifact = artifact_of(tmp_path, [Impute(["x"], strategy="mean")], batch)
    with pytest.raises(ParameterError, match=r"Impute\('x'\): the data had no value to take the mean of"):
        export(artifact)
