"""Jobs of Hydra: one run, or many in a sweep, each done once, resumed where it stopped, and counted at the end."""

import json
import math
import os
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Literal

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import get_valid_filename
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from lightning.pytorch.utilities.rank_zero import rank_zero_only  # type: ignore[attr-defined]
from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cops_lightning.cli.console import one_sentence, plain, quiet_console
from cops_lightning.config import require_complete
from cops_lightning.core.errors import ConfigError, CopsError
from cops_lightning.core.files import replacing
from cops_lightning.core.types import MEAN
from cops_lightning.runs.state import RESULTS, TRACEBACK, begin_afresh, claimed, leave_traceback, read_entry
from cops_lightning.runs.record import RunRecord, run_id
from cops_lightning.report.tables import read_results

SIGTERM_EXIT = 128 + signal.SIGTERM  # what shells report of a process that SIGTERM ended
NOTES = ".sweeps"  # below the study's folder: one folder per sweep with a note per job

Job = Callable[[DictConfig, Path, RunRecord], None]
Outcome = Literal["done", "skipped", "elsewhere", "not run", "failed", "lost"]
MEANINGS: dict[Outcome, str] = {
    "done": "results are new",
    "skipped": "were done before",
    "elsewhere": "are being done by another process",
    "not run": "after a failure, because of fail_fast",
    "failed": "left a traceback",
    "lost": "ended without a word, as killed ones do",
}


@dataclass(frozen=True)
class Note:
    """How a job of a sweep went, and where its files are."""

    folder: str
    outcome: Outcome
    error: str | None = None


def launch(config: DictConfig, job: Job) -> float | None:
    """Run one job in Hydra's folder for it, unless it is done; returns its objective, if one is configured.

    A single run that fails ends the program with exit code 1. In a sweep the failure is noted and the sweep goes on;
    its objective is then not a number.
    """
    quiet_console()
    folder = Path(HydraConfig.get().runtime.output_dir)
    if HydraConfig.get().mode is not RunMode.MULTIRUN:
        with one_sentence():
            if attempt(config, folder, job) == "elsewhere":
                raise CopsError(
                    f"Another process is at work in {folder}. Wait for it, or choose another hydra.run.dir."
                )
            return objective(config, folder)
    sweep = Sweep.current
    number = HydraConfig.get().job.num
    if config.fail_fast and any(note.outcome == "failed" for note in read_notes(sweep.notes)):
        write_note(sweep.notes, number, Note(str(folder), "not run"))
        return math.nan
    write_note(sweep.notes, number, Note(str(folder), "lost"))
    try:
        outcome = attempt(config, folder, job)
        value = None if outcome == "elsewhere" else objective(config, folder)
        note = Note(str(folder), outcome)
    except Exception as error:
        note, value = Note(str(folder), "failed", described(error)), math.nan
        print(f"error: {note.error}\n  in {folder}", file=sys.stderr)
    write_note(sweep.notes, number, note)
    print(sweep.progress())
    return value


def attempt(config: DictConfig, folder: Path, job: Job) -> Outcome:
    """Do what is missing of a job. Whatever ends it is recorded in its folder, and raised."""
    require_complete(config)
    if config.trainer.devices > 1 and HydraConfig.get().mode is RunMode.MULTIRUN:
        raise ConfigError(
            f"trainer.devices is {config.trainer.devices} in a multirun, whose jobs share one process. Run the jobs "
            "one by one, or with trainer.devices=1."
        )
    settings = plain(config)
    if rank_zero_only.rank:  # type: ignore[attr-defined]  # a process of a distributed run: the first one keeps the books
        entry = read_entry(folder, run_id(settings))
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            job(config, folder, RunRecord(folder, settings, config.seed, entry, written=False))
        return "done"
    with claimed(folder) as mine, terminable() as asked_to_stop:
        if not mine:
            return "elsewhere"
        entry = read_entry(folder, run_id(settings))
        if entry.done:
            print(f"Done before, see {folder}; remove that folder to do it again.")
            return "skipped"
        if entry.checkpoint is None:
            begin_afresh(folder)
        else:
            print(f"Going on from {entry.checkpoint}")
        record = RunRecord(folder, settings, config.seed, entry)
        try:
            job(config, folder, record)
        except BaseException as error:
            ordinary = isinstance(error, Exception)
            if ordinary and not asked_to_stop.is_set():
                leave_traceback(folder, error)
                record.finish("failed", described(error))
                raise
            record.finish("interrupted", described(error))
            print(f"Interrupted. The same command goes on from the last epoch in {folder}", file=sys.stderr)
            if ordinary:  # what the signal raised came out of a library as something else
                raise SystemExit(SIGTERM_EXIT) from error
            raise
        (folder / TRACEBACK).unlink(missing_ok=True)
        record.finish("done")
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


def described(error: BaseException) -> str:
    """One line on what went wrong: our own errors are sentences, of others the type says more than the text."""
    return str(error) if isinstance(error, CopsError) else f"{type(error).__name__}: {error}"


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


def register_resolvers() -> None:
    """Make `${job_name:}` known: the folder of a job in its study, equal whenever and wherever the job is run."""
    OmegaConf.register_new_resolver("job_name", _job_name, replace=True)


def _job_name(*, _root_: DictConfig) -> str:
    settings = plain(OmegaConf.masked_copy(_root_, [str(key) for key in _root_ if key != "hydra"]))
    name = get_valid_filename(settings["variant"] or "evaluation")
    return f"{name}-seed{settings['seed']}-{run_id(settings)}"


@dataclass(frozen=True)
class Sweep:
    """What the jobs of a sweep know of it: where their notes go, how many jobs there are, and when it began."""

    notes: Path = Path()
    jobs: int = 0
    began: float = 0.0

    current: ClassVar["Sweep"]

    def progress(self) -> str:
        """How many jobs have ended, and how long the rest will take at the pace so far."""
        ended = sum(note.outcome != "lost" for note in read_notes(self.notes))
        minutes = (time.time() - self.began) / max(1, ended) * (self.jobs - ended) / 60
        left = f", about {minutes:.0f} min left" if minutes >= 1 else ""
        return f"{ended} of {self.jobs} jobs ended{left}."


Sweep.current = Sweep()


def count_jobs(config: DictConfig) -> int:
    """How many jobs a multirun has: the product of what it sweeps over, or the trials of a search."""
    trials = config.hydra.sweeper.get("n_trials")
    if trials is not None:
        return int(trials)
    swept = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    overrides = OverridesParser.create().parse_overrides([*swept, *config.hydra.overrides.task])
    # A key on the command line takes the place of the experiment's.
    choices = {o.get_key_element(): len(list(o.sweep_iterator())) if o.is_sweep_override() else 1 for o in overrides}
    return math.prod(choices.values())


class SweepSummary(Callback):
    """Counts the jobs of a sweep at its end, and makes the exit code 1 if any failed.

    Jobs leave notes in a folder that all of them, on whichever machine they run, know by way of this object.
    """

    def __init__(self) -> None:
        self.sweep = Sweep()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Give the sweep a folder for notes."""
        name = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{uuid.uuid4().hex[:8]}"
        notes = Path(config.hydra.sweep.dir).absolute() / NOTES / name
        self.sweep = Sweep(notes, count_jobs(config), time.time())

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Tell the job, in whose process this is called, of its sweep."""
        Sweep.current = self.sweep

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the counts and what failed. Raises SystemExit(1) if any job failed."""
        notes = read_notes(self.sweep.notes)
        show_summary(notes, Path(config.hydra.sweep.dir))
        if any(note.outcome in ("failed", "lost") for note in notes):
            raise SystemExit(1)


def write_note(notes: Path, number: int, note: Note) -> None:
    """Write or replace the note of a job of a sweep."""
    with replacing(notes / f"{number}.json") as partial:
        partial.write_text(json.dumps(asdict(note)), encoding="utf-8")


def read_notes(notes: Path) -> list[Note]:
    """The notes of a sweep, in the order of its jobs."""
    paths = sorted(notes.glob("[0-9]*.json"), key=lambda path: int(path.stem))
    return [Note(**json.loads(path.read_text(encoding="utf-8"))) for path in paths]


def show_summary(notes: list[Note], study: Path) -> None:
    """How many jobs ended how, and of those that failed the reason and the folder."""
    counts = Counter(note.outcome for note in notes)
    table = Table(title=f"{len(notes)} jobs in {study}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("jobs", justify="right")
    table.add_column("")
    table.add_column("", overflow="fold")
    for outcome, meaning in MEANINGS.items():
        if counts[outcome] or outcome in ("done", "skipped", "failed"):
            table.add_row(str(counts[outcome]), outcome, meaning)
    console = Console(highlight=False)
    console.print(table)
    for note in notes:
        if note.outcome in ("failed", "lost"):
            where = f"{note.folder}: " if note.error is None else f"{Path(note.folder) / TRACEBACK}: {note.error}"
            console.print(Text(f"{note.outcome}: {where}"), soft_wrap=True)
