"""`cops-report` as a user runs it, over studies whose differences are known."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cops_lightning.core.errors import ConfigError
from cops_lightning.report import compare, load

from .studies import TARGETS, write_diagnostics, write_run, write_study

SECTIONS = (
    "Claims", "Claims by dataset, and in the other scope", "What would settle it", "Results",
    "Beside the published numbers", "Interquartile means, probability of improvement, profiles", "All methods ranked",
    "Claims over new images", "Choice of the auxiliary dataset", "Domain shift", "The VAE of the class tokens",
    "Where results vary", "Runs",
)  # fmt: skip
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Seven targets, five seeds; static_prompts are 3 points worse, without_states no different; one VAE is dead."""
    root = tmp_path_factory.mktemp("study")
    write_study(root, {"cops": 0.03, "static_prompts": 0.0, "without_states": 0.03})
    for seed in range(5):
        write_diagnostics(root / f"cops-{seed}", "visa", TARGETS, seed, collapsed=seed == 3)
    write_run(root / "broken", {}, status="failed", seed=9)
    (root / "broken" / "results.csv").unlink()
    return root


@pytest.fixture(scope="module")
def reported(study, run_command, tmp_path_factory):
    """The report of that study: its folder and what was printed."""
    out = tmp_path_factory.mktemp("out")
    result = run_command("cops-report", str(study), "--out", str(out), "--metric", "image/auroc")
    assert result.returncode == 0, result.stderr
    return out, result.stdout


def test_a_report_lies_neither_in_a_run_nor_in_a_dataset(run_command, tmp_path):
    write_run(tmp_path / "run", {"tiles": 0.8})
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "tiles").mkdir()
    place = {"role": "target", "name": "tiles", "fingerprint": "f"}
    for layout, out, refused in (
        ("folders", "run/x", True),
        ("folders", "tiles/x", True),
        ("parts.csv", "tiles/x", False),
        ("parts.csv", "tiles", True),
    ):
        data = [{**place, "root": str(tmp_path / "tiles"), "layout": layout}]
        (tmp_path / "run" / "run.json").write_text(json.dumps({**record, "data": data}))
        result = run_command("cops-report", str(tmp_path / "run"), "--out", str(tmp_path / out))
        assert (result.returncode, (tmp_path / out / "report.md").exists()) == (int(refused), not refused)
        assert ("Nothing was written." in result.stderr) == refused


@pytest.mark.parametrize("there", ["report.html", "report.md", "figures/roc.svg", "tables/means.csv"])
@pytest.mark.parametrize("words", [("cops-report", "runs", "--out", "rep"), ("cops-reproduce", "check", "out=rep")])
def test_a_page_replaces_nothing_of_somebody_else(there, words, run_command, tmp_path):
    (tmp_path / "rep" / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "rep" / there).write_text("mine")
    result = run_command(*words, cwd=tmp_path)
    assert result.returncode == 1
    assert f"is rep/{there.partition('/')[0]}, which is there and is no " in result.stderr
    assert "Nothing was written. Name another." in result.stderr
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["mine"]


def test_a_true_difference_is_found_and_none_is_equivalence(reported):
    _, printed = reported
    assert "Is cops better than static_prompts, without_states, for new seeds, new datasets?" in printed
    assert "Image AUROC: cops is better than static_prompts; equivalent within 1 to without_states." in printed


def test_the_console_the_notebook_and_the_page_say_the_same(study, reported):
    out, printed = reported
    found = compare(load(study), "cops", "static_prompts")
    assert f"- {found}; after Holm's adjustment over 2 claims: better, p " in printed
    row = pd.read_csv(out / "tables" / "claims.csv").set_index("B").loc["static_prompts"]
    assert row[["difference", "low", "high", "p"]].tolist() == pytest.approx(
        [found.difference, *found.interval, found.p_value]
    )
    assert row["p_holm"] == pytest.approx(2 * found.p_value)  # of two claims, the one with the smaller p


def test_the_page_holds_every_section_and_everything_that_it_shows(reported):
    page = (reported[0] / "report.html").read_text()
    for title in SECTIONS:
        assert f"<h2>{title}</h2>" in page, title
    assert page.index("Is cops better than") < page.index("Image AUROC: cops is better") < page.index("<h2>Claims</h2>")
    assert page.count("<svg ") >= 6
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    ids = re.findall(r"<[^>]* id=\"([^\"]+)\"", page)
    references = re.findall(r"(?:url\(#|xlink:href=\"#)([^\")]+)", page)
    assert set(references) <= set(ids)


def test_an_interval_excludes_0_exactly_where_its_claim_alone_is_better_or_worse(reported):
    for name in ("claims", "claims_other_scope"):
        claims = pd.read_csv(reported[0] / "tables" / f"{name}.csv")
        excluded = (claims["low"] > 0) | (claims["high"] < 0)
        assert (excluded == claims["verdict_alone"].isin(["better", "worse"])).all()


def test_images_are_a_third_source_of_chance_on_each_dataset_and_on_all_of_them(reported):
    images = pd.read_csv(reported[0] / "tables" / "images.csv").query("B == 'static_prompts'").set_index("dataset")
    alone = images.drop(index="all datasets")
    assert set(alone.index) == set(TARGETS)
    together = images.loc["all datasets"]
    assert together["difference"] == pytest.approx(alone["difference"].mean())
    assert together["high"] - together["low"] < (alone["high"] - alone["low"]).min()


def test_tables_come_as_latex_and_as_numbers(reported):
    tables = reported[0] / "tables"
    tex = (tables / "claims.tex").read_text()
    assert "\\toprule" in tex
    assert "\\label{tab:claims}" in tex
    assert "static\\_prompts" in tex
    assert all(path.read_text().isascii() for path in tables.glob("*.tex"))


def test_means_deviations_and_counts_are_those_of_the_runs(study, reported):
    table = pd.read_csv(reported[0] / "tables" / "results_by_dataset.csv")
    row = table[(table["method"] == "cops") & (table["dataset"] == "target2") & (table["metric"] == "auroc")].iloc[0]
    values = []
    for seed in range(5):
        frame = pd.read_csv(study / f"cops-{seed}" / "results.csv")
        chosen = frame[(frame["target"] == "target2") & (frame["category"] == "mean") & (frame["metric"] == "auroc")]
        values.append(100 * chosen["value"].iloc[0])
    assert (row["n"], row["mean"], row["sd"]) == pytest.approx((5, np.mean(values), np.std(values, ddof=1)))


def test_the_markdown_page_says_the_same_and_its_figures_exist(reported):
    text = (reported[0] / "report.md").read_text()
    for title in SECTIONS:
        assert f"## {title}\n" in text
    figures = re.findall(r"\]\((figures/[^)]+)\)", text)
    assert len(figures) >= 6
    assert all((reported[0] / path).stat().st_size > 0 for path in figures)


def test_failed_runs_are_counted_and_named(reported):
    out, printed = reported
    assert "\n16 runs (15 done, 1 failed); 3 methods, 5 seeds" in printed
    assert "broken" in (out / "tables" / "unfinished_runs.csv").read_text()


def test_the_vae_is_described_by_its_posterior_and_by_its_draws(reported):
    page = (reported[0] / "report.html").read_text()
    assert "0 to 32 of them active" in page
    assert "Class tokens vary by 20.0 % of their length, text features by 3.00 %" in page


def test_the_same_runs_give_the_same_bytes_over_the_report_before(study, reported, run_command, tmp_path):
    for name in ("report.html", "report.md"):
        (tmp_path / name).write_bytes((reported[0] / name).read_bytes()[:1024])
    result = run_command("cops-report", str(study), "--out", str(tmp_path), "--metric", "image/auroc")
    assert result.returncode == 0, result.stderr
    for path in reported[0].rglob("*.*"):
        assert path.read_bytes() == (tmp_path / path.relative_to(reported[0])).read_bytes(), path.name


@pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="no Chromium on this machine")
def test_a_browser_without_a_network_shows_every_section_and_reports_no_error(reported, tmp_path):
    result = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
         "--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom",
         (reported[0] / "report.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    for title in SECTIONS:
        assert f"<h2>{title}</h2>" in result.stdout, title
    assert "CONSOLE" not in result.stderr


def test_one_run_of_each_has_no_p_value_and_the_report_says_what_is_missing(tmp_path, run_command):
    write_study(tmp_path / "runs", {"cops": 0.1, "static_prompts": 0.0}, seeds=1, targets=TARGETS)
    result = run_command("cops-report", "runs", "--metric", "image/auroc", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "needs 2 seeds of cops or static_prompts (there is one run of each)" in result.stdout
    claims = pd.read_csv(tmp_path / "report" / "tables" / "claims.csv")
    assert claims[["p", "p_holm", "low", "high"]].isna().all(axis=None)
    assert claims["verdict"].tolist() == ["undecided"]
    page = (tmp_path / "report" / "report.md").read_text()
    assert "undecided" not in page.partition("## Claims")[0]
    assert "Nothing can be tested for new seeds, new datasets: that needs 2 seeds of either method" in page


def test_two_datasets_are_too_few_for_others_and_enough_for_these(tmp_path, run_command):
    write_study(tmp_path / "runs", {"cops": 0.1, "static_prompts": 0.0}, seeds=3, targets=TARGETS[:2])
    arguments = ("cops-report", "runs", "--metric", "image/auroc")
    assert "needs 3 datasets (there are 2)" in run_command(*arguments, cwd=tmp_path).stdout
    printed = run_command(*arguments, "--scope", "these_datasets", cwd=tmp_path).stdout
    assert "Image AUROC: cops is better than static_prompts." in printed


def test_with_many_claims_a_difference_of_every_seed_and_dataset_is_still_found(tmp_path, run_command):
    # The smallest p of a signed-rank test over seven datasets is 1/64: times 13 it could never be below 0.05.
    effects = {"cops": 0.1, "static_prompts": 0.0} | {f"variant{number}": 0.1 for number in range(12)}
    write_study(tmp_path / "runs", effects, seeds=3)
    printed = run_command("cops-report", "runs", "--metric", "image/auroc", cwd=tmp_path).stdout
    assert "Image AUROC: cops is better than static_prompts; " in printed
    assert "\n- 1 more claims stand in the report." in printed


def test_results_that_are_looked_at_more_than_once_need_more(tmp_path, run_command):
    write_study(tmp_path / "runs", {"cops": 0.1, "static_prompts": 0.0}, seeds=3)
    alone = []
    for looks in ("1", "3"):
        asked = ("--metric", "image/auroc", "--looks", looks)
        assert run_command("cops-report", "runs", *asked, cwd=tmp_path).returncode == 0
        alone.append(pd.read_csv(tmp_path / "report" / "tables" / "claims.csv").iloc[0])
    assert alone[1]["p_holm"] == pytest.approx(3 * alone[0]["p_holm"])
    assert alone[1]["p"] == alone[0]["p"]


def test_a_published_margin_is_set_against_the_noise_of_single_runs(tmp_path, run_command):
    # On every dataset A - B is -2, 0, 2 by seed: two single runs differ by a standard deviation of 2 points.
    for seed, value in enumerate((0.68, 0.70, 0.72)):
        for variant, of in (("cops", value), ("static_prompts", 0.7 + 1e-7 * seed)):
            write_run(tmp_path / "runs" / f"{variant}{seed}", dict.fromkeys(TARGETS, of), variant, seed)
    asked = ("--metric", "image/auroc", "--published", "1.4")
    assert run_command("cops-report", "runs", *asked, cwd=tmp_path).returncode == 0
    row = pd.read_csv(tmp_path / "report" / "tables" / "planning.csv").iloc[0]
    assert row["noise"] == pytest.approx(2, rel=1e-4)
    assert row["single"] == pytest.approx(2 * stats.t.ppf(0.975, 2), rel=1e-4)
    assert row["p_published"] == pytest.approx(2 * stats.t.sf(1.4 / 2, 2), rel=1e-4)


def test_an_untrained_method_is_compared_with_every_auxiliary_dataset_and_counts_its_targets_once(
    tmp_path, run_command
):
    for seed in range(3):
        for target in TARGETS[:3]:
            values = {"visa": {target: 0.6 + seed / 100}, "mvtec": {target: 0.7 + seed / 100}, "none": {target: 0.5}}
            for auxiliary, value in values.items():
                variant = "clip" if auxiliary == "none" else "cops"
                write_run(tmp_path / "runs" / f"{auxiliary}{target}{seed}", value, variant, seed, auxiliary)
    result = run_command("cops-report", "runs", "--metric", "image/auroc", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    # Differences of 10, 11, 12 after one auxiliary dataset and 20, 21, 22 after the other: 16 on average.
    assert "+16.00 points" in result.stdout
    assert "on 3 datasets; clip does not depend on the seed and enters as a constant" in result.stdout


def test_auxiliary_datasets_are_compared_on_common_targets_seed_by_seed(tmp_path, run_command):
    for seed in range(3):
        luck = seed / 100
        values = {"btad": 0.6 + luck, "mpdd": 0.8 + luck, "visa": 0.9}
        write_run(tmp_path / "runs" / f"v{seed}", values, seed=seed, auxiliary="visa")
        values = {"btad": 0.7 + luck, "mpdd": 0.75 + luck + luck / 10}
        write_run(tmp_path / "runs" / f"m{seed}", values, seed=seed, auxiliary="mvtec")
    result = run_command("cops-report", "runs", "--metric", "image/auroc", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    row = (
        pd.read_csv(tmp_path / "report" / "tables" / "auxiliary_choice.csv")
        .set_index(["A", "B"])
        .loc[("mvtec", "visa")]
    )
    # +10 on btad and -5, -4.9, -4.8 on mpdd: 2.55 on average, 2.5 to 2.6 by seed. visa was trained on visa: no target.
    assert (row["difference"], row["on btad"], row["on mpdd"]) == pytest.approx((2.55, 10, -4.9))
    assert row["verdict"] == "better"
    assert (str(row["seeds"]), row["datasets"]) == ("3", 2)


PUBLISHED = {
    "model": {"_target_": "cops_lightning.models.cops.CoPS", "components": None, "readings": {"upsampling": "nearest"}},
    "backbone": {"image_size": 518},
    "preset": {"epochs": 10, "pool": 5, "alpha": 0.26, "beta": 0.9, "recon_weight": 0.0},
    "data": {"limit": None, "corruption": None},
}


def write_published(folder, values, **changes):
    """A run with the authors' backbone and, but for `changes`, their settings."""
    write_run(folder, values, settings=PUBLISHED | changes)
    record = json.loads((folder / "run.json").read_text())
    record["backbone"] |= {"name": "ViT-L-14-336-quickgelu", "published_by_openai": True}
    (folder / "run.json").write_text(json.dumps(record))


def test_runs_of_the_published_protocol_are_set_beside_the_published_numbers(tmp_path, run_command):
    write_published(tmp_path / "runs" / "a", {"btad": 0.946, "mvtec": 0.94})
    result = run_command("cops-report", "runs", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    table = pd.read_csv(tmp_path / "report" / "tables" / "published.csv").set_index(["target", "level", "metric"])
    assert table.loc[("btad", "image", "auroc"), "published"] == pytest.approx(93.6)
    assert table.loc[("btad", "image", "auroc"), "difference"] == pytest.approx(94.6 - 93.6)
    assert ("mvtec", "pixel", "auroc") in table.index


def test_each_method_is_set_beside_its_own_authors_numbers(tmp_path, run_command):
    peer = {
        "model": {"_target_": "cops_lightning.models.anomalyclip.model.AnomalyCLIP", "features_list": None},
        "preset": {"epochs": 15, "seg_weight": 4.0},
    }
    write_published(tmp_path / "runs" / "a", {"mvtec": 0.94})
    write_published(tmp_path / "runs" / "b", {"mvtec": 0.92}, **peer)
    assert run_command("cops-report", "runs", cwd=tmp_path).returncode == 0
    table = pd.read_csv(tmp_path / "report" / "tables" / "published.csv").set_index(["model", "level", "metric"])
    assert table.loc[("CoPS", "image", "auroc"), "difference"] == pytest.approx(94 - 95)
    assert table.loc[("AnomalyCLIP", "image", "auroc"), "difference"] == pytest.approx(92 - 91.5)
    assert table.loc[("AnomalyCLIP", "image", "auroc"), "source"].startswith("zqhang/AnomalyCLIP")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preset": {"epochs": 3}}, "preset.epochs is 3"),
        ({"data": {"limit": 20}}, "data.limit is 20"),
        ({"data": {"corruption": {"kind": "noise", "strength": 1}}}, "data.corruption.kind is noise"),
        ({"model": {"_target_": "x.CoPS", "components": {"states": False}}}, "model.components.states is False"),
        ({"model": {"_target_": "x.WinClip"}}, "another model than CoPS and AnomalyCLIP"),
        ({"backbone": {"image_size": None}}, "images are not known to be 518 px"),
    ],
)
def test_other_runs_are_not_and_the_page_says_in_what_they_differ(changes, said, tmp_path, run_command):
    write_published(tmp_path / "runs" / "a", {"btad": 0.946}, **changes)
    assert run_command("cops-report", "runs", cwd=tmp_path).returncode == 0
    assert f" Here: {said}." in (tmp_path / "report" / "report.html").read_text()


def write_sweep(folder):
    """Two learning rates under one label, three seeds each: the second is 10 points better."""
    for seed in range(3):
        for lr, value in ((0.01, 0.6), (0.001, 0.7)):
            values = dict.fromkeys(TARGETS[:2], value + seed / 100)
            write_run(folder / f"{lr}-{seed}", values, seed=seed, settings={"optimizer": {"lr": lr}})


def test_a_sweep_under_one_label_is_compared_setting_against_setting(tmp_path, run_command):
    write_sweep(tmp_path / "runs")
    result = run_command("cops-report", "runs", "--metric", "image/auroc", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "caution: 2 methods have the label cops (they differ in optimizer.lr)" in result.stdout
    assert (
        "- cops (optimizer.lr=0.001) - cops (optimizer.lr=0.01), image AUROC: undecided, +10.00 points" in result.stdout
    )
    methods = pd.read_csv(tmp_path / "report" / "tables" / "methods.csv").set_index("method")
    assert list(methods["labels"]) == ["cops", "cops"]
    low = methods.loc["cops (optimizer.lr=0.001)", "hash"]
    turned = ("--compare", "cops (optimizer.lr=0.01)", low[:6])
    printed = run_command("cops-report", "runs", "--metric", "image/auroc", *turned, cwd=tmp_path).stdout
    assert "- cops (optimizer.lr=0.01) - cops (optimizer.lr=0.001), image AUROC: undecided, -10.00 points" in printed


def test_a_label_of_two_methods_names_neither(tmp_path, run_command):
    write_sweep(tmp_path / "runs")
    write_run(tmp_path / "runs" / "other", {TARGETS[0]: 0.5}, variant="static_prompts")
    result = run_command("cops-report", "runs", "--compare", "static_prompts", "cops", cwd=tmp_path)
    assert result.returncode == 1
    assert "'cops' stands for 2 methods: 'cops (optimizer.lr=0.001)' (hash " in result.stderr


def test_a_name_may_hold_whatever_means_something_to_a_page_or_a_figure(tmp_path, run_command):
    for variant in ("cops", "$\\frac$ <b>&|", "a_b^c"):
        write_study(tmp_path / "runs", {variant: 0.0}, seeds=2, targets=TARGETS[:3])
        for folder in (tmp_path / "runs").glob(f"{variant}-*"):
            folder.rename(tmp_path / "runs" / f"{len(list((tmp_path / 'runs').iterdir()))}{folder.name[-1]}")
    assert run_command("cops-report", "runs", "--metric", "image/auroc", cwd=tmp_path).returncode == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "$\\frac$ &lt;b&gt;&amp;|" in page
    assert "<b>&" not in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "nowhere is no folder"),
        (("runs", "--compare", "cops", "static_promts"), "did you mean static_prompts?"),
        (("runs", "--compare", "cops"), "a comparison needs two different methods"),
        (("runs", "--metric", "image/auc"), "--metric is 'image/auc'; expected one of image/auroc"),
        (("runs", "--margin", "0"), "--margin is 0; expected a number above 0"),
        (("runs", "--looks", "0"), "--looks is 0; expected a number above 0"),
    ],
)
def test_what_cannot_be_reported_is_one_sentence(arguments, said, tmp_path, run_command):
    write_study(tmp_path / "runs", {"cops": 0.1, "static_prompts": 0.0}, seeds=1, targets=TARGETS[:1])
    result = run_command("cops-report", *arguments, cwd=tmp_path)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_help_teaches_by_example(run_command):
    result = run_command("cops-report", "--help")
    assert result.returncode == 0
    printed = result.stdout
    assert "  cops-report runs/static_prompts --compare cops static_prompts" in printed
    assert "image/auroc, image/ap" in printed


def test_help_is_answered_without_the_libraries_of_the_report():
    code = "import sys; import cops_lightning.cli.report; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "pandas", "scipy", "matplotlib", "lightning", "hydra"}.isdisjoint(loaded)


def test_without_its_extra_commands_and_python_say_how_to_install_it(run_command, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "scikit_posthocs", None)
    way_out = "needs a package that is not installed. Install it by: pip install 'cops_lightning[report]'."
    for name, arguments in (("cops-report", [str(tmp_path)]), ("cops-reproduce", [])):
        result = run_command(name, *arguments)
        assert (result.returncode, result.stderr) == (1, f"error: {name} {way_out}\n")
    with pytest.raises(ConfigError, match=re.escape(f"cops_lightning.report.load {way_out}")):
        from cops_lightning.report import load  # noqa: F401
