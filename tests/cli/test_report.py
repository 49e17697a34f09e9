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

from .studies import TARGETS, write_diagnostics, write_run, write_study

SECTIONS = (
    "Verdicts", "Results", "Beside the published numbers", "All methods ranked", "One pair of runs over images",
    "Relative to the full method", "Choice of the auxiliary dataset", "Domain shift", "Health of the VAE",
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


def test_a_true_difference_is_shown_and_none_is_not_shown(reported):
    _, printed = reported
    assert "cops is better than static_prompts in image AUROC: shown (mean difference +" in printed
    assert "cops is better than without_states in image AUROC: not shown (mean difference" in printed


def test_the_page_holds_every_section_and_everything_that_it_shows(reported):
    page = (reported[0] / "report.html").read_text()
    for title in SECTIONS:
        assert f"<h2>{title}</h2>" in page, title
    assert "cops against static_prompts, without_states" in page
    assert page.count("data:image/svg+xml;base64,") >= 7
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "<script" not in page


def test_tables_come_as_latex_and_as_numbers(reported):
    tables = reported[0] / "tables"
    tex = (tables / "comparison_over_datasets.tex").read_text()
    assert "\\toprule" in tex
    assert "\\label{tab:comparison_over_datasets}" in tex
    assert "static\\_prompts" in tex
    assert all(path.read_text().isascii() for path in tables.glob("*.tex"))
    over = pd.read_csv(tables / "comparison_over_datasets.csv").set_index("B")
    # All seven datasets favour cops: the smallest p-value that seven pairs can have, doubled by Holm.
    assert over.loc["static_prompts", "p_wilcoxon"] == pytest.approx(2 / 2**7)
    assert over.loc["static_prompts", "p_holm"] == pytest.approx(2 * 2 / 2**7)


def test_means_deviations_and_counts_are_those_of_the_runs(study, reported):
    table = pd.read_csv(reported[0] / "tables" / "results_by_dataset.csv")
    row = table[(table["method"] == "cops") & (table["target"] == "target2") & (table["metric"] == "auroc")].iloc[0]
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
    assert len(figures) >= 7
    assert all((reported[0] / path).stat().st_size > 0 for path in figures)


def test_failed_runs_are_counted_and_named(reported):
    out, printed = reported
    assert "\n16 runs (15 done, 1 failed); 3 methods, 5 seeds" in printed
    assert "broken" in (out / "tables" / "unfinished_runs.csv").read_text()


def test_a_collapsed_vae_is_a_warning_with_evidence(reported):
    page = (reported[0] / "report.html").read_text()
    assert "seed 3: The VAE has collapsed: 0 of 32 latent dimensions are active" in page
    assert "1 of 5 runs has a collapsed VAE." in page


def test_the_same_runs_give_the_same_bytes(study, reported, run_command, tmp_path):
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


def test_of_many_claims_those_that_found_something_come_first_and_the_others_are_counted(tmp_path, call_main):
    effects = {"cops": 0.1, "static_prompts": 0.0} | {f"variant{number}": 0.1 for number in range(12)}
    write_study(tmp_path / "runs", effects, seeds=3, targets=TARGETS[:2])
    printed = call_main("cops-report", "runs", "--metric", "image/auroc", cwd=tmp_path).stdout
    assert (
        "Of 13 claims: 1 shown, 0 with a difference on single datasets only, 0 the other way round, 12 not shown."
        in printed
    )
    assert "\n- cops is better than static_prompts in image AUROC: shown" in printed
    assert "\n- 12 claims that are not shown stand in the report." in printed
    assert "<summary>12 claims that are not shown</summary>" in (tmp_path / "report" / "report.html").read_text()


def test_two_seeds_are_too_few_and_the_report_says_so(tmp_path, call_main):
    write_study(tmp_path / "runs", {"cops": 0.1, "static_prompts": 0.0}, seeds=2, targets=TARGETS[:3])
    result = call_main("cops-report", "runs", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    claims = [line for line in result.stdout.splitlines() if line.startswith("- ")]
    assert claims
    assert all("not shown" in claim and "no test: needs 3 seeds, has 2" in claim for claim in claims)
    table = pd.read_csv(tmp_path / "report" / "tables" / "comparison_by_dataset.csv")
    assert table[["p_t", "p_holm", "p_wilcoxon"]].isna().all(axis=None)


def test_with_few_datasets_a_claim_must_hold_on_each_of_them(tmp_path, call_main):
    write_study(tmp_path / "runs", {"cops": 0.1, "static_prompts": 0.0}, seeds=5, targets=TARGETS[:2])
    result = call_main("cops-report", "runs", "--metric", "image/auroc", cwd=tmp_path)
    assert "in image AUROC: shown" in result.stdout
    assert "on each of 2 datasets, Holm-adjusted; 6 datasets are needed to speak of others" in result.stdout


def test_a_difference_on_one_dataset_of_two_is_told_with_its_direction(tmp_path, call_main):
    for seed, noise in enumerate((0.0, 0.01, 0.02)):
        for variant, a, b in (("cops", 0.6 + noise, 0.7), ("better", 0.8 + noise / 2, 0.7 + noise)):
            values = {"target0": a, "target1": b}
            write_run(tmp_path / "runs" / f"{variant}{seed}", values, variant, seed)
    asked = ("--metric", "image/auroc", "--compare")
    printed = call_main("cops-report", "runs", *asked, "cops", "better", cwd=tmp_path).stdout
    assert "cops is better than better in image AUROC: not shown; single datasets show the opposite" in printed
    printed = call_main("cops-report", "runs", *asked, "better", "cops", cwd=tmp_path).stdout
    assert "better is better than cops in image AUROC: not shown in general, only on single datasets" in printed


def test_untrained_methods_are_compared_under_every_auxiliary_dataset(tmp_path, call_main):
    for seed in range(3):
        write_run(tmp_path / "runs" / f"v{seed}", {"btad": 0.6 + seed / 100}, seed=seed, auxiliary="visa")
        write_run(tmp_path / "runs" / f"m{seed}", {"btad": 0.7 + seed / 100}, seed=seed, auxiliary="mvtec")
        write_run(tmp_path / "runs" / f"c{seed}", {"btad": 0.5}, seed=seed, auxiliary="none", variant="clip")
    result = call_main("cops-report", "runs", "--metric", "image/auroc", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    # Differences of 10, 11, 12 after one auxiliary dataset and 20, 21, 22 after the other: 16 on average.
    assert "cops is better than clip in image AUROC" in result.stdout
    assert "mean difference +16.0 points over 2 datasets" in result.stdout


def test_auxiliary_datasets_make_a_matrix_with_transfer_gaps(tmp_path, call_main):
    for seed in range(2):
        write_run(tmp_path / "runs" / f"v{seed}", {"btad": 0.6, "mpdd": 0.8, "visa": 0.9}, seed=seed, auxiliary="visa")
        write_run(tmp_path / "runs" / f"m{seed}", {"btad": 0.7, "mpdd": 0.75}, seed=seed, auxiliary="mvtec")
    result = call_main("cops-report", "runs", "--metric", "image/auroc", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    gaps = pd.read_csv(tmp_path / "report" / "tables" / "transfer_gaps_image_auroc.csv").set_index("auxiliary")
    assert gaps.loc["visa", "btad"] == pytest.approx(-10)
    assert gaps.loc["mvtec", "mpdd"] == pytest.approx(-5)
    assert gaps.loc["mvtec", "btad"] == gaps.loc["visa", "mpdd"] == 0
    assert np.isnan(gaps.loc["visa", "visa"])  # trained on: not zero-shot


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


def test_runs_of_the_published_protocol_are_set_beside_the_published_numbers(tmp_path, call_main):
    write_published(tmp_path / "runs" / "a", {"btad": 0.946, "mvtec": 0.94})
    result = call_main("cops-report", "runs", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    table = pd.read_csv(tmp_path / "report" / "tables" / "published.csv").set_index(["target", "level", "metric"])
    assert table.loc[("btad", "image", "auroc"), "published"] == pytest.approx(93.6)
    assert table.loc[("btad", "image", "auroc"), "difference"] == pytest.approx(94.6 - 93.6)
    assert ("mvtec", "pixel", "auroc") in table.index


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preset": {"epochs": 3}}, "preset.epochs is 3"),
        ({"data": {"limit": 20}}, "data.limit is 20"),
        ({"data": {"corruption": {"kind": "noise", "strength": 1}}}, "data.corruption.kind is noise"),
        ({"model": {"_target_": "x.CoPS", "components": {"states": False}}}, "model.components.states is False"),
        ({"model": {"_target_": "x.WinClip"}}, "another model than CoPS"),
        ({"backbone": {"image_size": None}}, "images are not known to be 518 px"),
    ],
)
def test_other_runs_are_not_and_the_page_says_in_what_they_differ(changes, said, tmp_path, call_main):
    write_published(tmp_path / "runs" / "a", {"btad": 0.946}, **changes)
    assert call_main("cops-report", "runs", cwd=tmp_path).returncode == 0
    assert f" Here: {said}." in (tmp_path / "report" / "report.html").read_text()


def write_sweep(folder):
    """Two learning rates under one label, three seeds each: the second is 10 points better."""
    for seed in range(3):
        for lr, value in ((0.01, 0.6), (0.001, 0.7)):
            values = dict.fromkeys(TARGETS[:2], value + seed / 100)
            write_run(folder / f"{lr}-{seed}", values, seed=seed, settings={"optimizer": {"lr": lr}})


def test_a_sweep_under_one_label_is_compared_setting_against_setting(tmp_path, call_main):
    write_sweep(tmp_path / "runs")
    result = call_main("cops-report", "runs", "--metric", "image/auroc", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "caution: 2 methods have the label cops (they differ in optimizer.lr)" in result.stdout
    assert "cops (optimizer.lr=0.001) is better than cops (optimizer.lr=0.01) in image AUROC" in result.stdout
    assert "mean difference +10.0 points over 2 datasets" in result.stdout
    methods = pd.read_csv(tmp_path / "report" / "tables" / "methods.csv").set_index("method")
    assert list(methods["labels"]) == ["cops", "cops"]
    low = methods.loc["cops (optimizer.lr=0.001)", "hash"]
    turned = ("--compare", "cops (optimizer.lr=0.01)", low[:6])
    printed = call_main("cops-report", "runs", "--metric", "image/auroc", *turned, cwd=tmp_path).stdout
    assert "cops (optimizer.lr=0.01) is better than cops (optimizer.lr=0.001) in image AUROC: not shown" in printed


def test_a_label_of_two_methods_names_neither(tmp_path, call_main):
    write_sweep(tmp_path / "runs")
    write_run(tmp_path / "runs" / "other", {TARGETS[0]: 0.5}, variant="static_prompts")
    result = call_main("cops-report", "runs", "--compare", "static_prompts", "cops", cwd=tmp_path)
    assert result.returncode == 1
    assert "'cops' stands for 2 methods: 'cops (optimizer.lr=0.001)' (hash " in result.stderr


def test_figures_of_methods_whose_names_differ_by_a_sign_are_two_files(tmp_path, call_main):
    for variant in ("cops", "shift-1", "shift+1"):
        write_study(tmp_path / "runs", {variant: 0.0}, seeds=2, targets=TARGETS[:1])
    assert call_main("cops-report", "runs", "--metric", "image/auroc", cwd=tmp_path).returncode == 0
    figures = {path.stem for path in (tmp_path / "report" / "figures").glob("difference_*")}
    assert figures == {"difference_cops_shift_1_image_auroc", "difference_cops_shift_1_image_auroc_2"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "nowhere is no folder"),
        (("runs", "--compare", "cops", "static_promts"), "did you mean static_prompts?"),
        (("runs", "--compare", "cops"), "a comparison needs two different methods"),
        (("runs", "--metric", "image/auc"), "--metric is 'image/auc'; expected one of image/auroc"),
        (("runs", "--margin", "0"), "expected a difference in points above 0"),
    ],
)
def test_what_cannot_be_reported_is_one_sentence(arguments, said, tmp_path, call_main):
    write_study(tmp_path / "runs", {"cops": 0.1, "static_prompts": 0.0}, seeds=1, targets=TARGETS[:1])
    result = call_main("cops-report", *arguments, cwd=tmp_path)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_help_teaches_by_example(call_main):
    result = call_main("cops-report", "--help")
    assert result.returncode == 0
    printed = result.stdout
    assert "  cops-report runs/static_prompts --compare cops static_prompts" in printed
    assert "image/auroc, image/ap" in printed


def test_help_is_answered_without_the_libraries_of_the_report():
    code = "import sys; import cops_lightning.cli.report; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "pandas", "scipy", "matplotlib", "lightning", "hydra"}.isdisjoint(loaded)
