"""What trackers receive: W&B's is read back from the offline run's own file, TensorBoard's from its event files."""

import csv
import json
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.metrics import auc
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from cops_lightning.core.types import MEAN
from cops_lightning.metrics.curves import POINTS
from cops_lightning.report.tables import read_results

from .conftest import COMMANDS, SMALL, make_dataset

ROOT = Path(__file__).parents[2]
BLOCK, FILE_HEADER, CHUNK_HEADER = 32768, 7, 7
EPOCHS, STEPS = 2, 4  # six images in batches of four are two steps an epoch
LOSSES = {f"train/{part}" for part in ("total", "image", "patch", "gather", "scatter", "kl", "recon")}
PER_EPOCH = {
    *(f"{loss}_epoch" for loss in LOSSES),
    *(f"rates/{name}" for name in ("images_per_second", "epoch_seconds", "learning_rate")),
    *(f"similarity/{name}" for name in ("prompts", "context_tokens", "state_tokens", "class_tokens")),
    *(f"similarity/prototypes_{name}" for name in ("normal", "anomalous", "across")),
}


def records(file: Path) -> list[Record]:
    """All records of a W&B data file, which is a LevelDB log: chunks in blocks, each with checksum, size and kind."""
    content, position, found, parts = file.read_bytes(), FILE_HEADER, [], b""
    while position + CHUNK_HEADER <= len(content):
        if BLOCK - position % BLOCK < CHUNK_HEADER:
            position += BLOCK - position % BLOCK
            continue
        _checksum, size, kind = struct.unpack_from("<IHB", content, position)
        parts += content[position + CHUNK_HEADER : position + CHUNK_HEADER + size]
        position += CHUNK_HEADER + size
        if kind in (1, 4):  # a whole record, or the last chunk of one
            found.append(Record.FromString(parts))
            parts = b""
    return found


class OfflineRun:
    """What the data file of one offline run holds, and the run folder beside it."""

    def __init__(self, run: Path) -> None:
        self.folder = run
        (file,) = (run / "wandb").glob("offline-run-*/*.wandb")
        self.files = file.parent / "files"
        self.records = records(file)

    def of(self, kind: str) -> Iterator:
        return (getattr(record, kind) for record in self.records if record.WhichOneof("record_type") == kind)

    def history(self) -> list[dict]:
        return [as_dict(line.item) for line in self.of("history")]

    def summary(self) -> dict:
        merged: dict = {}
        for summary in self.of("summary"):
            merged |= as_dict(summary.update)
        return merged

    def table(self, key: str) -> list[dict]:
        """The lines of a logged table."""
        content = json.loads((self.files / self.summary()[f"{key}/path"]).read_text())
        return [dict(zip(content["columns"], line, strict=True)) for line in content["data"]]


def as_dict(items) -> dict:
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def arguments(here: Path) -> tuple[str, ...]:
    auxiliary, target = make_dataset(here / "parts"), make_dataset(here / "tiles", seed=1)
    data = ("auxiliary=own", f"auxiliary.source={auxiliary}", f"targets=[{target}]", "data.batch_size=4")
    return (*data, f"auxiliary.epochs={EPOCHS}", "study=trial", "report.heatmaps=3", *SMALL)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, run_command) -> list[OfflineRun]:
    """Two jobs of one sweep, tracked by W&B without a login."""
    here = tmp_path_factory.mktemp("tracked")
    tracked = ("-m", "seed=0,1", "hydra.sweep.dir=sweep", "logger=wandb")
    result = run_command("cops-train", *tracked, *arguments(here), cwd=here, HOME=str(here), NETRC="none")
    assert result.returncode == 0, result.stderr
    assert "no login for W&B" in result.stderr
    folders = sorted(path.parent for path in (here / "sweep").rglob("run.json"))
    return [OfflineRun(folder) for folder in folders]


@pytest.fixture(scope="module")
def offline_run(sweep) -> OfflineRun:
    return sweep[0]


def test_each_job_of_a_sweep_is_its_own_run_and_finished(sweep):
    assert len({run.run_id for job in sweep for run in job.of("run")}) == 2
    for job in sweep:
        assert [ended.exit_code for ended in job.of("exit")] == [0]


def test_a_run_is_named_by_what_it_computes_so_that_a_resumed_one_goes_on_in_the_same_place(offline_run):
    (run,) = offline_run.of("run")
    assert run.run_id == json.loads((offline_run.folder / "run.json").read_text())["run_id"]


def test_a_run_is_filed_by_study_variant_auxiliary_targets_and_backbone(offline_run):
    (run,) = offline_run.of("run")
    assert (run.run_group, run.job_type, run.display_name) == ("trial", "cops", "cops-parts-seed0")
    assert set(run.tags) == {"auxiliary:parts", "target:tiles", "backbone:packaged:tiny"}


def test_a_run_carries_its_configuration_and_what_produced_it(offline_run):
    (run,) = offline_run.of("run")
    config = as_dict(run.config.update)
    recorded = json.loads((offline_run.folder / "run.json").read_text())
    for group, settings in recorded["config"].items():
        assert config[group] == settings, group
    provenance = config["provenance"]
    for fact in ("git", "versions", "backbone", "data"):
        assert provenance[fact] == recorded[fact], fact


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


def test_the_summary_holds_the_means_of_results_csv_by_target_and_over_targets(offline_run):
    summary = offline_run.summary()
    means = [row.measured for row in read_results(offline_run.folder / "results.csv") if row.measured.category == MEAN]
    assert len(means) == 7
    for row in means:
        # There is one target, so the mean over targets is its own.
        for target in (row.target, MEAN):
            assert summary[f"{target}/{row.level}_{row.metric}"] == row.value


def test_the_table_of_results_has_a_line_per_category_and_a_column_per_metric(offline_run):
    lines = offline_run.table("results")
    assert [(line["target"], line["category"]) for line in lines] == [("tiles", "part"), ("tiles", MEAN)]
    for row in (found.measured for found in read_results(offline_run.folder / "results.csv")):
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


def test_the_contact_sheet_with_its_fixed_colour_scale_is_the_one_of_the_run_folder(offline_run):
    sent = offline_run.files / offline_run.summary()["tiles/contact_sheet/path"]
    assert sent.read_bytes() == (offline_run.folder / "heatmaps" / "tiles.png").read_bytes()


def test_the_checkpoints_are_an_artifact(offline_run):
    (artifact,) = [found for found in offline_run.of("artifact") if found.type == "model"]
    assert {entry.path for entry in artifact.manifest.contents} == {"last.ckpt", "released.pth"}
    for entry in artifact.manifest.contents:
        assert Path(entry.local_path).resolve() == (offline_run.folder / "checkpoints" / entry.path).resolve()


@pytest.mark.slow
def test_a_job_that_wandb_hands_out_has_the_identity_and_the_folder_of_its_agent(tmp_path, run_command):
    sweep = yaml.safe_load((ROOT / "experiments" / "wandb_sweeps" / "ablations.yaml").read_text())
    written = [word for word in sweep["command"] if word not in ("${program}", "${args_no_hyphens}")]
    small = [word for word in arguments(tmp_path) if not word.startswith("study=")]
    agent = {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": "run1", "WANDB_MODE": "offline", "HOME": str(tmp_path)}
    job = ("ablation=without_states", "seed=1", "report.heatmaps=0")
    result = run_command(sweep["program"], *written, *small, *job, cwd=tmp_path, **agent)
    assert result.returncode == 0, result.stderr
    tracked = OfflineRun(tmp_path / "runs" / "ablations" / "sweep_sweep1" / "run1")
    (run,) = tracked.of("run")
    assert (run.run_id, run.run_group, run.job_type) == ("run1", "ablations", "without_states")


@pytest.mark.slow
def test_a_killed_run_goes_on_under_the_same_identity_at_the_step_where_its_last_epoch_ended(tmp_path, run_command):
    command = ("hydra.run.dir=run", "logger=wandb", *arguments(tmp_path), "auxiliary.epochs=20", "report.heatmaps=0")
    variables = {"HOME": str(tmp_path), "WANDB_MODE": "offline"}
    with subprocess.Popen(
        [str(COMMANDS / "cops-train"), *command],
        cwd=tmp_path,
        env={**os.environ, **variables, "COPS_CACHE": str(tmp_path / "cache")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while process.poll() is None and not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
            time.sleep(0.05)
        process.kill()
    resumed = run_command("cops-train", *command, cwd=tmp_path, **variables)
    assert resumed.returncode == 0, resumed.stderr
    first, second = sorted((tmp_path / "run" / "wandb").glob("offline-run-*"))
    run_id = json.loads((tmp_path / "run" / "run.json").read_text())["run_id"]
    assert first.name.endswith(run_id)
    assert second.name.endswith(run_id)
    (file,) = second.glob("*.wandb")
    history = [
        as_dict(record.history.item) for record in records(file) if record.WhichOneof("record_type") == "history"
    ]
    steps = [line["trainer/global_step"] for line in history if "train/total_step" in line]
    assert steps[0] > 0
    assert steps[0] % (STEPS // EPOCHS) == 0
    assert steps == list(range(steps[0], 20 * STEPS // EPOCHS))


def test_a_server_that_does_not_answer_costs_neither_the_run_nor_what_was_tracked(tmp_path, run_command):
    unreachable = {
        "WANDB_API_KEY": 40 * "0",
        "WANDB_BASE_URL": "http://127.0.0.1:9",  # the port of the discard protocol, where nobody listens
        "WANDB_INIT_TIMEOUT": "2",
        "HOME": str(tmp_path),
    }
    here = ("hydra.run.dir=run", "logger=wandb")
    result = run_command("cops-train", *here, *arguments(tmp_path), cwd=tmp_path, **unreachable)
    assert result.returncode == 0, result.stderr
    (warning,) = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert "W&B did not take the run (CommError" in warning
    assert "so it is kept offline; send it later by: wandb sync" in warning
    assert OfflineRun(tmp_path / "run").summary().keys() >= {"tiles/image_auroc", "tiles/pixel_aupro"}


@pytest.fixture(scope="module")
def events(tmp_path_factory, run_command) -> EventAccumulator:
    """What TensorBoard shows of the first job of the sweep, run again."""
    here = tmp_path_factory.mktemp("events")
    result = run_command("cops-train", "logger=tensorboard", "hydra.run.dir=run", *arguments(here), cwd=here)
    assert result.returncode == 0, result.stderr
    found = EventAccumulator(str(here / "run" / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    found.Reload()
    return found


def test_tensorboard_and_csv_have_the_scalars_of_wandb_under_the_same_names(events, offline_run, trained):
    logged = {key for line in offline_run.history() for key, value in line.items() if isinstance(value, float | int)}
    scalars = {key for key in logged if key.split("/")[0] in ("train", "rates", "similarity", "tiles", MEAN)}
    scalars = {key for key in scalars if key.count("/") == 1}  # deeper ones describe pictures and tables
    assert set(events.Tags()["scalars"]) - {"epoch"} == scalars
    with (trained["run"] / "metrics.csv").open() as file:
        assert set(next(csv.reader(file))) - {"epoch", "step"} == scalars


def test_tensorboard_shows_every_step_the_heat_maps_and_the_table(events):
    assert [event.step for event in events.Scalars("train/total_step")] == list(range(STEPS))
    assert "tiles/contact_sheet" in events.Tags()["images"]
    assert len([tag for tag in events.Tags()["images"] if tag.startswith("tiles/heatmaps/")]) == 3
    (table,) = events.Tensors("results/text_summary")
    assert b"tiles" in table.tensor_proto.string_val[0]
