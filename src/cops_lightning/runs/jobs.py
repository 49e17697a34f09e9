"""Jobs: one run, or one of a sweep, each checked first, done once, resumed where it stopped."""

import functools
import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_only  # type: ignore[attr-defined]
from omegaconf import DictConfig, OmegaConf

from cops_lightning.config.check import TARGET, check
from cops_lightning.config.options import resolved
from cops_lightning.core.errors import ConfigError, CopsError, described
from cops_lightning.core.files import RESULTS, claimed, writing
from cops_lightning.core.measured import MEAN
from cops_lightning.core.reporting import outlive_readers
from cops_lightning.core.stopping import terminable
from cops_lightning.data.readers.index import DatasetIndex
from cops_lightning.models.checkpoint import read_checkpoint
from cops_lightning.models.module import CopsModule
from cops_lightning.report.tables import NOTHING, Run, read_results
from cops_lightning.runs.apart import require_results_apart
from cops_lightning.runs.build import try_out
from cops_lightning.runs.identity import Identity, identify, learns, run_id, run_key
from cops_lightning.runs.record import RunRecord
from cops_lightning.runs.state import LOG, TRACEBACK, leave_traceback, move_aside, read_entry, resumable
from cops_lightning.runs.sweeps import Note, Outcome, Sweep, SweepSummary, read_notes, write_note

log = logging.getLogger(__name__)


def quiet_console() -> None:
    """Send the chatter of libraries to the log file: the console is for progress and results."""
    outlive_readers()
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
        identity: all settings, checked, and what they make up; `paths.output` is the folder of the run.
        settings: the same as plain values.
        folder: where results go.
    """

    identity: Identity
    settings: dict[str, Any]
    folder: Path

    @property
    def config(self) -> DictConfig:
        """All settings."""
        return self.identity.config


class Read(NamedTuple):
    """A dataset that a run reads, as what (auxiliary or target), and `data_content` of it."""

    role: str
    dataset: DatasetIndex
    content: str


@dataclass(frozen=True)
class Ready:
    """A job whose data is found and whose rules are met, before anything is written.

    Args:
        module: makes the LightningModule.
        data: what it is trained and tested on.
        read: the datasets of `data`.
        auxiliary: name of the dataset that is, or was, trained on.
        weights: `weights_fingerprint` of the frozen CLIP.
        fit: whether to train.
    """

    module: Callable[[], CopsModule]
    data: LightningDataModule
    read: list[Read]
    auxiliary: str
    weights: str | None
    fit: bool

    def key(self, job: Job) -> str:
        """`run_key` of the job."""
        contents = [[read.content for read in self.read if read.role == role] for role in ("auxiliary", "target")]
        return run_key(job.identity, self.weights, *contents)


Find = Callable[[Job], Ready]
Work = Callable[[Job, RunRecord, Ready], None]


def launch(config: DictConfig, find: Find, work: Work, schema: type) -> float | None:
    """Run one job in Hydra's folder for it, unless it is done; returns its objective, if one is configured.

    A single run that fails raises. In a sweep the failure is noted and the sweep goes on; its objective is then not a
    number.
    """
    quiet_console()
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    if hydra.mode is not RunMode.MULTIRUN:
        with _nothing_left(folder):
            if swept := hydra.sweeper.get("params"):
                raise ConfigError(
                    f"This is a sweep over {', '.join(str(key) for key in swept)}, and a single run cannot do it. "
                    "Add -m to the command; values on the command line, such as seed=0, take the place of the sweep's."
                )
            job = prepare(config, folder, schema)
        if attempt(job, find, work) == "elsewhere":
            raise CopsError(f"Another process is at work in {folder}. Wait for it, or choose another hydra.run.dir.")
        return objective(job.config, folder)
    sweep = Sweep.current
    number = hydra.job.num
    if config.get("fail_fast") and any(note.outcome == "failed" for note in read_notes(sweep.notes)):
        write_note(sweep.notes, number, Note(str(folder), "not run"))
        return math.nan
    write_note(sweep.notes, number, Note(str(folder), "lost"))
    try:
        with _nothing_left(folder):
            job = prepare(config, folder, schema)
        outcome = attempt(job, find, work)
        value = None if outcome == "elsewhere" else objective(job.config, folder)
        note = Note(str(folder), outcome)
    except Exception as error:
        note, value = Note(str(folder), "failed", described(error)), math.nan
        print(f"error: {note.error}\n  in {folder}", file=sys.stderr)
    write_note(sweep.notes, number, note)
    print(sweep.progress())
    return value


@contextmanager
def _nothing_left(folder: Path) -> Iterator[None]:
    """Of folders that this command made for a job that is refused within, those that hold nothing are removed."""
    made = SweepSummary.new_folders if HydraConfig.get().mode is not RunMode.MULTIRUN else (folder,)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for path in made:
                path.rmdir()
        raise


def prepare(config: DictConfig, folder: Path, schema: type) -> Job:
    """Check every setting and name what they make up. Raises ConfigError before any data is touched."""
    config = _with_own_nodes(config)
    complete = config.copy()
    if config.get("seed") is None:
        complete.seed = 0  # until the checkpoint says
    settings = resolved(complete)
    check(settings, schema)
    if HydraConfig.get().mode is RunMode.MULTIRUN:  # of a single run that is asked before its folder is made
        require_results_apart(complete, "paths.output")
    try_out(complete)
    if HydraConfig.get().mode is RunMode.MULTIRUN:
        require_one_device(settings)
    if not settings.get("checkpoint") and learns(settings["model"]) and settings["auxiliary"] is None:
        raise ConfigError(
            "There is no auxiliary dataset to train on. Add auxiliary=visa, or another of conf/auxiliary."
        )
    found = identify(config, HydraConfig.get().runtime.choices)
    return Job(found, resolved(found.config), folder)


def require_one_device(settings: Mapping[str, Any]) -> None:
    """Raise ConfigError where a job of a sweep asks for several devices."""
    if settings["trainer"].get("devices") not in (1, "1"):
        raise ConfigError(
            f"trainer.devices is {settings['trainer']['devices']} in a multirun, whose jobs share one process. Run the "
            "jobs one by one, or with trainer.devices=1."
        )


def _with_own_nodes(config: DictConfig) -> DictConfig:
    """With the checkpoint's own model, or backbone, below which an evaluation sets something without naming another."""
    changed = [key for key in ("model", "backbone") if config.get(key) and TARGET not in config[key]]
    saved = read_checkpoint(Path(config.checkpoint)).saved if config.get("checkpoint") and changed else None
    if saved is None:
        return config
    config = config.copy()
    for key in changed:
        own = dict(saved.own_model() if key == "model" else saved.own_backbone())
        if key == "model" and "seed" in own:
            own["seed"] = "${seed}"
        config[key] = OmegaConf.merge(own, config[key])
    return config


def attempt(job: Job, find: Find, work: Work) -> Outcome:
    """Do what is missing of a job. Whatever ends it is recorded in its folder, and raised.

    What another run left in the folder is moved aside, once it is certain that this one can begin.
    """
    folder, settings, found = job.folder, job.settings, job.identity
    run = Run(run_id(found.method, settings), found.method, settings["study"], found.variant, settings["seed"], NOTHING)
    begun = functools.partial(RunRecord, folder, settings, run, found.method_settings)
    if rank_zero_only.rank:  # type: ignore[attr-defined]  # a process of a distributed run: the first one keeps the record
        launched = HydraConfig.get().job.name.startswith("train_ddp_process")  # by Lightning, from the first one
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), terminable(forwarded=launched):
            ready = find(job)
            same = read_entry(folder).key == ready.key(job)
            work(job, begun(checkpoint=resumable(folder) if same else None, written=False), ready)
        return "done"
    with ExitStack() as stack:
        if not stack.enter_context(claimed(folder)):
            return "elsewhere"
        stopped = stack.enter_context(terminable())
        entry, record = read_entry(folder), None
        ours = not entry.done and entry.run_id in (None, run.run_id)  # what is there may be replaced
        try:
            ready = find(job)
            key = ready.key(job)
            same = entry.key == key
            if same and entry.done:
                print(f"Done before, see {folder}; remove that folder to do it again.")
                return "skipped"
            checkpoint = resumable(folder) if same else None
            if checkpoint is not None:
                print(f"Going on from {checkpoint}")
            elif entry.kept:
                _require_outside(folder, settings.get("checkpoint"))
                print(f"What an earlier run left in {folder} is kept in {move_aside(folder)}")
            ours = True
            stack.enter_context(logged(folder))
            record = begun(key=key, attempts=entry.attempts if same else 0, checkpoint=checkpoint)
            _keep_overrides(job)
            work(job, record, ready)
            (folder / TRACEBACK).unlink(missing_ok=True)
            record.finish("done")
        except BaseException as error:
            failed = isinstance(error, Exception) and not stopped
            if ours:
                _record_end(record or begun(key=entry.key, attempts=entry.attempts), error, failed)
            if failed:
                raise
            print(f"Interrupted. The same command goes on from the last epoch in {folder}", file=sys.stderr)
            if isinstance(error, Exception):  # what the signal raised came out of a library as something else
                raise SystemExit(128 + stopped[0]) from error
            raise
        return "done"


def _require_outside(folder: Path, checkpoint: str | None) -> None:
    if checkpoint and Path(checkpoint).resolve().is_relative_to(folder.resolve()):
        raise ConfigError(
            f"{checkpoint} lies in {folder}, the folder that this run would write to. Choose another by hydra.run.dir."
        )


def _record_end(record: RunRecord, error: BaseException, failed: bool) -> None:
    """Each as far as it can be: the disk may be full."""
    log.error("%s", described(error))
    if failed:
        with suppress(OSError):
            leave_traceback(record.path.parent, error)
    with suppress(OSError):
        record.finish("failed" if failed else "interrupted", described(error))


def _keep_overrides(job: Job) -> None:
    """What Hydra writes for each job; by itself it would do so in a folder of another run's too."""
    hydra = HydraConfig.get()
    parts = {"config": job.config, "hydra": OmegaConf.create({"hydra": hydra}), "overrides": hydra.overrides.task}
    for name, part in parts.items():
        with writing(job.folder / ".hydra" / f"{name}.yaml") as file:
            OmegaConf.save(part, file)


class RunLog(logging.FileHandler):
    """run.log. That it cannot be written is said once, and costs nothing else."""

    failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, if it can be."""
        try:
            super().emit(record)
        except OSError:  # of the file that is opened by the first record
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Say why the log is not whole."""
        error = sys.exc_info()[1]
        if error is not None and not self.failed:
            self.failed = True
            print(f"warning: {self.baseFilename} cannot be written ({described(error)}).", file=sys.stderr)


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Whatever is logged during the block goes to run.log."""
    handler = RunLog(folder / LOG, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


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
