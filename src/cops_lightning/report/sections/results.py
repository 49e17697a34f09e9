"""The results themselves, and the published ones beside them."""

import numpy as np
import pandas as pd

from cops_lightning.core.measured import MEAN
from cops_lightning.report import plots
from cops_lightning.report.metric_names import METRICS, metric_name
from cops_lightning.report.page import MISSING, Plot, Section, Table, number, shown_frame, slug, upper_first
from cops_lightning.report.published import departures, model_of, published
from cops_lightning.report.study import Study
from cops_lightning.report.summaries import summarise


def section(study: Study) -> Section:
    """Means and spreads by dataset, and by category."""
    chosen = study.summary[study.summary["method"].isin(study.methods)]
    chosen = chosen.sort_values("method", key=lambda names: names.map(study.methods.index), kind="stable")
    chosen = chosen.assign(
        dataset=chosen["dataset"] + np.where(chosen["seen"], " *", ""),
        name=[metric_name(metric) for metric in zip(chosen["level"], chosen["metric"], strict=True)],
        cell=[form(mean) if pd.isna(sd) else f"{form(mean)} ± {form(sd)}"
              for form in [number()] for mean, sd in zip(chosen["mean"], chosen["sd"], strict=True)],
    )  # fmt: skip
    of_datasets, of_categories = chosen[chosen["category"] == MEAN], chosen[chosen["category"] != MEAN]
    tables, drawn = [], []
    spread = "mean ± standard deviation over seeds, in percent; *: trained on, not zero-shot"
    for metric in study.asked.metrics:
        name, of = metric_name(metric), study.tables(metric)
        rows = of_datasets[of_datasets["name"] == name]
        shown = _wide(rows.assign(seeds=_seeds(rows)), ["method", "auxiliary", "seeds"], "dataset")
        caption = upper_first(f"{name}: {spread}")
        tables.append(Table(slug("results", *metric), caption, shown, rows.drop(columns=["category", "cell", "name"])))
        if of:
            caption = (
                f"{upper_first(name)} by dataset: a dot per seed, a bar for the mean. Compare within a panel; "
                "whether two methods differ is a matter of the claims, not of dots that overlap."
                + plots.left_out(len(of), "methods")
            )
            drawn.append(Plot(slug("seeds", *metric), caption, plots.strips(of, metric)))
    for title, rows, keys in (
        ("dataset", of_datasets, ["method", "auxiliary", "dataset", "n"]),
        ("category", of_categories, ["method", "auxiliary", "dataset", "category", "n"]),
    ):
        if not rows.empty:
            shown = _wide(rows.assign(n=rows["n"].astype(str)), keys, "name")
            raw = rows.drop(columns=["cell", "name"])
            tables.append(Table(f"results_by_{title}", f"Every metric by {title}: {spread}", shown, raw))
    return Section("results", "Results", tables=tuple(tables), plots=tuple(drawn))


def _seeds(rows: pd.DataFrame) -> "pd.Series[str]":
    """The number of seeds of a method, the same on all its datasets or a range."""
    n = rows.groupby(["method", "auxiliary"], sort=False)["n"]
    low, high = n.transform("min").astype(str), n.transform("max").astype(str)
    return low.where(low == high, low + " to " + high)


def _wide(rows: pd.DataFrame, keys: list[str], column: str) -> pd.DataFrame:
    """A line per combination of keys, a column per metric or dataset."""
    wide = rows.set_index([*keys, column])["cell"].unstack(column, sort=False).fillna(MISSING)
    first = [metric_name(metric) for metric in METRICS if metric_name(metric) in wide.columns]
    return wide[first + [name for name in wide.columns if name not in first]].rename_axis(None, axis=1).reset_index()


def beside_published(study: Study) -> Section:
    """The authors' numbers beside runs of the same protocol; where there is none, why not."""
    title, known = "Beside the published numbers", study.runs["auxiliary"]
    reasons = {job: departures(study.collection.jobs[job].record, known[job]) for job in study.collection.used}
    same = [job for job, found in reasons.items() if not found]
    if not same:
        why = "; ".join(sorted({reason for found in reasons.values() for reason in found}))
        text = (
            "No run follows a published protocol, so none is set beside published numbers: OpenAI's ViT-L/14@336 at "
            "518 px, the released settings, all images, trained on VisA or MVTec-AD as the authors did for a target. "
            f"Here: {why}."
        )
        return Section("published", title, (text,))
    means = study.means.assign(model=[model_of(study.collection.jobs[job].record) for job in study.means["job"]])
    means = means[means["job"].isin(same)]
    ours = pd.concat([summarise(rows).assign(model=model) for model, rows in means.groupby("model")])
    theirs = published().assign(published=lambda rows: 100 * rows["value"]).drop(columns="value")
    both = theirs.merge(
        ours.rename(columns={"dataset": "target"}), on=["model", "auxiliary", "target", "level", "metric"]
    )
    both = both.assign(
        difference=both["mean"] - both["published"],
        name=[metric_name(m) for m in zip(both["level"], both["metric"], strict=True)],
    )
    shown = shown_frame(
        both,
        method=("method", str),
        target=("dataset", str),
        name=("metric", str),
        published=("published", number()),
        mean=("ours", number()),
        sd=("sd", number()),
        n=("n", str),
        difference=("difference", number(1, sign=True)),
        source=("published in", str),
    )
    text = "What the authors published, of one seed each, beside means over our n seeds; one seed has a spread too."
    return Section("published", title, (text,), tables=(Table("published", "In percent", shown, both),))
