"""What our loggers add to Lightning's: a run has a beginning, an evaluation and an end, and no tracker ends it."""

import logging
import sys
import time
from abc import ABC
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Literal

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers import WandbLogger as LightningWandbLogger
from lightning.pytorch.loggers.logger import DummyExperiment  # type: ignore[attr-defined]
from lightning.pytorch.utilities.rank_zero import rank_zero_only  # type: ignore[attr-defined]
from torch import Tensor, nn

from cops_lightning.core.errors import described
from cops_lightning.loggers.evaluation import Evaluation
from cops_lightning.loggers.run_info import RunInfo

log = logging.getLogger(__name__)

Status = Literal["done", "failed", "interrupted"]


class RunLogger(Logger, ABC):
    """A logger of Lightning that also knows when a run starts and ends. List it before Lightning's class as a base.

    Between `start` and `finish` it never fails the run: the first error, whatever raised it, goes to the log file with
    its traceback and to the user in one sentence, and from then on nothing is sent. Without `start` it is Lightning's
    logger, errors included. Only the first of several processes does anything.

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
        self.run, self.failed, self._last_step, self._latest = run, False, None, {}
        self._began = time.monotonic()
        self._attempt(self._start)

    @rank_zero_only
    def log_evaluation(self, evaluation: Evaluation) -> None:
        """Show the metrics, curves and heat maps of an evaluation, as far as the tracker can."""
        self._attempt(partial(self._log_evaluation, evaluation))

    @rank_zero_only
    def finish(self, error: BaseException | None) -> None:
        """Write out everything. `error` is what ended the run, None if it is done."""
        if self.run is None:
            return
        self._attempt(partial(self._finish, error))
        try:
            # Closed after a failure too: what the tracker still holds must not leak into the next run of a sweep.
            self._close(error)
        except Exception as raised:
            self._give_up(raised)
        self.run = None

    @property
    def experiment(self) -> Any:
        """The object of the tracker's own library; one that does nothing once the tracker has failed."""
        if self.failed and self.run is not None:
            return DummyExperiment()
        try:
            return super().experiment  # type: ignore[misc]  # every logger of Lightning has one
        except Exception as error:
            if self.run is None:
                raise
            self._give_up(error)
            return DummyExperiment()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Numbers by name at a step of the optimiser."""
        if self.run is None:
            super().log_metrics(dict(metrics), step)  # type: ignore[safe-super]
        else:
            values = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
            self._attempt(partial(self._log_step, values, step))

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Settings by name. Nothing in a run that was started: its whole configuration is known from there."""
        if self.run is None:
            super().log_hyperparams(params, *args, **kwargs)  # type: ignore[safe-super]

    @rank_zero_only
    def log_graph(self, model: nn.Module, input_array: Tensor | None = None) -> None:
        """What is about to be trained."""
        self._attempt(partial(super().log_graph, model, input_array))

    @rank_zero_only
    def save(self) -> None:
        """Write what is held back."""
        self._attempt(super().save)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Lightning's end of a fit or a test, of which a run may have several."""
        self._attempt(partial(super().finalize, status))

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """A checkpoint was written."""
        self._attempt(partial(super().after_save_checkpoint, checkpoint_callback))

    # What a logger does in a run that was started. Each may raise.

    def _start(self) -> None:
        """Open the tracker."""

    def _go_on_at(self, step: int) -> None:
        """Forget what an earlier attempt at the run logged at `step` and after. Called before the first values."""

    def _log_values(self, values: Mapping[str, float], step: int | None) -> None:
        """Numbers by name at a step."""
        super().log_metrics(dict(values), step)  # type: ignore[safe-super]

    def _log_evaluation(self, evaluation: Evaluation) -> None:
        """Log the scalars of an evaluation that the test loop has not logged yet."""
        new = self._unknown(evaluation.scalars())
        if new:
            self._log_step(new, None)

    def _finish(self, error: BaseException | None) -> None:
        """Send what is left to be said."""

    def _close(self, error: BaseException | None) -> None:
        """Close the tracker."""

    def _log_step(self, values: Mapping[str, float], step: int | None) -> None:
        if self.run is None:
            self._log_values(values, step)
            return
        if self._last_step is None:
            self._go_on_at(step or 0)
        self._last_step = step = (self._last_step or 0) if step is None else step
        self._latest |= values
        self._log_values(values, step)

    def _unknown(self, scalars: Mapping[str, float]) -> dict[str, float]:
        """Those that were not the last ones to be logged under their names."""
        known = {} if self.run is None else self._latest
        return {name: value for name, value in scalars.items() if known.get(name) != value}

    def _attempt(self, action: Callable[[], None]) -> None:
        if self.run is None:
            action()
        elif not self.failed:
            try:
                action()
            except Exception as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if self.failed:
            return
        self.failed = True
        where = "" if self.run is None else f" in {self.run.folder}"
        warn(
            f"{self.title} failed ({described(error)}): the run goes on without it, and its results{where} are not "
            "affected.",
            error,
        )


@contextmanager
def tracked(loggers: Iterable[Logger], run: RunInfo) -> Iterator[None]:
    """Start the loggers of a run, and finish them however the block ends.

    A logger that is not ours gets the configuration as hyper-parameters.
    """
    loggers = list(loggers)
    begin(loggers, run)
    try:
        yield
    except BaseException as error:
        end(loggers, error)
        raise
    end(loggers, None)


def begin(loggers: Iterable[Logger], run: RunInfo) -> None:
    """Start the loggers of a run."""
    for logger in loggers:
        if isinstance(logger, RunLogger):
            logger.start(run)
        else:
            logger.log_hyperparams(dict(run.config))


def end(loggers: Iterable[Logger], error: BaseException | None) -> None:
    """Finish the loggers of a run that `error` ended, None if it is done."""
    for logger in loggers:
        if isinstance(logger, RunLogger):
            logger.finish(error)
        else:
            _end(logger, error)


def _end(logger: Logger, error: BaseException | None) -> None:
    """End a logger that is not ours; after an error of the run, an error of its logger is only logged."""
    try:
        logger.finalize("success" if error is None else "failed")
        if isinstance(logger, LightningWandbLogger):
            # Lightning leaves the run open, and the next job of a sweep would log into it.
            logger.experiment.finish(exit_code=int(error is not None))
    except Exception:
        if error is None:
            raise
        log.warning("%s failed after the run did", type(logger).__name__, exc_info=True)


def outcome(error: BaseException | None) -> Status:
    """How a run ended that `error` ended."""
    if error is None:
        return "done"
    return "failed" if isinstance(error, Exception) else "interrupted"


def warn(sentence: str, error: BaseException | None = None) -> None:
    """Tell the user on the console, and in the log file with the traceback of what is behind it."""
    log.warning("%s", sentence, exc_info=error)
    print(f"warning: {sentence}", file=sys.stderr)
