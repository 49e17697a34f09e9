"""What our loggers add to Lightning's: a run has a beginning, an evaluation and an end, and no tracker ends it."""

import time
from abc import ABC
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Literal

from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers import WandbLogger as LightningWandbLogger
from lightning.pytorch.loggers.logger import DummyExperiment  # type: ignore[attr-defined]
from lightning.pytorch.utilities.rank_zero import rank_zero_only  # type: ignore[attr-defined]
from torch import Tensor

from cops_lightning.core.errors import described
from cops_lightning.core.reporting import warn
from cops_lightning.loggers.evaluation import Evaluation
from cops_lightning.loggers.run_info import RunInfo

Status = Literal["done", "failed", "interrupted"]
# What is called of a logger while a run goes on, by Lightning and by us.
HOOKS = (
    "log_hyperparams",
    "log_graph",
    "log_metrics",
    "log_evaluation",
    "save",
    "after_save_checkpoint",
    "finalize",
    "_start",
    "_finish",
)


class RunLogger(Logger, ABC):
    """A logger of Lightning that also knows when a run starts and ends. List it before Lightning's class as a base.

    Between `start` and `finish` it never fails the run, see `shelter`. Without `start` it is Lightning's logger, errors
    included. Only the first of several processes does anything.

    A run that goes on from a checkpoint logs the steps after it again. What an earlier attempt logged from the first
    of those steps on is replaced, so that every step is there once.
    """

    title: ClassVar[str]
    # Whether ROC and precision-recall curves are worth computing for it.
    shows_curves: ClassVar[bool] = False

    run: RunInfo | None = None
    failed = False
    _began = 0.0
    _last_step: int | None = None
    _latest: dict[str, float]

    @rank_zero_only
    def start(self, run: RunInfo) -> None:
        """Begin to track a run."""
        self.run, self._last_step, self._latest = run, None, {}
        self._began = time.monotonic()
        shelter(self, run)
        self._start()

    @rank_zero_only
    def log_evaluation(self, evaluation: Evaluation) -> None:
        """Show the metrics, curves and heat maps of an evaluation, as far as the tracker can."""
        self._log_evaluation(evaluation)

    @rank_zero_only
    def finish(self, error: BaseException | None) -> None:
        """Write out everything. `error` is what ended the run, None if it is done."""
        if self.run is None:
            return
        self._finish(error)
        try:
            # Closed after a failure too: what the tracker still holds must not leak into the next run of a sweep.
            self._close(error)
        except Exception as raised:
            give_up(self, self.run, raised)
        self.run = None
        for name in HOOKS:
            vars(self).pop(name, None)

    @property
    def experiment(self) -> Any:
        """The object of the tracker's own library; one that does nothing once the tracker has failed."""
        if self.run is None:
            return super().experiment  # type: ignore[misc]  # every logger of Lightning has one
        try:
            return DummyExperiment() if self.failed else super().experiment  # type: ignore[misc]
        except Exception as error:
            give_up(self, self.run, error)
            return DummyExperiment()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Numbers by name at a step of the optimiser."""
        if self.run is None:
            super().log_metrics(dict(metrics), step)  # type: ignore[safe-super]
            return
        values = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        if self._last_step is None:
            self._go_on_at(step or 0)
        self._last_step = step = (self._last_step or 0) if step is None else step
        self._latest |= values
        self._log_values(values, step)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Settings by name. Nothing in a run that was started: its whole configuration is known from there."""
        if self.run is None:
            super().log_hyperparams(params, *args, **kwargs)  # type: ignore[safe-super]

    # What a logger does in a run that was started. Each may raise.

    def _start(self) -> None:
        """Open the tracker."""

    def _go_on_at(self, step: int) -> None:
        """Forget what an earlier attempt at the run logged at `step` and after. Called before the first values."""

    def _log_values(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by name at a step."""
        super().log_metrics(dict(values), step)  # type: ignore[safe-super]

    def _log_evaluation(self, evaluation: Evaluation) -> None:
        """Log the scalars of an evaluation that the test loop has not logged yet."""
        known = {} if self.run is None else self._latest
        new = {name: value for name, value in evaluation.scalars().items() if known.get(name) != value}
        if new:
            self.log_metrics(new)

    def _finish(self, error: BaseException | None) -> None:
        """Send what is left to be said."""

    def _close(self, error: BaseException | None) -> None:
        """Close the tracker."""


@contextmanager
def tracked(loggers: Iterable[Logger], run: RunInfo) -> Iterator[list[Logger]]:
    """Start the loggers of a run, and finish them however the block ends; the block gets those that started.

    None of them fails the run, ours or not: see `shelter`. One that is not ours gets the configuration as
    hyper-parameters.
    """
    started = begin(loggers, run)
    try:
        yield started
    except BaseException as error:
        end(started, run, error)
        raise
    end(started, run, None)


def begin(loggers: Iterable[Logger], run: RunInfo) -> list[Logger]:
    """Start the loggers of a run, and return those that started."""
    started = []
    for logger in loggers:
        if isinstance(logger, RunLogger):
            logger.start(run)
        else:
            shelter(logger, run)
            try:
                getattr(logger, "experiment", None)  # which the trainer asks for where there is one
            except Exception as error:
                give_up(logger, run, error)
                continue
            logger.log_hyperparams(dict(run.config))
        started.append(logger)
    return started


def end(loggers: Iterable[Logger], run: RunInfo, error: BaseException | None) -> None:
    """Finish the loggers of a run that `error` ended, None if it is done."""
    for logger in loggers:
        if isinstance(logger, RunLogger):
            logger.finish(error)
            continue
        logger.finalize("success" if error is None else "failed")
        if isinstance(logger, LightningWandbLogger):
            # Lightning leaves the run open, and the next job of a sweep would log into it.
            try:
                logger.experiment.finish(exit_code=int(error is not None))
            except Exception as raised:
                give_up(logger, run, raised)


def shelter(logger: Logger, run: RunInfo) -> None:
    """Let a logger fail without failing the run.

    The first error, whatever raised it, goes to the log file with its traceback and to the user in one sentence. From
    then on `logger.failed` is true, and nothing is sent.
    """
    logger.failed = False  # type: ignore[attr-defined]
    for name in HOOKS:
        if hasattr(type(logger), name):
            setattr(logger, name, partial(_attempt, logger, name, run))


def _attempt(logger: Logger, name: str, run: RunInfo, *arguments: Any, **options: Any) -> None:
    if not logger.failed:  # type: ignore[attr-defined]
        try:
            getattr(type(logger), name)(logger, *arguments, **options)
        except Exception as error:
            give_up(logger, run, error)


def give_up(logger: Logger, run: RunInfo, error: Exception) -> None:
    """Send a logger nothing any more, and say why."""
    if not logger.failed:  # type: ignore[attr-defined]
        logger.failed = True  # type: ignore[attr-defined]
        title = getattr(logger, "title", type(logger).__name__)
        warn(
            f"{title} failed ({described(error)}): the run goes on without it, and its results in {run.folder} are not "
            "affected.",
            error,
        )


def outcome(error: BaseException | None) -> Status:
    """How a run ended that `error` ended."""
    if error is None:
        return "done"
    return "failed" if isinstance(error, Exception) else "interrupted"
