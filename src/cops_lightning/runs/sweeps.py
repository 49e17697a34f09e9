"""A sweep of Hydra's multirun: notes of its jobs, how far it is, and the count at its end."""

import json
import math
import sys
import time
import uuid
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich import box
from rich.table import Table

from cops_lightning.core.errors import CopsError
from cops_lightning.core.files import replacing
from cops_lightning.core.reporting import console
from cops_lightning.runs.state import TRACEBACK

NOTES = ".sweeps"  # below the study's folder: one folder per sweep with a note per job

Outcome = Literal["done", "skipped", "elsewhere", "not run", "failed", "lost"]
MEANINGS: dict[Outcome, str] = {
    "done": "results are new",
    "skipped": "were done before",
    "elsewhere": "are being done by another process",
    "not run": "the sweep ended before",
    "failed": "see below",
    "lost": "ended without a word, as killed ones do",
}


@dataclass(frozen=True)
class Note:
    """How a job of a sweep went, and where its files are."""

    folder: str
    outcome: Outcome
    error: str | None = None


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

    def show_cut_off(self) -> None:
        """`show_summary` where a launcher failed: jobs without a note were not begun."""
        notes = read_notes(self.notes)
        show_summary([*notes, *[Note("", "not run")] * (self.jobs - len(notes))], self.notes.parents[1])


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

    new_folders: ClassVar[tuple[Path, ...]] = ()

    def __init__(self) -> None:
        self.sweep = Sweep()

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember which folders Hydra makes for a single run. Exits where they and its data are not apart."""
        _exit_unless_apart(config, "hydra.run.dir")
        folder = Path(config.hydra.run.dir).absolute()
        SweepSummary.new_folders = tuple(path for path in (folder, *folder.parents) if not path.exists())

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Give the sweep a folder for notes. Exits where its folder and its data are not apart."""
        name = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{uuid.uuid4().hex[:8]}"
        notes = Path(config.hydra.sweep.dir).absolute() / NOTES / name
        self.sweep = Sweep.current = Sweep(notes, count_jobs(config), time.time())
        _exit_unless_apart(config, "hydra.sweep.dir")

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Tell the job, in whose process this is called, of its sweep."""
        Sweep.current = self.sweep

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the counts and what failed. Raises SystemExit(1) if any job failed."""
        notes, Sweep.current = read_notes(self.sweep.notes), Sweep()
        show_summary(notes, Path(config.hydra.sweep.dir))
        if any(note.outcome in ("failed", "lost") for note in notes):
            raise SystemExit(1)


def _exit_unless_apart(config: DictConfig, key: str) -> None:
    """Hydra makes a warning of any error that a callback raises, and goes on."""
    from cops_lightning.runs.apart import require_results_apart  # takes seconds

    try:
        require_results_apart(config, key)
    except CopsError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


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
            table.add_row(str(counts[outcome]), outcome, meaning if counts[outcome] or outcome != "failed" else "")
    shown = console()
    shown.print(table)
    for note in notes:
        if note.outcome in ("failed", "lost"):
            left = Path(note.folder) / TRACEBACK
            where = left if note.error and left.exists() else note.folder
            shown.print(f"{note.outcome}: {where}: {note.error or ''}".rstrip(" :"), soft_wrap=True)
