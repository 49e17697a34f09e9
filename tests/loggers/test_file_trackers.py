"""Trackers that write into the run folder, read back with other tools."""

import csv
import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cops_lightning.core.types import MEAN, MetricRow
from cops_lightning.loggers import CsvSink, Evaluation, TensorBoardSink


@pytest.fixture
def evaluation(tmp_path) -> Evaluation:
    """One target whose mean image AUROC is 0.75."""
    return Evaluation([MetricRow("tiles", MEAN, "image", "auroc", 0.75, 2, 3)], [], {}, (0.0, 1.0), tmp_path)


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [{key: value for key, value in line.items() if value} for line in csv.DictReader(file)]


def test_csv_has_a_line_per_call_and_the_metrics_at_the_last_step(tmp_path, evaluation):
    sink = CsvSink(tmp_path)
    sink.log_scalars({"train/total_step": 2.0}, 0)
    sink.log_scalars({"train/total_step": 1.0}, 7)
    sink.log_evaluation(evaluation)
    sink.close(failed=False)
    assert lines(tmp_path) == [
        {"step": "0", "train/total_step": "2.0"},
        {"step": "7", "train/total_step": "1.0"},
        {"step": "7", "tiles/image_auroc": "0.75", "mean/image_auroc": "0.75"},
    ]


def test_a_resumed_run_goes_on_after_the_lines_of_the_interrupted_one(tmp_path):
    (tmp_path / "run.json").write_text("{}")  # the run folder is never empty
    interrupted = CsvSink(tmp_path)
    interrupted.log_scalars({"train/total_step": 2.0}, 0)
    interrupted.close(failed=True)
    resumed = CsvSink(tmp_path)
    assert lines(tmp_path) == [{"step": "0", "train/total_step": "2.0"}]  # a kill at this moment loses nothing
    resumed.log_scalars({"rates/learning_rate": 0.001}, 1)
    resumed.close(failed=False)
    assert lines(tmp_path) == [
        {"step": "0", "train/total_step": "2.0"},
        {"step": "1", "rates/learning_rate": "0.001"},
    ]


def test_tensorboard_shows_scalars_the_table_of_results_and_the_record_of_the_run(tmp_path, evaluation):
    sink = TensorBoardSink(tmp_path, {"run_id": "abc123"})
    sink.log_scalars({"train/total_step": 2.0}, 5)
    sink.log_evaluation(evaluation)
    sink.close(failed=False)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/total_step")] == [(5, 2.0)]
    assert [(event.step, event.value) for event in events.Scalars("tiles/image_auroc")] == [(5, 0.75)]

    def text(tag: str) -> str:
        return events.Tensors(f"{tag}/text_summary")[0].tensor_proto.string_val[0].decode()

    assert "| tiles | 75.0 |" in text("results")
    assert json.loads(text("run").removeprefix("```json").removesuffix("```")) == {"run_id": "abc123"}
