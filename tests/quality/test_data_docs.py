import re
from copy import copy

import pyarrow as pa
import pytest

from featuremill.artifacts.store import open_store
from featuremill.core.quality.expectations.check import check
from featuremill.core.quality.expectations.data_docs import remote_assets, result_page, save_pages, suite_page
from featuremill.core.quality.expectations.suites import load_suite

HOSTILE = '<script src="https://evil.example/x.js"></script><img src=//evil.example/y.png>'
EXPECTATIONS = [
    {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "x", "min_value": 1, "max_value": 3}},
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "c", "value_set": ["a"]}, "notes": HOSTILE},
    {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "c", "regex": "^a"}, "description": HOSTILE},
    {"type": "expect_column_max_to_be_between", "kwargs": {"column": "c", "max_value": "2024-01-31"}},
    {"type": "expect_column_quantile_values_to_be_between",
     "kwargs": {"column": "x", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[0, 1]]}}},
    {"type": "expect_column_kl_divergence_to_be_less_than",
     "kwargs": {"column": "c", "threshold": 9, "partition_object": {"values": ["a", HOSTILE], "weights": [0.5, 0.5]}}},
    {"type": "expect_table_columns_to_match_set", "kwargs": {"column_set": ["x", "c"]}},
]


@pytest.fixture(scope="module")
def suite():
    return load_suite({"name": "flights", "expectations": EXPECTATIONS, "notes": HOSTILE})


@pytest.fixture(scope="module")
def result(suite):
    rows = pa.table({"x": [1.0, 2.0, None], "c": ["a", HOSTILE, "b"]})
    return check(rows, suite, keys=["x"], result_format="COMPLETE")


def test_the_pages_need_nothing_from_elsewhere_whatever_the_data_holds(suite, result):
    for page in (result_page(result), suite_page(suite)):
        assert remote_assets(page) == []
        assert "<script" not in page
        assert "default-src 'none'" in page
        assert not re.search(r"<(link|img|iframe)\b", page)
        assert "great-expectations-web-assets" not in page and "dataContextId" not in page


def test_the_pages_show_what_great_expectations_shows(suite, result):
    page = result_page(result, link="flights-suite.html")
    for told in ("Evaluated Expectations", "mean must be greater", "&lt;script src=", "Unexpected Value"):
        assert told in page
    assert re.findall(r'href="(?!#)([^"]*)"', page) == ["flights-suite.html"] * 2
    assert "values must belong to this set" in suite_page(suite)


def test_they_are_saved_side_by_side_and_point_to_each_other(suite, result, tmp_path):
    names = save_pages(result, suite, open_store(tmp_path), "data_docs")
    assert names == ["data_docs/rows-flights.html", "data_docs/rows-flights-suite.html"]
    assert 'href="rows-flights-suite.html"' in (tmp_path / names[0]).read_text()
    assert 'href="rows-flights.html"' in (tmp_path / names[1]).read_text()


def test_a_run_s_name_is_no_time(suite, result):
    """Great Expectations would read the end of this one as the offset of a time zone, of 88 hours."""
    from great_expectations.core.run_identifier import RunIdentifier

    named = copy(result)
    named.meta = {**result.meta, "run_id": RunIdentifier("20261122T233300Z-8812", result.meta["run_id"].run_time)}
    assert "20261122T233300Z-8812" in result_page(named)
    assert named.meta["run_id"].run_name == "20261122T233300Z-8812"


def test_remote_assets_are_found():
    found = """<script src="https://a/x.js"></script> <link rel=x href='//b/y.css'> <img src=http://c/z.png>
    <style>@import "https://d/e.css"; p { background: url('https://f/g.png') }</style> <a href="https://h">h</a>"""
    assert len(remote_assets(found)) == 5
