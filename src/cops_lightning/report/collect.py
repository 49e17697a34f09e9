"""Result folders to one table: what was run, what is complete, and what must not be mixed."""

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from cops_lightning.core.errors import CopsError
from cops_lightning.core.types import MEAN
from cops_lightning.report.tables import COLUMNS, read_results

RESULTS, RECORD = "results.csv", "run.json"
NO_RECORD = "without record"
# What makes a number comparable with another seed's: everything but the seed.
GROUP = ["backbone", "variant", "auxiliary", "target"]
HEADER = ",".join(COLUMNS)


@dataclass(frozen=True)
class Job:
    """A result folder. `status` is run.json's (done, failed, running, interrupted), or `NO_RECORD` without one."""

    folder: Path
    record: Mapping[str, Any] = field(repr=False)

    @property
    def status(self) -> str:
        """How the run ended, as far as its record says."""
        return str(self.record.get("status", NO_RECORD))

    @property
    def complete(self) -> bool:
        """Whether its results count."""
        return self.status in ("done", NO_RECORD) and (self.folder / RESULTS).is_file()

    @property
    def backbone(self) -> str:
        """Name of the frozen CLIP."""
        return str(self.record.get("backbone", {}).get("name", "unknown"))

    @property
    def is_random(self) -> bool:
        """Whether the frozen CLIP has random weights: draws of the same thing, whatever their seed."""
        return str(self.record.get("backbone", {}).get("origin", "")).startswith("random")

    @property
    def fingerprint(self) -> str:
        """Hash of the frozen CLIP's weights; empty if unknown."""
        return str(self.record.get("backbone", {}).get("fingerprint", ""))

    @property
    def started(self) -> str:
        """ISO time, which sorts."""
        return str(self.record.get("started", ""))

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the folder; None if the run left none. Raises CopsError if it is damaged."""
        try:
            content = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise CopsError(f"{self.folder / name} is damaged ({error}); remove it, or run that job again.") from None
        return content if isinstance(content, dict) else None


@dataclass(frozen=True)
class Collection:
    """Every job that was found, and the results of those that are complete.

    `results` has the columns of results.csv and: `job` (index into `jobs`), `backbone`, `seen` (the target was trained
    on: not zero-shot). `left_out` says in a sentence each which results were not taken, and why.
    """

    jobs: tuple[Job, ...]
    results: pd.DataFrame
    left_out: tuple[str, ...]

    @cached_property
    def used(self) -> list[int]:
        """The jobs that results come from, as indices."""
        return sorted(int(job) for job in self.results["job"].unique())


def collect(roots: Sequence[Path]) -> Collection:
    """Find and read every job below the given folders. Thousands take seconds.

    Runs that failed or did not finish are kept as jobs and give no results. Where a seed was run more than once with
    other outcomes, the latest counts; where runs of one group saw other numbers of images, those with most count.

    Raises CopsError if a folder does not exist, there are no results, or a results file is malformed.
    """
    jobs = tuple(find_jobs(roots))
    if not jobs:
        raise CopsError(
            f"There is no {RESULTS} or {RECORD} below {', '.join(map(str, roots))}. Give folders that cops-train or "
            "cops-eval wrote, such as runs/ablations."
        )
    complete = [number for number, job in enumerate(jobs) if job.complete]
    if not complete:
        states = ", ".join(sorted({job.status for job in jobs}))
        raise CopsError(
            f"None of the {len(jobs)} runs below {', '.join(map(str, roots))} has results (they are: {states}). Wait "
            "for them, or look into run.log of a failed one."
        )
    frame = _read_all([(number, jobs[number].folder / RESULTS) for number in complete])
    names = dict(zip(complete, _backbones([jobs[n] for n in complete]), strict=True))
    frame["backbone"] = frame["job"].map(names)
    frame["seen"] = frame["auxiliary"] == frame["target"]
    frame, fewer = _largest(frame, jobs)
    frame, earlier = _latest(frame, jobs)
    return Collection(jobs, frame.reset_index(drop=True), tuple(fewer + earlier))


def find_jobs(roots: Iterable[Path]) -> list[Job]:
    """Every folder with a run.json or results.csv, once, sorted by path. Raises CopsError if a root does not exist."""
    folders: set[Path] = set()
    for root in roots:
        if root.is_file() and root.name == RESULTS:
            folders.add(root.parent.resolve())
            continue
        if not root.is_dir():
            raise CopsError(f"{root} is no folder. Give folders that hold {RESULTS} files, such as runs/ablations.")
        for folder, inside, files in os.walk(root):
            if RECORD in files or RESULTS in files:
                folders.add(Path(folder).resolve())
                inside.clear()
            inside[:] = [name for name in inside if not name.startswith(".")]
    jobs = []
    for path in sorted(folders):
        bare = Job(path, {})
        jobs.append(Job(path, bare.read_json(RECORD) or {}))
    return jobs


def _read_all(files: Sequence[tuple[int, Path]]) -> pd.DataFrame:
    """All files as one frame. Files that look as `write_results` writes them are parsed in one go."""
    bodies, numbers, frames = [], [], []
    for number, path in files:
        header, _, body = path.read_text(encoding="utf-8").partition("\n")
        if header.strip() == HEADER and '"' not in body:
            lines = body.count("\n") + (not body.endswith("\n") and bool(body))
            bodies.append(body if body.endswith("\n") or not body else body + "\n")
            numbers += [number] * lines
        else:
            rows = [asdict(row.run) | asdict(row.measured) for row in read_results(path)]
            frames.append(pd.DataFrame(rows, columns=list(COLUMNS)).assign(job=number))
    if bodies:
        try:
            text = HEADER + "\n" + "".join(bodies)
            numeric = {"seed": "int64", "value": "float64", "n_normal": "int64", "n_anomalous": "int64"}
            types = {name: numeric.get(name, "object") for name in COLUMNS}
            read = pd.read_csv(io.StringIO(text), dtype=types, keep_default_na=False, na_values={"value": [""]})
            if len(read) != len(numbers) or not read["value"].dropna().between(0, 1).all():
                raise ValueError("not a results file")
            frames.insert(0, read.assign(job=numbers))
        except ValueError:
            for _, path in files:
                read_results(path)  # names the file, the line and what is wrong
            raise
    frame = pd.concat(frames, ignore_index=True)
    frame["value"] = frame["value"].astype(float)
    return frame


def _backbones(jobs: Sequence[Job]) -> list[str]:
    """A name per job, told apart by hash where one name stands for several weights; random weights have one name."""
    weights: dict[str, set[str]] = {}
    for job in jobs:
        if not job.is_random:
            weights.setdefault(job.backbone, set()).add(job.fingerprint)
    return [
        f"{job.backbone}, random weights"
        if job.is_random
        else job.backbone
        if len(weights[job.backbone]) == 1
        else f"{job.backbone} {job.fingerprint[:6]}"
        for job in jobs
    ]


def _largest(frame: pd.DataFrame, jobs: Sequence[Job]) -> tuple[pd.DataFrame, list[str]]:
    """Of each group only the runs that saw most images: means over different images are not comparable."""
    means = frame[frame["category"] == MEAN]
    images = (means["n_normal"] + means["n_anomalous"]).groupby([*(means[key] for key in GROUP), means["job"]]).max()
    fewer = images[images < images.groupby(level=GROUP).transform("max")]
    if fewer.empty:
        return frame, []
    drop = {(job, target) for *_, target, job in fewer.index}
    said = [
        f"{jobs[index[-1]].folder}: {count} images of {index[-2]}, while other runs of {index[1]} saw more"
        for index, count in fewer.items()
        if isinstance(index, tuple)
    ]
    kept = [(job, target) not in drop for job, target in zip(frame["job"], frame["target"], strict=True)]
    return frame[kept], said


def _latest(frame: pd.DataFrame, jobs: Sequence[Job]) -> tuple[pd.DataFrame, list[str]]:
    """Of each seed of a group the run that started last; earlier ones are named if their numbers differ."""
    found = frame[["job", *GROUP, "seed"]].drop_duplicates()
    found = found.assign(started=[jobs[job].started for job in found["job"]]).sort_values(["started", "job"])
    earlier = found[found.duplicated([*GROUP, "seed"], keep="last")]
    if earlier.empty:
        return frame, []
    last = found.drop_duplicates([*GROUP, "seed"], keep="last")
    kept = {tuple(row[1:]): row[0] for row in last[["job", *GROUP, "seed"]].to_numpy().tolist()}
    values = {key: part["value"].reset_index(drop=True) for key, part in frame.groupby(["job", "target"])}
    said, drop = [], set()
    for job, *group in earlier[["job", *GROUP, "seed"]].to_numpy().tolist():
        _, variant, _, target, seed = group
        drop.add((job, target))
        if not values[job, target].equals(values[kept[tuple(group)], target]):
            said.append(
                f"{jobs[job].folder}: {variant}, seed {seed}, on {target} was run again later, with other numbers"
            )
    rows = [(job, target) not in drop for job, target in zip(frame["job"], frame["target"], strict=True)]
    return frame[rows], said


def read_scores(job: Job) -> pd.DataFrame | None:
    """scores.csv of a job; None if the run left none."""
    path = job.folder / "scores.csv"
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        frame = pd.DataFrame(list(csv.DictReader(file)))
    missing = {"target", "category", "image", "label", "score"} - set(frame.columns)
    if missing:
        raise CopsError(f"{path} lacks the column {', '.join(sorted(missing))}. Evaluate that run again.")
    return frame.assign(label=frame["label"].astype(int), score=frame["score"].astype(float))
