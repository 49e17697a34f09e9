"""An exported file that predicts as the detector does that it was made of; torch computes nothing of it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from cops_lightning.data.dataset import resized
from cops_lightning.data.readers.pictures import Source, pictures
from cops_lightning.data.stream import Decoded, Unreadable, decoded
from cops_lightning.export.engines import Found, Pixels, Products, open_exported
from cops_lightning.models.prediction import Prediction, Rule, in_batches, readable


class ExportedDetector:
    """An .onnx file, or an OpenVINO .xml with its .bin, with the `predict` of a detector; see `models.detector`.

    Its class samples are the fixed ones, as `predict` has by default.

    Args:
        path: the file.
        precision: of large products; see `engines.open_exported`.
        threads: that compute; None leaves it to the library.

    Raises as `engines.open_exported` does.
    """

    def __init__(self, path: str | Path, precision: Products = "auto", threads: int | None = None) -> None:
        self.path = Path(path)
        self._engine = open_exported(self.path, precision, threads)
        self.description = self._engine.description
        self.image_size, self.precision = self.description.image_size, self._engine.precision
        self.rule = Rule(self.description.threshold, self.description.map_threshold)

    def score(self, pixels: Pixels) -> Found:
        """Scores and maps of RGB images of the detector's size."""
        return self._engine.run(pixels)

    def predict(
        self, source: Source, *, rule: Rule | None = None, batch_size: int = 1, workers: int = 2
    ) -> Iterator[Prediction]:
        """Scores and maps of images, one at a time; see `Detector.predict`."""
        return readable(self.outcomes(source, rule=rule, batch_size=batch_size, workers=workers))

    def outcomes(
        self, source: Source, *, rule: Rule | None = None, batch_size: int = 1, workers: int = 2
    ) -> Iterator[Prediction | Unreadable]:
        """`predict` for streams in which an image that cannot be read is one result; see `Detector.outcomes`.

        Without a `rule` it is the one in the file.
        """
        found = decoded(pictures(source), self.image_size, workers, _pixels)
        return in_batches(found, batch_size, lambda read: self._predicted(read, rule or self.rule))

    def _predicted(self, read: list[Decoded], rule: Rule) -> list[Prediction]:
        found = self.score(np.stack([one.image.numpy() for one in read]))
        maps = torch.from_numpy(found.map).flatten(1)
        return [
            Prediction(one.picture, score, of_image, self._as_map, rule, one.size)
            for one, score, of_image in zip(read, found.score.tolist(), maps, strict=True)
        ]

    def _as_map(self, values: Tensor) -> Tensor:
        return values.view(-1, self.image_size, self.image_size)


def _pixels(image: Image.Image, size: int) -> UInt8[Tensor, "s s 3"]:
    """What a graph takes: RGB resized as for the detector; the graph itself normalises it."""
    return torch.from_numpy(resized(image, size))
