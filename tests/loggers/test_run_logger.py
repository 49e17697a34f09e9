"""A tracker that fails is reported once and never ends a run."""

import json
import logging
import warnings
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger as LightningCSVLogger
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning_utilities.core.rank_zero import rank_zero_only

from cops_lightning.core.errors import DatasetError
from cops_lightning.loggers import RunLogger, tracked
from cops_lightning.loggers.run_logger import outcome

SAID = "No space left on device"


class Plain(Logger):
    """A logger as Lightning has them; notes what it is told."""

    def __init__(self, *fails: str) -> None:
        super().__init__()
        self.fails, self.heard = fails, []

    name = version = "plain"

    def hear(self, method: str, *what: object) -> None:
        if method in self.fails:
            raise OSError(f"{SAID}\nand more that nobody reads")
        self.heard.append((method, *what))

    @property
    @rank_zero_experiment
    def experiment(self) -> str:
        self.hear("experiment")
        return "experiment"

    @rank_zero_only
    def log_metrics(self, metrics, step=None):
        self.hear("log_metrics", metrics, step)

    @rank_zero_only
    def log_hyperparams(self, params, *args, **kwargs):
        self.hear("log_hyperparams", params)

    @rank_zero_only
    def save(self):
        self.hear("save")

    @rank_zero_only
    def finalize(self, status):
        self.hear("finalize", status)


class Recorder(RunLogger, Plain):
    """The same as a logger of ours."""

    title = "The recorder"

    def _start(self):
        self.hear("start")

    def _go_on_at(self, step):
        self.hear("go_on_at", step)

    def _log_evaluation(self, evaluation):
        super()._log_evaluation(evaluation)
        self.hear("log_evaluation")

    def _finish(self, error):
        self.hear("finish", error)

    def _close(self, error):
        self.hear("close", error)


def use(logger: Logger) -> None:
    """What Lightning does with a logger."""
    logger.log_metrics({"loss": 1.0}, 0)
    logger.log_metrics({"loss": 0.5}, 1)
    logger.save()
    logger.finalize("success")


def test_what_is_logged_reaches_the_tracker_in_order(run, evaluation):
    logger = Recorder()
    with tracked([logger], run):
        use(logger)
        logger.log_evaluation(evaluation)
    assert logger.heard == [
        ("start",),
        ("go_on_at", 0),
        ("log_metrics", {"loss": 1.0}, 0),
        ("log_metrics", {"loss": 0.5}, 1),
        ("save",),
        ("finalize", "success"),
        ("log_metrics", {"tiles/image_auroc": 0.75, "mean/image_auroc": 0.75}, 1),
        ("log_evaluation",),
        ("finish", None),
        ("close", None),
    ]


def test_numbers_that_the_test_loop_has_logged_are_not_logged_again(run, evaluation):
    logger = Recorder()
    with tracked([logger], run):
        logger.log_metrics({"tiles/image_auroc": 0.75, "tiles/part/image_auroc": 0.75}, 8)
        logger.log_evaluation(evaluation)
    assert [call for call in logger.heard if call[0] == "log_metrics"][1:] == [
        ("log_metrics", {"mean/image_auroc": 0.75}, 8)
    ]


@pytest.mark.parametrize(
    "method", ["start", "go_on_at", "log_metrics", "log_evaluation", "save", "finalize", "finish", "close"]
)
def test_a_failure_is_one_sentence_with_the_traceback_in_the_log_and_the_run_goes_on(
    method, run, evaluation, capsys, caplog
):
    logger = Recorder(method)
    with tracked([logger], run):
        use(logger)
        logger.log_evaluation(evaluation)
    assert capsys.readouterr().err == (
        f"warning: The recorder failed (OSError: {SAID}): the run goes on without it, and its results in {run.folder} "
        "are not affected.\n"
    )
    (logged,) = caplog.records
    assert "and more that nobody reads" in logging.Formatter().format(logged)
    assert 'raise OSError(f"{SAID}' in logging.Formatter().format(logged)


def test_after_a_failure_nothing_is_sent_but_the_tracker_is_closed_for_the_next_run(run, evaluation):
    logger = Recorder("go_on_at")
    with tracked([logger], run):
        use(logger)
        logger.log_evaluation(evaluation)
    assert logger.heard == [("start",), ("close", None)]


def test_a_logger_that_failed_in_one_run_tries_again_in_the_next(run):
    logger = Recorder("start")
    with tracked([logger], run):
        pass
    logger.fails, logger.heard = (), []
    with tracked([logger], run):
        logger.log_metrics({"loss": 1.0}, 0)
    assert ("log_metrics", {"loss": 1.0}, 0) in logger.heard


def test_an_experiment_that_cannot_be_opened_is_one_that_does_nothing(run, capsys):
    logger = Recorder("experiment")
    with tracked([logger], run):
        logger.experiment.log({"what": "user code sends"})
        logger.experiment.log({"what": "user code sends"})
    assert capsys.readouterr().err.count("\n") == 1


def test_without_a_start_it_is_the_logger_of_lightning_errors_included(evaluation):
    logger = Recorder("save")
    logger.log_metrics({"loss": 1.0}, 0)
    assert logger.experiment == "experiment"
    logger.log_hyperparams({"lr": 0.1})
    assert logger.heard == [
        ("log_metrics", {"loss": 1.0}, 0),
        ("experiment",),
        ("log_hyperparams", {"lr": 0.1}),
    ]
    with pytest.raises(OSError, match=SAID):
        logger.save()


def test_the_end_of_a_run_says_what_ended_it(run):
    logger, error = Recorder(), DatasetError("part/003.png cannot be read.")
    with pytest.raises(DatasetError), tracked([logger], run):
        raise error
    assert logger.heard[-2:] == [("finish", error), ("close", error)]


def test_an_interrupt_is_not_a_failure_of_the_tracker(run):
    class Interrupted(Recorder):
        def _start(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Interrupted().start(run)


def test_of_several_processes_only_the_first_opens_the_tracker(run, evaluation, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = Recorder()
    with tracked([logger], run):
        use(logger)
        logger.log_evaluation(evaluation)
    assert logger.heard == []


def test_a_logger_that_is_not_ours_gets_the_configuration_and_its_end(run):
    ours, theirs = Recorder(), Plain()
    with tracked([ours, theirs], run):
        pass
    assert theirs.heard == [("experiment",), ("log_hyperparams", dict(run.config)), ("finalize", "success")]
    failing = Plain()
    with pytest.raises(ZeroDivisionError), tracked([failing], run):
        _ = 1 / 0
    assert failing.heard[-1] == ("finalize", "failed")


@pytest.mark.parametrize("method", ["experiment", "log_hyperparams", "log_metrics", "save", "finalize"])
def test_a_logger_that_is_not_ours_may_fail_without_failing_the_run_too(method, run, capsys, caplog):
    with tracked([Plain(method)], run) as started:
        for logger in started:
            use(logger)
    assert capsys.readouterr().err.startswith(f"warning: Plain failed (OSError: {SAID}): the run goes on without it")
    assert 'raise OSError(f"{SAID}' in logging.Formatter().format(caplog.records[-1])


def test_the_error_of_the_run_is_raised_also_where_the_end_of_a_logger_fails_too(run):
    with pytest.raises(ZeroDivisionError), tracked([Plain("finalize")], run):
        _ = 1 / 0


def test_lightnings_own_logger_takes_the_nested_configuration(run, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logger = LightningCSVLogger(tmp_path / "theirs")
        with tracked([logger], run):
            logger.log_metrics({"loss": 1.0}, 0)
    assert "pool: 3" in (Path(logger.log_dir) / "hparams.yaml").read_text()


@pytest.mark.parametrize(
    ("error", "expected"),
    [(None, "done"), (ValueError(), "failed"), (KeyboardInterrupt(), "interrupted"), (SystemExit(143), "interrupted")],
)
def test_what_ends_a_run_decides_its_status(error, expected):
    assert outcome(error) == expected


def test_provenance_is_the_record_of_the_run_without_settings_and_ending(run):
    record = {"git": {"commit": "c0ffee"}, "config": {"seed": 0}, "method_settings": {}, "status": "running"}
    (run.folder / "run.json").write_text(json.dumps(record))
    assert run.provenance() == {"git": {"commit": "c0ffee"}}
