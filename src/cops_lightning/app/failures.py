"""Run folders to look at: their results, and their images with the worst errors first."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException

from cops_lightning.callbacks.heat_maps import heat_map_file
from cops_lightning.core.errors import CopsError
from cops_lightning.core.files import RESULTS
from cops_lightning.core.measured import MEAN
from cops_lightning.core.names import printable
from cops_lightning.report.collect import Job, find_jobs, read_scores
from cops_lightning.report.tables import read_columns

Values = Mapping[str, Any]
WORST = 100  # images of each kind of error that are listed


class Study:
    """The runs below a folder, read anew whenever they are asked for.

    Nothing outside a run's own folder is read, whatever its files name. Raises CopsError where there is no such folder.

    Args:
        root: a run folder, or one of several.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._jobs = find_jobs([root])
        if not self._jobs:
            raise CopsError(f"There is no run below {root}. Give a folder that cops-train or cops-eval wrote.")

    def runs(self) -> list[Values]:
        """Every run: its name, what it was, and its status. Runs that came since are appended."""
        known = {job.folder for job in self._jobs}
        self._jobs = [
            *(Job(job.folder, job.record) for job in self._jobs),
            *(job for job in find_jobs([self.root]) if job.folder not in known),
        ]
        return [
            {
                "number": number,
                "name": printable(job.folder.name),
                **{key: printable(job.record.get(key, "")) for key in ("variant", "auxiliary")},
                "seed": job.record.get("seed"),
                "status": job.status,
            }
            for number, job in enumerate(self._jobs)
        ]

    def run(self, number: int) -> Values:
        """Means of the metrics by target, and the images: missed ones, anomalous with the lowest scores, and false
        alarms, normal with the highest.
        """
        job = self._job(number)
        try:
            return {"name": printable(job.folder.name), "status": job.status, "results": _means(job), **_errors(job)}
        except CopsError as error:
            raise CopsError(str(error).replace(printable(f"{job.folder}/"), "")) from None

    def picture(self, number: int, row: int) -> Path:
        """The heat map of the image in a row of scores.csv."""
        job = self._job(number)
        images = _images(job)
        if not 0 <= row < len(images):
            raise HTTPException(404, "There is no such image.")
        found = _inside(job, images[row].target, images[row].image)
        if found is None:
            raise HTTPException(404, "No heat map was drawn of this image.")
        return found

    def _job(self, number: int) -> Job:
        if not 0 <= number < len(self._jobs):
            raise HTTPException(404, "There is no such run.")
        return self._jobs[number]


class _Image(NamedTuple):
    """A line of scores.csv; `row` is its number among those of all targets."""

    row: int
    target: str
    image: str
    category: str
    label: int
    score: float


def _images(job: Job) -> list[_Image]:
    found = (
        (target, *image)
        for target, of in read_scores(job).items()
        for image in zip(of.images, of.categories, of.labels, of.scores, strict=True)
    )
    return [_Image(row, *image) for row, image in enumerate(found)]


def _errors(job: Job) -> Values:
    images = _images(job)
    normal = [one for one in images if not one.label]
    anomalous = [one for one in images if one.label]

    def listed(found: list[_Image]) -> list[Values]:
        return [
            {
                "row": one.row,
                "target": one.target,
                "category": one.category,
                "image": one.image.split("/", 2)[-1],
                "score": one.score,
                "drawn": _inside(job, one.target, one.image) is not None,
            }
            for one in found[:WORST]
        ]

    return {
        "missed": listed(sorted(anomalous, key=lambda one: one.score)),
        "false_alarms": listed(sorted(normal, key=lambda one: -one.score)),
        "normal": len(normal),
        "anomalous": len(anomalous),
    }


def _means(job: Job) -> list[Values]:
    if not (job.folder / RESULTS).is_file():
        return []
    columns = read_columns(job.folder / RESULTS)
    rows = zip(*(columns[key] for key in ("target", "category", "level", "metric", "value")), strict=True)
    return [
        {"target": target, "level": level, "metric": metric, "value": _finite(value)}
        for target, category, level, metric, value in rows
        if category == MEAN
    ]


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _inside(job: Job, target: str, image: str) -> Path | None:
    """The heat map of an image; None where there is none in the run's own folder."""
    found = heat_map_file(job.folder, target, image)
    return found if found is not None and found.resolve().is_relative_to(job.folder.resolve()) else None
