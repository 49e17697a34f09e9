"""Jobs: one run, or one of a sweep, each checked first, done once, resumed where it stopped."""

import logging
import math
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.utilities.rank_zero import rank_zero_only  # type: ignore[attr-defined]
from omegaconf import DictConfig

from cops_lightning.config.check import check
from cops_lightning.config.options import resolved
from cops_lightning.core.errors import ConfigError, CopsError
from cops_lightning.core.files import RESULTS
from cops_lightning.core.reporting import described
from cops_lightning.core.types import MEAN
from cops_lightning.report.tables import NOTHING, Run, read_results
from cops_lightning.runs.identity import identify, learns, run_id
from cops_lightning.runs.record import RunRecord
from cops_lightning.runs.state import TRACEBACK, begin_afresh, claimed, leave_traceback, read_entry
from cops_lightning.runs.sweeps import Note, Outcome, Sweep, read_notes, write_note

SIGTERM_EXIT = 128 + signal.SIGTERM  # what shells report of a process that SIGTERM ended


def quiet_console() -> None:
    """Send the chatter of libraries to the log file: the console is for progress and results."""
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_utilities"):
        chatter = logging.getLogger(name)
        chatter.handlers.clear()
        chatter.propagate = True


@dataclass(frozen=True)
class Job:
    """What a command is to do.

    Args:
        config: all settings, checked; `paths.output` is the folder of the run.
        settings: the same as plain values.
        folder: where results go.
        variant: what people call the method.
        method: the hash of all settings that can change a number, and these settings.
    """

    config: DictConfig
    settings: dict[str, Any]
    folder: Path
    variant: str
    method: str
    method_settings: dict[str, Any]


Work = Callable[[Job, RunRecord], None]


def launch(config: DictConfig, work: Work, schema: type) -> float | None:
    """Run one job in Hydra's folder for it, unless it is done; returns its objective, if one is configured.

    A single run that fails raises. In a sweep the failure is noted and the sweep goes on; its objective is then not a
    number.
    """
    quiet_console()
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    if hydra.mode is not RunMode.MULTIRUN:
        if swept := hydra.sweeper.get("params"):
            raise ConfigError(
                f"This is a sweep over {', '.join(str(key) for key in swept)}, and a single run cannot do it. "
                "Add -m to the command; values on the command line, such as seed=0, take the place of the sweep's."
            )
        job = prepare(config, folder, schema)
        if attempt(job, work) == "elsewhere":
            raise CopsError(f"Another process is at work in {folder}. Wait for it, or choose another hydra.run.dir.")
        return objective(job.config, folder)
    sweep = Sweep.current
    number = hydra.job.num
    if config.get("fail_fast") and any(note.outcome == "failed" for note in read_notes(sweep.notes)):
        write_note(sweep.notes, number, Note(str(folder), "not run"))
        return math.nan
    write_note(sweep.notes, number, Note(str(folder), "lost"))
    try:
        job = prepare(config, folder, schema)
        outcome = attempt(job, work)
        value = None if outcome == "elsewhere" else objective(job.config, folder)
        note = Note(str(folder), outcome)
    except Exception as error:
        note, value = Note(str(folder), "failed", described(error)), math.nan
        print(f"error: {note.error}\n  in {folder}", file=sys.stderr)
    write_note(sweep.notes, number, note)
    print(sweep.progress())
    return value


def prepare(config: DictConfig, folder: Path, schema: type) -> Job:
    """Check every setting and name what they make up. Raises ConfigError before any data is touched."""
    complete = config.copy()
    if config.get("seed") is None:
        complete.seed = 0  # until the checkpoint says
    settings = resolved(complete)
    check(settings, schema)
    if settings["trainer"].get("devices") not in (1, "1") and HydraConfig.get().mode is RunMode.MULTIRUN:
        raise ConfigError(
            f"trainer.devices is {settings['trainer']['devices']} in a multirun, whose jobs share one process. Run the "
            "jobs one by one, or with trainer.devices=1."
        )
    if not settings.get("checkpoint") and learns(settings["model"]) and settings["auxiliary"] is None:
        raise ConfigError(
            "There is no auxiliary dataset to train on. Add auxiliary=visa, or another of conf/auxiliary."
        )
    found = identify(config, HydraConfig.get().runtime.choices)
    return Job(found.config, resolved(found.config), folder, found.variant, found.method, found.method_settings)


def attempt(job: Job, work: Work) -> Outcome:
    """Do what is missing of a job. Whatever ends it is recorded in its folder, and raised."""
    folder, settings = job.folder, job.settings
    run = run_id(job.method, settings)
    identity = Run(run, job.method, settings["study"], job.variant, settings["seed"], NOTHING)

    def record(written: bool = True) -> RunRecord:
        return RunRecord(folder, settings, identity, job.method_settings, entry, written=written)

    if rank_zero_only.rank:  # type: ignore[attr-defined]  # a process of a distributed run: the first one keeps the record
        entry = read_entry(folder, run)
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            work(job, record(written=False))
        return "done"
    with claimed(folder) as mine, terminable() as asked_to_stop:
        if not mine:
            return "elsewhere"
        entry = read_entry(folder, run)
        if entry.done:
            print(f"Done before, see {folder}; remove that folder to do it again.")
            return "skipped"
        if entry.checkpoint is None:
            begin_afresh(folder)
        else:
            print(f"Going on from {entry.checkpoint}")
        kept = record()
        try:
            work(job, kept)
            (folder / TRACEBACK).unlink(missing_ok=True)
            kept.finish("done")
        except BaseException as error:
            ordinary = isinstance(error, Exception)
            if ordinary and not asked_to_stop.is_set():
                with suppress(OSError):  # where a disk is full, the error that is raised is what ended the work
                    kept.finish("failed", described(error))
                    leave_traceback(folder, error)
                raise
            kept.finish("interrupted", described(error))
            print(f"Interrupted. The same command goes on from the last epoch in {folder}", file=sys.stderr)
            if ordinary:  # what the signal raised came out of a library as something else
                raise SystemExit(SIGTERM_EXIT) from error
            raise
        return "done"


@contextmanager
def terminable() -> Iterator[threading.Event]:
    """SIGTERM ends the block as an exception does, so that what happened is recorded; the exit code is 143.

    The event is set once the signal came.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # where a launcher runs jobs in threads
        yield asked
        return
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getpid() != owner:  # a worker that was forked from us
            os.kill(os.getpid(), signal.SIGTERM)
        asked.set()
        raise SystemExit(SIGTERM_EXIT)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def objective(config: DictConfig, folder: Path) -> float | None:
    """The mean over categories that `objective` names, in [0, 1]. Raises ConfigError if the run did not measure it."""
    if config.objective is None:
        return None
    measured = [row.measured for row in read_results(folder / RESULTS)]
    values = {f"{m.target}/{m.level}_{m.metric}": m.value for m in measured if m.category == MEAN}
    value = values.get(config.objective)
    if value is None:
        known = ", ".join(name for name, number in values.items() if number is not None)
        raise ConfigError(f"objective is {config.objective!r}, which this run did not measure. It measured {known}.")
    return value
