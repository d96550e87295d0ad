"""The checks and profiles of one run, from the job file to the report.

Before the run everything that can be wrong with a suite, a contract or a reference is told, and the statistics that
the workers collect are planned. After it the states are judged, the gates opened or closed, and the report is made,
which goes the way of the run: with its results, or with the record of its failure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from obstore.store import MemoryStore

from featuremill.artifacts.errors import MissingColumnError, MissingExtraError, suggest
from featuremill.artifacts.layout import PROFILE as PROFILE_FILE
from featuremill.artifacts.store import ObjectStore, open_store
from featuremill.core.explain import at
from featuremill.core.feature_recipe import FRAGMENT, ROW
from featuremill.core.files import Place
from featuremill.core.quality.gates import QualityFailed, check_reasons, drift_reasons, schema_reasons
from featuremill.core.quality.planned_suites import plan_suites, screen_of
from featuremill.core.quality.profiles.drift import ColumnDrift, compare
from featuremill.core.quality.profiles.profile import Profile
from featuremill.core.quality.profiles.profile_stats import profile_of, profile_statistics
from featuremill.core.quality.profiles.references import (
    Reference,
    check_comparable,
    named_reference,
    previous_report,
    profile_bytes,
    report_reference,
)
from featuremill.core.quality.reports.learned import Learnt
from featuremill.core.quality.reports.report import ProfileSection, SchemaFinding
from featuremill.core.quality.reports.report_changes import compared
from featuremill.core.quality.reports.report_files import PAGE_FILE, REPORT_FOLDER, write_report
from featuremill.core.quality.reports.run_report import Found, report_of
from featuremill.core.quality.riding import OUTPUT, RAW, WRITTEN, Riding
from featuremill.core.quality.schema_contract import SchemaContract, check_schema, load_contract, refuse
from featuremill.core.quality.screen import Screen
from featuremill.core.quality.spec import QualitySpec
from featuremill.core.quality.statistics.collecting import Collecting
from featuremill.core.record import RowAccount, RunRecord
from featuremill.transforms.arrays import value_type
from featuremill.transforms.contract import Analyzer, State

if TYPE_CHECKING:
    from featuremill.core.dataset import FragmentResult, Staging

__all__ = ["RunQuality"]

FRAGMENTS_PER_SHARD = 16
"""Statistics of keys are combined in one piece up to so many fragments, then in one more for each further so many."""
MOST_SHARDS = 64
PROFILE = "profile of:"
"""What the slots of a profile begin with, on a side that has suites as well; no suite is called so."""


class RunQuality:
    """The checks and profiles of one run.

    Parameters
    ----------
    spec
        What the job file says.
    run
        The run's name.
    folder
        The folder of the job's runs.
    raw
        The schema of the source.
    output
        The schema of the rows that come out; None: nothing does.
    reads
        The columns of the source that the job reads, and which are profiled; None: all.
    makes
        The columns that are profiled of those that come out; None: all of them.
    own
        The profiles of the job's own artifact, where it has one, to compare with.
    inputs
        For a job that uses an artifact: the columns of the source that its features are made of. They and the features
        are compared with those that the artifact was fitted on, without being asked; keys and the like are not.

    Raises
    ------
    RequestError
        When a suite, the contract or a reference is wrong or does not fit the columns; with the place in the job file.
    """

    def __init__(
        self,
        spec: QualitySpec,
        *,
        run: str,
        folder: str,
        raw: pa.Schema,
        output: pa.Schema | None = None,
        reads: Sequence[str] | None = None,
        makes: pa.Schema | None = None,
        own: Reference | None = None,
        inputs: Sequence[str] | None = None,
    ) -> None:
        self.spec = spec
        self.run = run
        self.folder = Place(open_store(folder).root)
        self.raw = plain_schema(raw)
        self.output = None if output is None else plain_schema(output)
        self.makes = self.output if makes is None else plain_schema(makes)
        self.reads = self.raw if reads is None else pa.schema([self.raw.field(name) for name in reads])
        self.own = own
        self.inputs = inputs
        self.found: Found | None = None
        with at("quality", "keys"):
            for key in spec.keys:
                if key not in self.raw.names:
                    raise MissingColumnError(
                        f"quality.keys: there is no column {key!r}. {suggest(key, self.raw.names)}", column=key
                    )
        contract = self._contract()
        self.suites = plan_suites(spec, contract, self.raw, self.output)
        self.reference = self._reference()

    def _contract(self) -> SchemaContract | None:
        """The schema contract, which the source keeps, unless breaking it is only to be told."""
        self.findings: tuple[SchemaFinding, ...] = ()
        if self.spec.contract is None:
            return None
        with at("quality", "schema"):
            contract = load_contract(self.spec.contract)
            found = check_schema(contract, self.raw)
            if self.spec.on_failure != "warn":
                refuse(found, "The source")
        self.findings = tuple(
            SchemaFinding(f.column, f.message, "critical" if f.severity == "error" else "info") for f in found
        )
        return contract

    def _reference(self) -> Reference | None:
        """What the profiles are compared with, but for the previous run, which is looked for afterwards."""
        drift = self.spec.drift
        with at("quality", "drift"):
            known = [*self.reads.names, *(self.makes.names if self.makes is not None else ())]
            for name in [*drift.columns, *drift.ignore]:
                if name not in known:
                    raise MissingColumnError(f"drift: there is no column {name!r}. {suggest(name, known)}", column=name)
        against = self.spec.drift.against
        if not self.spec.profile or against == "previous":
            return None
        if against is None:
            return None if self.inputs is None else self.own
        with at("quality", "drift", "against"):
            if against != "artifact":
                reference = named_reference(against)
                check_comparable(reference, self.reads)
                return reference
            return self.own

    @property
    def is_idle(self) -> bool:
        """Whether nothing is checked or profiled, so that there is nothing to report."""
        return not self.statistics and self.spec.contract is None

    # --- before the run ---------------------------------------------------------------------------------------------

    @cached_property
    def statistics(self) -> dict[str, dict[str, Analyzer]]:
        """What is collected, by side; sides without statistics are left out."""
        profiled = profile_statistics(self.reads) if self.spec.profile else {}
        written = profile_statistics(self.makes) if self.spec.profile and self.makes is not None else {}
        sides: dict[str, dict[str, Analyzer]] = {RAW: {}, OUTPUT: {}, WRITTEN: _named(PROFILE, written)}
        for suite in self.suites:
            sides[suite.side].update(suite.statistics)
        sides[RAW].update(_named(PROFILE, profiled))
        return {side: found for side, found in sides.items() if found}

    @cached_property
    def screen(self) -> Screen | None:
        """The checks of the rows as they are read that cost a row its place."""
        return screen_of(self.suites, RAW, self.raw)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the source that are checked or profiled, in its order."""
        raw = {c for analyzer in self.statistics.get(RAW, {}).values() for c in analyzer.inputs} - {FRAGMENT, ROW}
        read = {*raw, *(self.screen.columns if self.screen else ())}
        return tuple(name for name in self.raw.names if name in read)

    def riding(self, fragments: int) -> Riding:
        """What the workers are told, in a job of so many fragments."""
        shards = min(MOST_SHARDS, 1 + fragments // FRAGMENTS_PER_SHARD)
        output_screen = screen_of(self.suites, OUTPUT, self.output)
        return Riding(Collecting(self.statistics, shards), self.screen, output_screen, self.columns)

    def plan(self) -> dict[str, Any]:
        """What is checked and where, JSON-ready."""
        profiled = {"raw": len(self.reads), "output": len(self.makes or ())} if self.spec.profile else {}
        return {
            "suites": [suite.facts() for suite in self.suites],
            "schema": self.spec.contract if isinstance(self.spec.contract, str) else bool(self.spec.contract),
            "on_failure": self.spec.on_failure,
            "max_quarantined": self.spec.max_quarantined,
            "profiled": profiled,
            "against": self.reference.name if self.reference else self.spec.drift.against,
            "statistics": {side: len(found) for side, found in self.statistics.items()},
        }

    # --- after the run ----------------------------------------------------------------------------------------------

    def look(
        self, staging: Staging, results: Sequence[FragmentResult], learned: Learnt | None = None
    ) -> Found:
        """Judge what the workers collected.

        Parameters
        ----------
        learned
            What the artifact of the job knows.
        """
        self._learned = learned or Learnt()
        states = Collecting(self.statistics).states(staging.quality) if self.statistics else {}
        read, written = sum(r.read - r.left_out for r in results), sum(r.written for r in results)
        self._files = ObjectStore(MemoryStore(), REPORT_FOLDER)
        judged = [
            s.judge(states.get(s.side, {}), self.run, self._files, docs=self.spec.data_docs) for s in self.suites
        ]
        taken = [out for suite in self.suites for out in suite.taken_out]
        previous = previous_report(self.folder, self.run)
        sections: tuple[ProfileSection, ...] = ()
        warnings: tuple[str, ...] = ()
        if self.spec.profile:
            raw = profile_of(self.reads, _own(PROFILE, states.get(RAW, {})), read)
            output = None
            if self.makes is not None:
                output = profile_of(self.makes, _own(PROFILE, states.get(WRITTEN, {})), written)
                output = self._learned.with_unknown(output)
            sections, warnings = self._sections(raw, output)
        self.found = Found(
            checks=tuple(check for one in judged for check in one.checks),
            taken_out=frozenset(i for i, out in enumerate(taken) if out),
            profiles=sections,
            previous=previous,
            findings=self.findings,
            docs=next((one.page for one in judged if one.page), None),
            warnings=warnings,
        )
        return self.found

    def _sections(
        self, raw: Profile, output: Profile | None
    ) -> tuple[tuple[ProfileSection, ...], tuple[str, ...]]:
        """The profiles beside what they are compared with, and what is to be said of that."""
        reference = self.reference
        if self.spec.drift.against == "previous":
            previous = previous_report(self.folder, self.run, done=True)
            reference = None if previous is None else report_reference(previous)
        asked = self.spec.drift.against is not None
        warnings = (f"There is no {self.spec.drift.against} to compare with yet.",) if asked and not reference else ()
        found = []
        for name, profile in (("raw", raw), ("output", output)):
            if profile is None:
                continue
            other = None if reference is None else getattr(reference, name)
            drift = () if other is None else self._drift(name, profile, other)
            found.append(ProfileSection(name, profile, other, reference.name if reference and other else "", drift))
        return tuple(found), warnings

    def _drift(self, name: str, profile: Profile, reference: Profile) -> tuple[ColumnDrift, ...]:
        both = set(profile.names) & set(reference.names)
        if self.inputs is not None and name == "raw":
            both &= set(self.inputs)
        if not both:
            return ()
        if self.inputs is not None:
            profile, reference = _only(profile, both), _only(reference, both)
        there, spec = {*profile.names, *reference.names}, self.spec.drift
        columns = {name: limits for name, limits in spec.columns.items() if name in there}
        ignore = [name for name in spec.ignore if name in there]
        return compare(profile, reference, spec.model_copy(update={"columns": columns, "ignore": ignore}))

    def gate(self, rows: RowAccount) -> list[str]:
        """Let the run go on, or not; what is to be said where it goes on although something is wrong.

        Raises
        ------
        QualityFailed
            When a gate is closed.
        """
        found = self.found or Found()
        wrong = [*check_reasons(found.checks, found.taken_out), *schema_reasons(found.findings)]
        drifted, most = drift_reasons(found.profiles), self.spec.max_quarantined
        closing = [] if self.spec.on_failure == "warn" else list(wrong)
        closing += drifted if self.spec.drift.on_drift == "stop" else []
        if most is not None and rows.quarantined > most:
            closing.append(f"{rows.quarantined:,} rows were quarantined, and max_quarantined is {most:,}.")
        if closing:
            self.found = replace(found, closed=" ".join(closing))
            place = self.folder / self.run / REPORT_FOLDER / PAGE_FILE
            told = [*closing, *(["Nothing was published."] if self.output is not None else []), f"The report: {place}"]
            raise QualityFailed(" ".join(told), rows=rows)
        return [*wrong, *drifted, *found.warnings]

    # --- the results ------------------------------------------------------------------------------------------------

    def artifact_files(self) -> dict[str, bytes]:
        """What goes into the job's artifact: the profiles, for those who use it to compare with."""
        found = self.found or Found()
        return {PROFILE_FILE: profile_bytes(found.profile("raw"), found.profile("output"))} if found.profiles else {}

    def report(self, staging: Staging, record: RunRecord) -> RunRecord:
        """Let the report be part of the run; the record with its place, and with what hinders its page."""
        found = self.found or Found()
        report, before = report_of(record, found, self.spec.on_failure, self._learned), found.previous
        if before is not None:
            page = f"../../{before.run}/{REPORT_FOLDER}/{PAGE_FILE}"
            report = replace(report, previous=compared(report, before, link=page))
        record = replace(record, report=staging.final / REPORT_FOLDER)
        try:
            write_report(report, self._files)
        except MissingExtraError as error:
            record = replace(record, warnings=(*record.warnings, str(error)))
        # The page comes last: whoever finds it in a bucket finds the others.
        for name in sorted(self._files.list(), key=lambda name: name == PAGE_FILE):
            staging.write_text(f"{REPORT_FOLDER}/{name}", self._files.get(name).decode())
        return record


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """A schema in the types that values have, however they are encoded."""
    return pa.schema([pa.field(f.name, value_type(f.type), f.nullable) for f in schema])


def _only(profile: Profile, names: Collection[str]) -> Profile:
    return replace(profile, columns=tuple(c for c in profile.columns if c.name in names))


def _named(prefix: str, statistics: Mapping[str, Analyzer]) -> dict[str, Analyzer]:
    return {prefix + slot: analyzer for slot, analyzer in statistics.items()}


def _own(prefix: str, states: Mapping[str, State]) -> dict[str, State]:
    return {slot.removeprefix(prefix): state for slot, state in states.items() if slot.startswith(prefix)}
