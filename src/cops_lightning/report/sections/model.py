"""Inside the method: what the VAE of the class tokens does, and where results vary."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from cops_lightning.report import plots
from cops_lightning.report.claims import frame
from cops_lightning.report.diagnostics import Reader
from cops_lightning.report.metric_names import metric_name
from cops_lightning.report.page import TIMES, Plot, Section, Table, distinct, number, plural, shown_frame, slug
from cops_lightning.report.stats.variance import variance_components
from cops_lightning.report.study import Study

MOST_LATENTS = 4
WHO = ["method", "auxiliary", "seed"]


def vae(study: Study) -> Section:
    """Use of the posterior, and variety over draws."""
    title, runs = "The VAE of the class tokens", study.runs
    rows, errors, reader = [], [], Reader()
    drawn: dict[tuple[str, str], Plot] = {}
    for job, (method, auxiliary, seed) in zip(runs.index, runs[WHO].to_numpy().tolist(), strict=True):
        c = reader.health(study.collection.jobs[job].folder)
        if c is None:
            continue
        who = {"method": method, "auxiliary": auxiliary, "seed": seed}
        if len(drawn) < MOST_LATENTS and (method, auxiliary) not in drawn:
            caption = (
                f"Latent space of {method}, trained on {auxiliary}, seed {seed}: images beside the prior, and the KL "
                "of every dimension"
            )
            drawn[method, auxiliary] = Plot(slug("latents", method, auxiliary), caption, plots.latents(c))
        kl = np.array(c.kl)
        rows.append(
            who | {"kl": kl.sum(), "kl_largest": kl.max(), "active": c.active_units, "d": len(kl),
                   "gap": float(np.sum(c.gap)), "token_spread": 100 * c.token_spread,
                   "text_spread": _mean_percent(c.text_spread), "score_spread": _mean_percent(c.score_spread),
                   "images": c.n}
        )  # fmt: skip
        if c.recon_weight > 0:
            errors += [(method, auxiliary, dataset, error) for dataset, error in c.reconstruction.items()]
    left_out = tuple(reader.left_out)
    if not rows:
        why = "No run recorded it: there is no VAE, or callbacks.diagnostics was null."
        return Section("vae", title, (why,), left_out=left_out)
    raw = pd.DataFrame(rows)
    shown = shown_frame(
        raw.assign(units=[f"{a} of {d}" for a, d in zip(raw["active"], raw["d"], strict=True)]),
        method=("method", str),
        auxiliary=("auxiliary", str),
        seed=("seed", str),
        kl=("KL (nats)", number(3)),
        kl_largest=("largest KL of a dimension", number(4)),
        units=("active units", str),
        gap=("gap to prior (nats)", number(3)),
        token_spread=("class tokens (%)", number(1)),
        text_spread=("text features (%)", number(2)),
        score_spread=("scores (points)", number(2)),
        images=("images", str),
    )
    texts = f"text features by {_range(raw['text_spread'], 2)} %, " if raw["text_spread"].notna().any() else ""
    trained = len(raw[["method", "auxiliary"]].drop_duplicates())
    text = (
        f"Does the posterior use the image? KL from the prior is {_range(raw['kl'], 3)} nats over "
        f"{plural(int(raw['d'].iloc[0]), 'dimension')}, {_range(raw['active'], 0)} of them active (the posterior mean "
        "varies over images by more than 0.01). This is a matter of degree: near 0 every image is given the same "
        "distribution, which is called posterior collapse.",
        f"Do draws from the prior differ? Class tokens vary by {_range(raw['token_spread'], 1)} % of their length, "
        f"{texts}an image's score by {_range(raw['score_spread'], 2)} points. Near 0 would be mode collapse. A "
        "posterior may be unused while draws still vary, and tokens may vary while the score hardly does.",
        *(
            [f"Latent spaces are drawn of the first {MOST_LATENTS} of {trained} methods and auxiliary datasets."]
            if trained > MOST_LATENTS
            else []
        ),
    )
    tables = [Table("vae_health", "By run", shown, raw)]
    if errors:
        keys = ["method", "auxiliary", "dataset"]
        known = pd.DataFrame(errors, columns=[*keys, "error"]).groupby(keys, sort=False)["error"]
        by_dataset = known.agg(["mean", "std", "count"]).reset_index()
        shown = shown_frame(
            by_dataset,
            method=("method", str),
            auxiliary=("auxiliary", str),
            dataset=("dataset", str),
            mean=("relative error", number(3)),
            std=("sd over seeds", number(3)),
            count=("n", str),
        )
        caption = (
            "Reconstruction error over the variance of the features, where training asks for it: 0 is perfect, 1 no "
            "better than their mean"
        )
        tables.append(Table("vae_reconstruction", caption, shown, by_dataset))
    return Section("vae", title, text, tables=tuple(tables), plots=distinct(drawn.values()), left_out=left_out)


def _mean_percent(by_dataset: Mapping[str, float | None]) -> float | None:
    values = [value for value in by_dataset.values() if value is not None]
    return 100 * float(np.mean(values)) if values else None


def _range(values: "Sequence[float] | pd.Series[float]", digits: int) -> str:
    known = pd.Series(values).dropna()
    form = number(digits)
    low, high = form(known.min()), form(known.max())
    return low if low == high else f"{low} to {high}"


def variance(study: Study) -> Section:
    """The variance of the headline metric, from full runs; the latent draw as a component of its own."""
    title, metric = "Where results vary", study.asked.metrics[0]
    rows, reader = [], Reader()
    for method in study.methods:
        for auxiliary, table in study.cells[metric].get(method, {}).items():
            full = frame(table).dropna().to_numpy()
            if min(full.shape) < 2:
                continue
            parts = asdict(variance_components(full))
            rows.append(
                {"method": method, "auxiliary": auxiliary, "datasets": full.shape[0], "seeds": full.shape[1]}
                | {part: float(np.sqrt(value)) for part, value in parts.items()}
                | {"draw": _draws(study, method, auxiliary, reader) if metric == ("image", "auroc") else None}
            )
    if not rows:
        why = "It needs 2 seeds on the same 2 datasets, which no method has."
        return Section("variance", title, (why,))
    raw = pd.DataFrame(rows)
    shown = shown_frame(
        raw.assign(design=[f"{d} {TIMES} {s}" for d, s in zip(raw["datasets"], raw["seeds"], strict=True)]),
        method=("method", str),
        auxiliary=("auxiliary", str),
        design=(f"datasets {TIMES} seeds", str),
        dataset=("datasets", number(2)),
        seed=("seed", number(2)),
        interaction=(f"seed {TIMES} dataset", number(2)),
        draw=("latent draw, on a sample", number(2)),
    )
    text = (
        f"Standard deviation of {metric_name(metric)} in points, by source, all from full test sets: datasets differ "
        "in difficulty; a seed moves all datasets at once; a seed may help on one dataset and hurt on another. An "
        "estimate from few seeds is rough, and 0 means that the others explain what is seen.",
        "The latent draw differs at inference alone. It is measured by scoring the same images again, on a sample of "
        f"each dataset, where AUROC varies more than on all images; on full test sets it is part of seed {TIMES} "
        "dataset.",
    )
    caption = f"Standard deviations in points of {metric_name(metric)}"
    open_ = "What a single number leaves open, dataset difficulty aside." + plots.left_out(len(raw), "lines")
    drawn = Plot("variance", open_, plots.variance(raw, metric))
    tables = (Table("variance", caption, shown, raw),)
    return Section("variance", title, text, tables=tables, plots=(drawn,), left_out=tuple(reader.left_out))


def _draws(study: Study, method: str, auxiliary: str, reader: Reader) -> float | None:
    """Standard deviation over latent draws within a run and dataset, in points."""
    jobs = study.runs[(study.runs["method"] == method) & (study.runs["auxiliary"] == auxiliary)].index
    drawn: dict[tuple[int, str], list[float]] = {}
    for job in jobs:
        for trained_on, target, value in reader.draws(study.collection.jobs[job].folder):
            if trained_on != target and value is not None:
                drawn.setdefault((job, target), []).append(value)
    variances = [np.var(values, ddof=1) for values in drawn.values() if len(values) > 1]
    return 100 * float(np.sqrt(np.mean(variances))) if variances else None
