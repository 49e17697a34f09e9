"""What sections of the page say, over results that are known."""

import numpy as np
import pytest

from cli.studies import METRICS, TARGETS, write_diagnostics, write_run
from cops_lightning.report.build import build_page
from cops_lightning.report.collect import collect
from cops_lightning.report.sections import model, transfer
from cops_lightning.report.stats.crossed import interaction
from cops_lightning.report.study import Asked, Study

IMAGE_AUROC = METRICS[:1]


def study_of(folder):
    return Study.of(collect([folder]), Asked(metrics=IMAGE_AUROC))


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
