"""A against B: the one model of a study behind every comparison, its verdict, and families of claims.

Values are in points (percent). Results are any table with the columns method, seed, dataset and value; where there are
level, metric, category, auxiliary and seen as well, as `load` gives them, they say which rows are meant.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from html import escape
from itertools import chain, repeat
from statistics import fmean
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from cops_lightning.core.errors import CopsError
from cops_lightning.core.measured import MEAN
from cops_lightning.report.metric_names import metric_name
from cops_lightning.report.stats.crossed import (
    ROUNDING,
    SCOPE_NAMES,
    SCOPES,
    Estimate,
    Scope,
    Table,
    estimate,
    holm,
    probabilities,
)
from cops_lightning.report.stats.outcome import format_p, state_p
from cops_lightning.report.tables import NOTHING

ALPHA = 0.05
NEEDS_SEEDS, NEEDS_DATASETS = 2, 3
# Seeds are paired where at least so many are common, and so large a share of those of the method that has fewer.
PAIRED_SEEDS, PAIRED_SHARE = 3, 0.75

Verdict = Literal["better", "worse", "equivalent", "undecided"]
SYMBOLS: dict[Verdict, str] = {"better": "▲", "worse": "▼", "equivalent": "=", "undecided": "?"}

# By dataset and seed.
Values = Mapping[str, Mapping[Hashable, float]]
# By method and auxiliary dataset.
Cells = Mapping[str, Mapping[str, Values]]


@dataclass(frozen=True)
class Comparison:
    """A minus B in one metric, as `compare` gives it.

    Args:
        a, b, level, metric, scope, margin: What was asked.
        verdict: better, worse: the 95 % interval excludes 0. equivalent: it does not, and the 90 % interval lies within
            the margin to either side of 0. undecided: neither, or too little data.
        difference: In points, mean over datasets; NaN where A and B have no dataset in common.
        interval: At 95 %, in points. None with too little data.
        p_value: Two-sided, against no difference. None with too little data.
        p_equivalent: Against a difference of at least the margin. None with too little data.
        why: What the verdict rests on, or what is missing.
        contrast: The values that were compared.
    """

    a: str
    b: str
    level: str
    metric: str
    scope: Scope
    margin: float
    verdict: Verdict
    difference: float
    interval: tuple[float, float] | None
    p_value: float | None
    p_equivalent: float | None
    why: str
    contrast: "Contrast" = field(repr=False, compare=False)

    @cached_property
    def probabilities(self) -> tuple[float, float, float] | None:
        """Of A being worse by more than the margin, within it, better by more: a Bayesian second reading."""
        if self.p_value is None:
            return None
        return probabilities(self.contrast.groups, self.contrast.constant, self.margin, self.scope)

    def __str__(self) -> str:
        between = "" if self.interval is None else f" [{self.interval[0]:+.2f}, {self.interval[1]:+.2f}]"
        p = _state(self.verdict, self.p_value, self.p_equivalent)
        name = metric_name((self.level, self.metric))
        points = "" if self._points is None else f", {self._points}"
        return f"{self.a} - {self.b}, {name}: {self.verdict}{points}{between}{p} ({self.why})"

    @property
    def _points(self) -> str | None:
        return None if np.isnan(self.difference) else f"{self.difference:+.2f} points"

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        between = "none" if self.interval is None else f"{self.interval[0]:+.2f} to {self.interval[1]:+.2f}"
        rows = {
            "verdict": f"{SYMBOLS[self.verdict]} {self.verdict}",
            "difference": self._points or "none",
            "95 % interval": between,
            "p, difference": "none" if self.p_value is None else format_p(self.p_value),
            f"p, within ±{self.margin:g}": "none" if self.p_equivalent is None else format_p(self.p_equivalent),
            "scope": SCOPE_NAMES[self.scope],
            "margin": f"±{self.margin:g} points",
            "why": self.why,
        }
        lines = "".join(f"<tr><th>{key}</th><td>{escape(value)}</td></tr>" for key, value in rows.items())
        title = escape(f"{self.a} \N{MINUS SIGN} {self.b}, {metric_name((self.level, self.metric))}")
        return f"<table><caption>{title}</caption>{lines}</table>"


def compare(
    results: pd.DataFrame,
    a: str,
    b: str,
    level: str = "image",
    metric: str = "auroc",
    margin: float = 1.0,
    scope: str = "new_datasets",
) -> Comparison:
    """Is A better than B, worse, or equivalent within a margin?

    Equal seeds are paired; other seeds are compared as independent samples. A method without randomness, or with one
    run, enters as a constant; the one run of a method that was trained, by the column auxiliary, as a draw of a seed
    that varies as the other method's do. Values on several auxiliary datasets are averaged over those that both have.

    Args:
        results: As `load` gives them, or any table with the columns method, seed, dataset and value. Values are in
            percent, or all of them in [0, 1].
        a: A method of the table.
        b: Another one.
        level: Taken from the column level, where there is one.
        metric: Taken from the column metric, where there is one.
        margin: Differences below it do not matter, in points.
        scope: "new_datasets": would it hold for new seeds and for other datasets of this kind? "these_datasets": for
            new seeds on these very datasets?

    Raises CopsError for a missing column or method, rows that are there twice, or a margin or scope that is none.
    """
    asked = next((known for known in SCOPES if known == scope), None)
    if asked is None:
        raise CopsError(f"scope is {scope!r}; expected {' or '.join(map(repr, SCOPES))}.")
    if not margin > 0:
        raise CopsError(f"margin is {margin}; expected a difference in points above 0, such as 1.")
    cells = read_cells(results, level, metric)
    for method in (a, b):
        if method not in cells:
            near = get_close_matches(str(method), map(str, cells), 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(map(str, cells))}."
            raise CopsError(f"No result in {metric_name((level, metric))} is of the method {method!r}; {hint}")
    return judge(contrast(cells, a, b, level, metric), margin, asked)


def read_cells(results: pd.DataFrame, level: str, metric: str) -> Cells:
    """Values of one metric in points, zero-shot only: a dataset's is the mean over its categories."""
    missing = {"method", "seed", "dataset", "value"} - set(results.columns)
    if missing:
        raise CopsError(
            f"The results lack the column {', '.join(sorted(missing))}; they need method, seed, dataset, value."
        )
    known = results["value"].notna().to_numpy()
    for column, wanted in (("level", level), ("metric", metric)):
        if column in results:
            known = known & (results[column] == wanted).to_numpy()
    if "seen" in results:
        known = known & ~results["seen"].to_numpy(dtype=bool)
    if "category" in results:
        means = (results["category"] == MEAN).to_numpy() & known
        known = means if means.any() else known
    keys = ("method", "auxiliary", "dataset", "seed", "category")
    columns = [results[key].to_numpy()[known].tolist() if key in results else repeat("") for key in keys]
    values = results["value"].to_numpy(dtype=float)[known]
    if len(values) and values.min() >= 0 and values.max() <= 1:
        values = 100 * values
    by_category: dict[str, dict[str, dict[str, dict[Hashable, dict[str, float]]]]] = {}
    for method, auxiliary, dataset, seed, category, value in zip(*columns, values.tolist(), strict=False):
        seeds = by_category.setdefault(str(method), {}).setdefault(str(auxiliary), {}).setdefault(str(dataset), {})
        of = seeds.setdefault(None if seed != seed else seed, {})  # what is not a number does not equal itself
        if of.setdefault(category, value) != value:
            raise CopsError(
                f"There are several values of {method!r}, seed {seed}, on {dataset!r}; expected one of each."
            )
    return {
        method: {
            auxiliary: {
                dataset: {seed: fmean(of.values()) for seed, of in seeds.items()} for dataset, seeds in table.items()
            }
            for auxiliary, table in of_auxiliary.items()
        }
        for method, of_auxiliary in by_category.items()
    }


def frame(table: Values) -> pd.DataFrame:
    """A table of datasets x seeds; NaN where there is no value."""
    return pd.DataFrame(table, dtype=float).T


@dataclass(frozen=True)
class Contrast:
    """The values of A and B on the datasets that both have, every seed on all of them; tables of datasets x seeds.

    Args:
        a, b, level, metric: What is compared.
        datasets: Names, in order.
        of_a, of_b: The values. One column where a method is a constant.
        paired: Whether column by column a seed of A is the same one of B.
        random: Whether A and whether B depend on the seed, as far as their runs show.
        unknown: The methods of one run that are not known to be untrained: whether their seeds matter cannot be seen.
        single: Whether one of these was trained, and the other method's seeds show how far a seed moves the values.
        notes: What a reader has to know of the choice of values.
    """

    a: str
    b: str
    level: str
    metric: str
    datasets: tuple[str, ...]
    of_a: Table
    of_b: Table
    paired: bool
    random: tuple[bool, bool]
    unknown: tuple[str, ...]
    single: bool
    notes: tuple[str, ...]

    @cached_property
    def groups(self) -> tuple[Table, ...]:
        """What depends on seeds, a table for each independent sample of them.

        Where the other method is a single run, the table is spread so that the variance of the mean of its n seeds is
        1 + n times as large: that of the mean, and that of one run more.
        """
        if self.paired:
            return (self.of_a - self.of_b,)
        found = tuple(
            sign * table
            for sign, table, is_random in zip((1, -1), (self.of_a, self.of_b), self.random, strict=True)
            if is_random
        )
        if not self.single:
            return found
        means = [table.mean(axis=1, keepdims=True) for table in found]
        return tuple(
            mean + (table - mean) * np.sqrt(1 + table.shape[1]) for table, mean in zip(found, means, strict=True)
        )

    @cached_property
    def constant(self) -> np.ndarray:
        """What does not, by dataset."""
        if self.paired:
            return np.zeros(len(self.datasets))
        of_a, of_b = (
            np.zeros(len(table)) if is_random else table.mean(axis=1)
            for table, is_random in zip((self.of_a, self.of_b), self.random, strict=True)
        )
        return np.asarray(of_a - of_b)

    @property
    def by_dataset(self) -> np.ndarray:
        """A minus B on every dataset, mean over seeds."""
        return np.asarray(self.of_a.mean(axis=1) - self.of_b.mean(axis=1))

    @property
    def seeds(self) -> str:
        """How many, for a table: "5", or "5 + 3" where they are not paired."""
        return " + ".join(str(group.shape[1]) for group in self.groups) or "1"

    @property
    def design(self) -> str:
        """One clause on what was compared with what."""
        n = len(self.datasets)
        on = f"on {n} dataset{'' if n == 1 else 's'}"
        if not self.groups:
            return f"one run of each {on}"
        counts = [f"{group.shape[1]} seeds" for group in self.groups]
        if self.paired:
            return f"{counts[0]}, paired, {on}"
        if len(self.groups) == 2:
            return f"{counts[0]} of {self.a} and other {counts[1]} of {self.b}, not paired, {on}"
        random, constant = (self.a, self.b) if self.random[0] else (self.b, self.a)
        if self.single:
            return f"{counts[0]} of {random} {on}; {constant} has one run, and its seeds are taken to vary as much"
        if constant in self.unknown:
            return f"{counts[0]} of {random} {on}; {constant} has one run and enters as a constant, not for other seeds"
        return f"{counts[0]} of {random} {on}; {constant} does not depend on the seed and enters as a constant"

    def missing(self, scope: Scope, named: bool = True) -> str:
        """What there is too little of for this scope; empty if there is enough. `named`: the methods by their names."""
        if not self.datasets:
            who = f"{self.a} and {self.b}" if named else "the two methods"
            return f"{who} have no dataset in common that both were evaluated on by all their seeds"
        lacks = []
        if not self.groups and self.unknown:
            who = " or ".join(self.unknown) if named else "either method"
            lacks.append(f"{NEEDS_SEEDS} seeds of {who} (there is one run of each)")
        if scope == "new_datasets" and len(self.datasets) < NEEDS_DATASETS:
            lacks.append(
                f"{NEEDS_DATASETS} datasets (there {'is' if len(self.datasets) == 1 else 'are'} {len(self.datasets)})"
            )
        return f"needs {' and '.join(lacks)}" if lacks else ""

    def estimate(self, scope: Scope) -> Estimate:
        """The mean difference under the study's model; only where nothing is `missing`."""
        return estimate(self.groups, self.constant, scope)

    def on(self, dataset: int) -> "Contrast":
        """The same for one dataset alone, by its place."""
        rows = slice(dataset, dataset + 1)
        return replace(self, datasets=self.datasets[rows], of_a=self.of_a[rows], of_b=self.of_b[rows])


def contrast(cells: Cells, a: str, b: str, level: str, metric: str) -> Contrast:
    """Line up two methods: common auxiliary and other datasets, seeds that were evaluated on all of them."""
    notes: list[str] = []
    ours, theirs, auxiliaries = _common(cells[a], cells[b])
    if len(auxiliaries) > 1:
        notes.append(f"mean over the auxiliary datasets {', '.join(auxiliaries)}")
    names = [name for name in ours if name in theirs]
    columns = [(side, seed) for side in (ours, theirs) for seed in dict.fromkeys(chain(*(side[n] for n in names)))]
    cells_of = [[side[name].get(seed, np.nan) for side, seed in columns] for name in names]
    values = np.array(cells_of, dtype=float).reshape(len(names), len(columns))
    kept, whole = _complete(values)
    values, datasets = values[kept], [names[row] for row in kept]
    left = [name for name in dict.fromkeys([*ours, *theirs]) if name not in datasets]
    if left:
        notes.append(f"without {', '.join(left)}, which not all of them have")
    fewer = len(columns) - len(whole)
    if fewer:
        notes.append(f"without {fewer} run{'' if fewer == 1 else 's'} that lack a dataset")
    places = [
        {seed: column for column in whole for of, seed in [columns[column]] if of is side} for side in (ours, theirs)
    ]
    random = [len(of) > 1 and bool((np.ptp(values[:, [*of.values()]], axis=1) > ROUNDING).any()) for of in places]
    unknown = tuple(
        method for method, of in zip((a, b), places, strict=True) if len(of) == 1 and set(cells[method]) != {NOTHING}
    )
    common = [seed for seed in places[0] if seed in places[1]]
    fewest = min(map(len, places))
    paired = all(random) and len(common) >= max(min(PAIRED_SEEDS, fewest), PAIRED_SHARE * fewest)
    chosen = [[of[seed] for seed in (common if paired else of)] for of in places]
    if not all(chosen):
        values, datasets = values[:0], []
    of_a, of_b = (values[:, np.array(of, dtype=int)] for of in chosen)
    single = any(random) and any(set(cells[method]) - {NOTHING, ""} for method in unknown)
    return Contrast(
        a, b, level, metric, tuple(datasets), of_a, of_b, paired, (random[0], random[1]), unknown, single, tuple(notes)
    )


def _common(of_a: Mapping[str, Values], of_b: Mapping[str, Values]) -> tuple[Values, Values, list[str]]:
    """Values of both, averaged over the auxiliary datasets that both have; what is untrained has every one.

    A checkpoint is trained on one auxiliary dataset, so auxiliary datasets are no further datasets to be evaluated on.
    """
    trained = [{auxiliary for auxiliary in of if auxiliary != NOTHING} for of in (of_a, of_b)]
    shared = trained[0] & trained[1] if all(trained) else trained[0] | trained[1]
    auxiliaries = [auxiliary for auxiliary in (*of_a, *of_b) if auxiliary in shared]
    auxiliaries = list(dict.fromkeys(auxiliaries)) or ([] if any(trained) else [NOTHING])
    ours, theirs = [], []
    for auxiliary in auxiliaries:
        x, y = (of[auxiliary] if auxiliary in of else of[NOTHING] for of in (of_a, of_b))
        ours.append({name: x[name] for name in x if name in y})
        theirs.append({name: y[name] for name in x if name in y})
    return average(ours), average(theirs), auxiliaries


def average(tables: Sequence[Values]) -> Values:
    """Mean of several, cell by cell over those that have the dataset; a seed that one of these lacks has no value."""
    if len(tables) == 1:
        return tables[0]
    found: dict[str, dict[Hashable, float]] = {}
    for name in dict.fromkeys(chain(*tables)):
        rows = [table[name] for table in tables if name in table]
        found[name] = {seed: fmean(row[seed] for row in rows) for seed in rows[0] if all(seed in row for row in rows)}
    return found


def _complete(values: Float[np.ndarray, "n m"]) -> tuple[list[int], list[int]]:
    """The rows and columns that stay when those that lack most are left out, until nothing lacks."""
    rows, columns = np.arange(values.shape[0]), np.arange(values.shape[1])
    while (lacks := np.isnan(values[np.ix_(rows, columns)])).any():
        of_rows, of_columns = lacks.mean(axis=1), lacks.mean(axis=0)
        if of_rows.max() > of_columns.max():
            rows = np.delete(rows, of_rows.argmax())
        else:
            columns = np.delete(columns, of_columns.argmax())
    return rows.tolist(), columns.tolist()


def judge(of: Contrast, margin: float, scope: Scope) -> Comparison:
    """The comparison by itself, at level 0.05."""
    bare = Comparison(
        of.a, of.b, of.level, of.metric, scope, margin, "undecided",
        float(of.by_dataset.mean()) if of.datasets else float("nan"), None, None, None, "", of,
    )  # fmt: skip
    missing = of.missing(scope)
    if missing:
        return replace(bare, why=f"no test for {SCOPE_NAMES[scope]}: {missing}")
    found = of.estimate(scope)
    p, p_equivalent = found.p, found.p_equivalent(margin)
    verdict = decide(found.difference, p, p_equivalent)
    said = {
        "better": "the 95 % interval lies above 0",
        "worse": "the 95 % interval lies below 0",
        "equivalent": f"the 90 % interval lies within {margin:g} to either side of 0",
        "undecided": f"neither a difference nor equivalence within {margin:g} is shown",
    }[verdict]
    return replace(
        bare,
        verdict=verdict,
        difference=found.difference,
        interval=found.interval(1 - ALPHA),
        p_value=p,
        p_equivalent=p_equivalent,
        why="; ".join([f"{said} for {SCOPE_NAMES[scope]}", of.design, *of.notes]),
    )


def _state(verdict: Verdict, p: float | None, p_equivalent: float | None) -> str:
    """The p-value of the test that decided, to go on a sentence; of both if neither did; empty without a test."""
    if p is None or p_equivalent is None:
        return ""
    difference, equivalence = f", {state_p(p)}", f", equivalence {state_p(p_equivalent)}"
    return {"equivalent": equivalence, "undecided": difference + equivalence}.get(verdict, difference)


def decide(difference: float, p: float, p_equivalent: float) -> Verdict:
    """One of the four, from the two p-values."""
    if p < ALPHA:
        return "better" if difference > 0 else "worse"
    return "equivalent" if p_equivalent < ALPHA else "undecided"


# ---- families


@dataclass(frozen=True)
class Claim:
    """A comparison as one of a family: `p` and `verdict` after Holm's adjustment over its `family` tested claims."""

    comparison: Comparison
    p: float | None
    p_equivalent: float | None
    verdict: Verdict
    family: int

    def __str__(self) -> str:
        if self.p is None:
            return str(self.comparison)
        over = f"after Holm's adjustment over {self.family} claim{'' if self.family == 1 else 's'}"
        return f"{self.comparison}; {over}: {self.verdict}{_state(self.verdict, self.p, self.p_equivalent)}"


def adjust(comparisons: Sequence[Comparison], looks: int = 1) -> list[Claim]:
    """The family of these comparisons. `looks` is how often, at most, results are looked at while seeds are added."""
    ps, equivalent = (
        [None if p is None else min(1.0, looks * p) for p in holm(values)]
        for values in ([c.p_value for c in comparisons], [c.p_equivalent for c in comparisons])
    )
    tested = sum(c.p_value is not None for c in comparisons)
    return [
        Claim(c, p, q, "undecided" if p is None or q is None else decide(c.difference, p, q), tested)
        for c, p, q in zip(comparisons, ps, equivalent, strict=True)
    ]


def compare_all(
    all_cells: Mapping[tuple[str, str], Cells], pairs: Iterable[tuple[str, str]], margin: float, scope: Scope
) -> list[Comparison]:
    """Every pair in every metric in which both have results, metric by metric."""
    pairs = list(pairs)
    return [
        judge(contrast(cells, a, b, level, metric), margin, scope)
        for (level, metric), cells in all_cells.items()
        for a, b in pairs
        if a in cells and b in cells
    ]
