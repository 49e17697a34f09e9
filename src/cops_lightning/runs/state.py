"""The state of a run on disk: what is done is not done again, what was interrupted goes on from its last epoch.

The entry of a run is the run.json in its folder. It counts as done where its key is that of the run that is asked for,
its status is done, and results.csv is the file that it was written for. Nothing that a run finished is removed: another
run's files are moved aside.
"""

import hashlib
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cops_lightning.core.errors import CopsError
from cops_lightning.core.files import RECORD, RESULTS, regular
from cops_lightning.core.record import record_in

TRACEBACK, LOG = "traceback.txt", "run.log"
CHECKPOINT = Path("checkpoints") / "last.ckpt"
EARLIER = "earlier"  # in a run's folder: what other runs left there
# What a run writes. A folder may hold other things, which stay.
WRITTEN = (
    *(RESULTS, "scores.csv", "metrics.csv", "hparams.yaml", "checkpoints", "heatmaps", "manifests"),
    *("vae_health.json", "domain_shift.json", "latent_draws.csv", "tensorboard", "wandb", "mlruns"),
    *(TRACEBACK, LOG, ".hydra", RECORD),
)

Status = Literal["running", "done", "interrupted", "failed"]


@dataclass(frozen=True)
class Entry:
    """What a folder holds of a run: its id and key, whether it is done, how often it was started, and whether there is
    anything to keep, which are results or a checkpoint.
    """

    run_id: str | None = None
    key: str | None = None
    done: bool = False
    attempts: int = 0
    kept: bool = False


def read_entry(folder: Path) -> Entry:
    """The entry in `folder`; one without a name where there is none, or a broken one.

    Raises CopsError where a file is there and cannot be read: what cannot be read at the moment may be whole.
    """
    results, checkpoint = _content(folder / RESULTS), _content(folder / CHECKPOINT, 1)
    kept = results is not None or checkpoint is not None
    found = _content(folder / RECORD)
    try:
        record = {} if found is None else record_in(found, folder / RECORD)
    except CopsError:  # a broken one
        record = {}
    if not record:
        return Entry(kept=kept)
    whole = results is not None and record.get("results_sha256") == hashlib.sha256(results).hexdigest()
    done = record.get("status") == "done" and whole
    return Entry(record.get("run_id"), record.get("key"), done, record.get("attempts", 1), kept)


def resumable(folder: Path) -> Path | None:
    """The checkpoint that the run in `folder` can go on from, None where there is none, or a broken one.

    Raises CopsError where it cannot be read at the moment.
    """
    from cops_lightning.core.tensor_files import read_tensors  # takes seconds, and who only asks for notes needs none

    path = folder / CHECKPOINT
    if _content(path) is None:
        return None
    try:
        saved = read_tensors(path, CopsError)
    except CopsError:  # whatever is wrong with its content, it cannot be gone on from
        return None
    return path if {"epoch", "optimizer_states"} <= saved.keys() else None


def move_aside(folder: Path) -> Path:
    """Move what an earlier run left in `folder` to a new folder below `earlier/`, which is returned."""
    numbers = [int(path.name) for path in (folder / EARLIER).glob("[0-9]*") if path.name.isdecimal()]
    aside = folder / EARLIER / str(max(numbers, default=0) + 1)
    aside.mkdir(parents=True)
    for name in WRITTEN:  # the record last: without it, nobody would know what the others are
        if (folder / name).exists():
            (folder / name).rename(aside / name)
    return aside


def leave_traceback(folder: Path, error: BaseException) -> None:
    """Write where and why a run failed."""
    (folder / TRACEBACK).write_text("".join(traceback.format_exception(error)), encoding="utf-8")


def _content(path: Path, size: int = -1) -> bytes | None:
    """A file's first bytes, or all of them; None where there is no such file."""
    try:
        with regular(path) as file:
            return file.read(size)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CopsError(
            f"{path} is there, but cannot be read ({error.strerror}). Nothing was changed. Make it readable, or choose "
            "another folder by hydra.run.dir."
        ) from error
