"""An exported file that predicts as the detector does that it was made of."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import xxhash
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from cops_lightning.calibration import Calibration, Identity
from cops_lightning.core.errors import ConfigError
from cops_lightning.data.dataset import resized
from cops_lightning.data.readers.pictures import Source, pictures
from cops_lightning.data.stream import Decoded, Unreadable, decoded
from cops_lightning.export.engines import Found, Library, Pixels, Products, open_exported
from cops_lightning.models.prediction import Prediction, Rule
from cops_lightning.models.predictor import Draws, Predictor, in_batches


class ExportedDetector(Predictor):
    """An .onnx file, an OpenVINO .xml with its .bin, or a .pt2, with the `predict` of a detector.

    Its class samples are the fixed ones, as `predict` has by default.

    Args:
        path: the file.
        precision: of large products; see `engines.open_exported`.
        threads: that compute; None leaves it to the library.
        library: that runs the file, likewise.

    Raises as `engines.open_exported` does.
    """

    def __init__(
        self,
        path: str | Path,
        precision: Products = "fp32",
        threads: int | None = None,
        library: Library = "auto",
    ) -> None:
        self.path = Path(path)
        self._engine = open_exported(self.path, precision, threads, library)
        self.description, self.image_size = self._engine.description, self._engine.description.image_size
        self.device = torch.device("cpu")
        self.precision, self.library = self._engine.precision, self._engine.library

    def identity(self, draws: Draws = "fixed", category: str | None = None) -> Identity:
        """All that decides what `predict` scores: that of the detector which was exported, in this precision.

        Raises ConfigError for draws and a category that are not those in the file.
        """
        own = self.description.identity
        if draws != "fixed" or category != own.category:
            raise ConfigError(
                f"{self.path} was exported with the fixed draws and for {own.category or 'no category'}; it cannot "
                f"score with draws={draws} and category={category}. Use the checkpoint for that."
            )
        return replace(own, precision=self.precision)

    def score(self, pixels: Pixels) -> Found:
        """Scores and maps of RGB images of the detector's size."""
        return self._engine.run(pixels)

    def own_verdicts(self) -> Rule | Calibration:
        """What the file holds."""
        return self.description.verdicts()

    def _outcomes(
        self, source: Source, rule: Rule, draws: Draws, batch_size: int | None, workers: int, category: str | None
    ) -> Iterator[Prediction | Unreadable]:
        self.identity(draws, category)  # which refuses others than the file's
        seen = decoded(pictures(source), self.image_size, workers, _pixels)
        return in_batches(seen, batch_size or 1, lambda read: self._predicted(read, rule))

    def _predicted(self, read: list[Decoded], rule: Rule) -> list[Prediction]:
        pixels = np.stack([one.image.numpy() for one in read])
        found = self.score(pixels)
        maps = torch.from_numpy(found.map).flatten(1)
        contents = [xxhash.xxh3_128_hexdigest(one.data) for one in pixels]
        return [
            Prediction(one.picture, score, of_image, self._as_map, rule, one.size, content, feature)
            for one, score, of_image, content, feature in zip(
                read, found.score.tolist(), maps, contents, found.feature, strict=True
            )
        ]

    def _as_map(self, values: Tensor) -> Tensor:
        return values.view(-1, self.image_size, self.image_size)


def _pixels(image: Image.Image, size: int) -> UInt8[Tensor, "s s 3"]:
    """What a graph takes: RGB resized as for the detector; the graph itself normalises it."""
    return torch.from_numpy(resized(image, size))
