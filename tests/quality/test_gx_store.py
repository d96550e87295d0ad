import json

import pytest

from featuremill.artifacts.store import open_store
from featuremill.core.quality.expectations.check import check
from featuremill.core.quality.expectations.gx_store import result_identifier, result_path, save_result, suite_path
from featuremill.core.quality.expectations.suites import load_suite

QUANTILES = {"quantiles": [0.5, 0.9], "value_ranges": [[0, 1], [None, 9]]}
BETWEEN = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "x", "max_value": 2}}
SUITE = {
    "name": "raw.flights",
    "expectations": [
        {**BETWEEN, "severity": "warning"},
        {"type": "expect_column_quantile_values_to_be_between",
         "kwargs": {"column": "x", "quantile_ranges": QUANTILES}},
        {"type": "expect_column_max_to_be_between", "kwargs": {"column": "s", "max_value": "2024-01-31"}},
        {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "x", "max_value": 2}},
    ],
    "meta": {"owner": "ops"},
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "report"
    suite = load_suite(SUITE)
    result = check({"x": [1.0, float("nan"), 9.0], "s": ["a", "é", None]}, suite, result_format="COMPLETE")
    paths = save_result(result, suite, open_store(folder), "gx")
    return folder, suite, result, paths


def test_the_files_are_json_in_the_layout_of_great_expectations(saved):
    folder, suite, result, paths = saved
    assert paths == ["gx/great_expectations.yml", f"gx/{suite_path(suite)}", f"gx/{result_path(result)}"]
    for path in paths:
        json.loads((folder / path).read_text(), parse_constant=pytest.fail)


def test_great_expectations_opens_the_folder_and_reads_the_run(saved, monkeypatch, tmp_path):
    import great_expectations as gx

    folder, suite, result, _ = saved
    monkeypatch.chdir(tmp_path)
    context = gx.get_context(mode="file", context_root_dir=str(folder / "gx"))
    read = context.suites.get("raw.flights")
    assert read.to_json_dict()["expectations"] == suite.to_json()["expectations"]
    key = result_identifier(result)
    assert context.validation_results_store.list_keys() == [key]
    back = context.validation_results_store.get(key)
    assert back.to_json_dict() == json.loads(json.dumps(result.to_json_dict(), default=str))
    assert not back.success and back.statistics["evaluated_expectations"] == 4
    assert not list(tmp_path.iterdir())


def test_another_result_is_added(saved):
    folder, suite, _, _ = saved
    later = check({"x": [1.0], "s": ["a"]}, suite)
    save_result(later, suite, open_store(folder), "gx")
    assert len(list((folder / "gx/uncommitted/validations").rglob("*.json"))) == 2
