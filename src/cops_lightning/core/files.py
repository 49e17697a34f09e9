"""Files: written so that a reader sees all of one or none, hashed, and the folder where configurations are."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

PACKAGED = Path(__file__).parents[1] / "conf"
CHECKOUT = Path(__file__).parents[3] / "conf"
# What every run leaves in its folder.
RECORD, RESULTS = "run.json", "results.csv"


def conf_folder() -> Path:
    """The folder of configurations: inside the installed package, or of the checkout that is installed editable."""
    return PACKAGED if PACKAGED.is_dir() else CHECKOUT


def digest(path: Path) -> str | None:
    """SHA-256 of a file's content, None where there is no file that can be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def cache_folder(given: str | Path | None = None) -> Path:
    """Where images are rendered to and features are kept: `given`, else the environment variable COPS_CACHE."""
    return Path(given or os.environ.get("COPS_CACHE") or "~/.cache/cops_lightning").expanduser()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, whose folder is made; its file takes the place of `path` if the block succeeds.

    If the block raises, the temporary file is removed and `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the process's number: threads share it, and so do processes of several machines that share a folder.
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_folder(destination: Path) -> Iterator[Path]:
    """A temporary folder beside `destination`, whose parent is made; it becomes `destination` if the block succeeds.

    An empty `destination` is replaced. If the block raises, nothing is left behind. Raises OSError if `destination`
    holds something by then.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    try:
        yield partial
        partial.chmod(0o755)
        partial.replace(destination)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
