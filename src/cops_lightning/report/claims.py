"""A against B: the one model of a study behind every comparison, its verdict, and families of claims.

Values are in points (percent). Results are any table with the columns method, seed, dataset and value; where there are
level, metric, category, auxiliary and seen as well, as `load` gives them, they say which rows are meant.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from html import escape
from typing import Literal

import numpy as np
import pandas as pd

from cops_lightning.core.errors import CopsError
from cops_lightning.core.types import MEAN
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
from cops_lightning.report.stats.outcome import state_p
from cops_lightning.report.tables import NOTHING

ALPHA = 0.05
NEEDS_SEEDS, NEEDS_DATASETS = 2, 3
# Seeds are paired where at least so many are common, and so large a share of those of the method that has fewer.
PAIRED_SEEDS, PAIRED_SHARE = 3, 0.75

Verdict = Literal["better", "worse", "equivalent", "undecided"]
SYMBOLS: dict[Verdict, str] = {"better": "▲", "worse": "▼", "equivalent": "=", "undecided": "?"}

# By method and auxiliary dataset, a table of datasets x seeds.
Cells = Mapping[str, Mapping[str, pd.DataFrame]]


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
        probabilities: Of A being worse by more than the margin, within it, better by more: a Bayesian second reading.
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
    probabilities: tuple[float, float, float] | None
    why: str
    contrast: "Contrast" = field(repr=False, compare=False)

    def __str__(self) -> str:
        between = "" if self.interval is None else f" [{self.interval[0]:+.2f}, {self.interval[1]:+.2f}]"
        p = "" if self.p_value is None else f", {state_p(self.p_value)}"
        name = metric_name((self.level, self.metric))
        return f"{self.a} - {self.b}, {name}: {self.verdict}, {self.difference:+.2f} points{between}{p} ({self.why})"

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        between = "none" if self.interval is None else f"{self.interval[0]:+.2f} to {self.interval[1]:+.2f}"
        p = "none" if self.p_value is None else state_p(self.p_value).removeprefix("p = ").removeprefix("p ")
        rows = {
            "verdict": f"{SYMBOLS[self.verdict]} {self.verdict}",
            "difference": f"{self.difference:+.2f} points",
            "95 % interval": between,
            "p": p,
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
    run, enters as a constant. Values on several auxiliary datasets are averaged over those that both methods have.

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
    rows = results.dropna(subset=["value"])
    for column, wanted in (("level", level), ("metric", metric)):
        rows = rows[rows[column] == wanted] if column in rows else rows
    if "seen" in rows:
        rows = rows[~rows["seen"].astype(bool)]
    if "category" in rows and (rows["category"] == MEAN).any():
        rows = rows[rows["category"] == MEAN]
    if "auxiliary" not in rows:
        rows = rows.assign(auxiliary="")
    keys = ["method", "auxiliary", "dataset", "seed"]
    one = [*keys, "category"] if "category" in rows else keys
    rows = rows.astype({"method": str, "auxiliary": str}).drop_duplicates([*one, "value"])
    twice = rows.duplicated(one)
    if twice.any():
        method, _, dataset, seed = rows.loc[twice, keys].iloc[0]
        raise CopsError(f"There are several values of {method!r}, seed {seed}, on {dataset!r}; expected one of each.")
    if "category" in rows:
        rows = rows.groupby(keys, sort=False)["value"].mean().reset_index()
    values = rows["value"].to_numpy(dtype=float)
    if len(values) and values.min() >= 0 and values.max() <= 1:
        rows = rows.assign(value=100 * values)
    cells: dict[str, dict[str, pd.DataFrame]] = {}
    for (method, auxiliary), part in rows.groupby(["method", "auxiliary"], sort=False):
        table = part.set_index(["dataset", "seed"])["value"].unstack("seed")
        cells.setdefault(str(method), {})[str(auxiliary)] = table
    return cells


@dataclass(frozen=True)
class Contrast:
    """The values of A and B on the datasets that both have, every seed on all of them; tables of datasets x seeds.

    Args:
        a, b, level, metric: What is compared.
        datasets: Names, in order.
        of_a, of_b: The values. One column where a method is a constant.
        paired: Whether column by column a seed of A is the same one of B.
        random: Whether A and whether B depend on the seed, as far as their runs show.
        unknown: The methods of one trained run: whether their seeds matter cannot be seen.
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
    notes: tuple[str, ...]

    @cached_property
    def groups(self) -> tuple[Table, ...]:
        """What depends on seeds, a table for each independent sample of them."""
        if self.paired:
            return (self.of_a - self.of_b,)
        return tuple(
            sign * table
            for sign, table, is_random in zip((1, -1), (self.of_a, self.of_b), self.random, strict=True)
            if is_random
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
        why = "has one run" if constant in self.unknown else "does not depend on the seed"
        return f"{counts[0]} of {random} {on}; {constant} {why} and enters as a constant"

    def missing(self, scope: Scope) -> str:
        """What there is too little of for this scope; empty if there is enough."""
        if not self.datasets:
            return f"{self.a} and {self.b} have no dataset in common that both were evaluated on by all their seeds"
        lacks = []
        if not self.groups and self.unknown:
            lacks.append(f"{NEEDS_SEEDS} seeds of {' or '.join(self.unknown)}, there is one run of each")
        if scope == "new_datasets" and len(self.datasets) < NEEDS_DATASETS:
            lacks.append(
                f"{NEEDS_DATASETS} datasets, there {'is' if len(self.datasets) == 1 else 'are'} {len(self.datasets)}"
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
    names = [name for name in ours.index if name in set(theirs.index)]
    both = pd.concat([ours.loc[names], theirs.loc[names]], axis=1, keys=[0, 1])
    full = _complete(both)
    left = [str(name) for name in dict.fromkeys([*ours.index, *theirs.index]) if name not in set(full.index)]
    if left:
        notes.append(f"without {', '.join(left)}, which not all of them have")
    columns = full.columns.get_level_values(0)
    sides = [full.loc[:, columns == side].droplevel(0, axis=1) for side in (0, 1)]
    fewer = both.shape[1] - full.shape[1]
    if fewer:
        notes.append(f"without {fewer} run{'' if fewer == 1 else 's'} that lack a dataset")
    untrained = [set(cells[method]) == {NOTHING} for method in (a, b)]
    random = [side.shape[1] > 1 and bool((np.ptp(side.to_numpy(), axis=1) > ROUNDING).any()) for side in sides]
    unknown = tuple(
        method for method, side, known in zip((a, b), sides, untrained, strict=True) if side.shape[1] == 1 and not known
    )
    common = [seed for seed in sides[0] if seed in set(sides[1])]
    fewest = min(side.shape[1] for side in sides)
    paired = all(random) and len(common) >= max(min(PAIRED_SEEDS, fewest), PAIRED_SHARE * fewest)
    if paired:
        sides = [side[common] for side in sides]
    of_a, of_b = (side.to_numpy(dtype=float) for side in sides)
    if not (of_a.size and of_b.size):
        full, of_a, of_b = full.iloc[:0], of_a[:0], of_b[:0]
    return Contrast(
        a,
        b,
        level,
        metric,
        tuple(map(str, full.index)),
        of_a,
        of_b,
        paired,
        (random[0], random[1]),
        unknown,
        tuple(notes),
    )


def _common(
    of_a: Mapping[str, pd.DataFrame], of_b: Mapping[str, pd.DataFrame]
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Tables of both, averaged over the auxiliary datasets that both have; what is untrained has every one.

    A checkpoint is trained on one auxiliary dataset, so auxiliary datasets are no further datasets to be evaluated on.
    """
    trained = [{auxiliary for auxiliary in of if auxiliary != NOTHING} for of in (of_a, of_b)]
    shared = trained[0] & trained[1] if all(trained) else trained[0] | trained[1]
    auxiliaries = [auxiliary for auxiliary in (*of_a, *of_b) if auxiliary in shared]
    auxiliaries = list(dict.fromkeys(auxiliaries)) or ([] if any(trained) else [NOTHING])
    if not auxiliaries:
        return pd.DataFrame(), pd.DataFrame(), []
    ours, theirs = [], []
    for auxiliary in auxiliaries:
        x, y = (of[auxiliary] if auxiliary in of else of[NOTHING] for of in (of_a, of_b))
        names = x.index.intersection(y.index, sort=False)
        ours.append(x.loc[names])
        theirs.append(y.loc[names])
    return average(ours), average(theirs), auxiliaries


def average(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean of tables of datasets x seeds, cell by cell over those that have its row; NaN where one lacks the seed."""
    if len(tables) == 1:
        return tables[0]
    rows = pd.concat(tables).groupby(level=0, sort=False)
    return rows.mean().where(rows.count().eq(rows.size(), axis=0))


def _complete(table: pd.DataFrame) -> pd.DataFrame:
    """The table less the rows and columns that lack most, until nothing lacks."""
    while (lacks := table.isna()).any(axis=None):
        rows, columns = lacks.mean(axis=1), lacks.mean(axis=0)
        if rows.max() > columns.max():
            table = table.drop(index=rows.idxmax())
        else:
            table = table.drop(columns=[columns.idxmax()])
    return table


def judge(of: Contrast, margin: float, scope: Scope) -> Comparison:
    """The comparison by itself, at level 0.05."""
    bare = Comparison(
        of.a, of.b, of.level, of.metric, scope, margin, "undecided",
        float(of.by_dataset.mean()) if of.datasets else float("nan"), None, None, None, None, "", of,
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
        probabilities=probabilities(of.groups, of.constant, margin, scope),
        why="; ".join([f"{said} for {SCOPE_NAMES[scope]}", of.design, *of.notes]),
    )


def decide(difference: float, p: float, p_equivalent: float) -> Verdict:
    """One of the four, from the two p-values."""
    if p < ALPHA:
        return "better" if difference > 0 else "worse"
    return "equivalent" if p_equivalent < ALPHA else "undecided"


# ---- families


@dataclass(frozen=True)
class Claim:
    """A comparison as one of a family: `p` and `verdict` after Holm's adjustment over all of them."""

    comparison: Comparison
    p: float | None
    p_equivalent: float | None
    verdict: Verdict

    def __str__(self) -> str:
        family = "" if self.p is None else f"; in the family {self.verdict}, {state_p(self.p)}"
        return f"{self.comparison}{family}"


def adjust(comparisons: Sequence[Comparison], looks: int = 1) -> list[Claim]:
    """The family of these comparisons. `looks` is how often, at most, results are looked at while seeds are added."""
    ps, equivalent = (
        [None if p is None else min(1.0, looks * p) for p in holm(values)]
        for values in ([c.p_value for c in comparisons], [c.p_equivalent for c in comparisons])
    )
    return [
        Claim(c, p, q, "undecided" if p is None or q is None else decide(c.difference, p, q))
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
