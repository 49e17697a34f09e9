"""Loggers that write into the run folder, read back with other tools."""

import csv
import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from cops_lightning.core.errors import ConfigError
from cops_lightning.loggers import CSVLogger, TensorBoardLogger, tracked


def lines(file: Path) -> list[dict[str, str]]:
    with file.open() as opened:
        return [{key: value for key, value in line.items() if value} for line in csv.DictReader(opened)]


def log_steps(logger, steps: range) -> None:
    """A loss that is a tenth of the step, and an epoch's end after every third step, as Lightning logs them."""
    for step in steps:
        logger.log_metrics({"train/total_step": step / 10, "epoch": step // 3}, step)
        if step % 3 == 2:
            logger.log_metrics({"train/total_epoch": step / 10, "epoch": step // 3}, step)


def test_csv_has_a_line_per_call_and_the_metrics_at_the_last_step(run, evaluation):
    logger = CSVLogger(run.folder)
    with tracked([logger], run):
        logger.log_metrics({"train/total_step": 2.0}, 0)
        logger.log_metrics({"train/total_step": 1.0}, 7)
        logger.log_evaluation(evaluation)
    assert lines(run.folder / "metrics.csv") == [
        {"step": "0", "train/total_step": "2.0"},
        {"step": "7", "train/total_step": "1.0"},
        {"step": "7", "tiles/image_auroc": "0.75", "mean/image_auroc": "0.75"},
    ]
    assert {path.name for path in run.folder.iterdir()} == {"metrics.csv", "heatmaps"}


def test_a_killed_run_has_lost_no_line(run):
    logger = CSVLogger(run.folder)
    logger.start(run)
    log_steps(logger, range(4))
    assert len(lines(run.folder / "metrics.csv")) == 5  # four steps, one epoch


@pytest.mark.parametrize("killed_at", [6, 7, 8, 9])
def test_csv_of_a_resumed_run_is_that_of_an_uninterrupted_one(killed_at, run, tmp_path):
    whole = CSVLogger(tmp_path / "whole")
    with tracked([whole], run):
        log_steps(whole, range(12))
    killed = CSVLogger(run.folder)
    killed.start(run)
    log_steps(killed, range(killed_at))
    resumed = CSVLogger(run.folder)
    with tracked([resumed], run):
        log_steps(resumed, range(6, 12))  # from the end of the last epoch
    assert lines(run.folder / "metrics.csv") == lines(tmp_path / "whole" / "metrics.csv")


def test_a_line_that_a_kill_cut_short_is_dropped(run):
    (run.folder / "metrics.csv").write_text("loss,step\n0.5,0\n0.4,1\n0.")
    logger = CSVLogger(run.folder)
    with tracked([logger], run):
        logger.log_metrics({"loss": 0.3}, 2)
    assert [line["loss"] for line in lines(run.folder / "metrics.csv")] == ["0.5", "0.4", "0.3"]


def test_a_run_that_begins_again_leaves_nothing_of_the_one_before(run):
    (run.folder / "metrics.csv").write_text("loss,old,step\n0.5,1,0\n0.4,1,1\n")
    logger = CSVLogger(run.folder)
    with tracked([logger], run):
        logger.log_metrics({"loss": 0.3}, 0)
    assert lines(run.folder / "metrics.csv") == [{"loss": "0.3", "step": "0"}]


def test_what_an_earlier_attempt_logged_stays_until_there_is_something_new(run):
    (run.folder / "metrics.csv").write_text("loss,step\n0.5,0\n")
    with tracked([CSVLogger(run.folder)], run):
        pass
    assert lines(run.folder / "metrics.csv") == [{"loss": "0.5", "step": "0"}]


def test_in_a_notebook_csv_files_lie_where_lightning_puts_them(tmp_path):
    for version in (0, 1):
        logger = CSVLogger(tmp_path)
        logger.log_metrics({"loss": 1.0}, 0)
        logger.finalize("success")
        assert (tmp_path / "lightning_logs" / f"version_{version}" / "metrics.csv").is_file()


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    found.Reload()
    return found


def text(found: EventAccumulator, tag: str) -> str:
    return found.Tensors(f"{tag}/text_summary")[0].tensor_proto.string_val[0].decode()


def test_tensorboard_shows_scalars_pictures_the_table_and_what_the_run_is_made_of(run, evaluation):
    (run.folder / "run.json").write_text(json.dumps({"run_id": "abc123", "config": {}, "status": "running"}))
    logger = TensorBoardLogger(run.folder)
    with tracked([logger], run):
        logger.log_metrics({"train/total_step": 2.0}, 5)
        logger.log_evaluation(evaluation)
    found = events(run.folder / "tensorboard")
    assert [(event.step, event.value) for event in found.Scalars("train/total_step")] == [(5, 2.0)]
    assert [(event.step, event.value) for event in found.Scalars("tiles/image_auroc")] == [(5, 0.75)]
    assert set(found.Tags()["images"]) == {"tiles/contact_sheet", "tiles/heatmaps/square_000"}
    assert "| tiles | 75.0 |" in text(found, "results")
    content = json.loads(text(found, "run").removeprefix("```json").removesuffix("```"))
    assert content == {"run_id": "abc123", "config": dict(run.config)}


def test_tensorboard_shows_every_step_of_a_resumed_run_once(run, monkeypatch):
    # TensorBoard reads files in the order of their names, in which writers of one second are numbered without padding.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    killed = TensorBoardLogger(run.folder)
    killed.start(run)
    log_steps(killed, range(8))
    killed.experiment.flush()
    resumed = TensorBoardLogger(run.folder)
    with tracked([resumed], run):
        log_steps(resumed, range(6, 12))
        resumed.finalize("success")  # the end of the fit, after which the test goes on in another file
        resumed.log_metrics({"tiles/image_auroc": 0.75}, 12)
    found = events(run.folder / "tensorboard")
    assert [event.step for event in found.Scalars("train/total_step")] == list(range(12))
    assert [event.step for event in found.Scalars("train/total_epoch")] == [2, 5, 8, 11]
    assert [event.step for event in found.Scalars("tiles/image_auroc")] == [12]


def test_a_run_without_a_single_number_is_shown_too(run):
    with tracked([TensorBoardLogger(run.folder)], run):
        pass
    assert '"pool": 3' in text(events(run.folder / "tensorboard"), "run")


def test_without_tensorboard_the_way_to_get_it_is_said_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning.fabric.loggers.tensorboard._TENSORBOARD_AVAILABLE", False)
    monkeypatch.setattr("lightning.fabric.loggers.tensorboard._TENSORBOARDX_AVAILABLE", False)
    with pytest.raises(ConfigError, match=r"pip install 'cops_lightning\[tensorboard\]'"):
        TensorBoardLogger(tmp_path)
