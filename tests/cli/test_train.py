"""`cops-train` from the command line to the files it leaves."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from cops_lightning.data import read_index
from cops_lightning.report.tables import read_results

from .conftest import SMALL, make_dataset


def test_a_run_leaves_every_file_that_is_promised(trained):
    run = trained["run"]
    for name in ("results.csv", "scores.csv", "run.json", "run.log", "checkpoints/last.ckpt", "heatmaps/tiles.png"):
        assert (run / name).stat().st_size > 0, name
    assert len(list((run / "heatmaps" / "tiles").glob("*.png"))) == 6
    assert not list(run.rglob("*.partial"))


def test_results_are_tidy_with_one_row_per_metric_and_a_mean_row_per_target(trained):
    rows = read_results(trained["run"] / "results.csv")
    measured = [row.measured for row in rows]
    assert {(m.category, m.level) for m in measured} == {(c, at) for c in ("part", "mean") for at in ("image", "pixel")}
    assert len(measured) == 14
    assert all((m.n_normal, m.n_anomalous) == (3, 3) for m in measured)
    assert {(row.run.study, row.run.variant, row.run.seed, row.run.auxiliary) for row in rows} == {
        ("default", "cops", 0, "parts")
    }


def test_run_json_says_what_produced_the_run(trained):
    record = json.loads((trained["run"] / "run.json").read_text())
    assert record["status"] == "done"
    assert record["duration_seconds"] > 0
    assert record["config"]["auxiliary"]["source"] == str(trained["auxiliary"])
    assert record["backbone"]["origin"] == "random weights, seed 0"
    assert len(record["backbone"]["fingerprint"]) == 64
    counts = {"part": {"train": {"normal": 0, "anomalous": 0}, "test": {"normal": 3, "anomalous": 3}}}
    assert [(d["role"], d["name"], d["categories"]) for d in record["data"]] == [
        ("auxiliary", "parts", counts),
        ("target", "tiles", counts),
    ]
    for found in record["data"]:
        assert read_index(trained["run"] / found["manifest"]).fingerprint() == found["fingerprint"]
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]


def test_the_table_says_that_random_weights_mean_nothing(trained):
    assert "RANDOM" in trained["printed"]
    assert "tiles" in trained["printed"]


def test_the_layout_that_was_found_is_printed(trained):
    assert "target tiles: 6 images, folders {category}/{split}/{defect}, in" in trained["printed"]


def test_scores_list_every_evaluated_image(trained):
    with (trained["run"] / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows].count("1") == 3
    assert {row["image"] for row in rows} > {"tiles/part/part/test/good/000.png"}
    assert all(0 <= float(row["score"]) <= 1 for row in rows)


def test_a_checkpoint_holds_trained_weights_only_and_names_the_backbone_by_hash(trained):
    checkpoint = torch.load(trained["run"] / "checkpoints" / "last.ckpt", weights_only=True)
    assert "ctx_pos" in checkpoint["state_dict"]
    assert not any("visual" in name or "transformer" in name for name in checkpoint["state_dict"])
    stamp = checkpoint["cops_lightning"]
    recorded = json.loads((trained["run"] / "run.json").read_text())["backbone"]
    assert stamp["fingerprint"] == recorded["fingerprint"]
    assert stamp["trained_on"] == ["parts/part"]


def test_losses_are_logged_per_step_and_epoch(trained):
    with (trained["run"] / "metrics.csv").open() as file:
        header = next(csv.reader(file))
    assert {"train/total_epoch", "train/patch_epoch", "train/scatter_epoch"} <= set(header)


def test_the_same_command_twice_gives_the_same_bytes_and_another_seed_does_not(trained, run_command):
    def again(seed: int) -> bytes:
        result = run_command(
            "cops-train",
            "auxiliary=own",
            f"auxiliary.source={trained['auxiliary']}",
            "auxiliary.epochs=1",
            f"targets=[{trained['target']}]",
            f"seed={seed}",
            f"hydra.run.dir=again{seed}",
            "report.heatmaps=0",
            *SMALL,
            cwd=trained["here"],
        )
        assert result.returncode == 0, result.stderr
        return (trained["here"] / f"again{seed}" / "results.csv").read_bytes()

    first = (trained["run"] / "results.csv").read_bytes()
    assert again(0) == first
    assert again(1) != first


def test_evaluation_of_the_checkpoint_gives_the_scores_of_the_run(trained, run_command):
    result = run_command(
        "cops-eval",
        "checkpoint=run/checkpoints/last.ckpt",
        f"targets=[{trained['target']}]",
        "hydra.run.dir=evaluated",
        "data.eval_batch_size=1",
        "data.workers=0",
        cwd=trained["here"],
    )
    assert result.returncode == 0, result.stderr
    trained_scores, scores = (
        np.loadtxt(trained["here"] / name / "scores.csv", delimiter=",", skiprows=1, usecols=5)
        for name in ("run", "evaluated")
    )
    np.testing.assert_allclose(scores, trained_scores, atol=1e-6)
    assert {row.run.auxiliary for row in read_results(trained["here"] / "evaluated" / "results.csv")} == {"parts"}


def test_a_target_that_was_trained_on_is_refused_unless_asked_for_by_name(trained, run_command):
    arguments = ("checkpoint=run/checkpoints/last.ckpt", f"targets=[{trained['auxiliary']}]", "data.workers=0")
    refused = run_command("cops-eval", *arguments, cwd=trained["here"])
    assert refused.returncode == 1
    assert "parts is not zero-shot: its categories parts/part were trained on" in refused.stderr
    assert "evaluate_seen=[parts]" in refused.stderr
    allowed = run_command("cops-eval", *arguments, "evaluate_seen=[parts]", "report.heatmaps=0", cwd=trained["here"])
    assert allowed.returncode == 0, allowed.stderr


def only_error(result) -> str:
    """The one line that a failed command prints."""
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line


def damaged(tmp_path, damage) -> tuple[str, ...]:
    """Arguments for a run over a fine auxiliary dataset and a damaged target."""
    auxiliary, target = make_dataset(tmp_path / "parts"), make_dataset(tmp_path / "tiles")
    damage(target)
    return ("auxiliary=own", f"auxiliary.source={auxiliary}", "auxiliary.epochs=1", f"targets=[{target}]", *SMALL)


def truncate(target) -> None:
    path = target / "part" / "test" / "good" / "001.png"
    path.write_bytes(path.read_bytes()[:100])


def drop_mask(target) -> None:
    (target / "part" / "ground_truth" / "square" / "002_mask.png").unlink()


def shrink_mask(target) -> None:
    Image.new("L", (7, 7)).save(target / "part" / "ground_truth" / "square" / "002_mask.png")


@pytest.mark.parametrize(
    ("damage", "said"), [(truncate, "001.png"), (drop_mask, "002.png"), (shrink_mask, "002_mask.png")]
)
def test_a_damaged_target_is_one_sentence_naming_the_file_and_leaves_no_results(damage, said, tmp_path, run_command):
    result = run_command("cops-train", *damaged(tmp_path, damage), "hydra.run.dir=run", cwd=tmp_path)
    assert said in only_error(result)
    assert not (tmp_path / "run" / "results.csv").exists()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed"
    assert said in record["error"]


def test_a_wrong_data_root_says_what_was_looked_for(tmp_path, run_command):
    arguments = (f"data.root={tmp_path / 'nowhere'}", "auxiliary=mvtec", "targets=[visa]", *SMALL)
    assert "nowhere" in only_error(run_command("cops-train", *arguments))


def test_a_misspelt_key_is_named(run_command):
    result = run_command("cops-train", "data.batch_siez=4", "targets=[mvtec]")
    assert result.returncode != 0
    assert "batch_siez" in result.stderr


def test_a_misspelt_key_in_an_experiment_file_is_named(tmp_path, run_command):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\ndata:\n  batch_siez: 4\n")
    result = run_command("cops-train", "--config-dir", str(tmp_path), "experiment=mine", "targets=[mvtec]")
    assert result.returncode != 0
    assert "batch_siez" in result.stderr


def test_leaving_out_the_targets_says_how_to_give_them(run_command):
    assert "targets=[mvtec]" in only_error(run_command("cops-eval", "checkpoint=some.ckpt"))


def test_without_arguments_everything_is_at_hand_and_needs_no_download(run_command):
    composed = run_command("cops-train", "--cfg", "job").stdout
    for chosen in ("source: procedural_auxiliary", "name: packaged:mini", "targets: procedural", "seed: 0"):
        assert chosen in composed


def test_a_reading_that_does_not_exist_names_those_that_do(tmp_path, run_command):
    source = make_dataset(tmp_path / "parts")
    arguments = ("auxiliary=own", f"auxiliary.source={source}", f"targets=[{make_dataset(tmp_path / 'tiles')}]", *SMALL)
    result = run_command("cops-train", *arguments, "readings.states=matchd")
    assert "readings.states is 'matchd'; expected released or matched" in only_error(result)


def test_missing_clip_weights_name_both_ways_out(tmp_path, run_command):
    target = make_dataset(tmp_path / "tiles")
    arguments = ("auxiliary=own", f"auxiliary.source={make_dataset(tmp_path / 'parts')}", f"targets=[{target}]")
    missing = run_command("cops-train", "backbone=vit_l14_336", *arguments, COPS_CLIP_WEIGHTS=str(tmp_path / "gone.pt"))
    assert "There is no file" in only_error(missing)
    assert "gone.pt" in missing.stderr


def test_a_wrong_checkpoint_says_what_it_holds(tmp_path, run_command):
    torch.save({"weights": torch.ones(1)}, tmp_path / "other.ckpt")
    result = run_command("cops-eval", f"checkpoint={tmp_path / 'other.ckpt'}", "targets=[mvtec]")
    assert "is no CoPS checkpoint: its top-level keys are weights" in only_error(result)


def test_a_checkpoint_of_another_backbone_is_refused(trained, run_command):
    result = run_command(
        "cops-eval",
        "checkpoint=run/checkpoints/last.ckpt",
        f"targets=[{trained['target']}]",
        "backbone=tiny_random",
        "backbone.seed=1",
        "backbone.image_size=64",
        cwd=trained["here"],
    )
    assert "was trained on the backbone packaged:tiny with weights" in only_error(result)


def test_a_released_checkpoint_must_be_told_what_it_was_trained_on(trained, run_command):
    arguments = ("checkpoint=run/checkpoints/released.pth", f"targets=[{trained['target']}]")
    said = only_error(run_command("cops-eval", *arguments, cwd=trained["here"]))
    assert "auxiliary=visa" in said
    told = ("auxiliary=visa", "backbone=tiny_random", "backbone.image_size=64", "report.heatmaps=0", "data.workers=0")
    result = run_command("cops-eval", *arguments, *told, cwd=trained["here"])
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", ["cops-train", "cops-eval"])
def test_help_teaches_by_example(command, run_command):
    printed = run_command(command, "--help").stdout
    assert f"  {command} " in printed
    assert ("targets: procedural" if command == "cops-train" else "targets: ???") in printed
