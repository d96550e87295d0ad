"""Reports to render: a rich one of made-up flights, one of hostile names and values, and one of many columns."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pyarrow as pa

from featuremill.core.quality.profiles.drift import compare
from featuremill.core.quality.profiles.profile import Profile
from featuremill.core.quality.profiles.profile_stats import profile_of as finished_profile
from featuremill.core.quality.profiles.profile_stats import profile_statistics
from featuremill.core.quality.reports.report import (
    Change,
    CheckResult,
    Learned,
    LearnedVocabulary,
    PreviousRun,
    ProfileSection,
    Report,
    ReportRows,
    SchemaFinding,
)


def profile_of(table: pa.Table) -> Profile:
    """The profile of a table, in one go."""
    states = {}
    for name, statistic in profile_statistics(table.schema).items():
        accumulator = statistic.accumulator()
        for batch in table.to_batches():
            accumulator.update(batch[name])
        states[name] = statistic.finish(accumulator.partial())
    return finished_profile(table.schema, states, table.num_rows)


def flights(rows: int = 4_000, *, seed: int = 1, late: float = 0.0) -> pa.Table:
    """Made-up flights; `late` moves the delays by so many minutes and brings a new airline."""
    random = np.random.default_rng(seed)
    delay = np.round(random.gamma(0.7, 30, rows) - 8 + late)
    missing = random.random(rows) < 0.025 + late / 400
    carriers = ["UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E", "WN", "VX", "FL", "AS", "F9", "YV", "HA"]
    shares = np.array([1 / (i + 2) for i in range(len(carriers))]) / sum(1 / (i + 2) for i in range(len(carriers)))
    carrier = random.choice(carriers, rows, p=shares).astype(object)
    carrier[random.random(rows) < late / 200] = "ZZ"
    wind = np.round(random.gamma(3, 3.4, rows), 2)
    wind[0] = 1048.36
    day = random.integers(15_706, 16_071, rows)
    return pa.table(
        {
            "flight_id": [f"2013-{i:06d}" for i in range(rows)],
            "date": pa.array(day, pa.int32()).cast(pa.date32()),
            "carrier": pa.array(carrier, pa.string()),
            "origin": pa.array(random.choice(["EWR", "JFK", "LGA"], rows), pa.string()),
            "dep_delay": pa.array(delay, pa.int32(), mask=missing),
            "air_time": pa.array(np.round(random.normal(150, 60, rows).clip(20)), pa.int32(), mask=missing),
            "distance": pa.array(random.choice([187, 529, 733, 1096, 1400, 2475, 4983], rows), pa.int32()),
            "late": pa.array(delay > 15, mask=missing),
            "wind_speed": pa.array(wind),
            "temp": pa.array(random.normal(55, 17, rows).round(1)),
            "time_hour": pa.array(day * 86_400 + random.integers(5, 23, rows) * 3600, pa.timestamp("s", "UTC")),
            "gate": pa.array([None] * rows, pa.string()),
        }
    )


def example_report() -> Report:
    """What a run over flights whose delays have grown looks like: a gate that failed, a warning, drift, rows aside."""
    now, before = (
        profile_of(flights(seed=2, late=14.0)),
        profile_of(flights().append_column("hour", flights()["dep_delay"])),
    )
    samples = tuple(
        {"flight_id": f"2013-{i:06d}", "date": date(2013, 1, i + 1), "dep_delay": 1301 - 7 * i, "carrier": "HA"}
        for i in range(6)
    )
    return Report(
        run="20260301T093000-4f2a91",
        job="flights",
        kind="prepare",
        status="failed",
        started="2026-03-01T09:30:12+00:00",
        seconds=74.2,
        rows=ReportRows(source=336_776, filtered=1_250, written=335_112, aside=414, quarantined=402),
        checks=(
            CheckResult(
                "raw",
                "expect_column_values_to_be_between",
                ("dep_delay",),
                False,
                "Values in dep_delay must be at least -60 and at most 600, at least 99.9% of the time.",
                "critical",
                {"min_value": -60, "max_value": 600, "mostly": 0.999},
                None,
                336_776,
                402,
                0.1224,
                samples,
            ),
            CheckResult(
                "raw",
                "expect_column_unique_value_count_to_be_between",
                ("tailnum",),
                False,
                "tailnum must have between 1 and 4,000 different values.",
                "warning",
                {"min_value": 1, "max_value": 4000},
                4043,
                notes=("The count is an estimate; its relative standard error is 0.8%.",),
            ),
            CheckResult(
                "raw",
                "expect_column_values_to_be_in_set",
                ("carrier",),
                False,
                "",
                "info",
                {"value_set": ["UA", "B6", "EV", "DL", "AA"]},
                None,
                336_776,
                109_811,
                32.61,
                ({"flight_id": "2013-000007", "carrier": "ZZ"},),
            ),
            *(
                CheckResult(
                    "raw",
                    "expect_column_values_to_not_be_null",
                    (c,),
                    True,
                    f"{c} must not be null.",
                    elements=336_776,
                    unexpected=0,
                    unexpected_percent=0.0,
                )
                for c in ("flight_id", "date", "time_hour", "carrier", "origin", "distance")
            ),
            CheckResult(
                "raw",
                "expect_column_mean_to_be_between",
                ("air_time",),
                True,
                "The mean of air_time must be between 100 and 200.",
                kwargs={"min_value": 100, "max_value": 200},
                observed=150.68646,
            ),
            CheckResult(
                "raw",
                "expect_column_quantile_values_to_be_between",
                ("distance",),
                True,
                kwargs={"allow_relative_error": False},
                observed={"quantiles": [0.05, 0.5, 0.95], "values": [199, 872, 2475]},
            ),
            CheckResult(
                "raw",
                "expect_table_row_count_to_be_between",
                (),
                True,
                "There must be 300,000 rows or more.",
                observed=336_776,
            ),
            CheckResult(
                "output",
                "expect_column_values_to_be_between",
                ("dep_delay",),
                True,
                "Values in dep_delay must be between -10 and 40.",
                elements=335_112,
                unexpected=0,
            ),
        ),
        findings=(SchemaFinding("gate", "a new column of type string, which the contract allows (evolve).", "info"),),
        profiles=(
            ProfileSection("raw", now, before, "artifacts/flights@20260222-77c1", compare(now, before)),
            ProfileSection("output", profile_of(flights(seed=3).select(["carrier", "dep_delay", "air_time"]))),
        ),
        vocabularies=(
            LearnedVocabulary(
                "carrier", "ComputeAndApplyVocabulary", 16, (("UA", 58_665), ("B6", 54_635), ("EV", 54_173))
            ),
            LearnedVocabulary("tailnum", "ComputeAndApplyVocabulary", 4_043, (("N725MQ", 575), ("", 13), (" N1", 2))),
        ),
        learned=(
            Learned("dep_delay", "ScaleToZScore", {"mean": 12.639070257304708, "std": 40.21006089212957}),
            Learned("dep_time", "Bucketize", {"boundaries": [615.0, 740.5, 902.0, 1101.0]}),
        ),
        previous=PreviousRun(
            "20260222T093001-77c1aa",
            "2026-02-22T09:30:01+00:00",
            "passed",
            ReportRows(334_201, 1_244, 332_945, 12),
            (
                Change("rows", "rows in", "334,201", "336,776"),
                Change("check", "Values in dep_delay must be between -60 and 600", "passed", "failed", "bad"),
                Change("nulls", "dep_delay", "2.45%", "5.9%", "bad"),
                Change("column", "gate", "not there", "string"),
            ),
            "../../20260222T093001-77c1aa/report/index.html",
        ),
        warnings=("wind_speed: one value is far from all others (1,048).",),
        on_failure="warn",
        source={
            "paths": [f"data/flights/flights-2013-{m:02}.parquet" for m in range(1, 13)],
            "files": 12,
            "rows": 336_776,
            "bytes": 8_312_004,
            "digest": "sha256:4f2a91c0",
        },
        artifact={
            "root": "artifacts",
            "name": "flights",
            "version": "20260301-4f2a",
            "alias": "candidate",
            "reference": "artifacts/flights@candidate",
        },
        splits={"train": 268_090, "eval": 67_022},
        versions={"python": "3.11.14", "featuremill": "0.1.0", "pyarrow": "25.0.1"},
        links={"dataset": "..", "rows set aside": "../dead_letters", "run record": "../run.json"},
    )


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='alert(1)",
    "{{ 7 * 7 }}",
    "a\x00b\x1b[31m",
    "\u202egnp.exe",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "\u6570\u636e\U0001f4c8",
    "wide " * 400,
    "unbroken" * 60,
    "http://remote.example/x.css",
    "two\nlines | of `Markdown` *here* [a](b)",
    "</style><style>body{display:none}",
    "",
    " ",
)
"""Names and values that would break a page, or a terminal, that trusted them."""


def hostile_report() -> Report:
    """A report in which every text that can come from data, or from a job, is hostile."""
    table = pa.table(
        [pa.array(list(HOSTILE) * 3) if i % 2 else pa.array(range(3 * len(HOSTILE))) for i in range(len(HOSTILE))],
        list(HOSTILE),
    )
    profile = profile_of(table)
    bad = HOSTILE[0]
    return replace(
        example_report(),
        run=bad,
        job=bad,
        summary=bad,
        status="stopped",
        checks=tuple(
            CheckResult(
                "raw",
                text,
                (text,),
                False,
                text,
                kwargs={text: text},
                observed=text,
                unexpected=1,
                elements=2,
                samples=({text: text},),
                notes=(text,),
                error=text,
            )
            for text in HOSTILE
        ),
        findings=tuple(SchemaFinding(text, text) for text in HOSTILE),
        profiles=(
            ProfileSection(
                "raw",
                profile,
                profile,
                bad,
                tuple(
                    replace(d, verdict="drifted", reason=d.column, new=(d.column,)) for d in compare(profile, profile)
                ),
            ),
        ),
        vocabularies=tuple(LearnedVocabulary(text, text, 1, ((text, 1),)) for text in HOSTILE),
        learned=tuple(Learned(text, text, {text: text}) for text in HOSTILE),
        previous=PreviousRun(
            bad, bad, bad, None, tuple(Change("check", text, text, text) for text in HOSTILE), "javascript:alert(1)"
        ),
        warnings=HOSTILE,
        source={text: text for text in HOSTILE},
        links={text: f"javascript:{text}" for text in HOSTILE},
        versions={bad: bad},
    )


def wide_report(columns: int = 200) -> Report:
    """A report of many columns, half of them numbers and half texts, beside a reference, with drift."""
    profiles = [_wide_profile(columns, seed) for seed in (1, 2)]
    drift = compare(*profiles)
    sections = [ProfileSection(name, *profiles, "the run before", drift) for name in ("raw", "output")]
    return replace(example_report(), profiles=tuple(sections))


def _wide_profile(columns: int, seed: int) -> Profile:
    random = np.random.default_rng(seed)
    words = np.array([f"category number {i}" for i in range(300)])
    made = {
        f"column_{i:03d}": random.normal(0, 10.0 ** (i % 7), 2_000)
        if i % 2
        else words[random.geometric(0.01, 2_000) % 300]
        for i in range(columns)
    }
    return profile_of(pa.table(made))
