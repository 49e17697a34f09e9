"""Other readings of the same results: interquartile means, probability of improvement, profiles, ranks, images."""

from itertools import chain

import numpy as np
import pandas as pd

from cops_lightning.report import plots
from cops_lightning.report.claims import ALPHA
from cops_lightning.report.collect import Scores
from cops_lightning.report.metric_names import metric_name
from cops_lightning.report.page import (
    MINUS,
    MISSING,
    Plot,
    Section,
    Table,
    interval,
    number,
    plural,
    slug,
    upper_first,
)
from cops_lightning.report.sections.claims import show_intervals
from cops_lightning.report.stats.aggregates import NEEDS_SEEDS, aggregate
from cops_lightning.report.stats.images import AurocComparison, compare_aurocs, difference
from cops_lightning.report.stats.ranks import NEEDS_METHODS, compare_ranks
from cops_lightning.report.study import Study
from cops_lightning.report.svg import COLORS

MOST_METHODS = 10  # whose scores of single images are read
MOST_RANKED = 20  # in one diagram of critical differences
ALL = "all datasets"


def aggregates(study: Study) -> Section:
    """What rliable reports."""
    rows = []
    for c in (c.comparison for c in study.claims):
        if not c.contrast.datasets:
            continue
        found = aggregate(c.contrast.of_a, c.contrast.of_b, c.contrast.paired)
        of = found.improvement
        rows.append(
            {"B": c.b, "metric": metric_name((c.level, c.metric)), "iqm": found.iqm.mean, "iqm_low": found.iqm.low,
             "iqm_high": found.iqm.high, "improvement": of.mean, "improvement_low": of.low, "improvement_high": of.high}
        )  # fmt: skip
    title = "Interquartile means, probability of improvement, profiles"
    if not rows:
        return Section("aggregates", title, ("Nothing is compared.",))
    raw = pd.DataFrame(rows)
    shown = pd.DataFrame(
        {
            "B": raw["B"],
            "metric": raw["metric"],
            "IQM Δ": raw["iqm"].map(number(2, sign=True)),
            "95 %, IQM": [interval(*b, 2, sign=True) for b in zip(raw["iqm_low"], raw["iqm_high"], strict=True)],
            "P(improvement)": raw["improvement"].map(number(2)),
            "95 %, P": [interval(*b, 2) for b in zip(raw["improvement_low"], raw["improvement_high"], strict=True)],
        }
    )
    text = (
        f"IQM Δ: mean of the middle half of all differences {study.first} {MINUS} B over seeds and datasets, in "
        f"points. P(improvement): how often a run of {study.first} scores above one of B on the same dataset. "
        f"Intervals by a bootstrap of whole seeds, from {NEEDS_SEEDS} seeds on; they speak of these datasets.",
    )
    drawn = []
    for metric in study.asked.metrics:
        tables = study.tables(metric)
        if tables:
            most = len(COLORS)
            few = (
                f" The first {most} of {len(tables)} methods, in the order of the claims." if len(tables) > most else ""
            )
            caption = (
                f"Performance profiles in {metric_name(metric)}: the higher the curve, the more runs score above.{few}"
            )
            drawn.append(Plot(slug("profile", *metric), caption, plots.profiles(tables, metric)))
    table = Table("aggregates", "By claim", shown, raw)
    return Section("aggregates", title, text, tables=(table,), plots=tuple(drawn))


def ranks(study: Study) -> Section:
    """All methods ranked over datasets."""
    title, rows, text, drawn = "All methods ranked", [], [], []
    for metric in study.asked.metrics:
        table = pd.DataFrame({name: of.mean(axis=1) for name, of in study.tables(metric).items()}).dropna()
        if table.shape[1] < NEEDS_METHODS or table.empty:
            continue
        found = compare_ranks(np.round(table.to_numpy(dtype=float), 10))
        name = metric_name(metric)
        rows += [{"method": method, "metric": name, "rank": rank}
                 for method, rank in zip(table.columns, found.mean_ranks.tolist(), strict=True)]  # fmt: skip
        p = found.iman_davenport.p
        tests = f"{found.friedman}" + ("" if p is None else f"; {found.iman_davenport}")
        text.append(upper_first(f"{name} over {plural(len(table), 'dataset')}: {tests}."))
        if found.critical_difference is not None:
            text[-1] += f" The critical difference of mean ranks is {found.critical_difference:.2f}."
        if p is not None and p < ALPHA and table.shape[1] <= MOST_RANKED:
            svg = plots.critical_difference_diagram(found, list(table.columns), f"{name}, {len(table)} datasets")
            caption = f"Mean ranks in {name}; methods joined by a bar are not told apart by Nemenyi's test."
            drawn.append(Plot(slug("ranks", *metric), caption, svg))
    if not rows:
        return Section("ranks", title, (f"Ranks need {NEEDS_METHODS} methods on the same datasets.",))
    raw = pd.DataFrame(rows)
    wide = raw.pivot_table(index="method", columns="metric", values="rank", sort=False).map(number(2))
    intro = (
        "Do the methods differ at all over datasets (Friedman; Iman and Davenport), and which pairs do (Nemenyi; drawn "
        f"only where the former rejects, for {MOST_RANKED} methods at most)? Blocks are datasets, each with its mean "
        "over seeds: this asks of the trained weights at hand, not of other seeds."
    )
    table_of = Table("ranks", "Mean rank over datasets, 1 is best", wide.rename_axis(None, axis=1).reset_index(), raw)
    return Section("ranks", title, (intro, *text), tables=(table_of,), plots=tuple(drawn))


def images(study: Study) -> Section:
    """The claims in image AUROC with images as a source of chance, dataset by dataset."""
    title = "Claims over new images"
    jobs: dict[tuple[str, str, str], dict[int, int]] = {}
    known = study.means[~study.means["seen"]].drop_duplicates(["job", "dataset"])
    columns = ["method", "auxiliary", "dataset", "target", "seed", "job"]
    targets: dict[str, str] = {}
    for method, auxiliary, dataset, target, seed, job in known[columns].to_numpy().tolist():
        jobs.setdefault((method, auxiliary, dataset), {})[seed] = job
        targets[dataset] = target
    rows: list[dict[str, object]] = []
    others = [b for b in study.methods[1:] if ("image", "auroc") in study.asked.metrics]
    for b in others[:MOST_METHODS]:
        by_auxiliary: dict[str, dict[str, tuple[list[int], AurocComparison]]] = {}
        for (method, auxiliary, dataset), of_a in jobs.items():
            of_b = jobs.get((b, auxiliary, dataset), {})
            seeds = [seed for seed in of_a if seed in of_b] if method == study.first else []
            pairs = [[study.scores(of[seed], targets[dataset]) for seed in seeds] for of in (of_a, of_b)]
            found = _same_images(pairs) if seeds else None
            if found is not None:
                by_auxiliary.setdefault(auxiliary, {})[dataset] = (seeds, found)
        for auxiliary, found_on in by_auxiliary.items():
            alone = {dataset: [found] for dataset, (_, found) in found_on.items()}
            first, *others_seeds = (seeds for seeds, _ in found_on.values())
            together = bool(others_seeds) and all(seeds == first for seeds in others_seeds)
            for dataset, parts in (({ALL: [*chain(*alone.values())]} if together else {}) | alone).items():
                bounds = (None, None) if (estimate := difference(parts)) is None else estimate.interval(1 - ALPHA)
                auroc_a, auroc_b = (100 * float(np.mean(side)) for side in ([p.a for p in parts], [p.b for p in parts]))
                low, high = (None if bound is None else 100 * bound for bound in bounds)
                rows.append(
                    {"A": study.first, "B": b, "auxiliary": auxiliary, "dataset": dataset, "seeds": len(parts[0].a),
                     "auroc_a": auroc_a, "auroc_b": auroc_b, "difference": auroc_a - auroc_b, "low": low, "high": high,
                     "why": next((part.why for part in parts if part.why), "")}
                )  # fmt: skip
    if not rows:
        return Section("images", title, ("No two methods left scores.csv of the same images in image AUROC.",))
    raw = pd.DataFrame(rows)
    several = raw["auxiliary"].nunique() > 1
    column = raw["auxiliary"] + " → " + raw["dataset"] if several else raw["dataset"]
    wide = raw.assign(cell=show_intervals(raw), column=column).pivot(index="B", columns="column", values="cell")
    shown = wide.loc[raw["B"].unique(), column.unique()].fillna(MISSING).rename_axis(None, axis=1).reset_index()
    missing = sorted(set(raw["why"]) - {""})
    text = (
        "Would a difference hold for other images of these categories and other seeds? Image AUROC of equal seeds over "
        "the same images; the variance over images (DeLong's) and that over seeds are added. With one seed it speaks "
        f'of these two sets of weights alone. Each interval by itself; "{ALL}" is the claim for new seeds, these '
        "datasets, with their images as a third source of chance.",
        *(f"Where there is no interval: {why}." for why in missing),
        *(
            few
            for few in [f"The first {MOST_METHODS} of {len(others)} other methods, in the order of the claims."]
            if len(others) > MOST_METHODS
        ),
    )
    caption = f"{study.first} {MINUS} B in points of image AUROC, with the 95 % interval over images and seeds"
    return Section("images", title, text, tables=(Table("images", caption, shown, raw),))


def _same_images(scores: list[list[Scores | None]]) -> AurocComparison | None:
    """The scores of A and of B by seed compared; None where some lack, or are of other images or of one label."""
    sides = [[one for one in side if one is not None] for side in scores]
    first = sides[0][0] if sides[0] else None
    if first is None or [*map(len, sides)] != [*map(len, scores)]:
        return None
    if not all(one.images == first.images for side in sides for one in side):
        return None
    labels: dict[str, set[int]] = {}
    for category, label in zip(first.categories, first.labels, strict=True):
        labels.setdefault(category, set()).add(label)
    mixed = np.array([len(labels[category]) == 2 for category in first.categories])
    if not mixed.any():
        return None
    a, b = (np.array([one.scores for one in side])[:, mixed] for side in sides)
    return compare_aurocs(np.array(first.labels)[mixed] == 1, a, b, np.array(first.categories)[mixed])
