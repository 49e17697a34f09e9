"""`cops-train` from the command line to the files it leaves, and `cops-eval` of its checkpoint."""

import csv
import json
import shutil

import pytest
import torch
from lightning import Trainer
from PIL import Image

from cops_lightning.callbacks.feature_cache import FeatureCaching
from cops_lightning.data.datamodules import Folder
from cops_lightning.data.readers.index_file import read_index
from cops_lightning.models.module import CopsModule
from cops_lightning.report.tables import read_results

from .conftest import SMALL, make_dataset, only_error, training


def test_a_run_leaves_every_file_that_is_promised(trained):
    run = trained["run"]
    for name in ("results.csv", "scores.csv", "run.json", "run.log", "checkpoints/last.ckpt", "heatmaps/tiles.png"):
        assert (run / name).stat().st_size > 0, name
    assert len(list((run / "heatmaps" / "tiles").glob("*.png"))) == 2
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
    rows = read_results(trained["run"] / "results.csv")
    assert {(row.run.run_id, row.run.method) for row in rows} == {(record["run_id"], record["method"])}


def test_the_console_says_which_data_was_found_and_that_random_weights_mean_nothing(trained):
    assert "RANDOM" in trained["printed"]
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
    saved = checkpoint["hyper_parameters"]["saved"]
    recorded = json.loads((trained["run"] / "run.json").read_text())["backbone"]
    assert saved["fingerprint"] == recorded["fingerprint"]
    assert saved["trained_on"] == ["parts/part"]


def test_losses_are_logged_per_step_and_epoch(trained):
    with (trained["run"] / "metrics.csv").open() as file:
        header = next(csv.reader(file))
    assert {"train/total_epoch", "train/patch_epoch", "train/scatter_epoch", "train/total_step"} <= set(header)


def test_the_same_command_twice_gives_the_same_bytes_and_another_seed_does_not(trained, run_command):
    def again(seed: int) -> bytes:
        asked = (f"seed={seed}", f"hydra.run.dir=again{seed}", "callbacks.heat_maps=null", "callbacks.diagnostics=null")
        result = run_command("cops-train", *trained["arguments"], *asked, cwd=trained["here"])
        assert result.returncode == 0, result.stderr
        return (trained["here"] / f"again{seed}" / "results.csv").read_bytes()

    first = (trained["run"] / "results.csv").read_bytes()
    assert again(0) == first
    assert again(1) != first


def numbers(folder) -> dict[tuple[str, ...], float | None]:
    """The values of results.csv, whichever run they are of."""
    measured = [row.measured for row in read_results(folder / "results.csv")]
    return {(m.target, m.category, m.level, m.metric): m.value for m in measured}


def scores(folder) -> dict[str, str]:
    """The digits of scores.csv by image."""
    with (folder / "scores.csv").open() as file:
        return {row["image"]: row["score"] for row in csv.DictReader(file)}


EVAL = ("data.num_workers=0", "callbacks.progress=null", "callbacks.heat_maps.count=0", "trainer.accelerator=cpu")


@pytest.fixture(scope="module")
def evaluated(trained, run_command):
    """The folder of `cops-eval` of the checkpoint on the run's own target."""
    asked = ("checkpoint=run/checkpoints/last.ckpt", f"targets=[{trained['target']}]", "hydra.run.dir=evaluated")
    result = run_command("cops-eval", *asked, *EVAL, cwd=trained["here"])
    assert result.returncode == 0, result.stderr
    return trained["here"] / "evaluated"


def test_evaluation_of_the_checkpoint_gives_the_numbers_of_the_run_and_is_the_same_method(trained, evaluated):
    assert numbers(evaluated) == numbers(trained["run"])
    assert scores(evaluated) == scores(trained["run"])
    runs = [{row.run for row in read_results(folder / "results.csv")} for folder in (trained["run"], evaluated)]
    (trained_run,), (evaluation,) = runs
    assert (evaluation.method, evaluation.variant, evaluation.seed, evaluation.auxiliary) == (
        trained_run.method,
        "cops",
        0,
        "parts",
    )


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning", "ignore:.*does not have many workers")
def test_a_plain_trainer_gives_the_numbers_that_the_command_writes_to_the_last_digit(trained, evaluated, tmp_path):
    module = CopsModule.load_from_checkpoint(trained["run"] / "checkpoints" / "last.ckpt")
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    caching = FeatureCaching(tmp_path / "cache")
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=[caching], default_root_dir=tmp_path, **quiet)
    (found,) = trainer.test(module, datamodule=Folder(trained["target"]), verbose=False)
    written = numbers(evaluated)
    for level, metric in (("image", "auroc"), ("image", "ap"), ("image", "f1_max"), ("pixel", "auroc")):
        assert found[f"tiles/{level}_{metric}"] == written["tiles", "mean", level, metric]
        assert found[f"tiles/part/{level}_{metric}"] == written["tiles", "part", level, metric]
    assert found["tiles/pixel_aupro"] == written["tiles", "mean", "pixel", "aupro"]


def test_an_images_score_is_that_of_its_pixels_whatever_file_holds_them(trained, evaluated, run_command, tmp_path):
    source, copy = trained["target"] / "part" / "test" / "square" / "000.png", tmp_path / "copy"
    make_dataset(copy, normal=2, anomalous=1, seed=5)
    place = copy / "part" / "test" / "square"
    shutil.copy(source, place / "aaa.png")
    Image.open(source).save(place / "zzz.bmp")
    for name in ("aaa", "zzz"):
        shutil.copy(copy / "part/ground_truth/square/000_mask.png", copy / f"part/ground_truth/square/{name}_mask.png")
    asked = ("checkpoint=run/checkpoints/last.ckpt", f"targets=[{copy}]", f"hydra.run.dir={tmp_path / 'run'}")
    result = run_command("cops-eval", *asked, *EVAL, "data.eval_batch_size=1", cwd=trained["here"])
    assert result.returncode == 0, result.stderr
    found = {image.rsplit("/", 1)[-1]: float(score) for image, score in scores(tmp_path / "run").items()}
    (before,) = [float(score) for image, score in scores(evaluated).items() if image.endswith("square/000.png")]
    # Another batch rounds otherwise; another draw would move a score by much more.
    assert found["aaa.png"] == pytest.approx(before, abs=1e-6)
    assert found["zzz.bmp"] == pytest.approx(before, abs=1e-6)


def test_a_target_that_was_trained_on_is_refused_unless_asked_for_by_name(trained, run_command):
    arguments = ("checkpoint=run/checkpoints/last.ckpt", f"targets=[{trained['auxiliary']}]", *EVAL)
    refused = only_error(run_command("cops-eval", *arguments, cwd=trained["here"]))
    assert "parts is not zero-shot: its categories parts/part were trained on" in refused
    assert "evaluate_seen=[parts]" in refused
    allowed = run_command("cops-eval", *arguments, "evaluate_seen=[parts]", cwd=trained["here"])
    assert allowed.returncode == 0, allowed.stderr


def truncate(target) -> str:
    path = target / "part" / "test" / "good" / "001.png"
    path.write_bytes(path.read_bytes()[:100])
    return "001.png"


def drop_mask(target) -> str:
    (target / "part" / "ground_truth" / "square" / "002_mask.png").unlink()
    return "002.png"


def shrink_mask(target) -> str:
    Image.new("L", (7, 7)).save(target / "part" / "ground_truth" / "square" / "002_mask.png")
    return "002_mask.png"


@pytest.mark.parametrize("damage", [truncate, drop_mask, shrink_mask])
def test_a_damaged_target_is_one_sentence_naming_the_file_and_leaves_no_results(damage, tmp_path, run_command):
    make_dataset(tmp_path / "parts")
    said = damage(make_dataset(tmp_path / "tiles", seed=1))
    result = run_command("cops-train", *training(tmp_path, "targets=[tiles]"), "hydra.run.dir=run", cwd=tmp_path)
    assert said in only_error(result)
    assert not (tmp_path / "run" / "results.csv").exists()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed"
    assert said in record["error"]


def test_a_wrong_data_root_says_what_was_looked_for(tmp_path, run_command):
    arguments = (f"paths.data={tmp_path / 'nowhere'}", "auxiliary=mvtec", "targets=[visa]", *SMALL)
    assert "nowhere" in only_error(run_command("cops-train", *arguments))


def test_leaving_out_the_targets_says_how_to_give_them(run_command):
    assert "targets" in only_error(run_command("cops-eval", "checkpoint=some.ckpt"))


def test_missing_clip_weights_are_one_sentence(trained, tmp_path, run_command):
    asked = (*trained["arguments"], "backbone=vit_l14_336", "~backbone.image_size")
    missing = only_error(run_command("cops-train", *asked, COPS_CLIP_WEIGHTS=str(tmp_path / "gone.pt")))
    assert "gone.pt cannot be read: No such file" in missing


def test_a_wrong_checkpoint_says_what_it_holds(tmp_path, run_command):
    torch.save({"weights": torch.ones(1)}, tmp_path / "other.ckpt")
    result = run_command("cops-eval", f"checkpoint={tmp_path / 'other.ckpt'}", "targets=[mvtec]")
    assert "is no checkpoint: its top-level keys are weights" in only_error(result)


def test_a_checkpoint_of_another_backbone_is_refused(trained, run_command):
    asked = ("checkpoint=run/checkpoints/last.ckpt", f"targets=[{trained['target']}]", *EVAL)
    other = ("backbone=tiny_random", "backbone.seed=1", "backbone.image_size=64")
    said = only_error(run_command("cops-eval", *asked, *other, cwd=trained["here"]))
    assert "was trained on the backbone packaged:tiny with weights" in said


def test_a_released_checkpoint_must_be_told_what_it_was_trained_on(trained, evaluated, run_command):
    arguments = ("checkpoint=run/checkpoints/released.pth", f"targets=[{trained['target']}]", *EVAL)
    assert "auxiliary=visa" in only_error(run_command("cops-eval", *arguments, cwd=trained["here"]))
    told = ("auxiliary=visa", "backbone=tiny_random", "backbone.image_size=64", "hydra.run.dir=released")
    result = run_command("cops-eval", *arguments, *told, cwd=trained["here"])
    assert result.returncode == 0, result.stderr
    assert scores(trained["here"] / "released") == scores(evaluated)
    assert {row.run.auxiliary for row in read_results(trained["here"] / "released" / "results.csv")} == {"visa"}


@pytest.mark.parametrize("command", ["cops-train", "cops-eval"])
def test_help_teaches_by_example(command, run_command):
    printed = run_command(command, "--help").stdout
    assert f"  {command} " in printed
    assert "data.batch_size=8" in printed
