"""Looking after the stores below a root: how much there is, whether it is intact, and giving space back."""

import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cops_lightning.core.errors import CacheError, of_system
from cops_lightning.core.files import clear_litter
from cops_lightning.features.store import MASK_SUFFIX, SUFFIX, FeatureStore, claim, read_description, read_entry

GB = 10**9
RESERVE = 10**9  # bytes of the disk that are always left free
DAY = 86400


class EntryFile(NamedTuple):
    """A file of a store, with its size in bytes and when it was last used, in seconds since the epoch."""

    path: Path
    size: int
    used: float


@dataclass(frozen=True)
class StoreSummary:
    """A store: its description, how many images and bytes it holds, and when it was last used."""

    folder: Path
    description: dict[str, Any]
    images: int
    size: int
    used: float | None


@dataclass(frozen=True)
class Damage:
    """A file that is not what was written, and how that shows."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Pruned:
    """How many files and bytes were given back, or would be; and the stores that were spared as they are in use."""

    files: int
    size: int
    spared: tuple[Path, ...]


def stores(root: Path) -> list[Path]:
    """The folders of all stores below a root."""
    return sorted(path.parent for path in root.glob("*/store.json") if read_description(path.parent) is not None)


def entries(folder: Path) -> Iterator[EntryFile]:
    """The files of a store, in no order. One that vanishes meanwhile is left out."""
    for shelf in folder.glob("??"):
        with os.scandir(shelf) as files:
            for file in files:
                try:
                    status = file.stat()
                except FileNotFoundError:
                    continue
                if file.name.endswith(SUFFIX):
                    yield EntryFile(Path(file.path), status.st_size, status.st_mtime)


def survey(root: Path) -> list[StoreSummary]:
    """Every store below a root."""
    summaries = []
    for folder in stores(root):
        found = list(entries(folder))
        summaries.append(
            StoreSummary(
                folder,
                read_description(folder) or {},
                sum(not entry.path.name.endswith(MASK_SUFFIX) for entry in found),
                sum(entry.size for entry in found),
                max((entry.used for entry in found), default=None),
            )
        )
    return summaries


def verify(files: Sequence[Path], tick: Callable[[], object] = lambda: None) -> list[Damage]:
    """Those of `files` whose bytes are not the ones that were written."""
    damaged = []
    for path in files:
        try:
            read_entry(path)
        except FileNotFoundError:
            pass  # given back by another process since it was listed
        except OSError as error:
            raise CacheError(of_system(error)) from None
        except CacheError as error:
            damaged.append(Damage(path, str(error)))
        tick()
    return damaged


def prune(
    root: Path,
    *,
    older_than_days: float | None = None,
    to_bytes: int | None = None,
    everything: bool = False,
    dry_run: bool = False,
) -> Pruned:
    """Give back what was not used for so many days, or, least recently used first, until `to_bytes` are left; or all.

    Stores that a living process adds to or reads from are spared.
    """
    if not dry_run:
        clear_litter(root.parent)
        clear_litter(root)
    free, spared = [], []
    total = 0
    with ExitStack() as claims:
        for folder in stores(root):
            found = list(entries(folder))
            total += sum(entry.size for entry in found)
            if claim(folder, claims):
                free += found
            else:
                spared.append(folder)
        oldest_first = sorted(free, key=lambda entry: entry.used)
        now, chosen = time.time(), []
        for entry in oldest_first:
            too_old = older_than_days is not None and now - entry.used > older_than_days * DAY
            too_many = to_bytes is not None and total > to_bytes
            if everything or too_old or too_many:
                chosen.append(entry)
                total -= entry.size
        if not dry_run:
            _remove(chosen)
            for folder in stores(root):
                if folder not in spared and next(entries(folder), None) is None:
                    shutil.rmtree(folder, ignore_errors=True)
    return Pruned(len(chosen), sum(entry.size for entry in chosen), tuple(spared))


def make_room(store: FeatureStore, needed: int, keep: Collection[str], budget: int) -> int:
    """Give back least recently used entries until `needed` bytes fit into the budget and on the disk.

    Entries of `store` whose hash is in `keep`, and stores that other processes read from, are spared. Returns the bytes
    that were given back. Raises CacheError, giving back nothing, where there is no room for what is needed.
    """
    free_on_disk = shutil.disk_usage(store.root).free - RESERVE
    in_all, removable = 0, []
    with ExitStack() as claims:
        for folder in stores(store.root):
            own = folder == store.folder
            found = list(entries(folder))
            in_all += sum(entry.size for entry in found)
            if store.used_by_others() if own else not claim(folder, claims):
                continue
            removable += [entry for entry in found if not (own and entry.path.name.partition(".")[0] in keep)]
        excess = max(in_all + needed - budget, needed - free_on_disk)
        if excess <= 0:
            return 0
        chosen, freed = [], 0
        for entry in sorted(removable, key=lambda entry: entry.used):
            if freed >= excess:
                break
            chosen.append(entry)
            freed += entry.size
        if freed < excess:
            halve = ", or halve the space by callbacks.feature_cache.dtype=bf16" if store.key.dtype == "fp32" else ""
            raise CacheError(
                f"The feature cache in {store.root} needs {needed / GB:.2f} GB more, but has no room: the budget is "
                f"{budget / GB:g} GB, {(in_all - freed) / GB:.2f} GB are in use, and {free_on_disk / GB:.1f} GB of the "
                "disk are free. Raise callbacks.feature_cache.budget_gb, name a larger disk by paths.cache=FOLDER"
                f"{halve}."
            )
        _remove(chosen)
    return freed


def _remove(chosen: Sequence[EntryFile]) -> None:
    for entry in chosen:
        entry.path.unlink(missing_ok=True)
