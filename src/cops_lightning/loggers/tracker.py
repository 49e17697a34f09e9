"""The tracker of a run, and its promise: whatever goes wrong with it, the run goes on."""

import logging
import sys
from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch.loggers import Logger
from lightning_utilities.core.rank_zero import rank_zero_only

from cops_lightning.loggers.evaluation import Evaluation

log = logging.getLogger(__name__)


class Sink(ABC):
    """Where a tracker sends what it is told. Any method may raise; the tracker then stops using the sink."""

    title: ClassVar[str]

    @abstractmethod
    def log_scalars(self, values: Mapping[str, float], step: int | None) -> None:
        """Numbers by name at an optimiser step, or after training where `step` is None."""

    @abstractmethod
    def log_evaluation(self, evaluation: Evaluation) -> None:
        """Metrics, curves and heat maps, as far as the sink can show them."""

    def log_checkpoints(self, folder: Path) -> None:  # noqa: B027 - not every sink keeps files
        """The checkpoints in `folder`, which are final."""

    @abstractmethod
    def close(self, failed: bool) -> None:
        """Write out everything. `failed` says whether the run did."""


class Tracker(Logger):
    """Lightning's logger of one run, over a sink that `start` opens. Only the first of several processes opens it.

    `shows_curves` says whether ROC and precision-recall curves are worth computing for it; all processes must agree.
    The first error of the sink is reported in one sentence, and nothing is sent from then on: the files in `folder`,
    not the tracker, hold the results.
    """

    def __init__(
        self, run_id: str, folder: Path, title: str, start: Callable[[], Sink], shows_curves: bool = False
    ) -> None:
        super().__init__()
        self.run_id, self.folder, self.title, self.shows_curves = run_id, folder, title, shows_curves
        self._sink: Sink | None = None
        self._stopped = False
        # Lightning sets the rank while it is imported, from what the launcher of the processes says.
        if getattr(rank_zero_only, "rank", 0) == 0:
            try:
                self._sink = start()
            except Exception as error:
                self._stop(error)

    @property
    def name(self) -> str:
        """What the run is tracked by."""
        return self.title

    @property
    def version(self) -> str:
        """The run's identity."""
        return self.run_id

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Numbers by name, from Lightning."""
        self._send(lambda sink: sink.log_scalars(metrics, step))

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the sink was opened with the whole configuration."""

    def log_evaluation(self, evaluation: Evaluation) -> None:
        """What an evaluation has to show."""
        self._send(lambda sink: sink.log_evaluation(evaluation))

    def close(self, failed: bool) -> None:
        """Hand over the final checkpoints, if there are any, and write out everything."""
        checkpoints = self.folder / "checkpoints"
        if not failed and checkpoints.is_dir():
            self._send(lambda sink: sink.log_checkpoints(checkpoints))
        sink, self._sink = self._sink, None
        if sink is not None:
            # A sink that failed is closed too: what it still holds must not leak into the next run of a sweep.
            try:
                sink.close(failed)
            except Exception as error:
                self._stop(error)

    def _send(self, action: Callable[[Sink], None]) -> None:
        if self._sink is None or self._stopped:
            return
        try:
            action(self._sink)
        except Exception as error:
            self._stop(error)

    def _stop(self, error: Exception) -> None:
        if self._stopped:
            return
        self._stopped = True
        log.debug("%s", self.title, exc_info=error)
        warn(
            f"{self.title} failed ({brief(error)}): the run goes on without it, and its results in {self.folder} are "
            "not affected."
        )


def warn(sentence: str) -> None:
    """Tell the user, on the console and in the log file."""
    log.warning("%s", sentence)
    print(f"warning: {sentence}", file=sys.stderr)


def brief(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    said = str(error).strip().splitlines()
    return type(error).__name__ + (f": {said[0]}" if said else "")
