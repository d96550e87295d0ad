"""What people read: nothing is cut when piped, nothing in the data disturbs a terminal, the sums are said in full."""

from __future__ import annotations

import io
import os
import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featuremill.core.progress import Progress
from featuremill.core.record import RowAccount, RunRecord
from featuremill.jobs.progress_display import _Lines, display_for
from featuremill.jobs.render import (
    CONTROL,
    Heading,
    Line,
    Table,
    bytes_text,
    clean,
    record_blocks,
    rows_text,
    seconds_text,
    show,
    to_text,
    token_text,
)

RECORD = RunRecord(
    run="20261122T153222Z-f3b3",
    job="flights",
    kind="prepare",
    status="done",
    started="2026-11-22T15:32:22+00:00",
    seconds=12.345,
    stages={"pipeline": 11.5, "artifact": 0.5},
    rows=RowAccount(source=336_776, filtered=0, written=336_776, aside=0),
    splits={"train": 269_111, "eval": 67_665},
    dataset="datasets/flights/20261122T153222Z-f3b3",
    artifact={
        "root": "my artifacts",
        "name": "flights",
        "version": "0123456789abcdef",
        "alias": "candidate",
        "reference": "my artifacts/flights@0123456789abcdef",
        "path": "my artifacts/flights/versions/0123456789abcdef",
    },
    features=(
        {"name": "flight_id", "type": "string", "made_by": None},
        {"name": "carrier", "type": "int64", "made_by": "ComputeAndApplyVocabulary"},
    ),
    vocabularies=({"column": "carrier", "size": 16, "top": [["UA", 58_665], ["", 12]]},),
    warnings=("ScaleTo01('month'): the column is constant.",),
)

EXPECTED = """\
flights: done in 12 s
  336,776 rows in = 336,776 written + 0 set aside
  pipeline 12 s, artifact 0.5 s

Splits
  split     rows  share
  train  269,111  79.9%
  eval    67,665  20.1%

Features (1, and 1 column of the source)
  name     type   made by
  carrier  int64  ComputeAndApplyVocabulary

Largest vocabularies
  column   tokens  most frequent
  carrier      16  UA 58,665, '' 12

Warnings
  ScaleTo01('month'): the column is constant.

Where it is
  artifact    my artifacts/flights/versions/0123456789abcdef
  alias       my artifacts/flights@candidate
  dataset     datasets/flights/20261122T153222Z-f3b3
  run record  datasets/flights/20261122T153222Z-f3b3/run.json

Next
  featuremill artifacts show 'my artifacts/flights@candidate'
  featuremill artifacts verify 'my artifacts/flights@candidate'
"""


def test_the_summary_of_a_run() -> None:
    text = to_text(record_blocks(RECORD))
    assert text.startswith(EXPECTED)
    python, flag, code = shlex.split(text.removeprefix(EXPECTED).strip())
    assert (python, flag) == ("python", "-c")
    compile(code, "next", "exec")


def test_the_summary_says_what_was_left_out() -> None:
    rows = RowAccount(source=100, filtered=20, written=77, aside=3)
    record = replace(RECORD, rows=rows, dead_letters="datasets/flights/x/_rejected", warnings=(), vocabularies=())
    text = to_text(record_blocks(record))
    assert "100 rows in = 20 filtered out + 77 written + 3 set aside" in text
    assert "set aside   datasets/flights/x/_rejected" in text
    assert "Warnings" not in text and "vocabularies" not in text


def test_a_record_of_a_run_that_failed() -> None:
    record = RunRecord("r", "flights", "prepare", "failed", "2026", 1.0, {}, None, error="The disk is full.")
    assert to_text(record_blocks(record)) == "flights: failed in 1 s\n  The disk is full."


def test_an_account_that_does_not_add_up_is_not_shown_as_a_sum() -> None:
    assert rows_text(RowAccount(source=10, filtered=0, written=8, aside=1)) == "10 rows in ≠ 8 written + 1 set aside"


def test_piped_tables_are_never_cut() -> None:
    names = ["a" * 300, "b" * 200]
    file = io.StringIO()
    show([Table([[names[0], "int64"], [names[1], "string"]], ("name", "type"))], file)
    lines = file.getvalue().splitlines()
    assert len(lines) == 3 and all(name in line for name, line in zip(names, lines[1:], strict=True))
    assert not any("\x1b" in line or "…" in line or line != line.rstrip() for line in lines)


def test_wide_characters_are_aligned() -> None:
    assert to_text([Table([["東京", "1"], ["ab", "2"]])]) == "  東京  1\n  ab    2"


@given(st.text())
def test_cleaned_text_moves_no_cursor(text: str) -> None:
    assert not CONTROL.search(clean(text)) and not CONTROL.search(token_text(text))
    assert token_text(text)


@given(st.lists(st.lists(st.text(max_size=5), min_size=2, max_size=2), min_size=1, max_size=4))
def test_a_table_has_a_line_for_each_row(rows: list[list[str]]) -> None:
    assert len(to_text([Table(rows)]).split("\n")) == len(rows)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (999_500, "1 MB"), (123_456_789, "123 MB")]
)
def test_sizes(count: int, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (9.99, "10 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3600, "1 h 0 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


# --- on a terminal --------------------------------------------------------------------------------------------------


def on_terminal(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    """The summary as a real terminal of 40 columns gets it."""
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "40", **environment}.items():
        monkeypatch.setenv(name, value)
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as file:
        show([Heading("Columns [bold]"), Table([["x" * 60, "[red]int64"]], ("name", "type")), Line("bad", "bad")], file)
    with os.fdopen(ours, "rb") as file:
        chunks = []
        try:
            while chunk := os.read(file.fileno(), 4096):
                chunks.append(chunk)
        except OSError:  # Linux says so at the end of a terminal
            pass
    return b"".join(chunks).decode()


def test_terminal_output_is_folded_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    text = on_terminal(monkeypatch)
    assert text.count("x") == 60 and "[bold]" in text and "[red]" in text.replace("\r\n", "")
    assert "\x1b[" in text


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[1;31m" in on_terminal(monkeypatch)
    assert "31m" not in on_terminal(monkeypatch, NO_COLOR="1")


# --- progress -------------------------------------------------------------------------------------------------------


def test_without_a_terminal_progress_is_a_line_now_and_then() -> None:
    file, now = io.StringIO(), [0.0]
    with _Lines(file, clock=lambda: now[0]) as display:
        for second, (stage, done) in enumerate([("scan 1", d) for d in range(9)] + [("write", d) for d in range(3)]):
            now[0] = float(second)
            display(Progress(stage, done=done, total=8, rows=100 * done, seconds=float(done)))
    assert file.getvalue().splitlines() == [
        "scan 1: 5 of 8 fragments, 500 rows, 100 rows/s, 3 s left",
        "scan 1: 8 of 8 fragments, 800 rows, 100 rows/s",
        "write: 2 of 8 fragments, 200 rows, 100 rows/s, 6 s left",
    ]


def test_a_run_that_ends_at_once_says_nothing_of_progress() -> None:
    file = io.StringIO()
    with display_for(file) as display:
        display(Progress("scan 1", done=0, total=8, rows=0, seconds=0.0))
    assert file.getvalue() == ""


def test_on_a_terminal_progress_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as file, display_for(file) as display:
        display(Progress("scan 1", done=4, total=8, rows=400, seconds=4.0))
        display(Progress("write", done=1, total=8, rows=100, seconds=1.0))
    text = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "scan 1" in text and "4 of 8 fragments, 400 rows, 100 rows/s, 4 s left" in text and "write" in text
