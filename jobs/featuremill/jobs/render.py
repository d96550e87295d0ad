"""What people read on the terminal: plans, summaries of runs, artifacts.

Everything here is a function from plain data to blocks (headings, lines, tables), and one function that prints blocks:
with colours and folded to the window on a terminal, as plain aligned text otherwise. Text that is piped is never cut.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from featuremill.core.words import bytes_text, count_text, seconds_text

if TYPE_CHECKING:
    from featuremill.core.record import RowAccount, RunRecord
    from featuremill.core.texts_plan import TextPlan
    from featuremill.jobs.prepare import PreparePlan

__all__ = [
    "Block", "Heading", "Line", "Table", "bytes_text", "count_text", "next_commands", "plan_blocks", "record_blocks",
    "seconds_text", "show", "show_line", "table_rows", "texts_blocks", "to_text",
]

INDENT = "  "
LARGEST_VOCABULARIES = 5

DICTIONARY = re.compile(r"dictionary<values=(\w+), .*>")

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters that would move the cursor, break a line or turn the direction of the text."""


@dataclass(frozen=True)
class Heading:
    """A title; an empty line stands before it."""

    text: str


@dataclass(frozen=True)
class Line:
    """One line. `mood` is good, bad, warning or nothing in particular."""

    text: str
    mood: str = ""


@dataclass(frozen=True)
class Table:
    """Aligned columns; those in `right` are aligned to the right. An empty header is not shown."""

    rows: Sequence[Sequence[str]]
    header: Sequence[str] = ()
    right: frozenset[int] = frozenset()


Block = Heading | Line | Table

WHEN = {"first": "distinct texts first", "counted": "when they are counted", "as they come": "as they come"}

MOODS = {"good": "green", "bad": "bold red", "warning": "yellow", "": ""}


# --- words for values -----------------------------------------------------------------------------------------------


def clean(text: Any) -> str:
    r"""A text without characters that would disturb a terminal; those are written as escapes.

    >>> clean("two\nlines")
    'two\\nlines'
    """
    return CONTROL.sub(lambda m: m.group().encode("unicode_escape").decode(), str(text))


def clean_lines(text: str) -> str:
    """As :func:`clean`, for a text of several lines."""
    return "\n".join(clean(line) for line in text.split("\n"))


def token_text(token: Any) -> str:
    """A token of a vocabulary; in quotes where it would otherwise not be seen as it is.

    >>> token_text("UA"), token_text(""), token_text(" a"), token_text(7)
    ('UA', "''", "' a'", '7')
    """
    if isinstance(token, str) and (not token or token != token.strip() or CONTROL.search(token)):
        return clean(repr(token))
    return clean(token)


def type_text(type_: Any) -> str:
    """A column's type for people, who do not care how its texts are encoded.

    >>> type_text("dictionary<values=string, indices=int32, ordered=0>"), type_text("list<item: float>")
    ('string', 'list<item: float>')
    """
    found = DICTIONARY.fullmatch(str(type_))
    return found[1] if found else str(type_)


def rows_text(rows: RowAccount) -> str:
    """Where every row went, as a sum.

    >>> from featuremill.core.record import RowAccount
    >>> rows_text(RowAccount(source=10, filtered=0, written=9, aside=1))
    '10 rows in = 9 written + 1 set aside'
    """
    filtered = f"{rows.filtered:,} filtered out + " if rows.filtered else ""
    sign = "=" if rows.balanced else "≠"
    taken = f" ({rows.quarantined:,} by checks)" if rows.quarantined else ""
    text = f"{count_text(rows.source, 'row')} in {sign} {filtered}{rows.written:,} written + {rows.aside:,} set aside"
    return text + taken


def command(*words: str) -> str:
    """A command line that can be pasted into a shell."""
    return shlex.join(words)


# --- printing -------------------------------------------------------------------------------------------------------


def to_text(blocks: Iterable[Block]) -> str:
    """The blocks as plain text; tables are aligned and never cut.

    >>> print(to_text([Heading("Splits"), Table([["train", "800"], ["eval", "1,200"]], right=frozenset({1}))]))
    Splits
      train    800
      eval   1,200
    """
    lines: list[str] = []
    for block in blocks:
        if isinstance(block, Heading):
            lines += ["", clean(block.text)] if lines else [clean(block.text)]
        elif isinstance(block, Line):
            lines += [INDENT + clean(part) for part in block.text.splitlines()]
        else:
            lines += _aligned(block)
    return "\n".join(line.rstrip() for line in lines)


def _aligned(table: Table) -> list[str]:
    from rich.cells import cell_len

    rows = [[clean(cell) for cell in row] for row in ([table.header] if table.header else []) + list(table.rows)]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
            gap = " " * (width - cell_len(cell))
            cells.append(gap + cell if i in table.right else cell + gap)
        lines.append(INDENT + "  ".join(cells))
    return lines


def show(blocks: Iterable[Block], file: TextIO) -> None:
    """Print the blocks: with colours, and folded to the window, where `file` is a terminal; as plain text otherwise."""
    if not file.isatty():
        print(to_text(blocks), file=file)
        return
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(file=file, highlight=False)
    for i, block in enumerate(blocks):
        if isinstance(block, Heading):
            console.print(Text(("\n" if i else "") + clean(block.text), style="bold"))
        elif isinstance(block, Line):
            # Left to the terminal to wrap, so that a command can be copied.
            for part in block.text.splitlines():
                console.print(Text(INDENT + clean(part), style=MOODS[block.mood]), soft_wrap=True)
        else:
            table = RichTable(
                box=None, show_header=bool(block.header), pad_edge=False, header_style="dim", padding=(0, 2, 0, 0)
            )
            for column in range(len(block.header) or len(block.rows[0]) if block.rows or block.header else 0):
                title = block.header[column] if block.header else ""
                table.add_column(title, justify="right" if column in block.right else "left", overflow="fold")
            for row in block.rows:
                table.add_row(*(Text(clean(cell)) for cell in row))
            console.print(Padding(table, (0, 0, 0, len(INDENT))))


def show_line(line: Line, file: TextIO) -> None:
    """Print one message: in its colour on a terminal, and never folded, so that it can be searched for."""
    if not file.isatty():
        print(clean_lines(line.text), file=file)
        return
    from rich.console import Console
    from rich.text import Text

    Console(file=file, highlight=False).print(Text(clean_lines(line.text), style=MOODS[line.mood]), soft_wrap=True)


# --- a plan ---------------------------------------------------------------------------------------------------------


def plan_blocks(plan: PreparePlan, job_file: str, overrides: Sequence[str] = ()) -> list[Block]:
    """What a job would do."""
    from featuremill.jobs.render_quality import quality_blocks

    job = plan.job
    blocks: list[Block] = [Heading(f"{job.name}: what it would do (nothing has run)")]
    blocks += [Heading("Source"), *source_lines(plan.source, plan.fragments)]
    if plan.source.get("where"):
        blocks.append(Line(f"only rows where {plan.source['where']}"))
    readers = _readers(plan)
    blocks += [
        Heading(f"Columns in ({len(plan.input_schema)})"),
        Table(
            [[f.name, str(f.type), ", ".join(readers.get(f.name, ()))] for f in plan.input_schema],
            ("name", "type", "read by"),
        ),
        Heading(f"Columns out ({len(plan.output_schema)})"),
        Table(
            [[f.name, str(f.type), plan.made_by.get(f.name) or "the source"] for f in plan.output_schema],
            ("name", "type", "made by"),
        ),
    ]
    counted = dict.fromkeys(t.column for t in plan.texts if t.first)
    passes = [("count distinct texts, and embed those that are wanted first", ", ".join(counted))] if counted else []
    passes += [(scan.why, ", ".join(scan.columns)) for scan in plan.scans]
    passes.append((f"apply {count_text(len(job.transforms), 'transform')} and write", "all columns"))
    rows = [row for i, (why, reads) in enumerate(passes, 1) for row in ([f"{i}", why], ["", f"reads {reads}"])]
    blocks += [Heading(f"Passes over the data ({len(passes)})"), Table(rows), *texts_blocks(plan.texts)]
    if job.split:
        shares = [
            [name, f"{share:.6g}", "statistics are computed on it" if name == job.split.fitted else ""]
            for name, share in job.split.shares.items()
        ]
        blocks += [Heading(f"Split by {', '.join(job.split.by)}"), Table(shares)]
        if plan.split_sql:
            blocks.append(Line(f"in BigQuery: {plan.split_sql}"))
    alias = f", and the alias {job.artifact.alias} moves to it" if job.artifact.alias else ""
    blocks += quality_blocks(plan.quality, "prepare")
    results = [["dataset", plan.dataset], *table_rows(plan.table), ["artifact", plan.artifact + alias]]
    blocks += [Heading("Results"), Table(results)]
    blocks += warning_blocks(plan.warnings)
    sets = [word for override in overrides for word in ("--set", override)]
    return [*blocks, Heading("Next"), Line(command("featuremill", "run", job_file, *sets))]


def table_rows(table: Mapping[str, Any] | None) -> list[list[str]]:
    """The lines of a plan that say which BigQuery table rows go to, and how."""
    if table is None:
        return []
    how = {"create": "created", "replace": "replaced" if table["there"] else "created", "append": "appended to"}[
        table["write"] if table["there"] or table["write"] != "append" else "create"
    ]
    by = "one load job" if table["method"] == "load" else "the Storage Write API"
    parts = [f"{how} by {by}"]
    parts += [f"partitioned by {table['partition_by']}"] if table["partition_by"] else []
    parts += [f"clustered by {', '.join(table['cluster_by'])}"] if table["cluster_by"] else []
    rows = [["table", table["table"]], ["", ", ".join(parts)]]
    rows += [["", ", ".join(f"{f['name']} {f['type']}" for f in table["schema"])]]
    return [*rows, *([["dead letters", table["dead_letters"]]] if table["dead_letters"] else [])]
def texts_blocks(texts: Sequence[TextPlan]) -> list[Block]:
    """When the texts of each column that is embedded become vectors."""
    rows = [[t.column, t.output, WHEN[t.when], t.why] for t in texts]
    header = ("column", "vectors", "embedded", "why")
    return [Heading("Texts to vectors"), Table(rows, header)] if rows else []


def source_lines(source: Mapping[str, Any], fragments: int | None = None) -> list[Block]:
    paths = source.get("paths") or source.get("path") or source.get("query") or source.get("table") or ()
    lines: list[Block] = [Line(str(p)) for p in ([paths] if isinstance(paths, str) else list(paths)[:3])]
    if not isinstance(paths, str) and len(paths) > 3:
        lines.append(Line(f"… and {len(paths) - 3:,} more"))
    facts = [
        count_text(source[key], noun)
        for key, noun in (("files", "file"), ("rows", "row"))
        if isinstance(source.get(key), int)
    ]
    facts += [bytes_text(source["bytes"])] if isinstance(source.get("bytes"), int) else []
    facts += [count_text(fragments, "fragment")] if fragments is not None and "bytes_processed" not in source else []
    if source.get("snapshot_time"):
        facts.append(f"as of {source['snapshot_time']}")
    if "bytes_processed" in source:
        facts.append(f"the query processes {bytes_text(source['bytes_processed'])}")
    return [*lines, Line(", ".join(facts))]


def _readers(plan: PreparePlan) -> dict[str, list[str]]:
    """For each source column, the transforms that read it as it is in the source."""
    readers: dict[str, list[str]] = {}
    written: set[str] = set()
    for step in plan.job.transforms:
        for column in getattr(step, "columns", ()):
            names = readers.setdefault(column, [])
            if column not in written and step.type_name not in names:
                names.append(step.type_name)
        written.update(getattr(step, "output_names", ()))
    return readers


# --- a run ----------------------------------------------------------------------------------------------------------


def record_blocks(record: RunRecord, *, advise: bool = True) -> list[Block]:
    """What a run did and, to advise, what to do with it next."""
    stages = ", ".join(f"{stage} {seconds_text(s)}" for stage, s in record.stages.items())
    took = f"{record.job}: {record.status} in {seconds_text(record.seconds)}"
    blocks: list[Block] = [Heading(took)]
    if record.error:
        blocks.append(Line(record.error, "bad"))
    if record.rows is not None:
        blocks.append(
            Line(rows_text(record.rows), "good" if record.rows.balanced and not record.rows.aside else "warning")
        )
    if stages:
        blocks.append(Line(stages))
    if record.checks:
        blocks.append(_checks_line(record.checks))
    if record.splits:
        total = sum(record.splits.values()) or 1
        rows = [[name, f"{n:,}", f"{n / total:.1%}"] for name, n in record.splits.items()]
        blocks += [Heading("Splits"), Table(rows, ("split", "rows", "share"), frozenset({1, 2}))]
    made = [f for f in record.features if f.get("made_by")]
    if record.kind == "score":
        blocks += _score_blocks(record)
    elif record.features:
        passed = len(record.features) - len(made)
        title = f"Features ({len(made)}" + (f", and {count_text(passed, 'column')} of the source)" if passed else ")")
        table = Table([[str(f["name"]), str(f["type"]), str(f["made_by"])] for f in made], ("name", "type", "made by"))
        blocks += [Heading(title), *([table] if made else [])]
    blocks += _vectors_blocks(record.embeddings)
    if record.vocabularies:
        # Two transforms may have a vocabulary of the same column in common.
        found = dict.fromkeys((str(v["column"]), f"{v['size']:,}", _top(v["top"])) for v in record.vocabularies)
        rows = [list(row) for row in found][:LARGEST_VOCABULARIES]
        blocks += [Heading("Largest vocabularies"), Table(rows, ("column", "tokens", "most frequent"), frozenset({1}))]
    commands = next_commands(record) if advise else []
    advice: list[Block] = [Heading("Next"), *(Line(line) for line in commands)] if commands else []
    return [*blocks, *warning_blocks(record.warnings), *_places(record), *advice]


def _checks_line(checks: Mapping[str, int]) -> Line:
    """How many checks held, and how bad it is that others did not."""
    total = checks["passed"] + checks["failed"]
    if not checks["failed"]:
        return Line(f"{count_text(total, 'check')} passed", "good")
    critical = f", {checks['gating']:,} of them critical" if checks["gating"] else ""
    return Line(f"{checks['failed']:,} of {count_text(total, 'check')} failed{critical}", "warning")
def _vectors_blocks(facts: Mapping[str, Any]) -> list[Block]:
    """What texts became vectors."""
    if not facts:
        return []
    rows = [
        [str(c["column"]), str(c["output"]), WHEN[c["when"]], f"{c['distinct']:,}" if "distinct" in c else "",
         f"{c['texts']:,}" if "texts" in c else ""]
        for c in facts["columns"]
    ]  # fmt: skip
    texts = count_text(facts["looked_up"], "text")
    said = f"{texts} looked up, {facts['found']:,} found in the cache, {facts['computed']:,} computed"
    header = ("column", "vectors", "embedded", "distinct", "texts")
    return [Heading("Texts to vectors"), Line(said), Table(rows, header, frozenset({3, 4}))]


def _score_blocks(record: RunRecord) -> list[Block]:
    """The columns and the models of a score job."""
    if not record.features:
        return []
    columns = [[str(f["name"]), type_text(f["type"]), str(f["made_by"] or "the source")] for f in record.features]
    models = [
        [str(m["name"]), str(m["version"]), f"{m['rows']:,}", seconds_text(m["seconds"]) if m["seconds"] else ""]
        for m in record.models
    ]
    return [
        Heading(f"Columns ({len(columns)})"),
        Table(columns, ("name", "type", "made by")),
        Heading("Models"),
        Table(models, ("name", "version", "rows", "time of its step"), frozenset({2, 3})),
    ]


def _top(top: Iterable[Sequence[Any]]) -> str:
    return ", ".join(f"{token_text(token)} {count:,}" for token, count in top)


def warning_blocks(warnings: Sequence[str]) -> list[Block]:
    return [Heading("Warnings"), *(Line(w, "warning") for w in warnings)] if warnings else []


def _places(record: RunRecord) -> list[Block]:
    artifact = record.artifact
    rows = []
    if artifact:
        rows.append(["artifact", str(artifact.get("path") or artifact.get("reference"))])
    if artifact.get("alias"):
        rows.append(["alias", f"{artifact['root']}/{artifact['name']}@{artifact['alias']}"])
    if record.table:
        rows.append(["table", record.table])
    if record.dataset:
        rows.append(["predictions" if record.kind == "score" else "dataset", record.dataset])
    if record.dead_letters:
        rows.append(["set aside", record.dead_letters])
    if record.report:
        rows.append(["report", f"{record.report}/index.html"])
    if record.dataset:
        rows.append(["run record", f"{record.dataset.rstrip('/')}/run.json"])
    return [Heading("Where it is"), Table(rows)] if rows else []


def next_commands(record: RunRecord) -> list[str]:
    """Command lines that look at what a run made; none when it failed."""
    artifact = record.artifact
    report = [command("featuremill", "report", "show", record.report)] if record.report else []
    if record.status == "done" and record.kind == "report":
        return report
    if record.status == "done" and record.kind == "score" and record.table:
        project, dataset, table = record.table.rsplit(".", 2)
        return [*report, command("bq", "head", "-n", "5", f"{project}:{dataset}.{table}")]
    if record.status == "done" and record.kind == "score":
        folder = json.dumps(f"{record.dataset}/predictions")
        python = f"import pyarrow.dataset as ds; print(ds.dataset({folder}).head(5))"
        return [*report, command("python", "-c", python)]
    if record.status != "done" or not artifact:
        return []
    wanted = artifact.get("alias") or artifact["version"]
    reference = f"{artifact['root']}/{artifact['name']}@{wanted}"
    python = f"from featuremill.artifacts import load; print(load({json.dumps(reference)}).input_schema)"
    lines = [command("featuremill", "artifacts", verb, reference) for verb in ("show", "verify")]
    return [*report, *lines, command("python", "-c", python)]
