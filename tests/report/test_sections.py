"""What sections of the page say, over results that are known."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cli.studies import METRICS, TARGETS, write_diagnostics, write_run
from cops_lightning.core.measured import MEAN
from cops_lightning.report import plots
from cops_lightning.report.build import build_page
from cops_lightning.report.collect import Collection, Job, collect
from cops_lightning.report.diagnostics import Reader
from cops_lightning.report.methods import Method
from cops_lightning.report.page import MISSING, write_page
from cops_lightning.report.sections import claims, model, results, transfer
from cops_lightning.report.stats.crossed import interaction
from cops_lightning.report.study import Asked, Study

IMAGE_AUROC = METRICS[:1]


def study_of(folder):
    return Study.of(collect([folder]), Asked(metrics=IMAGE_AUROC))


def made_up(values):
    """A study of image AUROC on made-up values: a table of datasets x seeds, in points, for each method."""
    rows = [
        {"method": method, "variant": method, "job": 0, "backbone": "mini", "auxiliary": "visa",
         "dataset": f"target{n}", "seen": False, "category": MEAN, "level": "image", "metric": "auroc", "seed": seed,
         "value": value / 100}
        for method, table in values.items() for n, of in enumerate(table) for seed, value in enumerate(of)
    ]  # fmt: skip
    methods = tuple(Method(name, name, (name,)) for name in values)
    found = Collection((Job(Path("none"), {}),), pd.DataFrame(rows), methods, (), ())
    return Study.of(found, Asked(metrics=IMAGE_AUROC))


def test_beside_a_verdict_stands_the_p_of_the_test_that_it_comes_from():
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 5, 4))
    study = made_up({"cops": 80 + noise[0], "alike": 80 + noise[1], "weak": 60 + noise[1]})
    shown = claims.section(study).tables[0].shown.set_index("verdict")
    assert float(shown.loc["= equivalent", "p, difference"]) > 0.05
    assert shown.loc["= equivalent", "p, within ±1"] == "< 0.001"
    assert shown.loc["▲ better", ["p, difference", "p, within ±1"]].tolist() == ["< 0.001", "1"]
    alike, weak = map(str, study.claims)
    assert alike.endswith("after Holm's adjustment over 2 claims: equivalent, equivalence p < 0.001")
    assert weak.endswith("after Holm's adjustment over 2 claims: better, p < 0.001")


def test_where_nothing_can_be_tested_the_answer_says_what_is_missing_and_calls_nothing_undecided():
    study = made_up({"cops": [[80.0]], "a": [[70.0]], "b": [[60.0]]})
    said = (
        "Nothing can be tested for new seeds, new datasets: that needs 2 seeds of either method (there is one run of "
    )
    assert claims.answer(study) == (said + "each) and 3 datasets (there is 1).",)
    assert claims.section(study).tables[0].shown["verdict"].tolist() == [f"{MISSING} no test"] * 2


def test_the_answer_tells_what_is_undecided_from_what_could_not_be_tested():
    wide = 80 + np.array([[3.0, -3.0], [-3.0, 3.0], [5.0, -5.0]])
    study = made_up({"cops": wide, "a": wide[:, ::-1], "b": wide[:2]})
    assert claims.answer(study) == (
        "Image AUROC: cops is undecided against a; cannot be tested against b: that needs 3 datasets (there are 2).",
        "Undecided: tested, and neither a difference nor equivalence within 1 point is shown, which does not mean that "
        "there is no difference. No number of seeds up to 20 on these 3 datasets would show a difference of 1 point "
        "(by 80 % power): see What would settle it for more datasets.",
    )


def test_where_the_adjustment_or_the_number_of_seeds_leaves_claims_undecided_the_first_screen_says_so():
    noise = np.random.default_rng(3).normal(0, 0.35, (9, 3, 3))
    values = {"cops": 80 + noise[0], **{f"m{n}": 79.4 + of for n, of in enumerate(noise[1:])}}
    study = made_up(values)
    undecided = [c for c in study.claims if c.verdict == "undecided"]
    alone = [c for c in undecided if c.comparison.verdict != "undecided"]
    assert 0 < len(alone) < len(undecided)
    said = claims.answer(study)[-1]
    decided = f"{len(alone)} of the {len(undecided)} {'is' if len(alone) == 1 else 'are'} decided alone, and not after"
    assert f"{decided} the adjustment over the 8 claims of this page." in said
    planned = claims.planning(study)
    needed = planned.tables[0].raw["needed"]
    lost = needed[[c.verdict == "undecided" for c in study.claims]].isna().sum()
    assert f"show a difference of 1 point for {lost} of the {len(undecided)} (by 80 % power)" in said
    assert any(f"1 point for {needed.isna().sum()} of the 8 (by 80 % power)" in text for text in planned.text)


def test_a_figure_that_does_not_show_all_methods_says_how_many_and_where_the_others_are(monkeypatch):
    monkeypatch.setattr(plots, "MOST_METHODS", 2)
    values = {name: 80 + np.random.default_rng(0).normal(0, 1, (3, 2)) for name in ("cops", "m1", "m2", "m3")}
    study = made_up(values)
    for section, of in (
        (claims.section, "3 other methods"),
        (results.section, "4 methods"),
        (model.variance, "4 lines"),
    ):
        found = section(study)
        (plot,) = found.plots
        assert f" Drawn are the first 2 of {of}, in the order of the claims; the tables" in plot.caption
        assert (b">m1" in plot.svg, b">m3" in plot.svg) == (True, False)
        assert "m3" in found.tables[0].shown.to_string()
    monkeypatch.setattr(plots, "MOST_METHODS", 4)
    assert "Drawn" not in claims.section(study).plots[0].caption


def test_variance_is_split_from_full_runs_in_points_for_every_method_and_latent_draws_stand_apart(tmp_path):
    rng, values = np.random.default_rng(0), {}
    for variant in ("cops", "other"):
        luck = rng.normal(0, 0.01, 4)
        values[variant] = 0.7 + 0.05 * rng.random((3, 1)) + luck + rng.normal(0, 0.002, (3, 4))
        for seed in range(4):
            folder = tmp_path / f"{variant}{seed}"
            write_run(folder, dict(zip(TARGETS, values[variant][:, seed].tolist(), strict=False)), variant, seed)
            if variant == "cops":  # draws vary far less than these runs do, and seeds move them otherwise
                write_diagnostics(folder, "visa", TARGETS[:3], seed)
    found = model.variance(study_of(tmp_path)).tables[0].raw.set_index("method")
    for variant, table in values.items():
        rest = interaction(100 * table)
        of_seeds = max(0.0, np.var(100 * table.mean(axis=0), ddof=1) - rest / 3)
        assert found.loc[variant, "seed"] == pytest.approx(np.sqrt(of_seeds))
        assert found.loc[variant, "interaction"] == pytest.approx(np.sqrt(rest))
    assert np.isnan(found.loc["other", "draw"])
    assert found.loc["cops", "draw"] == pytest.approx(0.3, rel=0.5)  # its draws have a standard deviation of 0.003


def test_names_from_files_are_shown_in_one_line_and_break_no_table(tmp_path):
    name = "a|b\n| x |\x1b[31m \\| $<b>&amp;"
    for variant in ("cops", name):
        for seed in range(2):
            folder = write_run(tmp_path / "runs" / f"{len(variant)}{seed}", {name: 0.7, "t": 0.8}, variant, seed)
            write_diagnostics(folder, name, [name, "t"], seed)
    (tmp_path / "runs" / "failed").mkdir()
    (tmp_path / "runs" / "failed" / "run.json").write_text(json.dumps({"status": "failed", "error": f"{name}\r\n"}))
    written = write_page(build_page(study_of(tmp_path / "runs")), tmp_path / "out")
    texts = {path: path.read_text() for path in written}
    assert not any("\x1b" in text for text in texts.values())
    tables = re.findall(r"(?:^\|.*\n)+", texts[tmp_path / "out" / "report.md"], re.MULTILINE)
    for table in tables:
        columns = [len(re.split(r"(?<!\\)(?:\\\\)*\|", row)) for row in table.splitlines()]
        assert len(set(columns)) == 1, table
    assert len(tables) == sum(path.suffix == ".tex" for path in written)
    for path, text in texts.items():
        if path.suffix == ".csv":
            assert len(pd.read_csv(path)) == len(text.splitlines()) - 1
    assert "<b>" not in texts[tmp_path / "out" / "report.html"].partition("</style>")[2].replace("<b></b>", "")


DAMAGE = {
    "vae_health.json": ({"kl": "x"}, {"kl": [float("nan")]}, {"token_spread": None}, {"projection": []}, {"n": "1"}),
    "domain_shift.json": ({"targets": []}, {"targets": {"t": {"image": {}}}}, {"auxiliary": 5}),
}


def test_diagnostics_of_other_types_are_left_out_and_that_is_said(tmp_path):
    for seed in range(2):
        write_diagnostics(write_run(tmp_path / str(seed), {"t": 0.7, "u": 0.8}, seed=seed), "visa", ["t", "u"], seed)
    changed = [(name, json.dumps(change)) for name, changes in DAMAGE.items() for change in changes]
    changed += [(name, text) for name in DAMAGE for text in ("", "[1]", "{")]
    changed += [("latent_draws.csv", text) for text in ("auxiliary\nx\n", "auxiliary,target,value\nx,t,nan\n", "\0")]
    reader, folder = Reader(), tmp_path / "1"
    read = {"vae_health.json": reader.health, "domain_shift.json": reader.shift, "latent_draws.csv": reader.draws}
    for number, (name, text) in enumerate(changed):
        whole = (folder / name).read_text()
        assert read[name](folder)
        damaged = json.dumps(json.loads(whole) | json.loads(text)) if text.startswith('{"') else text
        (folder / name).write_text(damaged)
        assert not read[name](folder)
        assert len(reader.left_out) == number + 1
        assert str(folder / name) in reader.left_out[-1]
        (folder / name).write_text(whole)
    for name in read:
        (folder / name).write_text("")
    page = build_page(study_of(tmp_path))
    said = [caution for caution in page.warnings if caution.startswith("Left out: ")]
    assert [any(str(folder / name) in caution for caution in said) for name in read] == [True] * 3
    assert {"vae_health", "domain_shift", "variance"} <= {t.name for s in page.sections for t in s.tables}  # of seed 0


def test_results_that_are_left_out_are_counted_as_what_they_are(tmp_path):
    # Ten runs of which five saw fewer images of four targets: 20 results of a run on a dataset, not 20 runs.
    for seed in range(10):
        write_run(tmp_path / str(seed), dict.fromkeys(TARGETS[:4], 0.7 + seed / 100), seed=seed,
                  images=20 if seed < 5 else 6)  # fmt: skip
    page = build_page(study_of(tmp_path))
    assert "20 results of a run on a dataset left out, see the last section." in page.warnings
    assert page.summary[0].startswith("10 runs (10 done)")
    assert len(page.sections[-1].items) == 20


def test_auxiliary_datasets_whose_means_differ_by_luck_are_not_ranked(tmp_path):
    # Means of 76.8 and 76.7 with a standard deviation of 1 over five seeds: the error of the difference is 0.63.
    luck = np.array([-1.2, -0.6, 0.0, 0.6, 1.2])
    for auxiliary, mean, order in (("mvtec", 76.8, [0, 1, 2, 3, 4]), ("visa", 76.7, [3, 0, 4, 2, 1])):
        for seed in range(5):
            write_run(tmp_path / f"{auxiliary}{seed}", {"btad": (mean + luck[order[seed]]) / 100}, seed=seed,
                      auxiliary=auxiliary)  # fmt: skip
    (row,) = transfer.auxiliaries(study_of(tmp_path)).tables[0].raw.to_dict("records")
    assert row["difference"] == pytest.approx(0.1)
    assert row["low"] < -1
    assert row["high"] > 1
    assert row["verdict"] == "undecided"
