"""What loggers receive of the commands; how each shows it is tested in tests/loggers."""

import csv
import json
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.metrics import auc
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cops_lightning.core.measured import MEAN
from cops_lightning.metrics.curves import POINTS
from cops_lightning.report.tables import read_results
from documentation.offline_runs import OfflineRun, attempts, latest
from draw_wandb_run import draw

from .conftest import make_dataset

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "tutorials" / "tour"
TINY = ("backbone=tiny_random", "backbone.image_size=64", "data.num_workers=0", "trainer.accelerator=cpu")
EPOCHS, STEPS = 2, 4  # six images in batches of four are two steps an epoch
LOSSES = {f"train/{part}" for part in ("total", "image", "patch", "gather", "scatter", "kl", "recon")}
PER_EPOCH = {
    *(f"{loss}_epoch" for loss in LOSSES),
    *(f"rates/{name}" for name in ("images_per_second", "epoch_seconds", "learning_rate")),
    *(f"similarity/{name}" for name in ("prompts", "context_tokens", "state_tokens", "class_tokens")),
    *(f"similarity/prototypes_{name}" for name in ("normal", "anomalous", "across")),
}
UNWATCHED = ("callbacks.diagnostics=null", "callbacks.heat_maps.count=0")


def arguments(here: Path) -> tuple[str, ...]:
    auxiliary, target = make_dataset(here / "parts"), make_dataset(here / "tiles", seed=1)
    data = ("auxiliary=own", f"auxiliary.source={auxiliary}", f"targets=[{target}]", "data.batch_size=4")
    return (*data, f"preset.epochs={EPOCHS}", "study=trial", "callbacks.heat_maps.count=3", *TINY)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, run_command) -> list[Path]:
    """The run folders of two jobs of one sweep, with all loggers at once and without a login for W&B."""
    here = tmp_path_factory.mktemp("tracked")
    tracked = ("-m", "seed=0,1", "hydra.sweep.dir=sweep", "logger=[csv,wandb,tensorboard]")
    result = run_command("cops-train", *tracked, *arguments(here), cwd=here, HOME=str(here), NETRC="none")
    assert result.returncode == 0, result.stderr
    assert "no login for W&B" in result.stderr
    return sorted(path.parent for path in (here / "sweep").rglob("run.json"))


@pytest.fixture(scope="module")
def folder(sweep) -> Path:
    return sweep[0]


@pytest.fixture(scope="module")
def offline_run(folder) -> OfflineRun:
    return latest(folder)


def test_each_job_of_a_sweep_is_its_own_run_and_done(sweep):
    jobs = [latest(folder) for folder in sweep]
    assert [job.run().run_id for job in jobs] == [
        json.loads((folder / "run.json").read_text())["run_id"] for folder in sweep
    ]
    assert len({job.run().run_id for job in jobs}) == 2
    assert [(job.exit_code(), job.summary()["status"]) for job in jobs] == [(0, "done"), (0, "done")]


def test_a_run_is_filed_by_study_variant_auxiliary_targets_and_backbone(offline_run):
    run = offline_run.run()
    assert (run.run_group, run.job_type, run.display_name) == ("trial", "cops", "cops-parts-seed0")
    assert set(run.tags) == {"auxiliary:parts", "target:tiles", "backbone:packaged:tiny"}


def test_a_run_carries_its_configuration_and_what_produced_it(offline_run, folder):
    config, recorded = offline_run.config(), json.loads((folder / "run.json").read_text())
    for group in ("model", "preset", "optimizer", "data"):
        assert config[group] == recorded["config"][group], group
    assert config["method"] == recorded["method"]
    for fact in ("git", "versions", "backbone", "data"):
        assert config["provenance"][fact] == recorded[fact], fact


def test_every_loss_is_logged_at_every_step(offline_run):
    steps = [line for line in offline_run.history() if "train/total_step" in line]
    assert [line["trainer/global_step"] for line in steps] == list(range(STEPS))
    assert all({f"{loss}_step" for loss in LOSSES} <= line.keys() for line in steps)


def test_every_epoch_logs_rates_and_similarities(offline_run):
    epochs = [line for line in offline_run.history() if "train/total_epoch" in line]
    assert len(epochs) == EPOCHS
    for line in epochs:
        assert line.keys() >= PER_EPOCH
        assert line["rates/images_per_second"] == pytest.approx(6 / line["rates/epoch_seconds"], rel=1e-5)
        assert line["rates/learning_rate"] == pytest.approx(1e-3)
        assert all(-1 <= line[key] <= 1.0001 for key in PER_EPOCH if key.startswith("similarity/"))


def test_the_summary_holds_the_means_of_results_csv_by_target_and_over_targets(offline_run, folder):
    summary = offline_run.summary()
    means = [row.measured for row in read_results(folder / "results.csv") if row.measured.category == MEAN]
    assert len(means) == 7
    for row in means:
        # There is one target, so the mean over targets is its own.
        for target in (row.target, MEAN):
            assert summary[f"{target}/{row.level}_{row.metric}"] == row.value


def test_the_table_of_results_has_a_line_per_category_and_a_column_per_metric(offline_run, folder):
    lines = offline_run.table("results")
    assert [(line["target"], line["category"]) for line in lines] == [("tiles", "part"), ("tiles", MEAN)]
    for row in (found.measured for found in read_results(folder / "results.csv")):
        (line,) = [line for line in lines if line["category"] == row.category]
        assert line[f"{row.level}_{row.metric}"] == row.value
        assert (line["n_normal"], line["n_anomalous"]) == (3, 3)


@pytest.mark.parametrize("level", ["image", "pixel"])
def test_the_roc_curve_has_the_area_that_is_reported(level, offline_run):
    lines = offline_run.table(f"tiles/{level}_roc_table")
    assert len(lines) <= POINTS
    assert {line["category"] for line in lines} == {"part"}
    area = auc([line["false_positive_rate"] for line in lines], [line["true_positive_rate"] for line in lines])
    assert area == pytest.approx(offline_run.summary()[f"tiles/{level}_auroc"], abs=0.0025)


@pytest.mark.parametrize("level", ["image", "pixel"])
def test_the_precision_recall_curve_ends_at_the_share_of_anomalies(level, offline_run):
    lines = offline_run.table(f"tiles/{level}_pr_table")
    assert len(lines) <= POINTS
    # Half of the images; half of them show a square of 15 x 15 in 40 x 40 pixels, resized to 64 x 64.
    share = {"image": 0.5, "pixel": 0.5 * 15**2 / 40**2}[level]
    assert lines[-1]["recall"] == 1
    assert lines[-1]["precision"] == pytest.approx(share, rel=0.05)


def test_heat_maps_are_images_with_the_anomaly_map_and_the_ground_truth_as_overlays(offline_run):
    summary = offline_run.summary()
    assert summary["tiles/heatmaps/count"] == 3
    shown = summary["tiles/heatmaps/all_masks"]
    assert all(set(masks) == {"anomaly_map", "ground_truth"} for masks in shown)
    normal, anomalous = shown[0], shown[-1]

    def pixels(mask: dict) -> np.ndarray:
        return np.asarray(Image.open(offline_run.files / mask["path"]))

    assert not pixels(normal["ground_truth"]).any()
    assert np.mean(pixels(anomalous["ground_truth"])) == pytest.approx(15**2 / 40**2, rel=0.05)
    assert pixels(anomalous["anomaly_map"]).shape == (40, 40)
    assert set(np.unique(pixels(anomalous["anomaly_map"]))) <= set(range(10))


def test_the_contact_sheet_with_its_fixed_colour_scale_is_the_one_of_the_run_folder(offline_run, folder):
    sent = offline_run.files / offline_run.summary()["tiles/contact_sheet/path"]
    assert sent.read_bytes() == (folder / "heatmaps" / "tiles.png").read_bytes()


def test_the_pictures_of_the_page_on_wandb_show_what_a_run_holds_by_the_names_that_it_has_today(
    offline_run, folder, tmp_path
):
    draw(offline_run, tmp_path)
    drawn, shown = ({path.stem: texts(path) for path in of.glob("*.svg")} for of in (tmp_path, PICTURES))
    assert {f"{loss}_step" for loss in LOSSES} <= set(drawn["losses"])
    assert {key for key in PER_EPOCH if key.startswith("similarity/")} <= set(drawn["similarity"])
    assert {"cops-parts-seed0", "trial, cops", "done", "last.ckpt, released.pth"} <= set(drawn["filed"])
    assert {"tiles/image_roc", "tiles/image_pr", "tiles/pixel_roc", "tiles/pixel_pr"} <= set(drawn["curves"])
    rows = [found.measured for found in read_results(folder / "results.csv")]
    values = {(row.category, row.level, row.metric): row.value for row in rows}
    for category in ("part", MEAN):
        at = drawn["results"].index(category)
        three = [values[category, *of] for of in (("image", "auroc"), ("pixel", "auroc"), ("pixel", "aupro"))]
        assert drawn["results"][at - 1 : at + 6] == ["tiles", category, "3", "3", *(f"{value:.3f}" for value in three)]
    for name in ("losses", "similarity"):
        assert names(drawn[name]) == names(shown[name])
    settings = {key for key in offline_run.config() if not key.startswith("_wandb")}
    assert settings <= set(drawn["filed"])
    assert settings <= set(shown["filed"])
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in PICTURES.iterdir()}


def texts(picture: Path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]+)</text>", picture.read_text())


def names(found: list[str]) -> set[str]:
    return {text for text in found if "/" in text}


def test_the_checkpoints_are_an_artifact(offline_run, folder):
    (artifact,) = offline_run.artifacts()
    assert {entry.path for entry in artifact.manifest.contents} == {"last.ckpt", "released.pth"}
    assert {"last", "best"} <= set(artifact.aliases)
    for entry in artifact.manifest.contents:
        assert Path(entry.local_path).resolve() == (folder / "checkpoints" / entry.path).resolve()


def test_loggers_side_by_side_have_the_same_scalars_under_the_same_names(offline_run, folder):
    logged = {key for line in offline_run.history() for key, value in line.items() if isinstance(value, float | int)}
    scalars = {key for key in logged if key.split("/")[0] in ("train", "rates", "similarity", "tiles", MEAN)}
    # Deeper names describe pictures and tables, but for the metrics of a category.
    scalars = {key for key in scalars if key.count("/") == 1 or key.startswith("tiles/part/")}
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    assert set(events.Tags()["scalars"]) - {"epoch"} == scalars
    with (folder / "metrics.csv").open() as file:
        assert set(next(csv.reader(file))) - {"epoch", "step"} == scalars
    assert [event.step for event in events.Scalars("train/total_step")] == list(range(STEPS))
    assert "tiles/contact_sheet" in events.Tags()["images"]
    assert len([tag for tag in events.Tags()["images"] if tag.startswith("tiles/heatmaps/")]) == 3


def test_a_run_keeps_its_curves_whatever_is_asked_for_and_can_be_sent_later(tmp_path, run_command):
    result = run_command("cops-train", "hydra.run.dir=run", *arguments(tmp_path), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    with (tmp_path / "run" / "metrics.csv").open() as file:
        kept = [line["train/total_step"] for line in csv.DictReader(file) if line["train/total_step"]]
    sent = run_command("cops-track", str(tmp_path / "run"), "--logger", "wandb", HOME=str(tmp_path), NETRC="none")
    assert sent.returncode == 0, sent.stderr
    found = latest(tmp_path / "run")
    history = [line["train/total_step"] for line in found.history() if "train/total_step" in line]
    assert history == [float(value) for value in kept]
    assert found.run().display_name == "cops-parts-seed0"
    assert {artifact.name for artifact in found.artifacts()} == {f"checkpoints-{found.run().run_id}"}


def test_an_evaluation_is_filed_as_one_with_the_settings_of_its_checkpoint(sweep, tmp_path, run_command):
    checkpoint, target = sweep[1] / "checkpoints" / "last.ckpt", make_dataset(tmp_path / "others", seed=2)
    small = ("data.num_workers=0", "trainer.accelerator=cpu", "callbacks.heat_maps.count=0")
    command = (f"checkpoint='{checkpoint}'", f"targets=[{target}]", "hydra.run.dir=run", "logger=wandb", *small)
    result = run_command("cops-eval", *command, cwd=tmp_path, HOME=str(tmp_path), WANDB_MODE="offline")
    assert result.returncode == 0, result.stderr
    found, trained = latest(tmp_path / "run"), latest(sweep[1])
    assert found.run().job_type == "evaluation"
    assert found.run().display_name == "evaluation-cops-parts-seed1"
    config = found.config()
    assert None not in config.values()
    assert config["model"]["preset"] == trained.config()["model"]["preset"]
    assert config["method"] == trained.config()["method"]


def test_a_failed_run_carries_its_reason_its_traceback_and_its_console(tmp_path, run_command):
    command = (*arguments(tmp_path), "hydra.run.dir=run", "logger=wandb", *UNWATCHED)
    (tmp_path / "tiles" / "part" / "test" / "good" / "000.png").write_bytes(b"no image")
    result = run_command("cops-train", *command, cwd=tmp_path, HOME=str(tmp_path), WANDB_MODE="offline")
    assert result.returncode == 1
    found, recorded = latest(tmp_path / "run"), json.loads((tmp_path / "run" / "run.json").read_text())
    assert found.exit_code() == 1
    assert (found.summary()["status"], recorded["status"]) == ("failed", "failed")
    assert found.summary()["error"] == recorded["error"]
    assert "000.png" in (found.files / "traceback.txt").read_text()
    assert found.saved() >= {"traceback.txt", "run.log"}


@pytest.mark.slow
def test_a_job_that_wandb_hands_out_has_the_identity_and_the_folder_of_its_agent(tmp_path, run_process):
    sweep = yaml.safe_load((ROOT / "experiments" / "wandb_sweeps" / "ablations.yaml").read_text())
    written = [word for word in sweep["command"] if word not in ("${program}", "${args_no_hyphens}")]
    small = [word for word in arguments(tmp_path) if not word.startswith("study=")]
    agent = {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": "run1", "WANDB_MODE": "offline", "HOME": str(tmp_path)}
    job = ("ablation=without_states", "seed=1", *UNWATCHED)
    result = run_process(sweep["program"], *written, *small, *job, cwd=tmp_path, **agent)
    assert result.returncode == 0, result.stderr
    run = latest(tmp_path / "runs" / "ablations" / "sweep_sweep1" / "run1").run()
    assert (run.run_id, run.run_group, run.job_type) == ("run1", "ablations", "without_states")


@pytest.mark.slow
def test_a_killed_run_that_goes_on_has_every_step_once_in_every_logger(tmp_path, start_command, run_command):
    epochs = 8
    asked = ("hydra.run.dir=run", "logger=[csv,wandb]", *UNWATCHED)
    command = ("cops-train", *asked, *arguments(tmp_path), f"preset.epochs={epochs}")
    environment = {"HOME": str(tmp_path), "WANDB_MODE": "offline", "COPS_CACHE": str(tmp_path / "cache")}
    process = start_command(*command, cwd=tmp_path, **environment)
    while process.poll() is None and not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    result = run_command(*command, cwd=tmp_path, **environment)
    assert result.returncode == 0, result.stderr
    last, everything = latest(tmp_path / "run"), list(range(epochs * STEPS // EPOCHS))
    assert [attempt.marked for attempt in attempts(tmp_path / "run")] == [True, False]
    assert last.run().run_id == json.loads((tmp_path / "run" / "run.json").read_text())["run_id"]
    history = last.history()
    assert [line["trainer/global_step"] for line in history if "train/total_step" in line] == everything
    assert [line["_step"] for line in history] == list(range(len(history)))
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert [int(line["step"]) for line in csv.DictReader(file) if line["train/total_step"]] == everything


@pytest.mark.slow
def test_a_server_that_does_not_answer_costs_neither_the_run_nor_what_was_tracked(tmp_path, run_process):
    unreachable = {
        "WANDB_API_KEY": 40 * "0",
        "WANDB_BASE_URL": "http://127.0.0.1:9",  # the port of the discard protocol, where nobody listens
        "WANDB_INIT_TIMEOUT": "2",
        "HOME": str(tmp_path),
    }
    command = ("hydra.run.dir=run", "logger=wandb", *arguments(tmp_path), *UNWATCHED)
    result = run_process("cops-train", *command, cwd=tmp_path, **unreachable)
    assert result.returncode == 0, result.stderr
    warning, *others = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert not others
    assert "W&B did not take the run (CommError" in warning
    assert "so it is kept offline; send it later by: wandb sync" in warning
    assert latest(tmp_path / "run").summary().keys() >= {"tiles/image_auroc", "tiles/pixel_aupro"}
    assert "Traceback" in (tmp_path / "run" / "run.log").read_text()
