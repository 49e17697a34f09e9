"""A tracker that fails is reported once and never ends the run."""

from pathlib import Path

import pytest
from lightning_utilities.core.rank_zero import rank_zero_only

from cops_lightning.core.types import MEAN, MetricRow
from cops_lightning.loggers import Evaluation, Sink, Tracker


class Recorder(Sink):
    """Notes what it is told, and fails in the methods that it is told to fail in."""

    title = "The recorder"

    def __init__(self, *fails: str) -> None:
        self.fails, self.heard = fails, []

    def _hear(self, method: str, *what: object) -> None:
        if method in self.fails:
            raise OSError("No space left on device\nand more that nobody reads")
        self.heard.append((method, *what))

    def log_scalars(self, values, step):
        self._hear("log_scalars", dict(values), step)

    def log_evaluation(self, evaluation):
        self._hear("log_evaluation", evaluation)

    def log_checkpoints(self, folder):
        self._hear("log_checkpoints", folder)

    def close(self, failed):
        self._hear("close", failed)


def tracker_over(sink: Sink, folder: Path) -> Tracker:
    return Tracker("abc123", folder, sink.title, lambda: sink)


@pytest.fixture
def evaluation(tmp_path) -> Evaluation:
    return Evaluation([], [], {}, (0.0, 1.0), tmp_path)


def use(tracker: Tracker, evaluation: Evaluation) -> None:
    """What a run does with its tracker."""
    tracker.log_metrics({"loss": 1.0}, 0)
    tracker.log_metrics({"loss": 0.5}, 1)
    tracker.log_evaluation(evaluation)
    tracker.close(failed=False)


def test_what_is_logged_reaches_the_sink_in_order_and_it_is_closed(tmp_path, evaluation):
    (tmp_path / "checkpoints").mkdir()
    sink = Recorder()
    use(tracker_over(sink, tmp_path), evaluation)
    assert sink.heard == [
        ("log_scalars", {"loss": 1.0}, 0),
        ("log_scalars", {"loss": 0.5}, 1),
        ("log_evaluation", evaluation),
        ("log_checkpoints", tmp_path / "checkpoints"),
        ("close", False),
    ]


@pytest.mark.parametrize("method", ["log_scalars", "log_evaluation", "log_checkpoints", "close"])
def test_a_failure_is_one_sentence_and_the_run_goes_on(method, tmp_path, evaluation, capsys):
    (tmp_path / "checkpoints").mkdir()
    sink = Recorder(method)
    use(tracker_over(sink, tmp_path), evaluation)
    said = capsys.readouterr().err
    assert said == (
        "warning: The recorder failed (OSError: No space left on device): the run goes on without it, and its results "
        f"in {tmp_path} are not affected.\n"
    )


def test_after_a_failure_nothing_is_sent_but_the_sink_is_closed_for_the_next_run(tmp_path, evaluation):
    sink = Recorder("log_scalars")
    use(tracker_over(sink, tmp_path), evaluation)
    assert sink.heard == [("close", False)]


def test_a_sink_that_does_not_open_is_one_sentence_too(tmp_path, evaluation, capsys):
    def start() -> Sink:
        raise ModuleNotFoundError("No module named 'tensorboard'")

    use(Tracker("abc123", tmp_path, "tensorboard", start), evaluation)
    assert "tensorboard failed (ModuleNotFoundError: No module named 'tensorboard')" in capsys.readouterr().err


def test_checkpoints_of_a_failed_run_are_not_handed_over(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    sink = Recorder()
    tracker_over(sink, tmp_path).close(failed=True)
    assert sink.heard == [("close", True)]


def test_an_interrupt_is_not_a_failure_of_the_tracker(tmp_path):
    class Interrupted(Recorder):
        def log_scalars(self, values, step):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tracker_over(Interrupted(), tmp_path).log_metrics({"loss": 1.0}, 0)


def test_of_several_processes_only_the_first_opens_the_sink(tmp_path, evaluation, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    use(Tracker("abc123", tmp_path, "tensorboard", lambda: pytest.fail("opened")), evaluation)


def row(target: str, category: str, level: str, value: float | None) -> MetricRow:
    return MetricRow(target, category, level, "auroc", value, 2, 3)


def test_scalars_are_means_over_categories_and_over_the_targets_that_define_them(tmp_path):
    rows = [
        row("a", "bottle", "image", 0.5),
        row("a", MEAN, "image", 0.5),
        row("a", MEAN, "pixel", None),
        row("b", MEAN, "image", 0.75),
        row("b", MEAN, "pixel", 0.9),
    ]
    assert Evaluation(rows, [], {}, (0.0, 1.0), tmp_path).scalars() == {
        "a/image_auroc": 0.5,
        "b/image_auroc": 0.75,
        "b/pixel_auroc": 0.9,
        "mean/image_auroc": 0.625,
        "mean/pixel_auroc": 0.9,
    }


def test_the_table_has_a_line_per_category_and_nothing_where_a_metric_is_undefined(tmp_path):
    rows = [row("a", "bottle", "image", 0.5), row("a", "bottle", "pixel", None), row("a", "can", "image", 1.0)]
    columns, lines = Evaluation(rows, [], {}, (0.0, 1.0), tmp_path).table()
    assert columns == ["target", "category", "n_normal", "n_anomalous", "image_auroc", "pixel_auroc"]
    assert lines == [["a", "bottle", 2, 3, 0.5, None], ["a", "can", 2, 3, 1.0, None]]
