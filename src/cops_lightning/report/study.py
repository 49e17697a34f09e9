"""What the report says: every section, from collected runs. `build_report` is the page to read first."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from cops_lightning.core.errors import CopsError
from cops_lightning.core.types import MEAN
from cops_lightning.report import plots
from cops_lightning.report.analysis import (
    ALPHA,
    Comparison,
    beside_published,
    compare_all,
    compare_images,
    correlate_shift,
    prepare,
    rank_methods,
    read_health,
    read_shift,
    read_variance,
    summarise,
    transfer_gaps,
    transfer_matrix,
)
from cops_lightning.report.collect import Collection
from cops_lightning.report.methods import find_method
from cops_lightning.report.metric_names import DEFAULT_METRICS, METRICS, Metric, metric_name
from cops_lightning.report.page import (
    MINUS,
    MISSING,
    TIMES,
    Page,
    Plot,
    Section,
    Table,
    distinct,
    interval,
    number,
    plural,
    shown_frame,
    slug,
    upper_first,
)
from cops_lightning.report.published import SOURCE
from cops_lightning.report.stats import format_p, holm, state_p
from cops_lightning.report.tables import NOTHING

FULL = "cops"
MOST_FORESTS, MOST_LATENTS, MOST_VERDICTS = 12, 4, 12


def build_report(
    collection: Collection,
    methods: Sequence[str] | None = None,
    metrics: Sequence[Metric] = DEFAULT_METRICS,
    margin: float = 1.0,
    title: str = "CoPS results",
) -> tuple[Page, list[Comparison]]:
    """The page and the comparisons that its verdicts come from.

    Args:
        collection: What was found.
        methods: Names, labels or starts of hashes of those to compare, the first with each other one; by default all,
            `cops` first.
        metrics: What to compare them in.
        margin: The difference, in points, that the table of needed seeds asks for.
        title: Heading of the page.

    Raises CopsError for a method that no run has, or that stands for several.
    """
    frame = prepare(collection)
    chosen = choose_methods(collection, methods)
    table = summarise(frame)
    comparisons = compare_all(frame, chosen, metrics, margin)
    full = {method.name for method in collection.methods if method.labels[0] == FULL}
    sections = [
        _verdicts(comparisons, chosen),
        _results(frame, table, chosen, metrics),
        _published(collection, frame),
        *_comparisons(comparisons, frame, collection, chosen, metrics, margin),
        _ablations(comparisons if chosen[0] in full else (), chosen, metrics),
        _auxiliaries(frame, table, chosen, metrics),
        _domain_shift(collection, frame, table, chosen),
        _vae(collection, frame),
        _variance(collection, frame),
        _runs(collection),
    ]
    return Page(title, _summary(collection, frame), _cautions(collection, frame), tuple(sections)), comparisons


def choose_methods(collection: Collection, asked: Sequence[str] | None) -> list[str]:
    """The names of the methods to compare, in order. Raises CopsError as `find_method` does."""
    if asked is None:
        return [m.name for m in sorted(collection.methods, key=lambda m: (m.labels[0] != FULL, m.name))]
    names = list(dict.fromkeys(find_method(collection.methods, name).name for name in asked))
    if len(names) < 2:
        raise CopsError(f"--compare names {', '.join(asked)}; a comparison needs two different methods.")
    return names


def _summary(collection: Collection, frame: pd.DataFrame) -> tuple[str, ...]:
    counted = {
        "method": len(collection.methods),
        "seed": frame["seed"].nunique(),
        "auxiliary dataset": len(set(frame["auxiliary"]) - {NOTHING}),
        "target": frame["target"].nunique(),
    }
    return (
        f"{plural(len(collection.jobs), 'run')} ({_states(collection)}); "
        f"{', '.join(plural(count, word) for word, count in counted.items())}; "
        f"backbone {', '.join(sorted(set(frame['backbone'])))}.",
        "Values are in percent, differences in points. A dataset's value is the mean over its categories. Spreads and "
        "intervals are over seeds unless said otherwise; intervals are at 95 %, tests two-sided at level 0.05.",
    )


def _cautions(collection: Collection, frame: pd.DataFrame) -> tuple[str, ...]:
    found = list(collection.notes)
    used = [collection.jobs[job] for job in collection.used]
    if any(job.is_random for job in used):
        found.append("Some runs have a backbone with random weights: their numbers mean nothing.")
    if any(job.backbone.startswith("packaged:") for job in used):
        found.append("Some runs have a packaged demonstration backbone: no claim about CoPS with a real CLIP.")
    if collection.left_out:
        found.append(f"Results of {len(collection.left_out)} runs were left out, see the last section.")
    unfinished = sum(not job.complete for job in collection.jobs)
    if unfinished:
        found.append(f"{plural(unfinished, 'run')} failed or did not finish and give no results, see the last section.")
    if frame["seed"].nunique() < 2:
        found.append("There is a single seed: nothing can be said about spread over seeds.")
    return tuple(found)


def _verdicts(comparisons: Sequence[Comparison], methods: Sequence[str]) -> Section:
    if not comparisons:
        why = "There is one method." if len(methods) < 2 else "The methods share no dataset with a common seed."
        return Section("verdicts", "Verdicts", (f"{why} Nothing is compared.",))
    text = (
        "Each claim in one sentence. With 6 datasets or more a claim rests on Wilcoxon's signed-rank test over them, "
        "adjusted by Holm over the claims of a metric. With fewer it is shown only if the paired t-test over seeds "
        "finds it on every dataset, adjusted by Holm over datasets. Not shown does not mean equal.",
    )
    told, folded = divide_verdicts(comparisons)
    fold = f"{plural(len(folded), 'claim')} that {'is' if len(folded) == 1 else 'are'} not shown"
    return Section("verdicts", "Verdicts", (count_verdicts(comparisons), *text), items=told, fold=fold, folded=folded)


def count_verdicts(comparisons: Sequence[Comparison]) -> str:
    """One sentence on how many claims came out how."""
    counts = Counter(c.decision for c in comparisons)
    parts = (
        f"{counts['shown']} shown",
        f"{counts['partly']} with a difference on single datasets only",
        f"{counts['opposite']} the other way round",
        f"{counts['not shown']} not shown",
    )
    return f"Of {plural(len(comparisons), 'claim')}: {', '.join(parts)}."


def divide_verdicts(comparisons: Sequence[Comparison]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The verdicts to be read first, and the rest: of many, those that found nothing."""
    if len(comparisons) <= MOST_VERDICTS:
        return tuple(c.verdict for c in comparisons), ()
    found = tuple(c.verdict for c in comparisons if c.decision != "not shown")
    return found, tuple(c.verdict for c in comparisons if c.decision == "not shown")


def _results(frame: pd.DataFrame, table: pd.DataFrame, methods: Sequence[str], metrics: Sequence[Metric]) -> Section:
    chosen = table[table["method"].isin(methods)]
    tables = [
        Table(
            "results_by_dataset",
            "Mean ± standard deviation over n seeds, in percent, by dataset. A dash: the dataset does not define the "
            "metric. *: trained on, not zero-shot.",
            _wide(chosen[chosen["category"] == MEAN], []),
            chosen[chosen["category"] == MEAN].drop(columns=["condition", "category"]),
        ),
        Table(
            "intervals_by_dataset",
            "95 % interval of the mean over seeds (Student's t), in percent, by dataset",
            _wide(chosen[chosen["category"] == MEAN], [], intervals=True),
            folded=True,
        ),
    ]
    inner = chosen[chosen["category"] != MEAN]
    if not inner.empty:
        caption = "by category: mean ± standard deviation over n seeds, in percent"
        tables.append(
            Table("results_by_category", caption.capitalize(), _wide(inner, ["category"]), inner, folded=True)
        )
        caption = "By category: 95 % interval of the mean over seeds, in percent"
        tables.append(Table("intervals_by_category", caption, _wide(inner, ["category"], intervals=True), folded=True))
    drawn = []
    for metric in metrics:
        svg = plots.strips(frame, methods, metric)
        if svg:
            caption = f"{metric_name(metric)} by dataset, a dot per seed. Overlapping intervals are no test: see below."
            drawn.append(Plot(slug("seeds", *metric), upper_first(caption), svg))
    more = len(methods) - plots.MOST_METHODS
    text = (f"Figures show the first {plots.MOST_METHODS} methods, tables all {len(methods)}.",) if more > 0 else ()
    return Section("results", "Results", text, tables=tuple(tables), plots=tuple(drawn))


def _wide(rows: pd.DataFrame, further: list[str], intervals: bool = False) -> pd.DataFrame:
    """A line per method and dataset, a column per metric."""
    keys = ["method", "auxiliary", "target", *further]
    rows = rows.assign(target=rows["target"] + np.where(rows["seen"], " *", ""))
    if intervals:
        cells = [interval(low, high) for low, high in zip(rows["low"], rows["high"], strict=True)]
    else:
        form = number()
        cells = [
            form(mean) if pd.isna(sd) else f"{form(mean)} ± {form(sd)}"
            for mean, sd in zip(rows["mean"], rows["sd"], strict=True)
        ]
    rows = rows.assign(cell=cells, column=[metric_name(m) for m in zip(rows["level"], rows["metric"], strict=True)])
    n = rows.groupby(keys, sort=False)["n"].max()
    wide = rows.pivot_table(index=keys, columns="column", values="cell", aggfunc="last", sort=False).reindex(n.index)
    order = [metric_name(metric) for metric in METRICS if metric_name(metric) in wide.columns]
    wide = wide[order + [column for column in wide.columns if column not in order]].fillna(MISSING)
    wide.insert(0, "n", n.astype(str))
    return wide.reset_index()


def _published(collection: Collection, frame: pd.DataFrame) -> Section:
    both, reasons = beside_published(collection, frame)
    title = "Beside the published numbers"
    if both.empty:
        why = f" Here: {'; '.join(reasons)}." if reasons else ""
        return Section(
            "published",
            title,
            (
                "No run follows the published protocol, so none is set beside the published numbers: OpenAI's "
                "ViT-L/14@336 at 518 px, the released settings, all images, trained on VisA (for VisA: on MVTec-AD)."
                f"{why}",
            ),
        )
    both = both.assign(name=[metric_name(m) for m in zip(both["level"], both["metric"], strict=True)])
    shown = shown_frame(
        both,
        target=("target", str),
        name=("metric", str),
        published=("published", number()),
        mean=("ours", number()),
        sd=("sd", number()),
        n=("n", str),
        difference=("difference", number(1, sign=True)),
    )
    text = f"Published: {SOURCE}. Means over our n seeds; a single published run has a spread of its own."
    return Section("published", title, (text,), tables=(Table("published", "In percent", shown, both),))


def _comparisons(
    comparisons: Sequence[Comparison],
    frame: pd.DataFrame,
    collection: Collection,
    methods: Sequence[str],
    metrics: Sequence[Metric],
    margin: float,
) -> list[Section]:
    if not comparisons:
        return []
    rows, over = [], []
    for c in comparisons:
        rows += [
            {
                "A": c.a, "B": c.b, "metric": metric_name(c.metric), "dataset": row.condition, "n": row.paired.n,
                "mean_a": row.a, "mean_b": row.b, "difference": row.paired.difference.mean,
                "low": row.paired.difference.low, "high": row.paired.difference.high, "effect": row.paired.effect,
                "p_t": row.paired.t.p, "p_holm": row.p, "t_why": row.paired.t.why,
                "p_wilcoxon": row.paired.wilcoxon.p, "wilcoxon_why": row.paired.wilcoxon.why,
                "needed": row.needed, "needed_observed": row.needed_observed,
            }
            for row in c.conditions
        ]  # fmt: skip
        over.append(
            {
                "A": c.a, "B": c.b, "metric": metric_name(c.metric), "datasets": len(c.conditions),
                "difference": c.over.difference.mean, "low": c.over.difference.low, "high": c.over.difference.high,
                "effect": c.over.effect, "p_wilcoxon": c.over.wilcoxon.p, "p_holm": c.p_over,
                "why": c.over.wilcoxon.why, "iqm": c.iqm.mean, "iqm_low": c.iqm.low, "iqm_high": c.iqm.high,
            }
        )  # fmt: skip
    per, total = pd.DataFrame(rows), pd.DataFrame(over)
    signed = number(1, sign=True)
    shown_per = pd.DataFrame(
        {
            f"A {MINUS} B": per["A"] + f" {MINUS} " + per["B"],
            "metric": per["metric"],
            "dataset": per["dataset"],
            "n": per["n"].astype(str),
            "A": per["mean_a"].map(number()),
            "B": per["mean_b"].map(number()),
            "difference": per["difference"].map(signed),
            "95 % interval": [interval(a, b, sign=True) for a, b in zip(per["low"], per["high"], strict=True)],
            "effect size d": [number(2, sign=True)(value) for value in per["effect"]],
            "p, paired t": [_p(p, why) for p, why in zip(per["p_t"], per["t_why"], strict=True)],
            "p, Holm": [_p(p, "") for p in per["p_holm"]],
            "p, Wilcoxon": [_p(p, why) for p, why in zip(per["p_wilcoxon"], per["wilcoxon_why"], strict=True)],
            f"seeds for {margin:g} points": [_seeds(x) for x in per["needed"]],
            "seeds for what is seen": [_seeds(x) for x in per["needed_observed"]],
        }
    )
    shown_total = pd.DataFrame(
        {
            f"A {MINUS} B": total["A"] + f" {MINUS} " + total["B"],
            "metric": total["metric"],
            "datasets": total["datasets"].astype(str),
            "difference": total["difference"].map(signed),
            "95 % interval over datasets": [
                interval(a, b, sign=True) for a, b in zip(total["low"], total["high"], strict=True)
            ],
            "effect size d": [number(2, sign=True)(value) for value in total["effect"]],
            "p, Wilcoxon": [_p(p, why) for p, why in zip(total["p_wilcoxon"], total["why"], strict=True)],
            "p, Holm": [_p(p, "") for p in total["p_holm"]],
            "IQM difference": total["iqm"].map(signed),
            "95 % bootstrap interval": [
                interval(a, b, sign=True) for a, b in zip(total["iqm_low"], total["iqm_high"], strict=True)
            ],
        }
    )
    captions = (
        "Over datasets: mean difference with Student's interval, Wilcoxon signed-rank over per-dataset means, and the "
        "difference of interquartile means with a bootstrap over seeds within datasets.",
        "By dataset, paired over seeds. Effect size: Cohen's d of the differences with Hedges' factor. Seeds: how many "
        "a paired t-test needs for 80 % power, given the spread seen; an estimate from few seeds is rough.",
    )
    tables = [
        Table("comparison_over_datasets", captions[0], shown_total, total),
        Table("comparison_by_dataset", captions[1], shown_per, per, folded=len(per) > 40),
    ]
    drawn = distinct(
        Plot(
            slug("difference", c.a, c.b, *c.metric),
            f"{c.a} {MINUS} {c.b}, {metric_name(c.metric)}: {_first_words(c)}",
            plots.forest(c),
        )
        for c in comparisons[:MOST_FORESTS]
    )
    section = Section(
        "comparison", f"{methods[0]} against {', '.join(methods[1:]) if len(methods) < 5 else 'the others'}",
        tables=tuple(tables), plots=drawn,
    )  # fmt: skip
    return [section, *_ranking(frame, methods, metrics), *_images(frame, collection, methods)]


def _first_words(c: Comparison) -> str:
    return {"shown": "a difference is shown.", "opposite": "the opposite is shown."}.get(
        c.decision, "a difference is not shown."
    )


def _p(p: float | None, why: str) -> str:
    if p is None or pd.isna(p):
        return f"none: {why}" if why else MISSING
    return format_p(p)


def _seeds(count: int | float | None) -> str:
    return MISSING if count is None or pd.isna(count) else f"{int(count)}"


def _ranking(frame: pd.DataFrame, methods: Sequence[str], metrics: Sequence[Metric]) -> list[Section]:
    rankings = [r for metric in metrics if (r := rank_methods(frame, methods, metric)) is not None]
    if not rankings:
        return []
    rows, drawn, text = [], [], []
    for r in rankings:
        ranks = dict(zip(r.methods, r.result.mean_ranks, strict=True))
        rows += [{"metric": metric_name(r.metric), "method": m, "rank": rank} for m, rank in ranks.items()]
        outcome, count = r.result.friedman, len(r.conditions)
        text.append(upper_first(f"{metric_name(r.metric)} over {plural(count, 'dataset')}: {outcome}."))
        svg = plots.critical_difference_diagram(r)
        if svg:
            caption = (
                f"Mean ranks in {metric_name(r.metric)}; methods joined by a bar are not told apart by Nemenyi's test."
            )
            drawn.append(Plot(slug("ranks", *r.metric), caption, svg))
    found = pd.DataFrame(rows)
    shown = shown_frame(found, metric=("metric", str), method=("method", str), rank=("mean rank", number(2)))
    intro = (
        "Friedman's test asks whether the methods differ at all over datasets, Nemenyi's which pairs do (Demsar 2006)."
    )
    table = Table("ranks", "Mean rank over datasets, 1 is best", shown, found)
    return [Section("ranks", "All methods ranked", (intro, *text), tables=(table,), plots=tuple(drawn))]


def _images(frame: pd.DataFrame, collection: Collection, methods: Sequence[str]) -> list[Section]:
    found = [row for b in methods[1:] for row in compare_images(frame, collection, methods[0], b)]
    if not found:
        return []
    adjusted = holm([row.delong.test.p for row in found])
    raw = pd.DataFrame(
        {
            "A": row.a, "B": row.b, "dataset": row.condition, "seed": row.seed, "auroc_a": 100 * row.delong.a,
            "auroc_b": 100 * row.delong.b, "difference": 100 * row.delong.difference.mean,
            "low": _times(row.delong.difference.low), "high": _times(row.delong.difference.high),
            "p_delong": row.delong.test.p, "why": row.delong.test.why, "p_holm": p,
            "boot_low": _times(row.bootstrap.difference.low), "boot_high": _times(row.bootstrap.difference.high),
            "p_bootstrap": row.bootstrap.test.p,
        }
        for row, p in zip(found, adjusted, strict=True)
    )  # fmt: skip
    shown = pd.DataFrame(
        {
            f"A {MINUS} B": raw["A"] + f" {MINUS} " + raw["B"],
            "dataset": raw["dataset"],
            "seed": raw["seed"].astype(str),
            "A": raw["auroc_a"].map(number()),
            "B": raw["auroc_b"].map(number()),
            "difference": raw["difference"].map(number(1, sign=True)),
            "95 % interval, DeLong": [interval(a, b, sign=True) for a, b in zip(raw["low"], raw["high"], strict=True)],
            "p, DeLong": [_p(p, why) for p, why in zip(raw["p_delong"], raw["why"], strict=True)],
            "p, Holm": [_p(p, "") for p in raw["p_holm"]],
            "95 % interval, bootstrap": [
                interval(a, b, sign=True) for a, b in zip(raw["boot_low"], raw["boot_high"], strict=True)
            ],
            "p, bootstrap": [_p(p, "") for p in raw["p_bootstrap"]],
        }
    )
    text = (
        "Image AUROC of one run of each, at the lowest common seed, over the same images: DeLong's test and a paired "
        "bootstrap over images. It tells whether these two sets of weights differ on images of this kind, not whether "
        "the methods do: another seed may say otherwise.",
    )
    caption = "One pair of runs, image AUROC in percent"
    table = Table("one_pair_of_runs", caption, shown, raw, folded=len(raw) > 40)
    return [Section("images", "One pair of runs over images", text, tables=(table,))]


def _times(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _ablations(comparisons: Sequence[Comparison], methods: Sequence[str], metrics: Sequence[Metric]) -> Section:
    title, name = "Relative to the full method", "ablations"
    if not comparisons:
        return Section(name, title, ("There is nothing to set against the full method.",))
    by = {(c.b, c.metric): c for c in comparisons}
    rows, raw = [], []
    for b in methods[1:]:
        row = {"method": b}
        for metric in metrics:
            c = by.get((b, metric))
            if c is None:
                row[metric_name(metric)] = MISSING
                continue
            # Relative to the full method: what taking away does.
            low, high = (None if x is None else -x for x in (c.iqm.high, c.iqm.low))
            mark = " shown" if c.decision in ("shown", "opposite") else ""
            bounds = interval(low, high, sign=True)
            row[metric_name(metric)] = (
                f"{number(1, sign=True)(-c.iqm.mean)}{'' if bounds == MISSING else f' ({bounds})'}{mark}"
            )
            raw.append({"method": b, "metric": metric_name(metric), "difference": -c.iqm.mean, "low": low, "high": high,
                        "decision": c.decision})  # fmt: skip
        rows.append(row)
    caption = (
        f"Relative to {methods[0]}, in points: difference of interquartile means over seeds and datasets, with the "
        "bootstrap interval where each dataset has 3 seeds. 'shown': the verdict above found a difference."
    )
    return Section(name, title, tables=(Table(name, caption, pd.DataFrame(rows), pd.DataFrame(raw)),))


def _auxiliaries(
    frame: pd.DataFrame, table: pd.DataFrame, methods: Sequence[str], metrics: Sequence[Metric]
) -> Section:
    title, name, method = "Choice of the auxiliary dataset", "auxiliary", methods[0]
    here = frame[frame["method"] == method]
    if here["auxiliary"].nunique() < 2:
        only = here["auxiliary"].iloc[0]
        return Section(name, title, (f"{method} was trained on {only} alone: there is no choice to compare.",))
    tables, drawn = [], []
    seeds = here.groupby("auxiliary")["seed"].nunique()
    n = str(seeds.min()) if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    for metric in metrics:
        matrix = transfer_matrix(table, method, metric)
        if matrix.empty:
            continue
        gaps = transfer_gaps(matrix)
        caption = f"{method}, {metric_name(metric)} by auxiliary and target"
        drawn.append(Plot(slug("transfer", *metric), caption, plots.transfer(matrix, metric, n)))
        shown = gaps.map(number(1, sign=True)).rename_axis(None, axis=1)
        shown["mean gap"] = gaps.mean(axis=1).map(number(1, sign=True))
        caption = f"Transfer gap in {metric_name(metric)}: points below the best auxiliary dataset of each target"
        tables.append(Table(slug("transfer_gaps", *metric), caption, shown.reset_index(), gaps.reset_index()))
    return Section(name, title, tables=tuple(tables), plots=tuple(drawn))


def _domain_shift(collection: Collection, frame: pd.DataFrame, table: pd.DataFrame, methods: Sequence[str]) -> Section:
    title, name = "Domain shift", "shift"
    shift = read_shift(collection, frame)
    if shift.empty:
        return Section(name, title, ("No run recorded it; cops-train does by default (report.diagnostics=true).",))
    correlations = correlate_shift(shift, table, frame, methods[0])
    shown = pd.DataFrame(
        {
            "auxiliary → target": shift["auxiliary"] + " → " + shift["target"],
            "features of": shift["level"].map({"image": "images", "patch": "patches"}),
            "n": [f"{int(a)} and {int(b)}" for a, b in zip(shift["n_a"], shift["n_b"], strict=True)],
            "Fréchet distance": shift["frechet"].map(number(4)),
            "MMD²": shift["mmd"].map(number(4)),
            "p, MMD": [_p(p, "too few") for p in shift["mmd_p"]],
            "centroid cosine": shift["centroid_cosine"].map(number(4)),
        }
    )
    text = [
        "Distance between the auxiliary dataset and each target among the frozen features, which do not depend on "
        "training. The Fréchet distance grows with fewer features: compare rows of equal n. The permutation p-value "
        "tests equal distributions; patches of one image are not independent, so theirs is too small."
    ]
    for c in correlations:
        rho = c.outcome.statistic
        found = "" if rho is None else f" {rho:+.2f}"
        said = c.outcome.why if c.outcome.p is None else state_p(c.outcome.p)
        verdict = "not shown"
        if rho is not None and c.outcome.p is not None and c.outcome.p < ALPHA:
            verdict = "shown" if rho < 0 else "not shown; it rises with the distance"
        claim = f"{metric_name(c.metric)} of {c.method} falls with the distance: {verdict}"
        text.append(upper_first(f"{claim} (Spearman's rank correlation{found}, {said})."))
    svg = plots.shift_scatter(correlations)
    drawn = (Plot("domain_shift", "Performance against distance from the auxiliary dataset", svg),) if svg else ()
    return Section(
        name, title, tuple(text), tables=(Table("domain_shift", "Domain shift by target", shown, shift),), plots=drawn
    )


def _vae(collection: Collection, frame: pd.DataFrame) -> Section:
    title, name = "Health of the VAE", "vae"
    records = read_health(collection, frame)
    if not records:
        return Section(name, title, ("No run recorded it: there is no VAE, or report.diagnostics was false.",))
    raw, errors = [], []
    for r in records:
        c = r.content
        spreads = [value for value in c["score_spread"].values() if value is not None]
        raw.append(
            {
                "method": r.method, "auxiliary": r.auxiliary, "seed": r.seed, "collapsed": bool(c["collapsed"]),
                "active": c["active_units"], "d": len(c["kl"]), "kl": float(np.sum(c["kl"])),
                "gap": float(np.sum(c["gap"])), "token_spread": 100 * c["token_spread"],
                "score_spread": 100 * float(np.mean(spreads)) if spreads else None, "images": c["n"],
            }
        )  # fmt: skip
        errors += [
            {"method": r.method, "auxiliary": r.auxiliary, "seed": r.seed, "dataset": dataset, "error": error}
            for dataset, error in c["reconstruction"].items()
        ]
    found, by_dataset = pd.DataFrame(raw), pd.DataFrame(errors)
    shown = pd.DataFrame(
        {
            "method": found["method"],
            "auxiliary": found["auxiliary"],
            "seed": found["seed"].astype(str),
            "collapsed": found["collapsed"].map({True: "yes", False: "no"}),
            "active units": [f"{a} of {d}" for a, d in zip(found["active"], found["d"], strict=True)],
            "KL (nats)": found["kl"].map(number(3)),
            "gap to prior (nats)": found["gap"].map(number(3)),
            "token spread (% of length)": found["token_spread"].map(number(2)),
            "score spread over draws (points)": found["score_spread"].map(number(2)),
            "images": found["images"].astype(str),
        }
    )
    means = by_dataset.groupby(["method", "auxiliary", "dataset"], sort=False)["error"].agg(["mean", "std", "count"])
    means = means.reset_index()
    shown_errors = shown_frame(
        means,
        method=("method", str),
        auxiliary=("trained on", str),
        dataset=("dataset", str),
        mean=("relative error", number(3)),
        std=("sd over seeds", number(3)),
        count=("n", str),
    )
    collapsed = [r for r in records if r.content["collapsed"]]
    warnings = tuple(
        f"{r.method}, trained on {r.auxiliary}, seed {r.seed}: {r.content['verdict']}" for r in collapsed[:6]
    ) + ((f"… and {len(collapsed) - 6} more runs whose VAE has collapsed.",) if len(collapsed) > 6 else ())
    text = (
        "A latent dimension is active if its posterior mean varies over images by more than 0.01. KL and gap are sums "
        "over dimensions: of each image's posterior, and of all images' together, from the prior that is sampled at "
        "inference. Spread of class tokens and of scores is over latent draws.",
        f"{len(collapsed)} of {plural(len(records), 'run')} {'has' if len(collapsed) == 1 else 'have'} a collapsed "
        "VAE.",
    )
    seen: set[tuple[str, str]] = set()
    drawn: list[Plot] = []
    for r in records:
        if (r.method, r.auxiliary) in seen or len(drawn) >= MOST_LATENTS:
            continue
        seen.add((r.method, r.auxiliary))
        caption = f"Latent space of {r.method}, trained on {r.auxiliary}, seed {r.seed}. {r.content['verdict']}"
        drawn.append(Plot(slug("latents", r.method, r.auxiliary), caption, plots.latents(r)))
    tables = (
        Table("vae_health", "The VAE of every run", shown, found, folded=len(found) > 20),
        Table(
            "vae_reconstruction",
            "Reconstruction error over the variance of the features: 0 is perfect, 1 no better than their mean. With a "
            "reconstruction weight of 0 (auxiliary VisA) nothing asks for it to be small",
            shown_errors,
            means,
        ),
    )
    return Section(name, title, text, warnings, tables=tables, plots=distinct(drawn))


def _variance(collection: Collection, frame: pd.DataFrame) -> Section:
    title, name = "Where results vary", "variance"
    records = read_variance(collection, frame)
    if not records:
        return Section(name, title, ("Variance components need 2 seeds on the same 2 datasets, which no method has.",))
    raw = pd.DataFrame(
        {
            "method": r.method, "auxiliary": r.auxiliary, "datasets": r.datasets, "seeds": r.seeds, "draws": r.draws,
            **{f"var_{part}": value for part, value in asdict(r.components).items()},
            **{f"share_{part}": value for part, value in r.components.shares.items()},
        }
        for r in records
    )  # fmt: skip

    def cells(part: str) -> list[str]:
        found = []
        for r in records:
            value = getattr(r.components, part)
            share = r.components.shares.get(part)
            found.append(MISSING if value is None else f"{value:.2f}" + ("" if share is None else f" ({share:.0%})"))
        return found

    shown = pd.DataFrame(
        {
            "method": raw["method"],
            "auxiliary": raw["auxiliary"],
            f"datasets {TIMES} seeds {TIMES} draws": [
                f"{r.datasets} {TIMES} {r.seeds} {TIMES} {r.draws}" for r in records
            ],
            "dataset": cells("dataset"),
            "seed": cells("seed"),
            f"seed {TIMES} dataset": cells("interaction"),
            "latent draw": cells("draw"),
        }
    )
    text = (
        "Variance of image AUROC in squared points, split by a random-effects analysis of variance: datasets differ in "
        "difficulty; seeds differ in training; a seed may help on one dataset and hurt on another; and the latent draw "
        "differs at inference alone, measured on a sample of images. Without repeated draws the latter is part of "
        f"seed {TIMES} dataset. An estimate from few seeds is rough.",
    )
    caption = "Variance in squared points of image AUROC (share of the whole)"
    svg = plots.variance(records)
    about = "What a single number leaves open: spread by source, dataset difficulty aside"
    drawn = (Plot("variance", about, svg),) if svg else ()
    return Section(
        name, title, text, tables=(Table("variance", caption, shown, raw),), plots=drawn
    )  # fmt: skip


def _runs(collection: Collection) -> Section:
    unfinished = [job for job in collection.jobs if not job.complete]
    rows = [
        {"folder": str(job.folder), "status": job.status, "why": str(job.record.get("error", "")) or MISSING}
        for job in unfinished
    ]
    known = pd.DataFrame(
        {"method": method.name, "hash": method.hash, "labels": ", ".join(method.labels)}
        for method in collection.methods
    )
    tables = [Table("methods", "Methods: runs of equal settings, the seed left out", known)]
    if rows:
        tables.append(Table("unfinished_runs", "Without results", pd.DataFrame(rows)))
    return Section("runs", "Runs", (f"{_states(collection)}.",), items=collection.left_out, tables=tuple(tables))


def _states(collection: Collection) -> str:
    counts = Counter(job.status for job in collection.jobs)
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
