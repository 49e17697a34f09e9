"""The claims: what was asked, the answer, one line for each claim; by dataset; and what would settle the rest."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from cops_lightning.core.errors import listed
from cops_lightning.report import plots
from cops_lightning.report.claims import ALPHA, SYMBOLS, Claim, Contrast, Verdict
from cops_lightning.report.metric_names import metric_name
from cops_lightning.report.page import (
    MINUS,
    MISSING,
    TIMES,
    Plot,
    Section,
    Table,
    interval,
    number,
    plural,
    shown_frame,
    upper_first,
)
from cops_lightning.report.stats.crossed import SCOPE_NAMES
from cops_lightning.report.stats.outcome import format_p
from cops_lightning.report.stats.planning import Pilot, detectable
from cops_lightning.report.study import Study

MOST_NAMED = 4
SEEDS, DATASETS = (3, 5, 10, 20), (3, 5, 8, 13)


def question(study: Study) -> str:
    """What was asked, in one sentence."""
    others = study.methods[1:]
    if not others:
        return f"How good is {study.first}?"
    named = ", ".join(others) if len(others) <= MOST_NAMED else f"each of {len(others)} other methods"
    return f"Is {study.first} better than {named}, for {SCOPE_NAMES[study.asked.scope]}?"


def answer(study: Study) -> tuple[str, ...]:
    """A sentence for every metric; after the family's adjustment."""
    if not study.claims:
        return ("Nothing is compared: there is one method with results.",)
    untested = _untested(study.claims)
    if len(untested) == 1 and sum(map(len, untested.values())) == len(study.claims):
        (why,) = untested
        return (f"Nothing can be tested for {SCOPE_NAMES[study.asked.scope]}: {_asks(why)}.",)
    said = []
    for metric in study.asked.metrics:
        claims = [c for c in study.claims if (c.comparison.level, c.comparison.metric) == metric]
        parts = {
            "better": f"{study.first} is better than",
            "worse": "worse than",
            "equivalent": f"equivalent within {study.asked.margin:g} to",
            "undecided": "undecided against",
        }
        found: list[str] = []
        for verdict, words in parts.items():
            names = [c.comparison.b for c in claims if c.verdict == verdict and c.p is not None]
            if names and verdict == "undecided" and len(names) > 1:
                found.append(f"{words if found else f'{study.first} is undecided against'} {len(names)} methods")
            elif names:
                words = words if found else f"{study.first} is {words.removeprefix(f'{study.first} is ')}"
                found.append(f"{words} {listed(names, MOST_NAMED)}")
        for why, names in _untested(claims).items():
            against = listed(names, MOST_NAMED) if len(names) <= MOST_NAMED else f"{len(names)} methods"
            found.append(f"{'' if found else f'{study.first} '}cannot be tested against {against}: {_asks(why)}")
        if found:
            said.append(f"{upper_first(metric_name(metric))}: {'; '.join(found)}.")
    why = _undecided(study)
    return (*said, why) if why else tuple(said)


def _undecided(study: Study) -> str:
    """What is undecided here, in words: what the tests left open, and whether more seeds would help; else empty."""
    claims = [c for c in study.claims if c.p is not None and c.verdict == "undecided"]
    if not claims:
        return ""
    said = [
        f"Undecided: tested, and neither a difference nor equivalence within {_points(study)} is shown, which does not "
        "mean that there is no difference."
    ]
    alone = sum(c.comparison.verdict != "undecided" for c in claims)
    if alone:
        said.append(
            f"{_share(alone, len(claims), 'is', 'are')} decided alone, and not after the adjustment over the "
            f"{_family(study)}."
        )
    return " ".join([*said, *_hopeless(study, claims)])


def _hopeless(study: Study, claims: Sequence[Claim]) -> tuple[str, ...]:
    """A sentence where no number of seeds that is looked at is enough for some of these claims."""
    needs = [_finds(study, c) for c in claims]
    planned = [(c, need) for c, need in zip(claims, needs, strict=True) if need is not None]
    lost = [c for c, (_, needed) in planned if needed is None]
    if not lost:
        return ()
    counts = sorted({len(c.comparison.contrast.datasets) for c in lost})
    datasets = f"these {counts[0]} datasets" if len(counts) == 1 else "as many datasets"
    of = "" if len(lost) == len(claims) else f" for {len(lost)} of the {len(claims)}"
    return (
        f"No number of seeds up to {max(SEEDS)} on {datasets} would show a difference of {_points(study)}{of} (by 80 % "
        "power): see What would settle it for more datasets.",
    )


def _share(count: int, of: int, one: str, more: str) -> str:
    if of == 1:
        return f"The claim {one}"
    return f"{count} of the {of} {one if count == 1 else more}"


def _family(study: Study) -> str:
    tested = study.claims[0].family
    which = "claim" if tested in (0, len(study.claims)) else "tested claim"
    looks = f", and by {study.asked.looks} for as many looks at growing results" if study.asked.looks > 1 else ""
    return f"{plural(tested or len(study.claims), which)} of this page{looks}"


def _points(study: Study) -> str:
    return f"{study.asked.margin:g} point{'' if study.asked.margin == 1 else 's'}"


def _finds(study: Study, claim: Claim) -> tuple[float, int | None] | None:
    """The smallest difference that this study finds, and the fewest seeds that find the margin; None without a plan."""
    c = claim.comparison
    pilot = _pilot(c.contrast)
    if pilot is None or c.p_value is None:
        return None
    found = {s: detectable(pilot, pilot.n_datasets, s, study.asked.scope) for s in sorted({pilot.n_seeds, *SEEDS})}
    return found[pilot.n_seeds], next((s for s, least in found.items() if least <= study.asked.margin), None)


def _untested(claims: Sequence[Claim]) -> dict[str, list[str]]:
    """By what is missing the other methods of the claims that no test was possible for."""
    found: dict[str, list[str]] = {}
    for c in (claim.comparison for claim in claims if claim.p is None):
        found.setdefault(c.contrast.missing(c.scope, named=False), []).append(c.b)
    return found


def _asks(missing: str) -> str:
    return missing.replace("needs ", "that needs ", 1)


def numbers(claims: Sequence[Claim]) -> pd.DataFrame:
    """A row per claim."""
    return pd.DataFrame(
        {
            "A": c.comparison.a, "B": c.comparison.b, "metric": metric_name((c.comparison.level, c.comparison.metric)),
            "scope": SCOPE_NAMES[c.comparison.scope], "difference": c.comparison.difference,
            "low": bounds[0], "high": bounds[1], "verdict_alone": c.comparison.verdict, "p": c.comparison.p_value,
            "verdict": c.verdict, "p_holm": c.p, "p_equivalent": c.comparison.p_equivalent,
            "p_equivalent_holm": c.p_equivalent, "seeds": c.comparison.contrast.seeds,
            "datasets": len(c.comparison.contrast.datasets), "why": c.comparison.why,
        }
        for c in claims
        for bounds in [c.comparison.interval or (None, None)]
    )  # fmt: skip


def section(study: Study) -> Section:
    """One table and one forest plot."""
    margin, claims = study.asked.margin, study.claims
    if not claims:
        return Section("claims", "Claims", ("Nothing is compared.",), is_open=True)
    raw = numbers(claims)
    shown = pd.DataFrame(
        {
            f"{study.first} {MINUS} …": raw["B"],
            "metric": raw["metric"],
            "verdict": show_verdicts(raw),
            "Δ (95 % interval)": show_intervals(raw, 2),
            **show_ps(raw, margin),
            "alone": show_verdicts(raw, "verdict_alone"),
            f"seeds {TIMES} datasets": raw["seeds"] + f" {TIMES} " + raw["datasets"].astype(str),
        }
    )
    caption = (
        f"{study.first} {MINUS} the other in points, for {SCOPE_NAMES[study.asked.scope]}; both p after Holm's "
        f"adjustment over the {_family(study)}"
    )
    most = max(
        sum((c.comparison.level, c.comparison.metric) == metric for c in claims) for metric in study.asked.metrics
    )
    plot = Plot(
        "claims",
        f"Differences with their 95 % intervals on one scale; the band is ±{margin:g} points. Alone: better or worse "
        "where the interval excludes 0, equivalent where the 90 % interval lies within the band, else undecided. "
        "Verdict: the same after the adjustment, by the p of a difference or by that of one within the band; filled "
        "where it is better or worse." + plots.left_out(most, "other methods"),
        plots.forest(claims, margin),
    )
    missing = sorted({c.comparison.why for c in claims if c.comparison.p_value is None})
    return Section(
        "claims",
        "Claims",
        tuple(upper_first(f"{why}.") for why in missing[:MOST_NAMED]),
        tables=(Table("claims", caption, shown, raw),),
        plots=(plot,),
        is_open=True,
        beside=True,
    )


def show_verdicts(raw: pd.DataFrame, column: str = "verdict") -> list[str]:
    """The verdicts of a frame of `numbers` with their symbols; that there was no test where there was none."""
    verdicts: list[Verdict] = raw[column].tolist()
    return [
        f"{MISSING} no test" if pd.isna(p) else f"{SYMBOLS[verdict]} {verdict}"
        for verdict, p in zip(verdicts, raw["p"], strict=True)
    ]


def show_ps(raw: pd.DataFrame, margin: float) -> dict[str, "pd.Series[str]"]:
    """After Holm's adjustment the p-values of both tests that a verdict may come from, from a frame of `numbers`."""
    return {
        "p, difference": raw["p_holm"].map(show_p),
        f"p, within ±{margin:g}": raw["p_equivalent_holm"].map(show_p),
    }


def show_p(p: object) -> str:
    """A p-value, or a dash where there is none."""
    return MISSING if p is None or pd.isna(p) else format_p(float(p))  # type: ignore[call-overload,arg-type]


def by_dataset(study: Study) -> Section:
    """Every claim on each dataset, as matrices, and in the other scope."""
    tables = []
    raw: list[dict[str, object]] = []
    for metric in study.asked.metrics:
        lines = []
        for c in (c.comparison for c in study.claims):
            if (c.level, c.metric) != metric:
                continue
            line = {"B": c.b}
            for i, dataset in enumerate(c.contrast.datasets):
                one = c.contrast.on(i)
                found = None if one.missing("these_datasets") else one.estimate("these_datasets")
                bounds = (None, None) if found is None else found.interval(1 - ALPHA)
                difference = float(one.by_dataset.mean())
                line[dataset] = _with_interval(difference, *bounds)
                raw.append({"A": c.a, "B": c.b, "metric": metric_name(metric), "dataset": dataset,
                            "difference": difference, "low": bounds[0], "high": bounds[1]})  # fmt: skip
            lines.append(line)
        if lines:
            caption = f"{study.first} {MINUS} B in {metric_name(metric)} by dataset, in points"
            name = "by_dataset_" + "_".join(metric)
            numbers_of = [row for row in raw if row["metric"] == metric_name(metric)]
            tables.append(Table(name, caption, pd.DataFrame(lines).fillna(MISSING), pd.DataFrame(numbers_of)))
    other = numbers(study.other_claims)
    if not other.empty:
        shown = pd.DataFrame(
            {
                "B": other["B"],
                "metric": other["metric"],
                "Δ (95 % interval)": show_intervals(other),
                "verdict": show_verdicts(other),
                **show_ps(other, study.asked.margin),
            }
        )
        scope = SCOPE_NAMES[study.other_claims[0].comparison.scope]
        caption = f"The same claims for {scope}, both p after Holm's adjustment over them"
        tables.append(Table("claims_other_scope", caption, shown, other))
    text = (
        "Intervals at 95 % over seeds, each by itself: of twenty that hold 0, one is expected to miss it. They tell "
        "where a difference comes from; the claims above decide.",
    )
    return Section("by_dataset", "Claims by dataset, and in the other scope", text, tables=tuple(tables))


def _with_interval(mean: float, low: float | None, high: float | None, digits: int = 1) -> str:
    bounds = interval(low, high, digits, sign=True)
    return number(digits, sign=True)(mean) + ("" if bounds == MISSING else f" ({bounds})")


def show_intervals(raw: pd.DataFrame, digits: int = 1) -> list[str]:
    """Differences with their intervals, from the columns difference, low and high."""
    columns = (raw[name] for name in ("difference", "low", "high"))
    return [_with_interval(mean, low, high, digits) for mean, low, high in zip(*columns, strict=True)]


def planning(study: Study) -> Section:
    """What this study could find, what a larger one would, and how large the noise of single runs is."""
    margin = study.asked.margin
    rows = []
    for claim in study.claims:
        c = claim.comparison
        noise, df = _single_run_noise(c.contrast)
        row: dict[str, object] = {
            "B": c.b, "metric": metric_name((c.level, c.metric)),
            "worse": None if c.probabilities is None else c.probabilities[0],
            "within": None if c.probabilities is None else c.probabilities[1],
            "better": None if c.probabilities is None else c.probabilities[2],
            "detectable": None, "needed": None, "noise": noise,
            "single": None if noise is None else noise * float(stats.t.isf(ALPHA / 2, df)),
            "p_published": None,
        }  # fmt: skip
        found = _finds(study, claim)
        if found is not None:
            row["detectable"], row["needed"] = found
        if study.asked.published is not None and noise:
            row["p_published"] = float(2 * stats.t.sf(abs(study.asked.published) / noise, df))
        rows.append(row)
    if not rows:
        return Section("planning", "Planning", ("There is no claim to plan for.",))
    raw = pd.DataFrame(rows)
    columns: dict[str, tuple[str, Callable[[Any], str]]] = {
        "B": ("B", str),
        "metric": ("metric", str),
        "detectable": ("found with 80 %", number(2)),
        "needed": (f"seeds for {_points(study)}", _count),
        "worse": (f"P(worse by {margin:g})", number(2)),
        "within": ("P(within)", number(2)),
        "better": (f"P(better by {margin:g})", number(2)),
        "noise": ("sd of two single runs", number(2)),
        "single": ("beyond noise", number(2)),
    }
    if study.asked.published is not None:
        columns["p_published"] = (f"p of {study.asked.published:g} points", show_p)
    text = [
        "Found with 80 %: the smallest true difference that a study of this size finds with a probability of 0.8, by "
        "simulation under the rule that decides, unadjusted, with what this study leaves open about its own spread. "
        f"Seeds: the fewest of {', '.join(map(str, SEEDS))} on as many datasets that find the margin; a dash where "
        "none of them does, or where there is nothing to plan with.",
        *_hopeless(study, study.claims),
        "P: Bayesian second reading (signed-rank with a region of practical equivalence; seeds drawn jointly). With "
        "few seeds it is bolder than the interval.",
        "Two single runs: how far the difference of one run of each moves from seed to seed, in the mean over these "
        "datasets. A published difference of two single runs below the last column is within that noise.",
    ]
    tables = [Table("planning", "By claim, in points", shown_frame(raw, **columns), raw)]
    grid = _grid(study)
    if grid is not None:
        tables.append(grid)
    return Section("planning", "What would settle it", tuple(text), tables=tuple(tables))


def _count(value: object) -> str:
    return MISSING if value is None or pd.isna(value) else str(int(value))  # type: ignore[call-overload]


def _pilot(contrast: Contrast) -> Pilot | None:
    if len(contrast.datasets) < 2 or not contrast.groups or contrast.single:
        return None
    return Pilot.of(contrast.groups, contrast.constant)


def _single_run_noise(contrast: Contrast) -> tuple[float | None, int]:
    """Standard deviation of the difference of two single runs over seeds, and its degrees of freedom."""
    groups = [group.mean(axis=0) for group in contrast.groups if group.size]
    if not groups or contrast.single:
        return None, 0
    variance = sum(float(np.var(of_seeds, ddof=1)) for of_seeds in groups)
    return float(np.sqrt(variance)), min(len(of_seeds) for of_seeds in groups) - 1


def _grid(study: Study) -> Table | None:
    """What designs of seeds x datasets would find, for the claim whose spread is the median one."""
    pilots = [(p, c.comparison) for c in study.claims if (p := _pilot(c.comparison.contrast)) is not None]
    if not pilots:
        return None
    pilot, claim = sorted(pilots, key=lambda pair: pair[0].seeds + pair[0].rest)[len(pilots) // 2]
    raw = pd.DataFrame(
        {"seeds": s, "datasets": n, "detectable": detectable(pilot, n, s, study.asked.scope)}
        for s in SEEDS
        for n in DATASETS
    )
    wide = raw.pivot_table(index="seeds", columns="datasets", values="detectable").map(number(2))
    shown = wide.rename(columns=lambda n: f"{n} datasets").rename_axis(None, axis=1).reset_index().astype(str)
    name = metric_name((claim.level, claim.metric))
    caption = (
        f"Designs: the smallest true difference found with 80 %, in points, with the spread of {claim.a} {MINUS} "
        f"{claim.b} in {name}, the median claim"
    )
    return Table("designs", caption, shown, raw)
