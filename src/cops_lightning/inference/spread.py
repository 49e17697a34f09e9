"""Images through a detector over the processes of a cluster, into a folder that this process alone writes."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import torch

from cops_lightning.core.cluster import Actors, Cluster
from cops_lightning.core.errors import CopsError, DatasetError
from cops_lightning.data.readers.pictures import Picture
from cops_lightning.inference.folder import PredictionFolder, Tally
from cops_lightning.inference.predict import Answer, Wanted, answer_of, write_answers
from cops_lightning.models.detector import Detector

AT_ONCE = 8  # images, at least, that a process gets together: what is done again where it dies


@dataclass(frozen=True)
class Scoring:
    """What a process of the cluster does: answers to images, with all that is written of them.

    Args:
        detector: on the CPU.
        device: where it computes.
        wanted: what is written.
        options: of `Predictor.outcomes`.
        threads: that compute, as here: the last bits of a score depend on their number.
    """

    detector: Detector
    device: str
    wanted: Wanted
    options: Mapping[str, Any]
    threads: int

    def __call__(self, images: list[Picture]) -> list[Answer]:
        """Answers to images, in their order."""
        torch.set_num_threads(self.threads)
        self.detector.to(self.device)
        return [answer_of(found, self.wanted) for found in self.detector.outcomes(images, **self.options)]


def predict_over(
    cluster: Cluster,
    folder: PredictionFolder,
    detector: Detector,
    sources: Iterable[Picture],
    wanted: Wanted,
    *,
    device: str,
    actors: Actors = "auto",
    shown: bool = True,
    threshold: float | None = None,
    map_threshold: float | None = None,
    calibration: Any = None,
    rule: Any = None,
    **options: Any,
) -> Tally:
    """`predict_into` by so many processes of a cluster, on a device that each has; the rows are the same.

    Processes read the images themselves, and send back what is written; nothing else of their machines is used. Raises
    CopsError where one cannot read an image that can be read here.
    """
    ruled, watch = detector.ruled(
        threshold=threshold,
        map_threshold=map_threshold,
        calibration=calibration,
        rule=rule,
        draws=options.get("draws", "fixed"),
        category=options.get("category"),
    )
    scoring = Scoring(detector, device, wanted, {"rule": ruled, **options}, torch.get_num_threads())
    size = options.get("batch_size") or 1
    many = size * math.ceil(AT_ONCE / size)  # whole batches, so that their sizes are those of one machine

    def answers(left: Iterator[Picture]) -> Iterator[Answer]:
        parts = list(iter(lambda: list(islice(left, many)), []))
        found = cluster.spread(scoring, parts, actors=actors, gpu=device != "cpu", named=_named)
        answer: Answer
        for picture, answer in zip(chain.from_iterable(parts), chain.from_iterable(found), strict=True):
            _require_unreadable_here(picture, answer)
            yield answer

    return write_answers(folder, sources, answers, wanted, shown, watch)


def _named(images: list[Picture]) -> str:
    return f"{images[0].name} to {images[-1].name}" if len(images) > 1 else images[0].name


def _require_unreadable_here(picture: Picture, answer: Answer) -> None:
    """Raise CopsError where a process could not read what can be read here: the row would be another."""
    if answer.row["error"] is None:
        return
    try:
        picture.open()
    except DatasetError:
        return
    raise CopsError(
        f"{picture.name} can be read here, but not by a process of the cluster ({answer.row['error']}) Give sources "
        "that each of its machines sees under that name, such as a shared folder or the URL of a store."
    )
