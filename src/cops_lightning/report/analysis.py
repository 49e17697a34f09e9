"""From collected results to answers: summaries over seeds, comparisons, verdicts. Values here are in percent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from cops_lightning.core.types import MEAN
from cops_lightning.report.collect import Collection, read_scores
from cops_lightning.report.metric_names import Metric, metric_name
from cops_lightning.report.published import departures, published
from cops_lightning.report.stats import (
    AurocComparison,
    Interval,
    Outcome,
    Paired,
    RankComparison,
    VarianceComponents,
    bootstrap_images,
    bootstrap_iqm_difference,
    compare_pairs,
    compare_ranks,
    delong,
    holm,
    pairs_needed,
    rank_correlation,
    state_p,
    variance_components,
)
from cops_lightning.report.stats.paired import NEEDS_WILCOXON
from cops_lightning.report.tables import NOTHING

ALPHA = 0.05
Decision = Literal["shown", "opposite", "partly", "not shown"]
# What to say of differences on single datasets alone, by whether A was the better one.
PARTLY: dict[tuple[bool, ...], str] = {
    (True,): "not shown in general, only on single datasets",
    (False,): "not shown; single datasets show the opposite",
}


def prepare(collection: Collection) -> pd.DataFrame:
    """The results in percent, with `condition`: the target, and the auxiliary dataset where there are several.

    What was not trained meets every condition: its rows stand once for each auxiliary dataset of the others.
    """
    frame = collection.results.assign(value=100 * collection.results["value"])
    auxiliaries = [name for name in frame["auxiliary"].unique() if name != NOTHING]
    if len(auxiliaries) < 2:
        return frame.assign(condition=frame["target"])
    learnt, untrained = frame[frame["auxiliary"] != NOTHING], frame[frame["auxiliary"] == NOTHING]
    parts = [learnt.assign(condition=learnt["auxiliary"] + " → " + learnt["target"])]
    if not untrained.empty:
        parts += [untrained.assign(condition=name + " → " + untrained["target"]) for name in auxiliaries]
    return pd.concat(parts, ignore_index=True)


def summarise(frame: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Mean, standard deviation and Student-t interval over seeds of every metric, per category and per dataset.

    `n` is the number of seeds with a value; `sd`, `low` and `high` are NaN for fewer than 2.
    """
    keys = ["method", "auxiliary", "target", "condition", "seen", "category", "level", "metric"]
    grouped = frame.dropna(subset=["value"]).groupby(keys, sort=False)["value"]
    table = grouped.agg(n="count", mean="mean", sd="std").reset_index()
    half = stats.t.ppf((1 + confidence) / 2, np.maximum(table["n"] - 1, 1)) * table["sd"] / np.sqrt(table["n"])
    return table.assign(low=table["mean"] - half, high=table["mean"] + half)


def datasets_of(frame: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """A row per (method, condition), a column per seed: the dataset's mean over categories. Zero-shot rows only."""
    chosen = frame[
        (frame["category"] == MEAN) & (frame["level"] == metric[0]) & (frame["metric"] == metric[1]) & ~frame["seen"]
    ].dropna(subset=["value"])
    return chosen.pivot_table(index=["method", "condition"], columns="seed", values="value", aggfunc="last", sort=False)


# ---- A against B


@dataclass(frozen=True)
class ConditionComparison:
    """A against B on one dataset, paired over seeds. `p` is Holm's adjustment of the paired t-test over datasets.

    `needed`: seeds for 80 % power to detect the margin that was asked for, and `needed_observed` the one seen.
    """

    condition: str
    a: float
    b: float
    paired: Paired
    p: float | None
    needed: int | None
    needed_observed: int | None


@dataclass(frozen=True)
class Comparison:
    """A against B in one metric, over every dataset that both were evaluated on with common seeds.

    `over` compares the per-dataset means; `p_over` is its Wilcoxon p-value, adjusted over the metric's comparisons.
    `iqm` is the difference of interquartile means over seeds x datasets with its bootstrap interval.
    """

    a: str
    b: str
    metric: Metric
    conditions: tuple[ConditionComparison, ...]
    over: Paired
    p_over: float | None
    iqm: Interval
    decision: Decision
    verdict: str


def compare(table: pd.DataFrame, a: str, b: str, metric: Metric, margin: float) -> Comparison | None:
    """Compare two methods in one metric; None where no dataset has both with a common seed.

    `table` is that of `datasets_of` for the metric, `margin` in points.
    """
    conditions, strata_a, strata_b = [], [], []
    for condition in dict.fromkeys(table.index.get_level_values("condition")):
        if (a, condition) not in table.index or (b, condition) not in table.index:
            continue
        both = table.loc[[(a, condition), (b, condition)]].dropna(axis=1).to_numpy(dtype=float)
        if both.shape[1]:
            strata_a.append(both[0])
            strata_b.append(both[1])
            conditions.append(condition)
    if not conditions:
        return None
    pairs = [compare_pairs(x, y) for x, y in zip(strata_a, strata_b, strict=True)]
    compared = tuple(
        ConditionComparison(
            condition,
            float(x.mean()),
            float(y.mean()),
            pair,
            p,
            _needed(margin, pair),
            _needed(pair.difference.mean, pair),
        )
        for condition, x, y, pair, p in zip(
            conditions, strata_a, strata_b, pairs, holm([pair.t.p for pair in pairs]), strict=True
        )
    )
    mean_a, mean_b = (np.array([x.mean() for x in strata]) for strata in (strata_a, strata_b))
    over = compare_pairs(mean_a, mean_b, unit="datasets")
    iqm = bootstrap_iqm_difference(strata_a, strata_b)
    return decide(Comparison(a, b, metric, compared, over, over.wilcoxon.p, iqm, "not shown", ""))


def _needed(margin: float, pair: Paired) -> int | None:
    if pair.deviation is None or pair.n < 3:
        return None
    return pairs_needed(margin, pair.deviation, alpha=ALPHA)


def compare_all(
    frame: pd.DataFrame, methods: Sequence[str], metrics: Sequence[Metric], margin: float
) -> list[Comparison]:
    """The first method against each other one, in every metric; tests over datasets are adjusted within a metric."""
    comparisons = []
    for metric in metrics:
        table = datasets_of(frame, metric)
        found = [c for b in methods[1:] if (c := compare(table, methods[0], b, metric, margin)) is not None]
        adjusted = holm([c.p_over for c in found])
        comparisons += [decide(replace(c, p_over=p)) for c, p in zip(found, adjusted, strict=True)]
    return comparisons


def decide(comparison: Comparison) -> Comparison:
    """The comparison with its verdict on the claim that A is better than B.

    With enough datasets for Wilcoxon's test over them, that test decides: it speaks of datasets of this kind. With
    fewer, the claim can only be made of these datasets, and must hold on each by the paired t-test over seeds.
    """
    c, name = comparison, metric_name(comparison.metric)
    n, gap = len(c.conditions), comparison.over.difference
    spread = "" if gap.low is None or gap.high is None else f", 95 % interval {_signed(gap.low)} to {_signed(gap.high)}"
    size = f"mean difference {_signed(gap.mean)} points over {n} dataset{'s' if n > 1 else ''}{spread}"
    if c.p_over is not None:
        rejected = c.p_over < ALPHA
        # The direction of a signed-rank test is that of the ranks, whose plain reading is the median difference.
        median = float(np.median([row.paired.difference.mean for row in c.conditions]))
        decision: Decision = ("shown" if median > 0 else "opposite") if rejected else "not shown"
        basis = f"Wilcoxon signed-rank over {c.over.wilcoxon.n} datasets, {state_p(c.p_over)}"
    else:
        better = [row.condition for row in c.conditions if _found(row) and row.paired.difference.mean > 0]
        worse = [row.condition for row in c.conditions if _found(row) and row.paired.difference.mean < 0]
        if len(better) == n or len(worse) == n:
            decision = "shown" if better else "opposite"
        else:
            decision = "partly" if better or worse else "not shown"
        tested = [row for row in c.conditions if row.p is not None]
        if not tested:
            basis = f"no test: {c.conditions[0].paired.t.why}"
        else:
            parts = [f"better on {', '.join(better)}"] * bool(better) + [f"worse on {', '.join(worse)}"] * bool(worse)
            found = "; ".join(parts) or "on none of them"
            fewest = min(row.paired.n for row in tested)
            basis = f"paired t over {fewest} or more seeds per dataset, Holm-adjusted: {found if n > 1 else ''}"
            if n == 1:
                basis = f"paired t over {fewest} seeds, {state_p(tested[0].p or 0.0)}"
            elif decision in ("shown", "opposite"):
                basis = f"paired t over {fewest} or more seeds on each of {n} datasets, Holm-adjusted"
            basis += f"; {NEEDS_WILCOXON} datasets are needed to speak of others" if n < NEEDS_WILCOXON else ""
    single = {row.paired.difference.mean > 0 for row in c.conditions if _found(row)}
    words = {
        "shown": "shown",
        "opposite": f"not shown; the opposite is shown, {c.b} is better",
        "partly": PARTLY.get(tuple(single), "not shown; single datasets contradict each other"),
        "not shown": "not shown",
    }[decision]
    return replace(c, decision=decision, verdict=f"{c.a} is better than {c.b} in {name}: {words} ({size}; {basis}).")


def _signed(points: float | None) -> str:
    return f"{round(points or 0.0, 1) + 0.0:+.1f}"


def _found(row: ConditionComparison) -> bool:
    return row.p is not None and row.p < ALPHA


# ---- more than two methods


@dataclass(frozen=True)
class Ranking:
    """Several methods over the datasets that all were evaluated on."""

    metric: Metric
    methods: tuple[str, ...]
    conditions: tuple[str, ...]
    result: RankComparison


def rank_methods(frame: pd.DataFrame, methods: Sequence[str], metric: Metric) -> Ranking | None:
    """Friedman and Nemenyi over methods; None for fewer than three methods or without a common dataset."""
    if len(methods) < 3:
        return None
    table = datasets_of(frame, metric).mean(axis=1).unstack("method")
    table = table.reindex(columns=list(methods)).dropna()
    if table.empty:
        return None
    result = compare_ranks(np.round(table.to_numpy(dtype=float), 10))
    return Ranking(metric, tuple(methods), tuple(map(str, table.index)), result)


# ---- one pair of runs


@dataclass(frozen=True)
class ImageComparison:
    """One run of A against one of B over the same images of one dataset, in image AUROC."""

    a: str
    b: str
    condition: str
    seed: int
    delong: AurocComparison
    bootstrap: AurocComparison


def compare_images(frame: pd.DataFrame, collection: Collection, a: str, b: str) -> list[ImageComparison]:
    """On every common dataset, the runs of the lowest common seed. Datasets without two labels are left out."""
    columns = ["method", "condition", "target", "seed", "job", "seen"]
    runs = frame[frame["method"].isin([a, b]) & ~frame["seen"]][columns].drop_duplicates()
    cache: dict[int, pd.DataFrame | None] = {}

    def scores(job: int, target: str) -> pd.DataFrame | None:
        if job not in cache:
            cache[job] = read_scores(collection.jobs[job])
        found = cache[job]
        return None if found is None else found[found["target"] == target].set_index("image")

    compared = []
    for condition, part in runs.groupby("condition", sort=False):
        of = {method: rows.set_index("seed") for method, rows in part.groupby("method")}
        common = sorted(set(of[a].index) & set(of[b].index)) if len(of) == 2 else []
        if not common:
            continue
        seed, target = common[0], str(part["target"].iloc[0])
        one, other = (scores(int(of[method].loc[seed, "job"]), target) for method in (a, b))
        if one is None or other is None or set(one.index) != set(other.index):
            continue
        other = other.loc[one.index]
        labels = one["label"].to_numpy() == 1
        mixed = one.groupby("category")["label"].transform("nunique").to_numpy() == 2
        if not mixed.any() or (one["label"] != other["label"]).any():
            continue
        values = [side["score"].to_numpy(dtype=float)[mixed] for side in (one, other)]
        arguments = (labels[mixed], *values, one["category"].to_numpy(dtype=str)[mixed])
        compared.append(
            ImageComparison(a, b, str(condition), int(seed), delong(*arguments), bootstrap_images(*arguments))
        )
    return compared


# ---- auxiliary choice and domain shift


def transfer_matrix(table: pd.DataFrame, method: str, metric: Metric) -> pd.DataFrame:
    """Mean over seeds of one method by auxiliary (rows) and target (columns), seen targets included."""
    chosen = table[
        (table["method"] == method)
        & (table["category"] == MEAN)
        & (table["level"] == metric[0])
        & (table["metric"] == metric[1])
    ]
    return chosen.pivot_table(index="auxiliary", columns="target", values="mean", sort=False)


def transfer_gaps(matrix: pd.DataFrame) -> pd.DataFrame:
    """Points below the best zero-shot auxiliary dataset of each target; NaN where auxiliary and target are the same."""
    unseen = matrix.copy()
    for name in unseen.index.intersection(unseen.columns):
        unseen.loc[name, name] = np.nan
    return unseen - unseen.max(axis=0)


def read_shift(collection: Collection, frame: pd.DataFrame) -> pd.DataFrame:
    """Domain shift per backbone, auxiliary, target and level, mean over runs; empty if no run recorded it."""
    rows = []
    backbones = frame.drop_duplicates("job").set_index("job")["backbone"]
    for job in collection.used:
        content = collection.jobs[job].read_json("domain_shift.json")
        for target, levels in (content or {}).get("targets", {}).items():
            for level, figures in levels.items():
                known = {"backbone": backbones[job], "auxiliary": (content or {})["auxiliary"], "target": target}
                rows.append(known | {"level": level} | figures)
    if not rows:
        return pd.DataFrame()
    keys = ["backbone", "auxiliary", "target", "level"]
    figures = ["n_a", "n_b", "d", "frechet", "mmd", "mmd_p", "centroid_cosine"]
    found = pd.DataFrame(rows)
    found[figures] = found[figures].astype(float)
    return found.groupby(keys, sort=False)[figures].mean().reset_index()


@dataclass(frozen=True)
class ShiftCorrelation:
    """Does performance fall with the distance? Points are (auxiliary, target) pairs of one method."""

    method: str
    metric: Metric
    labels: tuple[str, ...]
    distance: np.ndarray
    performance: np.ndarray
    outcome: Outcome


def correlate_shift(
    shift: pd.DataFrame, table: pd.DataFrame, frame: pd.DataFrame, method: str
) -> list[ShiftCorrelation]:
    """Frechet distance of images against image AUROC, and of patches against pixel AUROC."""
    found = []
    backbone = frame.loc[frame["method"] == method, "backbone"].iloc[0]
    for level, metric in (("image", ("image", "auroc")), ("patch", ("pixel", "auroc"))):
        means = table[
            (table["method"] == method)
            & (table["category"] == MEAN)
            & (table["level"] == metric[0])
            & (table["metric"] == metric[1])
            & ~table["seen"]
        ]
        here = shift[(shift["level"] == level) & (shift["backbone"] == backbone)]
        both = means.merge(here, on=["auxiliary", "target"], suffixes=("", "_shift"))
        if both.empty:
            continue
        x, y = both["frechet"].to_numpy(dtype=float), both["mean"].to_numpy(dtype=float)
        outcome = rank_correlation(x, y, unit="pairs of auxiliary and target")
        found.append(ShiftCorrelation(method, metric, tuple(both["condition"]), x, y, outcome))
    return found


# ---- VAE health and variance


@dataclass(frozen=True)
class HealthRecord:
    """vae_health.json of one run."""

    method: str
    auxiliary: str
    seed: int
    content: Mapping[str, Any]


def read_health(collection: Collection, frame: pd.DataFrame) -> list[HealthRecord]:
    """Every run's VAE figures; runs without a VAE have none."""
    runs = frame.drop_duplicates("job").set_index("job")
    records = []
    for job in collection.used:
        content = collection.jobs[job].read_json("vae_health.json")
        if content is not None:
            method, auxiliary, seed = runs.loc[[job], ["method", "auxiliary", "seed"]].to_numpy().tolist()[0]
            records.append(HealthRecord(method, auxiliary, seed, content))
    return records


@dataclass(frozen=True)
class VarianceRecord:
    """Where one method's image AUROC varies, in squared points. `draws` is 1 where repeated draws were not recorded."""

    method: str
    auxiliary: str
    datasets: int
    seeds: int
    draws: int
    components: VarianceComponents


def read_variance(collection: Collection, frame: pd.DataFrame) -> list[VarianceRecord]:
    """Variance components of every method with at least 2 seeds, from latent draws where all its runs recorded them."""
    records = []
    runs = frame.drop_duplicates("job").set_index("job")
    for (method, auxiliary), part in runs.groupby(["method", "auxiliary"], sort=False):
        drawn = [
            pd.read_csv(path).assign(seed=int(seed))
            for job, seed in part["seed"].items()
            if (path := collection.jobs[int(str(job))].folder / "latent_draws.csv").is_file()
        ]
        chosen = frame[(frame["method"] == method) & (frame["auxiliary"] == auxiliary)]
        if len(drawn) == len(part):
            cells = pd.concat(drawn)
            cells = cells[cells["target"] != cells["auxiliary"]]
            cells = cells.assign(value=100 * cells["value"])
        else:
            means = chosen[(chosen["category"] == MEAN) & (chosen["level"] == "image") & (chosen["metric"] == "auroc")]
            cells = means[~means["seen"]].dropna(subset=["value"]).assign(draw=0)
        table = cells.pivot_table(index="target", columns=["seed", "draw"], values="value").dropna()
        n_seeds = len(table.columns.get_level_values("seed").unique())
        n_draws = table.shape[1] // n_seeds if n_seeds else 0
        if table.empty or n_seeds * n_draws != table.shape[1] or n_seeds < 2 or (len(table) < 2 and n_draws < 2):
            continue
        components = variance_components(table.to_numpy(dtype=float).reshape(len(table), n_seeds, n_draws))
        records.append(VarianceRecord(str(method), str(auxiliary), len(table), n_seeds, n_draws, components))
    return records


# ---- published numbers


def beside_published(collection: Collection, frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Published values and ours in percent, from runs of the same protocol; where none is, why not."""
    trained_on = frame.drop_duplicates("job").set_index("job")["auxiliary"]
    reasons = {job: departures(collection.jobs[job].record, trained_on[job]) for job in collection.used}
    same = [job for job, found in reasons.items() if not found]
    if not same:
        return pd.DataFrame(), sorted({reason for found in reasons.values() for reason in found})
    table = summarise(frame[frame["job"].isin(same)])
    known = published().assign(published=lambda rows: 100 * rows["value"]).drop(columns="value")
    keys = ["auxiliary", "target", "level", "metric"]
    both = known.merge(table[table["category"] == MEAN], on=keys)
    return both.assign(difference=both["mean"] - both["published"]), []
