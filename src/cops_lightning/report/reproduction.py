"""The published numbers of CoPS beside runs that repeat them: the differences, and which of them seeds explain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table as RichTable

from cops_lightning.core.measured import MEAN
from cops_lightning.core.names import printable
from cops_lightning.report import plots
from cops_lightning.report.collect import Collection
from cops_lightning.report.metric_names import METRICS, Metric, metric_name
from cops_lightning.report.page import (
    MISSING,
    Page,
    Plot,
    Section,
    Table,
    interval,
    number,
    plural,
    shown_frame,
    upper_first,
)
from cops_lightning.report.published import departures, differences, published
from cops_lightning.report.stats.prediction import one_more

MODEL = "CoPS"
ROUNDED = 0.05  # points by which a published number, of one decimal, may differ from what it was rounded from
WIDE = 5.0  # points to either side from which on an interval says nothing: it would explain anything
CHANCE = 0.05  # share of differences outside a 95 % interval where nothing differs
ANSWERS = {
    "equal": "= yes, equal",
    "inside": "yes",
    "higher": "▲ no, higher",
    "lower": "▼ no, lower",
    "open": "cannot be said",
    "none": MISSING,
}


@dataclass(frozen=True)
class Reproduction:
    """What was to be reproduced, and what came of it.

    Args:
        collection: the runs.
        pairs: every (trained on, tested on) of the protocol that was asked for, in order.
        names: how a dataset is called, by its name in results.
        seeds: those that were asked for.
        released: whether the authors' checkpoints were evaluated, so that seeds are draws at inference alone.
        missing: a sentence on each run that has no results.
        needs: a line on each thing that the runs rest on, and where it was found.
        commands: what was run, as it can be typed.
        protocols: by what is trained on, the settings of the experiment that runs are to have.
    """

    collection: Collection
    pairs: Sequence[tuple[str, str]]
    names: Mapping[str, str]
    seeds: Sequence[int]
    released: bool = False
    missing: Sequence[str] = ()
    needs: Sequence[str] = ()
    commands: Sequence[str] = ()
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def rows_of(found: Reproduction) -> pd.DataFrame:
    """A row per dataset and metric that is published or was measured: `published`, `mean`, `sd`, `difference` and the
    interval `low` to `high` of one more seed, in points, with `n` seeds and `answer`, a key of ANSWERS.
    """
    results = found.collection.results
    means = results[(results["category"] == MEAN) & results["value"].notna()]
    ours: dict[Any, list[float]] = {
        (auxiliary, target, (level, metric)): (100 * of.sort_values("seed")["value"]).tolist()
        for (auxiliary, target, level, metric), of in means.groupby(["auxiliary", "target", "level", "metric"])
    }
    authors = published()
    authors = authors[authors["model"] == MODEL]
    keys = zip(authors["auxiliary"], authors["target"], authors["level"], authors["metric"], strict=True)
    theirs = {(key[0], key[1], key[2:]): 100 * value for key, value in zip(keys, authors["value"], strict=True)}
    rows = []
    for auxiliary, target in found.pairs:
        for metric in METRICS:
            key = (auxiliary, target, metric)
            if key in ours or key in theirs:
                rows.append({"auxiliary": auxiliary, "dataset": target, "level": metric[0], "metric": metric[1],
                             **_compared(ours.get(key, []), theirs.get(key))})  # fmt: skip
    columns = ("auxiliary", "dataset", "level", "metric", *_compared([], None))
    return pd.DataFrame(rows, columns=columns)


def _compared(values: Sequence[float], of_authors: float | None) -> dict[str, Any]:
    mean = sum(values) / len(values) if values else None
    bounds = one_more(values)
    low, high = (None, None) if bounds is None else (max(0.0, bounds[0]), min(100.0, bounds[1]))
    difference = None if mean is None or of_authors is None else mean - of_authors
    if difference is None or of_authors is None:
        answer = "none"
    elif abs(difference) <= ROUNDED + 1e-9:
        answer = "equal"
    elif bounds is None:
        answer = "open"
    elif bounds[0] - ROUNDED <= of_authors <= bounds[1] + ROUNDED:
        answer = "inside" if bounds[1] - bounds[0] <= 2 * WIDE else "open"
    else:
        answer = "higher" if difference > 0 else "lower"
    sd = float(pd.Series(values).std()) if len(values) > 1 else None
    return {"published": of_authors, "mean": mean, "sd": sd, "n": len(values), "difference": difference,
            "low": low, "high": high, "answer": answer}  # fmt: skip


def build_reproduction(found: Reproduction) -> Page:
    """The answer, what it rests on, and what else moves such numbers."""
    rows = rows_of(found)
    compared = rows[rows["difference"].notna()]
    n = len(found.seeds)
    of = f"{plural(n, 'seed')} of the authors' weights" if found.released else f"{plural(n, 'seed')} trained here"
    rests = (
        "Published numbers are the authors', of one run each, with one decimal; ours are means over seeds, in percent, "
        "differences in points. A seed explains a difference where the published number lies in the interval in which "
        "one more seed of ours would fall in 95 of 100 cases (Student's t, values taken to be normal; the published "
        f"number may be off by its rounding). An interval of more than {WIDE:g} points to either side would explain "
        "anything, so nothing is said by it.",
    )
    records = [found.collection.jobs[job].record for job in found.collection.used]
    hours = sum(float(record.get("duration_seconds") or 0) for record in records) / 3600
    versions = records[0].get("versions") or {}
    software = [f"software: {', '.join(f'{name} {of}' for name, of in versions.items())}"] if versions else []
    sections = (
        _beside(found, rows),
        _all_metrics(found, rows),
        _protocols(),
        Section("needs", "What it rests on", ("Checked before anything was run:",), (*found.needs, *software)),
        Section(
            "commands",
            "How to repeat it",
            ("cops-reproduce ran these; each can be typed by itself, and skips what is done:",),
            tuple(found.commands),
        ),
    )
    return Page(
        "Reproduction of CoPS (arXiv 2508.03447)",
        f"Are the published numbers those of {of}?",
        _answer(compared),
        (f"{plural(len(records), 'run')}, {hours:.1f} h; seeds {', '.join(map(str, found.seeds))}.", *rests),
        _cautions(found, compared),
        sections,
    )


def _answer(rows: pd.DataFrame) -> tuple[str, ...]:
    if rows.empty:
        return ("No published number is of what was run.",)
    counts = {answer: int((rows["answer"] == answer).sum()) for answer in ANSWERS}
    judged = len(rows) - counts["open"]
    parts = [
        (counts["equal"], "equal here to the last digit"),
        (counts["inside"], "differ as seeds do"),
        (counts["higher"], "higher here than seeds explain"),
        (counts["lower"], "lower here than seeds explain"),
        (counts["open"], "of which it cannot be said, as seeds are too few"),
    ]
    said = [f"{count} {what}" for count, what in parts if count or (judged and "explain" in what)]
    first = f"{plural(len(rows), 'published number')}: {', '.join(said)}."
    if judged > counts["equal"]:
        first += f" If nothing differed, about {CHANCE * judged:.0f} of {judged} would be higher or lower by chance."
    means = [
        f"{metric_name(metric)} {number(1, sign=True)(of['difference'].mean())} over {plural(len(of), 'dataset')}"
        for metric in METRICS
        for of in [_of(rows, metric)]
        if len(of)
    ]
    return (first, f"Ours less published, mean over datasets, in points: {', '.join(means)}.")


def _cautions(found: Reproduction, rows: pd.DataFrame) -> tuple[str, ...]:
    jobs = [found.collection.jobs[job] for job in found.collection.used]
    trained_on = found.collection.results.drop_duplicates("job").set_index("job")["auxiliary"]
    differs: dict[str, None] = {}
    for job in found.collection.used:
        record, auxiliary = found.collection.jobs[job].record, trained_on[job]
        differs |= dict.fromkeys(departures(record, auxiliary, MODEL if found.released else None))
        if auxiliary in found.protocols:
            differs |= dict.fromkeys(differences(record, found.protocols[auxiliary]))
    said = []
    if differs:
        said.append(
            f"This is no reproduction: the runs are not of the published protocol ({'; '.join(differs)}). What is "
            "below shows that everything works, and says nothing about the paper."
        )
    if any(job.is_random for job in jobs):
        said.append("The backbone has random weights: the numbers mean nothing.")
    if found.released:
        said.append(
            "The weights are the authors' own, so seeds are draws at inference alone, without the spread of training."
        )
    if len(found.seeds) == 1:
        said.append("There is a single seed: nothing can be said about spread. Ask for at least three by seeds=0,1,2.")
    return (*said, *found.missing)


def _beside(found: Reproduction, rows: pd.DataFrame) -> Section:
    compared = rows[rows["published"].notna()].assign(
        name=lambda of: of["dataset"].map(found.names).fillna(of["dataset"]),
        called=lambda of: [metric_name(metric) for metric in zip(of["level"], of["metric"], strict=True)],
        on=lambda of: of["auxiliary"].map(found.names).fillna(of["auxiliary"]),
        more=lambda of: [interval(*bounds) for bounds in zip(of["low"], of["high"], strict=True)],
    )
    shown = shown_frame(
        compared,
        name=("dataset", printable),
        called=("metric", str),
        published=("published", number()),
        mean=("ours", number()),
        difference=("difference", number(1, sign=True)),
        answer=("do seeds explain it?", lambda answer: ANSWERS[answer]),
        sd=("sd", number(2)),
        n=("seeds", str),
        more=("one more seed", str),
        on=("trained on", printable),
    )
    source = ", ".join(dict.fromkeys(published().query("model == @MODEL")["source"]))
    drawn = compared[compared["difference"].notna()]
    figures: tuple[Plot, ...] = ()
    if not drawn.empty:
        caption = (
            "Ours less published, in points, by dataset: a dot for the mean over seeds, a bar where one more seed "
            "would fall in 95 of 100 cases. Filled dots are differences that seeds do not explain."
        )
        figures = (Plot("differences", caption, plots.differences(drawn)),)
    text = f"Published numbers from: {source}. A dash is a number that nobody published, or a run that is missing."
    return Section(
        "published",
        "Published numbers beside ours",
        (text,),
        tables=(Table("reproduction", "In percent, differences in points", shown, rows),),
        plots=figures,
        is_open=True,
        beside=True,
    )


def _all_metrics(found: Reproduction, rows: pd.DataFrame) -> Section:
    form, spread = number(), number(2)
    measured = rows[rows["mean"].notna()].assign(
        dataset=lambda of: of["dataset"].map(found.names).fillna(of["dataset"]).map(printable),
        called=lambda of: [metric_name(metric) for metric in zip(of["level"], of["metric"], strict=True)],
        cell=lambda of: [
            form(mean) if pd.isna(sd) else f"{form(mean)} ± {spread(sd)}"
            for mean, sd in zip(of["mean"], of["sd"], strict=True)
        ],
    )
    if measured.empty:
        return Section("measured", "Every metric", ("No run has results.",))
    wide = measured.set_index(["dataset", "called"])["cell"].unstack("called", sort=False).fillna(MISSING)
    wide = wide[[name for name in map(metric_name, METRICS) if name in wide.columns]]
    table = Table(
        "measured",
        upper_first("ours: mean ± standard deviation over seeds, in percent; a dash where the set does not define it"),
        wide.rename_axis(None, axis=1).reset_index(),
        measured.drop(columns=["called", "cell"]),
    )
    return Section("measured", "Every metric", tables=(table,))


def _protocols() -> Section:
    with files("cops_lightning.report").joinpath("protocols.csv").open(encoding="utf-8") as file:
        choices = pd.read_csv(file, keep_default_na=False)
    text = (
        "Seeds are one reason why numbers differ. These choices are others; between papers many of them differ, and a "
        "number of one paper is seldom one of another's protocol."
    )
    return Section(
        "protocols",
        "Choices of protocol that move numbers",
        (text,),
        tables=(Table("protocols", "What is done where", choices),),
    )


def console_table(found: Reproduction, rows: pd.DataFrame) -> RichTable:
    """A line per dataset: ours in percent, and the difference to the published number; * where no seed explains it."""
    shown = [metric for metric in METRICS if len(_of(rows, metric).dropna(subset=["published"]))]
    table = RichTable(
        title="Ours, and less published, in percent and points", title_justify="left", box=box.SIMPLE_HEAD
    )
    table.add_column("dataset", overflow="fold")
    for metric in shown:
        table.add_column(metric_name(metric).replace(" ", "\n"), justify="right", no_wrap=True)
    for _, target in found.pairs:
        cells = [_of(rows[rows["dataset"] == target], metric) for metric in shown]
        table.add_row(found.names.get(target, target), *(_cell(cell) for cell in cells))
    return table


def _of(rows: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    return rows[(rows["level"] == metric[0]) & (rows["metric"] == metric[1])]


def _cell(rows: pd.DataFrame) -> str:
    if rows.empty or pd.isna(rows["mean"].iloc[0]):
        return MISSING
    (row,) = rows.to_dict("records")
    mark = "*" if row["answer"] in ("higher", "lower") else " "
    difference = "" if pd.isna(row["difference"]) else number(1, sign=True)(row["difference"])
    return f"{number()(row['mean'])} {difference:>5}{mark}"
