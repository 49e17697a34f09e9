"""From one dataset to another: the choice of the auxiliary dataset, and whether performance falls with distance."""

from itertools import combinations
from typing import Any

import pandas as pd

from cops_lightning.report import plots
from cops_lightning.report.claims import ALPHA, adjust, contrast, judge
from cops_lightning.report.diagnostics import Distance, Reader
from cops_lightning.report.metric_names import Metric, metric_name
from cops_lightning.report.page import (
    MINUS,
    TIMES,
    Plot,
    Section,
    Table,
    number,
    shown_frame,
    slug,
    upper_first,
)
from cops_lightning.report.sections.claims import numbers, show_intervals, show_p, show_ps, show_verdicts
from cops_lightning.report.stats.outcome import state_p
from cops_lightning.report.stats.shift import mantel
from cops_lightning.report.study import Study


def auxiliaries(study: Study) -> Section:
    """Every pair of auxiliary datasets of the first method, on the targets that both were tested on."""
    title, method = "Choice of the auxiliary dataset", study.first
    here = study.means[study.means["method"] == method]
    names = list(dict.fromkeys(here["auxiliary"]))
    if len(names) < 2:
        return Section(
            "auxiliary", title, (f"{method} was trained on {names[0]} alone: there is no choice to compare.",)
        )
    comparisons, drawn, tables = [], [], []
    for metric in study.asked.metrics:
        of = {auxiliary: {method: table} for auxiliary, table in study.cells[metric].get(method, {}).items()}
        pairs = list(combinations(of, 2))
        comparisons += [judge(contrast(of, a, b, *metric), study.asked.margin, "these_datasets") for a, b in pairs]
        matrix = _transfer(here, metric)
        if not matrix.empty:
            caption = f"{method}, {metric_name(metric)} by auxiliary and target, mean over seeds; *: not zero-shot"
            drawn.append(Plot(slug("transfer", *metric), caption, plots.transfer(matrix, metric)))
    claims = [c for c in adjust(comparisons) if c.comparison.contrast.datasets]
    if claims:
        of_targets = pd.DataFrame(
            dict(zip((f"on {name}" for name in of.datasets), of.by_dataset.tolist(), strict=True))
            for of in (c.comparison.contrast for c in claims)
        )
        raw = pd.concat([numbers(claims), of_targets], axis=1)
        columns: dict[Any, Any] = {
            f"A {MINUS} B": raw["A"] + f" {MINUS} " + raw["B"],
            "metric": raw["metric"],
            "Δ (95 % interval)": show_intervals(raw),
            "verdict": show_verdicts(raw),
            **show_ps(raw, study.asked.margin),
            f"seeds {TIMES} targets": raw["seeds"] + f" {TIMES} " + raw["datasets"].astype(str),
            **{column: of_targets[column].map(number(1, sign=True)) for column in of_targets},
        }
        caption = (
            f"Pairs of auxiliary datasets, in points; both p after Holm's adjustment over these {len(claims)} claims"
        )
        tables.append(Table("auxiliary_choice", caption, pd.DataFrame(columns), raw))
    text = (
        f"{method} trained on one dataset against the same trained on another, on the targets that both were tested on "
        "zero-shot, seeds paired, for new seeds on these targets. The order of two means within their interval is "
        "luck.",
    )
    return Section("auxiliary", title, text, tables=tuple(tables), plots=tuple(drawn))


def _transfer(means: pd.DataFrame, metric: Metric, seen: bool = True) -> pd.DataFrame:
    """Mean over seeds by auxiliary (rows) and target (columns)."""
    chosen = means[(means["level"] == metric[0]) & (means["metric"] == metric[1]) & (seen | ~means["seen"])]
    return chosen.pivot_table(index="auxiliary", columns="dataset", values="value", sort=False)


def domain_shift(study: Study) -> Section:
    """Distances among frozen features, and whether performance falls with them."""
    title = "Domain shift"
    reader = Reader()
    shift, left_out = _read_shift(study, reader), tuple(reader.left_out)
    if shift.empty:
        why = "No run recorded it; cops-train does, unless callbacks.diagnostics is null."
        return Section("shift", title, (why,), left_out=left_out)
    shown = shown_frame(
        shift.assign(
            pair=shift["auxiliary"] + " → " + shift["target"],
            of=shift["level"].map({"image": "images", "patch": "patches"}),
            n=[f"{int(a)} and {int(b)}" for a, b in zip(shift["n_a"], shift["n_b"], strict=True)],
        ),
        pair=("auxiliary → target", str),
        of=("features of", str),
        n=("n", str),
        frechet=("Fréchet distance", number(4)),
        floor=("its floor", number(4)),
        mmd=("MMD²", number(4)),
        mmd_p=("p, MMD", show_p),
        centroid_cosine=("centroid cosine", number(4)),
    )
    text = [
        "Distance between the auxiliary dataset and each target among the frozen features, which do not depend on "
        "training. The Fréchet distance grows with fewer features; its floor is what the features of both give when "
        "they are divided at random into sets of these sizes. The permutation p-value tests equal distributions; "
        "patches of one image are not independent, so theirs is too small."
    ]
    drawn = []
    here = study.means[study.means["method"] == study.first]
    backbone = here["backbone"].iloc[0]
    for level, metric in (("image", ("image", "auroc")), ("patch", ("pixel", "auroc"))):
        performance = _transfer(here, metric, seen=False)
        chosen = shift[(shift["level"] == level) & (shift["backbone"] == backbone)]
        distance = chosen.pivot_table(index="auxiliary", columns="target", values="frechet", sort=False)
        rows, columns = (list(of.intersection(to, sort=False)) for of, to in
                         ((performance.index, distance.index), (performance.columns, distance.columns)))  # fmt: skip
        if not (rows and columns):
            continue
        performance, distance = performance.loc[rows, columns], distance.loc[rows, columns]
        found = mantel(distance.to_numpy(dtype=float), performance.to_numpy(dtype=float))
        falls = found.p is not None and found.p < ALPHA and (found.statistic or 0) < 0
        said = found.why if found.p is None else state_p(found.p)
        rho = number(2, sign=True)(found.statistic)
        text.append(
            f"{upper_first(metric_name(metric))} of {study.first} {'falls' if falls else 'is not shown to fall'} "
            f"with the distance (rank correlation {rho} over "
            f"{int((performance.notna() & distance.notna()).to_numpy().sum())} pairs; whole datasets permuted, as in "
            f"Mantel's test: {said})."
        )
        of = {"image": "images", "patch": "patches"}[level]
        caption = f"{metric_name(metric)} of {study.first} against the Fréchet distance of {of}"
        drawn.append(
            Plot(slug("shift", level), upper_first(caption), plots.shift_scatter(distance, performance, metric))
        )
    tables = (Table("domain_shift", "By pair", shown, shift),)
    return Section("shift", title, tuple(text), tables=tables, plots=tuple(drawn), left_out=left_out)


def _read_shift(study: Study, reader: Reader) -> pd.DataFrame:
    """By backbone, auxiliary, target and level, mean over runs; empty if no run recorded it."""
    keys = ["backbone", "auxiliary", "target", "level"]
    figures = list(Distance.model_fields)
    rows = []
    for job, backbone in zip(study.collection.used, study.runs["backbone"][study.collection.used], strict=True):
        found = reader.shift(study.collection.jobs[job].folder)
        if found is not None:
            rows += [
                (backbone, found.auxiliary, target, level, *of.model_dump().values())
                for target, levels in found.targets.items()
                for level, of in levels.items()
            ]
    shift = pd.DataFrame(rows, columns=[*keys, *figures])
    return shift.astype(dict.fromkeys(figures, float)).groupby(keys, sort=False)[figures].mean().reset_index()
