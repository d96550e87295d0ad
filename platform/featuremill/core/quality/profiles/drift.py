"""Drift: how far the distribution of each column has moved from that of a reference.

What is compared are two profiles, no rows. Every measure has two limits, and the worst measure gives the verdict of its
column. A measure of two samples of one distribution is not 0: where it is known how large chance alone makes it, the
limits are raised by that, and columns of few values are not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from math import log, sqrt
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from featuremill.artifacts.errors import MissingColumnError, RequestError, suggest
from featuremill.core.quality.profiles.drift_measures import (
    distributions,
    jensen_shannon,
    l_infinity,
    new_values,
    population_stability,
    wasserstein,
)
from featuremill.core.quality.profiles.profile import ColumnProfile, Profile
from featuremill.core.strict import Strict

__all__ = ["ColumnDrift", "DriftSpec", "Limit", "Measure", "Thresholds", "Verdict", "compare", "drifted"]

Verdict: TypeAlias = Literal["ok", "warn", "drifted"]
MeasureName: TypeAlias = Literal["js", "psi", "linf", "wasserstein", "null_rate", "oov_rate", "new_values"]

Float64 = npt.NDArray[np.float64]

Found: TypeAlias = tuple[float, float] | None
"""What a measure gives: its value, and what chance alone would make of it; None where it does not apply."""

NonNegative = Annotated[float, Field(ge=0)]

NAMED_VALUES = 20
"""New and vanished values that are named, at most."""


class Limit(Strict):
    """From which value on a measure is worth a warning, and from which on it is drift."""

    warn: NonNegative
    drifted: NonNegative

    @model_validator(mode="before")
    @classmethod
    def _one_number(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"warn": float(value), "drifted": float(value)}
        if isinstance(value, dict):
            return {k: float(v) if isinstance(v, int) and not isinstance(v, bool) else v for k, v in value.items()}
        return value

    @model_validator(mode="after")
    def _ascending(self) -> Limit:
        if self.warn > self.drifted:
            raise ValueError(f"warn is {self.warn:g}, above drifted, which is {self.drifted:g}")
        return self


def _limit(warn: float, drifted: float) -> Any:
    return Field(default_factory=lambda: Limit(warn=warn, drifted=drifted))


class Thresholds(Strict):
    """The limits of every measure; null: it is not measured. One number for both limits, or {warn: …, drifted: …}."""

    js: Limit | None = _limit(0.1, 0.3)
    """Jensen-Shannon distance, 0 to 1. Evidently takes 0.1 by default, Vertex AI Model Monitoring 0.3."""
    psi: Limit | None = _limit(0.1, 0.25)
    """Population stability index; the customary limits of credit scoring (Siddiqi, "Credit Risk Scorecards", 2006)."""
    linf: Limit | None = _limit(0.1, 0.3)
    """Largest change of the share of one category; Vertex AI Model Monitoring takes 0.3 by default."""
    wasserstein: Limit | None = _limit(0.1, 0.3)
    """Wasserstein distance in standard deviations of the reference; Evidently takes 0.1 by default."""
    null_rate: Limit | None = _limit(0.02, 0.1)
    """Change of the share of nulls; no customary limit is known."""
    oov_rate: Limit | None = _limit(0.02, 0.1)
    """Change of the share of values outside the vocabulary; no customary limit is known."""
    new_values: Limit | None = _limit(0.01, 0.1)
    """Share of values that the reference did not have; no customary limit is known."""


class DriftSpec(Strict):
    """What to compare with, and from where on columns have drifted."""

    against: str | None = None
    """``previous`` (the run before), ``artifact`` (what the artifact was fitted on), or ``ROOT/NAME@VERSION``."""
    on_drift: Literal["warn", "stop"] = "warn"
    """Whether a drifted column fails the job."""
    thresholds: Thresholds = Field(default_factory=Thresholds)
    columns: dict[str, Thresholds] = Field(default_factory=dict)
    """Limits of single columns; what they do not name is as in `thresholds`."""
    ignore: list[str] = Field(default_factory=list)
    """Columns that are not compared, such as identifiers."""
    min_values: Annotated[int, Field(ge=1)] = 500
    """Columns with fewer values, on either side, are not judged: chance alone would move them."""

    @field_validator("against")
    @classmethod
    def _reference(cls, value: str | None) -> str | None:
        if value is not None and value not in ("previous", "artifact") and "/" not in value:
            raise ValueError(f"{value!r}: expected previous, artifact, or ROOT/NAME@VERSION")
        return value

    def check_columns(self, names: Collection[str]) -> None:
        """Refuse limits for columns that are not there, `names` being all that are: before and after the transforms.

        Raises
        ------
        MissingColumnError
            Naming the columns that look alike.

        >>> DriftSpec(ignore=["idd"]).check_columns(["id", "x"])
        Traceback (most recent call last):
        ...
        featuremill.artifacts.errors.MissingColumnError: drift: there is no column 'idd'. Did you mean 'id'?
        """
        for name in [*self.columns, *self.ignore]:
            if name not in names:
                known = suggest(name, list(names))
                raise MissingColumnError(f"drift: there is no column {name!r}. {known}", column=name)

    def limit(self, column: str, measure: MeasureName) -> Limit | None:
        """The limits of one measure for one column; None where it is not measured."""
        own = self.columns.get(column)
        chosen = own if own is not None and measure in own.model_fields_set else self.thresholds
        limit: Limit | None = getattr(chosen, measure)
        return limit


@dataclass(frozen=True)
class Measure:
    """One measure of one column."""

    name: MeasureName
    value: float
    warn: float
    drifted: float
    verdict: Verdict
    noise: float = 0.0
    """What two samples of one distribution would give by chance, which the limits are raised by."""


def _measure(name: MeasureName, found: tuple[float, float], limit: Limit) -> Measure:
    value, noise = found
    verdict: Verdict = "ok"
    if value > 0:
        verdict = "drifted" if value >= limit.drifted + noise else "warn" if value >= limit.warn + noise else "ok"
    return Measure(name, value, limit.warn, limit.drifted, verdict, noise)


@dataclass(frozen=True)
class ColumnDrift:
    """How one column has moved."""

    column: str
    kind: str
    verdict: Verdict
    measures: tuple[Measure, ...] = ()
    reason: str = ""
    """In words: which measure says so, or why the column could not be compared; empty where all is well."""
    distance: float | None = None
    """For numbers, the Wasserstein distance in the column's own unit; for times, in seconds."""
    new: tuple[Any, ...] = ()
    """Values that the reference does not have, where it is known to have been complete; the most frequent first."""
    vanished: tuple[Any, ...] = ()
    """Values that only the reference has; the same."""

    @property
    def worst(self) -> Measure | None:
        """The measure that is furthest beyond its limits; None where none is."""
        said = [m for m in self.measures if m.verdict != "ok"]
        return max(said, key=lambda m: (m.verdict == "drifted", m.value / (m.drifted or 1.0)), default=None)


def compare(current: Profile, reference: Profile, spec: DriftSpec | None = None) -> tuple[ColumnDrift, ...]:
    """How each column of the current profile has moved from the reference; then the columns that are gone.

    A column that only one side has, or that is of another kind there, has drifted: its reason says so, and it has no
    measures.

    Raises
    ------
    RequestError
        When the profiles have no column in common.

    >>> from featuremill.core.quality.profiles.profile import ColumnProfile
    >>> one = Profile(1, (ColumnProfile("a", "int64", "number", 1, 0),))
    >>> two = Profile(1, (ColumnProfile("b", "int64", "number", 1, 0),))
    >>> compare(one, two)
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.RequestError: The two profiles have no column in common: this has 'a', the reference \
'b'. Compare with a profile of the same table.
    """
    spec = spec or DriftSpec()
    _check(current, reference)
    known = {c.name: c for c in reference.columns}
    found = [_compared(c, known.get(c.name), spec) for c in current.columns if c.name not in spec.ignore]
    gone = [c for c in reference.columns if c.name not in current.names and c.name not in spec.ignore]
    missing = [ColumnDrift(c.name, c.kind, "drifted", reason="Only the reference has this column.") for c in gone]
    return (*found, *missing)


def drifted(found: tuple[ColumnDrift, ...]) -> tuple[ColumnDrift, ...]:
    """Those that have drifted: what `on_drift: stop` stops at."""
    return tuple(d for d in found if d.verdict == "drifted")


def _check(current: Profile, reference: Profile) -> None:
    if current.columns and reference.columns and not set(current.names) & set(reference.names):
        mine, theirs = (", ".join(map(repr, p.names[:6])) for p in (current, reference))
        raise RequestError(
            f"The two profiles have no column in common: this has {mine}, the reference {theirs}. Compare with a "
            "profile of the same table."
        )


def _compared(current: ColumnProfile, reference: ColumnProfile | None, spec: DriftSpec) -> ColumnDrift:
    name, kind = current.name, current.kind
    if reference is None:
        return ColumnDrift(name, kind, "drifted", reason="The reference does not have this column.")
    if kind != reference.kind:
        what = f"It is {current.type} here and {reference.type} in the reference."
        return ColumnDrift(name, kind, "drifted", reason=what)
    few = min(current.rows, reference.rows)
    if few < spec.min_values:
        return ColumnDrift(name, kind, "ok", reason=f"Not judged: {few} rows are fewer than {spec.min_values}.")
    measures = []
    for measure, function in _MEASURES.items():
        limit = spec.limit(name, measure)
        found = None if limit is None else function(current, reference)
        if limit is not None and found is not None:
            measures.append(_measure(measure, found, limit))
    distance = _distance(current, reference, spec.min_values)
    judged = [m for m in measures if m.name in _RATES or _enough(current, reference, spec.min_values)]
    drift = ColumnDrift(
        name, kind, _worst(judged), tuple(judged), distance=distance,
        new=_only(current, reference), vanished=_only(reference, current),
    )
    return replace(drift, reason=_reason(drift))


def _enough(current: ColumnProfile, reference: ColumnProfile, least: int) -> bool:
    return min(c.values - (c.numbers.nans if c.numbers else 0) for c in _parts(current, reference)) >= least


def _parts(*columns: ColumnProfile) -> Iterator[ColumnProfile]:
    """The columns with the values in question: for lists, those of their elements."""
    for column in columns:
        yield column.lists.elements if column.lists is not None else column


def _worst(measures: list[Measure]) -> Verdict:
    verdicts = {m.verdict for m in measures}
    return "drifted" if "drifted" in verdicts else "warn" if "warn" in verdicts else "ok"


_WORDS = {
    "js": "the Jensen-Shannon distance", "psi": "the population stability index",
    "linf": "the largest change of one category's share", "wasserstein": "the Wasserstein distance",
    "null_rate": "the change of the share of nulls", "oov_rate": "the change of the share out of vocabulary",
    "new_values": "the share of values that the reference did not have",
}


def _reason(drift: ColumnDrift) -> str:
    worst = drift.worst
    if worst is None:
        return ""
    limit = worst.drifted if worst.verdict == "drifted" else worst.warn
    return f"{_WORDS[worst.name][0].upper()}{_WORDS[worst.name][1:]} is {worst.value:.3g}, the limit {limit:.3g}."


def _only(one: ColumnProfile, other: ColumnProfile) -> tuple[Any, ...]:
    if one.kind not in ("text", "boolean", "number") or not other.complete or not one.top:
        return ()
    known = {t.value for t in other.top}
    return tuple(t.value for t in one.top if t.value not in known)[:NAMED_VALUES]


def _distance(current: ColumnProfile, reference: ColumnProfile, least: int) -> float | None:
    one, other = _parts(current, reference)
    if one.numbers is None or other.numbers is None or not _enough(current, reference, least):
        return None
    distance = wasserstein(one.numbers.sketch, other.numbers.sketch)
    return distance / 1e6 if distance is not None and one.kind == "time" else distance


# --- the measures ---------------------------------------------------------------------------------------------------


def _chance(one: Float64, other: Float64, current: ColumnProfile, reference: ColumnProfile) -> float:
    """The expected population stability index of two samples: categories less one, by the sum of 1 / values each.

    Yurdakul, "Statistical properties of population stability index" (2018). For small distances the Jensen-Shannon
    divergence, in bits, is an eighth of the index over ln 2 (both are the same quadratic form).
    """
    used = int(np.count_nonzero((one > 0) | (other > 0)))
    mine, theirs = (max(c.values, 1) for c in _parts(current, reference))
    return (used - 1) * (1 / mine + 1 / theirs)


def _js(current: ColumnProfile, reference: ColumnProfile) -> Found:
    found = distributions(*_parts(current, reference))
    if found is None:
        return None
    return jensen_shannon(*found), sqrt(_chance(*found, current, reference) / (8 * log(2)))


def _psi(current: ColumnProfile, reference: ColumnProfile) -> Found:
    found = distributions(*_parts(current, reference), by_reference=True)
    return None if found is None else (population_stability(*found), _chance(*found, current, reference))


def _linf(current: ColumnProfile, reference: ColumnProfile) -> Found:
    one, other = _parts(current, reference)
    if one.kind not in ("text", "binary", "boolean"):
        return None
    found = distributions(one, other)
    return None if found is None else (l_infinity(*found), 0.0)


def _wasserstein(current: ColumnProfile, reference: ColumnProfile) -> Found:
    one, other = _parts(current, reference)
    if one.numbers is None or other.numbers is None:
        return None
    distance, spread = wasserstein(one.numbers.sketch, other.numbers.sketch), other.numbers.std
    if distance is None or spread is None:
        return None
    # A reference that was constant has no unit to measure in: then the size of its value is taken.
    return distance / (spread or abs(other.numbers.mean or 0.0) or 1.0), 0.0


def _missing(column: ColumnProfile) -> float:
    """The share of rows without a value; NaN is none."""
    nans = column.numbers.nans if column.numbers is not None else 0
    return (column.nulls + nans) / column.rows if column.rows else 0.0


def _null_rate(current: ColumnProfile, reference: ColumnProfile) -> Found:
    return abs(_missing(current) - _missing(reference)), 0.0


def _oov_rate(current: ColumnProfile, reference: ColumnProfile) -> Found:
    if current.oov_rate is None or reference.oov_rate is None:
        return None
    return abs(current.oov_rate - reference.oov_rate), 0.0


def _new_values(current: ColumnProfile, reference: ColumnProfile) -> Found:
    one, other = _parts(current, reference)
    share = new_values(one, other) if one.kind in ("text", "binary", "boolean") else None
    return None if share is None else (share, 0.0)


_MEASURES: dict[MeasureName, Callable[[ColumnProfile, ColumnProfile], Found]] = {
    "js": _js, "psi": _psi, "linf": _linf, "wasserstein": _wasserstein, "null_rate": _null_rate,
    "oov_rate": _oov_rate, "new_values": _new_values,
}
_RATES = ("null_rate", "oov_rate")
