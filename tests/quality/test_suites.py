import json
import subprocess
import sys

import pytest

from featuremill.artifacts.errors import MissingArtifactError, ParameterError, ParameterTypeError, RequestError
from featuremill.core.quality.expectations.suites import expectation_types, label, load_suite

MEAN = {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "x", "min_value": 1}}


def suite_of(*expectations, **more):
    return {"name": "flights", "expectations": list(expectations), **more}


def test_a_suite_that_great_expectations_wrote_loads_and_is_written_back_the_same(tmp_path):
    import great_expectations as gx
    import great_expectations.expectations as gxe
    from great_expectations.expectations.row_conditions import Column

    written = gx.ExpectationSuite(name="flights", meta={"owner": "ops"}, notes="hourly")
    condition = (Column("a") > 3) & Column("b").is_in([1])
    written.expectations = [
        gxe.ExpectColumnMaxToBeBetween(column="x", max_value=3, row_condition=condition),
        gxe.ExpectColumnValuesToNotBeNull(column="x", mostly=0.9, severity="warning", notes="sensors fail"),
        gxe.ExpectColumnValuesToNotBeNull(column="x", mostly=0.9, severity="info"),
    ]
    path = tmp_path / "flights.json"
    path.write_text(json.dumps(written.to_json_dict()))
    suite = load_suite(str(path))
    assert suite.to_json() == written.to_json_dict()
    assert suite.where == str(path)
    assert load_suite(suite.to_json()).to_json() == suite.to_json()


def test_a_suite_is_read_from_a_url(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(suite_of(MEAN)))
    assert load_suite(f"file://{tmp_path}/s.json").name == "flights"


def test_equal_expectations_may_be_repeated_and_ids_kept_apart():
    identified = {**MEAN, "id": "6b1c1b9a-3f5d-4a41-9d2f-1c8c5d6e7f80"}
    suite = load_suite(suite_of(identified, MEAN, MEAN))
    assert len(suite.to_gx().expectations) == 3


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{\n  \"name\": \"x\",\n  \"expectations\": [,]\n}", "line 3, column 20: this is no JSON"),
        ("{\"name\": NaN}", "NaN is no JSON"),
        (b"\xff\xfe", "no text in UTF-8"),
        ("[]", "expected a suite"),
        ("{}", "at least one expectation"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_place(tmp_path, content, told):
    path = tmp_path / "suite.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RequestError) as error:
        load_suite(str(path))
    assert told in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "none.json", tmp_path / "nowhere" / "none.json"):
        with pytest.raises(MissingArtifactError, match="There is no suite"):
            load_suite(path)


def between(**kwargs):
    return {"type": "expect_column_values_to_be_between", "kwargs": {"column": "x", "min_value": 1, **kwargs}}


@pytest.mark.parametrize(
    ("suite", "told"),
    [
        (suite_of(), "at least one expectation"),
        (suite_of(MEAN, name="a/b"), "expected a name of letters"),
        (suite_of(MEAN, name="../x"), "expected a name of letters"),
        (suite_of(MEAN, name="a..b"), "expected a name of letters"),
        (suite_of(MEAN, name=3), "expected a name of letters"),
        (suite_of(MEAN, expectation=[]), "unknown key 'expectation'"),
        (suite_of(MEAN, suite_parameters={"a": 1}), "suite parameters"),
        (suite_of({**MEAN, "kwarg": {}}), "Did you mean 'kwargs'"),
        (suite_of({"expectation_type": "x", "kwargs": {}}), "before 1.0. Rename it to 'type'"),
        (suite_of({**MEAN, "type": "expect_column_mean_to_be_betwen"}), "'expect_column_mean_to_be_between'"),
        (suite_of({**MEAN, "type": None}), "there is no expectation None"),
        (suite_of({**MEAN, "severity": "fatal"}), "expected one of critical, warning, info"),
        (suite_of({**MEAN, "kwargs": ["x"]}), "expected a mapping"),
        (suite_of({**MEAN, "kwargs": {"column": "x", "min_valu": 1}}), "Did you mean 'min_value'"),
        (suite_of({**MEAN, "kwargs": {"min_value": 1}}), "the parameter 'column' is missing"),
        (suite_of({**MEAN, "kwargs": {"column": "x", "min_value": {"$PARAMETER": "p"}}}), "suite parameters"),
        (suite_of(MEAN, between(mostly=2)), "expectation 2 (expect_column_values_to_be_between): mostly got 2"),
        (suite_of(between(row_condition={"type": "andd"})), "row_condition got {'type': 'andd'}"),
        (suite_of(between(row_condition='col("y") >> 3', condition_parser="great_expectations")), "unable to parse"),
        (suite_of({**MEAN, "module_name": "os"}), "unknown key 'module_name'"),
    ],
)
def test_a_wrong_suite_is_told_in_one_line_before_anything_runs(suite, told):
    with pytest.raises((ParameterError, ParameterTypeError)) as error:
        load_suite(suite, where="quality.suite")
    assert told in str(error.value)
    assert str(error.value).startswith("quality.suite")
    assert "\n" not in str(error.value)


def test_expectations_of_plugins_are_no_expectations():
    import great_expectations.expectations as gxe

    class ExpectColumnMaxToBeLucky(gxe.ExpectColumnMaxToBeBetween):
        pass

    assert "expect_column_max_to_be_lucky" not in expectation_types()
    with pytest.raises(ParameterError, match="Expectations of plugins are not run"):
        load_suite(suite_of({"type": "expect_column_max_to_be_lucky", "kwargs": {"column": "x"}}))


def test_labels_name_the_columns():
    pair = {"type": "expect_column_pair_values_to_be_equal", "kwargs": {"column_A": "a", "column_B": "b"}}
    count = {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 1}}
    suite = load_suite(suite_of(pair, count), where="s")
    assert label(suite, 0) == "s, expectation 1 (expect_column_pair_values_to_be_equal of 'a', 'b')"
    assert label(suite, 1) == "s, expectation 2 (expect_table_row_count_to_equal)"


def test_great_expectations_is_imported_late_without_network_and_leaves_nothing_behind(tmp_path):
    program = """
import os, socket, sys
def refuse(*a, **k):
    raise SystemExit("the network was tried")
socket.socket.connect = socket.getaddrinfo = refuse
from featuremill.core.quality.expectations import check, evaluate, findings, gx_store, suite_plan, suites
from featuremill.core.quality.statistics import collector
assert not {"great_expectations", "pandas"} & set(sys.modules), "imported early"
spec = {"expectations": [{"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "x", "value_set": [1]}}]}
assert check.check({"x": [1]}, spec).success
assert os.environ["GX_ANALYTICS_ENABLED"] == "false"
assert not os.listdir("."), os.listdir(".")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path), "PATH": "", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr


def test_a_missing_package_is_told_with_what_to_install(monkeypatch):
    from featuremill.artifacts.errors import MissingExtraError

    monkeypatch.setitem(sys.modules, "great_expectations", None)
    with pytest.raises(MissingExtraError, match=r"featuremill\[quality\]"):
        load_suite(suite_of(MEAN))
