"""Which results count: finished, the latest of a seed, over the same images."""

import json

import pandas as pd
import pytest

from cops_lightning.core.errors import CopsError
from cops_lightning.core.types import MetricRow
from cops_lightning.report import ResultRow, Run, write_results
from cops_lightning.report.collect import collect


def run(folder, seed=0, variant="cops", status="done", value=0.5, images=9, started="2026-01-01", backbone="ViT-B-16"):
    rows = [
        ResultRow(
            Run("r", "s", variant, seed, "visa"), MetricRow("btad", name, "image", "auroc", value, images, images)
        )
        for name in ("01", "mean")
    ]
    write_results(folder / "results.csv", rows)
    record = {"status": status, "started": started, "backbone": {"name": backbone, "fingerprint": backbone}}
    (folder / "run.json").write_text(json.dumps(record))


def test_results_of_every_finished_run_are_one_table(tmp_path):
    run(tmp_path / "a", seed=0, value=0.25)
    run(tmp_path / "deep" / "er" / "b", seed=1, value=None)
    found = collect([tmp_path])
    assert len(found.results) == 4
    assert found.results["value"].isna().sum() == 2
    assert found.results["value"].min() == 0.25
    assert set(found.results["category"]) == {"01", "mean"}
    assert found.left_out == ()


def test_failed_and_running_runs_are_kept_as_jobs_and_give_no_results(tmp_path):
    run(tmp_path / "a")
    run(tmp_path / "b", seed=1, status="failed")
    run(tmp_path / "c", seed=2, status="running")
    found = collect([tmp_path])
    assert [job.status for job in found.jobs] == ["done", "failed", "running"]
    assert set(found.results["seed"]) == {0}


def test_a_folder_given_twice_counts_once_and_a_file_stands_for_its_folder(tmp_path):
    run(tmp_path / "a")
    assert len(collect([tmp_path, tmp_path / "a", tmp_path / "a" / "results.csv"]).jobs) == 1


def test_of_a_seed_that_was_run_twice_the_later_counts_and_the_earlier_is_named(tmp_path):
    run(tmp_path / "second", value=0.7, started="2026-01-02")
    run(tmp_path / "first", value=0.5, started="2026-01-01")
    found = collect([tmp_path])
    assert set(found.results["value"]) == {0.7}
    (said,) = found.left_out
    assert "first: cops, seed 0, on btad was run again later, with other numbers" in said


def test_a_repetition_with_equal_numbers_is_not_worth_a_word(tmp_path):
    run(tmp_path / "a")
    run(tmp_path / "b", started="2026-01-02")
    found = collect([tmp_path])
    assert len(found.results) == 2
    assert found.left_out == ()


def test_runs_over_fewer_images_are_not_averaged_with_the_others(tmp_path):
    run(tmp_path / "all", seed=0)
    run(tmp_path / "few", seed=1, images=3, value=0.9)
    found = collect([tmp_path])
    assert set(found.results["value"]) == {0.5}
    assert "few: 6 images of btad, while other runs of cops saw more" in found.left_out[0]


def test_weights_that_share_a_name_are_told_apart(tmp_path):
    for name in ("a", "b"):
        run(tmp_path / name)
        record = json.loads((tmp_path / name / "run.json").read_text())
        record["backbone"]["fingerprint"] = name * 64
        (tmp_path / name / "run.json").write_text(json.dumps(record))
    assert set(collect([tmp_path]).results["backbone"]) == {"ViT-B-16 aaaaaa", "ViT-B-16 bbbbbb"}


def test_names_with_commas_and_words_that_look_like_missing_values_are_read(tmp_path):
    run(tmp_path / "a", variant="NA")
    run(tmp_path / "b", variant="one, two")
    assert set(collect([tmp_path]).results["variant"]) == {"NA", "one, two"}


@pytest.mark.parametrize(("bad", "said"), [("1.5", "line 2: value is '1.5'"), ("many", "line 2: value is 'many'")])
def test_a_malformed_value_is_named_with_file_and_line(tmp_path, bad, said):
    run(tmp_path / "a")
    path = tmp_path / "a" / "results.csv"
    path.write_text(path.read_text().replace("0.5", bad))
    with pytest.raises(CopsError, match=said):
        collect([tmp_path])


def test_empty_places_say_what_to_give(tmp_path):
    with pytest.raises(CopsError, match=r"no results.csv or run.json below .* such as runs/ablations"):
        collect([tmp_path])
    with pytest.raises(CopsError, match="nowhere is no folder"):
        collect([tmp_path / "nowhere"])
    run(tmp_path / "a", status="failed")
    with pytest.raises(CopsError, match=r"None of the 1 runs .* has results \(they are: failed\)"):
        collect([tmp_path])


def test_published_values_are_known_for_every_dataset_of_the_benchmark():
    from cops_lightning.data import BENCHMARK, find_spec
    from cops_lightning.report.published import published

    known = published()
    assert set(known["target"]) == set(BENCHMARK)
    assert not known.duplicated(["target", "level", "metric"]).any()
    assert isinstance(known, pd.DataFrame)
    for target, rows in known.groupby("target"):
        # Where the paper has pixel values the dataset has masks.
        assert ("pixel" not in set(rows["level"])) or find_spec(str(target)).has_masks
        assert set(rows["auxiliary"]) == {"mvtec" if target == "visa" else "visa"}


def test_draws_of_random_weights_are_one_backbone(tmp_path):
    for seed in range(2):
        path = tmp_path / str(seed) / "run.json"
        run(path.parent, seed=seed)
        record = json.loads(path.read_text())
        record["backbone"] |= {"fingerprint": f"{seed}" * 64, "origin": f"random weights, seed {seed}"}
        path.write_text(json.dumps(record))
    assert set(collect([tmp_path]).results["backbone"]) == {"ViT-B-16, random weights"}
