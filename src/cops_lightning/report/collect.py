"""Result folders to one table: what was run, what is complete, and what must not be mixed."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cops_lightning.core.errors import CopsError
from cops_lightning.core.files import RECORD, RESULTS, results_changed
from cops_lightning.core.measured import MEAN
from cops_lightning.core.names import printable
from cops_lightning.core.record import read_record
from cops_lightning.report.methods import Method, name_methods
from cops_lightning.report.tables import COLUMNS, read_columns

NO_RECORD = "without record"
CHANGED = f"{RESULTS} is not the one that the run wrote"
# What makes a number comparable with another seed's: everything but the seed.
GROUP = ["method", "auxiliary", "dataset"]
NAMES = ("study", "variant", "auxiliary", "target", "category", "metric")
# The name of a category that is called as the row of means is.
CATEGORY_MEAN = f"{MEAN} (category)"


@dataclass(frozen=True)
class Job:
    """A result folder."""

    folder: Path
    record: Mapping[str, Any] = field(repr=False)

    @cached_property
    def status(self) -> str:
        """run.json's (done, failed, running, interrupted); `NO_RECORD` without one, `CHANGED` where it does not fit."""
        said = printable(str(self.record.get("status", NO_RECORD)))
        return CHANGED if results_changed(self.folder, self.record) else said

    @property
    def complete(self) -> bool:
        """Whether its results count."""
        return self.status in ("done", NO_RECORD) and (self.folder / RESULTS).is_file()

    @property
    def backbone(self) -> str:
        """Name of the frozen CLIP."""
        return printable(str((self.record.get("backbone") or {}).get("name", "unknown")))

    @property
    def is_random(self) -> bool:
        """Whether the frozen CLIP has random weights: draws of the same thing, whatever their seed."""
        return str((self.record.get("backbone") or {}).get("origin", "")).startswith("random")

    @property
    def weights(self) -> str:
        """Start of the hash of the frozen CLIP's weights; empty if they are random or unknown."""
        return "" if self.is_random else str((self.record.get("backbone") or {}).get("fingerprint", ""))[:6]

    @property
    def datasets(self) -> list[tuple[bool, str, Mapping[str, Any]]]:
        """Whether it was limited to some images, the role, and the record of each dataset that was read."""
        settings = self.record.get("method_settings") or {}
        limited = (settings.get("data") or {}).get("limit") is not None
        return [
            (limited, str(data.get("role")), {**data, "name": printable(data["name"])})
            for data in self.record.get("data") or ()
            if {"name", "root", "fingerprint"} <= set(data)
        ]

    @property
    def finished(self) -> float:
        """Seconds since 1970; 0 if unknown."""
        started = self.record.get("started")
        if not started:
            return 0.0
        return datetime.fromisoformat(str(started)).timestamp() + (self.record.get("duration_seconds") or 0.0)


@dataclass(frozen=True)
class Collection:
    """Every job that was found, and the results of those that are complete.

    Args:
        jobs: All of them, whatever became of them.
        results: The columns of results.csv, `method` as its name and `variant` as its first label, and: `job` (index
            into `jobs`), `backbone`, `dataset` (the target, told apart by its content where one name stands for
            several, as `auxiliary` is), `seen` (it was trained on: not zero-shot).
        methods: Those that the results are of.
        notes: A sentence on each label that does not mean one method alone.
        left_out: A sentence on each result that was not taken, and why.
    """

    jobs: tuple[Job, ...]
    results: pd.DataFrame
    methods: tuple[Method, ...]
    notes: tuple[str, ...]
    left_out: tuple[str, ...]

    @cached_property
    def used(self) -> list[int]:
        """The jobs that results come from, as indices."""
        return sorted(int(job) for job in self.results["job"].unique())


def collect(roots: Sequence[Path]) -> Collection:
    """Find and read every job below the given folders. Thousands take seconds.

    Runs that failed or did not finish are kept as jobs and give no results. Where a seed of a method was scored more
    than once with other outcomes, the latest to finish counts; where runs of a method saw other numbers of images,
    those with most count.

    Raises CopsError if a folder does not exist, there are no results, or a results file is malformed.
    """
    jobs = tuple(find_jobs(roots))
    if not jobs:
        raise CopsError(
            f"There is no {RESULTS} or {RECORD} below {', '.join(map(str, roots))}. Give folders that cops-train or "
            "cops-eval wrote, such as runs/ablations."
        )
    frame = _read_all(jobs)
    if frame.empty:
        states = ", ".join(sorted({job.status for job in jobs}))
        raise CopsError(
            f"None of the {len(jobs)} runs below {', '.join(map(str, roots))} has results (they are: {states}). Wait "
            "for them, or look into run.log of a failed one."
        )
    frame["backbone"] = frame["job"].map(_backbones({job: jobs[job] for job in frame["job"].unique().tolist()}))
    _name_datasets(frame, jobs)
    frame["seen"] = frame["auxiliary"] == frame["dataset"]
    methods, notes = _name_methods(frame, jobs)
    frame, fewer = _largest(frame, jobs)
    frame, earlier = _latest(frame, jobs)
    return Collection(jobs, frame.reset_index(drop=True), methods, notes, tuple(fewer + earlier))


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
    records = {path: path / RECORD for path in sorted(folders)}
    return [Job(path, read_record(record) if record.is_file() else {}) for path, record in records.items()]


def load(*folders: str | Path) -> pd.DataFrame:
    """The results below these folders as a tidy table: a row per run, dataset, category, level and metric.

    Its columns are those of results.csv, with `method` as its name, and further `dataset` (the target, told apart by
    its content where one name stands for several), `seen` (it was trained on: not zero-shot), `backbone` and `folder`.
    `value` is in [0, 1]. The category "mean" averages the categories of a dataset. Raises CopsError as `collect` does.
    """
    found = collect([Path(folder) for folder in folders])
    folder = found.results["job"].map({job: str(found.jobs[job].folder) for job in found.used})
    return found.results.drop(columns="job").assign(folder=folder)


def _read_all(jobs: Sequence[Job]) -> pd.DataFrame:
    """The results of all complete jobs; `job` is the index of theirs."""
    cells: dict[str, list[Any]] = {column: [] for column in (*COLUMNS, "job")}
    for number, job in enumerate(jobs):
        if job.complete:
            columns = read_columns(job.folder / RESULTS)
            columns["job"] = [number] * len(columns["seed"])
            for column, more in columns.items():
                cells[column] += more
    frame = pd.DataFrame(cells).astype({"value": float})
    for column in NAMES:  # the one place where names come in, whatever shows them
        shown = {name: printable(name) for name in frame[column].unique()}
        if any(name != text for name, text in shown.items()):
            frame[column] = frame[column].map(shown)
    # The row of means comes after the categories, of which one may be called "mean" too.
    means = frame[frame["category"] == MEAN]
    called_mean = means.duplicated(["job", "target", "level", "metric"], keep="last")
    frame.loc[called_mean.index[called_mean], "category"] = CATEGORY_MEAN
    return frame


def _name_datasets(frame: pd.DataFrame, jobs: Sequence[Job]) -> None:
    """Tell datasets of one name apart by their content: writes `dataset`, and `auxiliary` alike.

    A run that saw a limited number of images recorded the content of these; it counts as the dataset that other runs
    found whole in the same place.
    """
    contents: dict[tuple[int, str, str], str] = {}
    whole: dict[tuple[str, str], str] = {}
    for job in frame["job"].unique().tolist():
        for limited, role, data in jobs[job].datasets:
            contents[job, role, data["name"]] = data["fingerprint"]
            if not limited:
                whole[data["name"], data["root"]] = data["fingerprint"]
    for job in frame["job"].unique().tolist():
        for limited, role, data in jobs[job].datasets:
            if limited:
                same = whole.get((data["name"], data["root"]), data["fingerprint"])
                contents[job, role, data["name"]] = same
    several: dict[str, set[str]] = {}
    for (_, _, name), fingerprint in contents.items():
        several.setdefault(name, set()).add(fingerprint)
    ambiguous = [name for name, of in several.items() if len(of) > 1]
    for column, role, source in (("dataset", "target", "target"), ("auxiliary", "auxiliary", "auxiliary")):
        frame[column] = frame[source]
        rows = frame[source].isin(ambiguous)
        frame.loc[rows, column] = [
            f"{name} ({contents.get((job, role, name), '')[:6] or 'unknown'})"
            for job, name in zip(frame.loc[rows, "job"], frame.loc[rows, source], strict=True)
        ]


def _backbones(jobs: Mapping[int, Job]) -> dict[int, str]:
    """A name per job, told apart by hash where one name stands for several weights; random weights have one name."""
    weights: dict[str, set[str]] = {}
    for job in jobs.values():
        if not job.is_random:
            weights.setdefault(job.backbone, set()).add(job.weights)
    return {
        number: f"{job.backbone}, random weights"
        if job.is_random
        else job.backbone
        if len(weights[job.backbone]) == 1
        else f"{job.backbone} {job.weights}"
        for number, job in jobs.items()
    }


def _name_methods(frame: pd.DataFrame, jobs: Sequence[Job]) -> tuple[tuple[Method, ...], tuple[str, ...]]:
    """The methods and what is to be said of their labels; writes names and first labels into the frame.

    Where one hash of settings was run over several weights of the frozen CLIP, their hash is part of the method.
    """
    weights: dict[str, set[str]] = {}
    pairs = frame[["method", "job"]].drop_duplicates().to_numpy().tolist()
    for method, job in pairs:
        weights.setdefault(method, set()).add(jobs[job].weights)
    settings: dict[str, Mapping[str, Any]] = {}
    keys: dict[tuple[str, int], str] = {}
    for method, job in pairs:
        known = jobs[job].record.get("method_settings")
        several = len(weights[method] - {""}) > 1
        key = keys[method, job] = f"{method}-{jobs[job].weights or 'unknown'}" if several else method
        if isinstance(known, Mapping):
            settings.setdefault(key, {**known, "weights": jobs[job].weights} if several else known)
    of_several = frame["method"].isin([method for method, of in weights.items() if len(of - {""}) > 1])
    frame.loc[of_several, "method"] = [
        keys[pair] for pair in zip(frame.loc[of_several, "method"], frame.loc[of_several, "job"], strict=True)
    ]
    labels = frame.groupby("method", sort=False)["variant"].unique()
    methods, notes = name_methods({str(key): [*map(str, given)] for key, given in labels.items()}, settings)
    frame["variant"] = frame["method"].map({method.hash: method.labels[0] for method in methods})
    frame["method"] = frame["method"].map({method.hash: method.name for method in methods})
    return methods, notes


def _largest(frame: pd.DataFrame, jobs: Sequence[Job]) -> tuple[pd.DataFrame, list[str]]:
    """Of each group only the runs that saw most images: means over different images are not comparable."""
    means = frame[frame["category"] == MEAN]
    images = means.assign(images=means["n_normal"] + means["n_anomalous"]).groupby([*GROUP, "job"])["images"].max()
    fewer = images[images < images.groupby(level=GROUP).transform("max")]
    said = [
        f"{jobs[job].folder}: {count} images of {dataset}, while other runs of {method} saw more"
        for (method, _, dataset, job), count in zip(fewer.index.tolist(), fewer, strict=True)
    ]
    return _without(frame, fewer.index), said


def _latest(frame: pd.DataFrame, jobs: Sequence[Job]) -> tuple[pd.DataFrame, list[str]]:
    """Of each seed of a group the run that finished last; earlier ones are named if their numbers differ."""
    found = frame[[*GROUP, "seed", "job"]].drop_duplicates()
    found = found.assign(finished=[jobs[job].finished for job in found["job"]]).sort_values(["finished", "job"])
    earlier = pd.MultiIndex.from_frame(found[found.duplicated([*GROUP, "seed"], keep="last")].drop(columns="finished"))
    if earlier.empty:
        return frame, []
    last = {tuple(group): job for *group, job, _ in found.to_numpy().tolist()}
    values = {key: part.to_numpy() for key, part in frame.groupby([*GROUP, "seed", "job"])["value"]}
    said = [
        f"{jobs[job].folder}: {method}, seed {seed}, on {dataset} was scored again later, with other numbers"
        for method, auxiliary, dataset, seed, job in earlier.tolist()
        if not np.array_equal(
            values[method, auxiliary, dataset, seed, job],
            values[method, auxiliary, dataset, seed, last[method, auxiliary, dataset, seed]],
            equal_nan=True,
        )
    ]
    return _without(frame, earlier), said


def _without(frame: pd.DataFrame, rows: pd.Index) -> pd.DataFrame:
    """The frame without the rows whose cells are in the index, by the index's names."""
    return frame[~pd.MultiIndex.from_frame(frame[list(rows.names)]).isin(rows)]


@dataclass(frozen=True)
class Scores:
    """Images of one dataset, sorted by name: what each of them is, and what a run gave it."""

    images: tuple[str, ...]
    categories: tuple[str, ...]
    labels: tuple[int, ...]
    scores: tuple[float, ...]


def read_scores(job: Job) -> dict[str, Scores]:
    """scores.csv of a job by target; empty if the run left none. Raises CopsError as `read_columns` does."""
    path = job.folder / "scores.csv"
    if not path.is_file():
        return {}
    columns = read_columns(path, ("target", "image", "category", "label", "score"))
    by_target: dict[str, list[tuple[Any, ...]]] = {}
    for target, *image in zip(*columns.values(), strict=True):
        by_target.setdefault(target, []).append(tuple(image))
    return {printable(target): Scores(*zip(*sorted(images), strict=True)) for target, images in by_target.items()}
