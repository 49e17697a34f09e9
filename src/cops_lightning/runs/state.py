"""The state of a run on disk: what is done is not done again, what was interrupted goes on from its last epoch.

The entry of a run is the run.json in its folder. It counts as done where it names the same run, its status is done, and
results.csv is the file that it was written for.
"""

import json
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from cops_lightning.core.files import RECORD, RESULTS, digest

TRACEBACK = "traceback.txt"
CHECKPOINT = Path("checkpoints") / "last.ckpt"
LOCK = ".lock"

Status = Literal["running", "done", "interrupted", "failed"]


@dataclass(frozen=True)
class Entry:
    """What a folder holds of a run: whether it is done, how often it was started, and where it can go on."""

    done: bool = False
    attempts: int = 0
    checkpoint: Path | None = None


def read_entry(folder: Path, run_id: str) -> Entry:
    """The entry of the run in `folder`; an empty one where the folder holds none, a broken one, or another run's."""
    record = _record(folder / RECORD)
    if record.get("run_id") != run_id:
        return Entry()
    attempts = record.get("attempts")
    done = record.get("status") == "done" and record.get("results_sha256") == digest(folder / RESULTS) is not None
    return Entry(done, attempts if isinstance(attempts, int) else 1, _checkpoint(folder / CHECKPOINT))


def begin_afresh(folder: Path) -> None:
    """Remove what another run, or a broken one, left of those files that decide how a run goes on."""
    for name in (RESULTS, TRACEBACK, CHECKPOINT):
        (folder / name).unlink(missing_ok=True)


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Whether this process alone may work in `folder`, for as long as the block lasts.

    The claim ends with the process, however that ends; the file `.lock` may stay and means nothing by itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def leave_traceback(folder: Path, error: BaseException) -> None:
    """Write where and why a run failed."""
    (folder / TRACEBACK).write_text("".join(traceback.format_exception(error)), encoding="utf-8")


def _record(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, Mapping) else {}


def _checkpoint(path: Path) -> Path | None:
    import torch  # takes seconds, and who only asks for a sweep's notes needs none of it

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever is wrong with the file, it cannot be gone on from
        return None
    return path if isinstance(content, Mapping) and {"epoch", "optimizer_states"} <= content.keys() else None
